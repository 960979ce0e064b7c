//! All runs of an install, and how one of them is found.

use std::fs::{self, DirBuilder};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use uuid::Uuid;

use super::record::Record;
use super::session_folder::{Marked, SessionFolder};

const INSTALL: &str = "install";
const SESSIONS: &str = "sessions";
/// Where releases before 0.2 kept what they did. It is left as it is.
const EARLIER: &str = "runs";
/// Written once the directory of an earlier release was named.
const EARLIER_NAMED: &str = "runs-named";
/// Digits of an install's id, and of an earlier release's session: 128 bits.
const ID_DIGITS: usize = 32;
/// More than a record has.
const RECORD_BYTES: u64 = 1 << 20;
/// The shortest beginning that finds a session.
const PREFIX_DIGITS: usize = 4;

/// The state folder of an install.
#[derive(Clone, Debug)]
pub struct SessionStore {
    folder: PathBuf,
    install: String,
}

/// Why there is no state folder.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("no home directory is known to keep sessions in")]
    NoHome,
    #[error("{folder} belongs to another user")]
    Foreign { folder: PathBuf },
    #[error("{folder} cannot be used: {source}")]
    Unusable { folder: PathBuf, source: io::Error },
}

/// Why a run is not found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    #[error(
        "{0:?} is no session: an id has the digits 0-9 and a-f, and {PREFIX_DIGITS} of them or more find it"
    )]
    NoId(String),
    #[error("no session begins with {0}")]
    None(String),
    /// The ids, newest first.
    #[error("{} sessions begin with {prefix}", sessions.len())]
    Ambiguous { prefix: String, sessions: Vec<String> },
    #[error("the sessions cannot be listed: {0}")]
    Unreadable(#[from] io::Error),
}

impl SessionStore {
    /// The user's: `$XDG_STATE_HOME/airlock`, or `~/.local/state/airlock`.
    ///
    /// # Errors
    /// As [`Self::open`], and where there is no home.
    pub fn of_user() -> Result<Self, StoreError> {
        let base = etcetera::base_strategy::Xdg::new().map_err(|_| StoreError::NoHome)?;
        let state = base.state_dir().ok_or(StoreError::NoHome)?;
        Self::open(&state.join("airlock"))
    }

    /// Makes the folder if it is not there.
    ///
    /// # Errors
    /// It belongs to somebody else, or cannot be made, read or closed to others.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let unusable = |source| StoreError::Unusable { folder: folder.to_owned(), source };
        private(folder).map_err(unusable)?;
        let own = rustix::process::geteuid().as_raw();
        let metadata = fs::metadata(folder).map_err(unusable)?;
        // THREAT: another user makes the folder first and reads or swaps what we keep there.
        // Tried by records::store::tests::the_folder_is_closed_to_others.
        if metadata.uid() != own {
            return Err(StoreError::Foreign { folder: folder.to_owned() });
        }
        if metadata.mode() & 0o077 != 0 {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(unusable)?;
        }
        private(&folder.join(SESSIONS)).map_err(unusable)?;
        let install = install(folder).map_err(unusable)?;
        Ok(Self { folder: folder.to_owned(), install })
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Which install this is: what carries another's label is not ours to remove.
    #[must_use]
    pub fn install(&self) -> &str {
        &self.install
    }

    /// A new run, alive until the folder is dropped or the process ends.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn create_session(&self) -> io::Result<SessionFolder> {
        let id = Uuid::new_v4().to_string();
        let path = self.sessions().join(&id);
        DirBuilder::new().mode(0o700).create(&path)?;
        SessionFolder::create(id, path)
    }

    /// The one run whose id begins so.
    ///
    /// # Errors
    /// None does, more than one does, or it is no beginning of an id.
    pub fn find(&self, prefix: &str) -> Result<SessionFolder, FindError> {
        let prefix = prefix.to_ascii_lowercase().replace('-', "");
        if !is_digits(&prefix) || !(PREFIX_DIGITS..=ID_DIGITS).contains(&prefix.len()) {
            return Err(FindError::NoId(prefix));
        }
        let begins = |id: &String| digits(id).starts_with(&prefix);
        let mut found: Vec<_> = self.ids()?.into_iter().filter(begins).collect();
        match found.len() {
            0 => Err(FindError::None(prefix)),
            1 => Ok(self.folder_of(found.remove(0))),
            _ => {
                let mut sessions =
                    found.into_iter().map(|id| self.folder_of(id)).collect::<Vec<_>>();
                newest_first(&mut sessions);
                let sessions =
                    sessions.into_iter().map(|session| session.id().to_owned()).collect();
                Err(FindError::Ambiguous { prefix, sessions })
            }
        }
    }

    /// All runs, newest first, with their records where they have one that can be read.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self) -> io::Result<Vec<(SessionFolder, Option<Record>)>> {
        let mut sessions: Vec<_> = self.ids()?.into_iter().map(|id| self.folder_of(id)).collect();
        newest_first(&mut sessions);
        Ok(sessions
            .into_iter()
            .map(|session| {
                let record = session.record().ok().flatten();
                (session, record)
            })
            .collect())
    }

    /// How the lock of a session is, if it is the very one that has this mark.
    #[must_use]
    pub fn marked(&self, id: &str, mark: &str) -> Marked {
        match self.known(id) {
            Some(folder) => folder.marked(mark),
            None => Marked::Absent,
        }
    }

    /// Whether a run of ours is alive. A run that is not known is not.
    #[must_use]
    pub fn is_alive(&self, id: &str) -> bool {
        self.known(id).is_some_and(|folder| folder.is_alive())
    }

    /// The shortest beginning of a run's id that finds it among all.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn short(&self, id: &str) -> io::Result<String> {
        let id = digits(id);
        let shared =
            |other: String| other.bytes().zip(id.bytes()).take_while(|(a, b)| a == b).count();
        let others = self.ids()?.into_iter().map(|other| digits(&other));
        let longest = others.filter(|other| *other != id).map(shared).max();
        let length = longest.map_or(PREFIX_DIGITS, |shared| (shared + 1).max(PREFIX_DIGITS));
        Ok(id.chars().take(length).collect())
    }

    /// What an earlier release left here, named once: where it is, and how many of its sessions have
    /// changes that wait.
    ///
    /// # Errors
    /// It cannot be looked at, or that it was named cannot be kept.
    pub fn earlier(&self) -> io::Result<Option<(PathBuf, usize)>> {
        let earlier = self.folder.join(EARLIER);
        let sessions = match fs::read_dir(&earlier) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            sessions => sessions?,
        };
        match fs::File::create_new(self.folder.join(EARLIER_NAMED)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            named => drop(named?),
        }
        let waits = |record: &serde_json::Value| record["changes"]["state"] == "kept";
        let records = sessions.filter_map(|entry| {
            let record = fs::File::open(entry.ok()?.path().join("record.json")).ok()?;
            serde_json::from_reader(io::BufReader::new(record.take(RECORD_BYTES))).ok()
        });
        Ok(Some((earlier, records.filter(waits).count())))
    }

    fn sessions(&self) -> PathBuf {
        self.folder.join(SESSIONS)
    }

    fn folder_of(&self, id: String) -> SessionFolder {
        let path = self.sessions().join(&id);
        SessionFolder::found(id, path)
    }

    /// The folder that a container's label names, also one of an earlier release.
    fn known(&self, id: &str) -> Option<SessionFolder> {
        if is_id(id) {
            return Some(self.folder_of(id.to_owned()));
        }
        let is_earlier = id.len() == ID_DIGITS && is_digits(id);
        let path = || self.folder.join(EARLIER).join(id);
        is_earlier.then(|| SessionFolder::found(id.to_owned(), path()))
    }

    fn ids(&self) -> io::Result<Vec<String>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(self.sessions())? {
            if let Ok(name) = entry?.file_name().into_string()
                && is_id(&name)
            {
                ids.push(name);
            }
        }
        Ok(ids)
    }
}

/// By when the folder's lock was made, which nothing writes to again.
fn newest_first(sessions: &mut [SessionFolder]) {
    sessions.sort_by_cached_key(|session| {
        let made =
            fs::metadata(session.path().join("lock")).map(|lock| (lock.mtime(), lock.mtime_nsec()));
        (std::cmp::Reverse(made.unwrap_or_default()), session.id().to_owned())
    });
}

fn private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The install's id, made once. Two that begin at the same time agree on one of theirs.
fn install(folder: &Path) -> io::Result<String> {
    let path = folder.join(INSTALL);
    if let Ok(id) = fs::read_to_string(&path)
        && is_digits(id.trim())
        && id.trim().len() == ID_DIGITS
    {
        return Ok(id.trim().to_owned());
    }
    let mut part = tempfile::Builder::new().prefix(INSTALL).tempfile_in(folder)?;
    let id = random_id();
    part.write_all(id.as_bytes())?;
    part.as_file().sync_all()?;
    match part.persist_noclobber(&path) {
        Ok(_) => Ok(id),
        Err(taken) if taken.error.kind() == io::ErrorKind::AlreadyExists => {
            let id = fs::read_to_string(&path)?.trim().to_owned();
            let broken = || io::Error::other("the file `install` is damaged");
            (is_digits(&id) && id.len() == ID_DIGITS).then_some(id).ok_or_else(broken)
        }
        Err(failed) => Err(failed.error),
    }
}

/// 128 random bits in hexadecimal: what nobody can guess.
#[must_use]
pub fn random_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Whether it is the id of a session: a version 4 UUID, with its dashes.
fn is_id(text: &str) -> bool {
    Uuid::try_parse(text).is_ok_and(|id| id.to_string() == text)
}

/// An id without its dashes, as people may type it.
fn digits(id: &str) -> String {
    id.replace('-', "")
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, SessionStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = SessionStore::open(&folder.path().join("state/airlock")).unwrap();
        (folder, store)
    }

    /// An id that begins so.
    fn id_of(digits: &str) -> String {
        let id = format!("{digits:0<12}40008{:0>15}", "");
        Uuid::try_parse(&id).unwrap().to_string()
    }

    #[test]
    fn the_folder_is_closed_to_others() {
        let (_folder, store) = store();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(store.folder()), 0o700);
        fs::set_permissions(store.folder(), fs::Permissions::from_mode(0o755)).unwrap();
        let again = SessionStore::open(store.folder()).unwrap();
        assert_eq!(mode(store.folder()), 0o700);
        assert_eq!(again.install(), store.install());
        let session = store.create_session().unwrap();
        assert_eq!(mode(session.path()), 0o700);
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(store.folder(), Some(4242), None).unwrap();
            assert!(matches!(SessionStore::open(store.folder()), Err(StoreError::Foreign { .. })));
        }
    }

    #[test]
    fn a_run_is_found_by_a_beginning_that_only_it_has() {
        let (_folder, store) = store();
        for (age, id) in ["abcd0", "abcd1", "1234f"].into_iter().rev().enumerate() {
            let id = id_of(id);
            let path = store.sessions().join(&id);
            fs::create_dir(&path).unwrap();
            drop(SessionFolder::create(id, path.clone()).unwrap());
            let made = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000 - age as u64);
            fs::File::open(path.join("lock")).unwrap().set_modified(made).unwrap();
        }
        assert_eq!(store.find("1234").unwrap().id(), id_of("1234f"));
        assert_eq!(store.find("ABCD1").unwrap().id(), id_of("abcd1"));
        assert_eq!(store.find(&id_of("abcd1")).unwrap().id(), id_of("abcd1"));
        assert_eq!(store.find("abcd1000-0").unwrap().id(), id_of("abcd1"));
        assert!(matches!(store.find("123"), Err(FindError::NoId(_))));
        assert!(matches!(store.find("../x"), Err(FindError::NoId(_))));
        assert!(matches!(store.find("9999"), Err(FindError::None(_))));
        match store.find("abcd") {
            Err(FindError::Ambiguous { sessions, .. }) => {
                assert_eq!(sessions, [id_of("abcd1"), id_of("abcd0")]);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(store.short(&id_of("abcd1")).unwrap(), "abcd1");
        assert_eq!(store.short(&id_of("1234f")).unwrap(), "1234");
        let listed: Vec<_> =
            store.list().unwrap().into_iter().map(|(session, _)| session.id().to_owned()).collect();
        assert_eq!(listed.first().unwrap(), &id_of("1234f"));
    }

    #[test]
    fn a_run_is_alive_while_its_lock_is_held() {
        let (_folder, store) = store();
        let session = store.create_session().unwrap();
        let id = session.id().to_owned();
        assert!(store.is_alive(&id));
        let seen = store.find(&id).unwrap();
        assert!(seen.lock().unwrap().is_none());
        assert!(session.lock().unwrap().is_some());
        drop(session);
        assert!(!store.is_alive(&id));
        let lock = seen.lock().unwrap().unwrap();
        assert!(store.is_alive(&id));
        drop(lock);
        assert!(!store.is_alive(&"0".repeat(32)));
        assert!(!store.is_alive(&id_of("0")));
        assert!(!store.is_alive("../../x"));
    }

    #[test]
    fn a_copied_folder_does_not_have_the_lock() {
        let (folder, store) = store();
        let session = store.create_session().unwrap();
        let (id, mark) = (session.id().to_owned(), session.mark().unwrap());
        assert_eq!(store.marked(&id, &mark), Marked::Held);
        let copy = folder.path().join("copy");
        for folder in ["", SESSIONS, &format!("{SESSIONS}/{id}")] {
            fs::create_dir(copy.join(folder)).unwrap();
        }
        for file in [INSTALL.to_owned(), format!("{SESSIONS}/{id}/lock")] {
            fs::copy(store.folder().join(&file), copy.join(&file)).unwrap();
        }
        let copy = SessionStore::open(&copy).unwrap();
        // The control: by its id and its name alone it would be this install's, and over.
        assert_eq!(copy.install(), store.install());
        assert!(!copy.is_alive(&id));
        assert_eq!(copy.marked(&id, &mark), Marked::Absent);
        drop(session);
        assert_eq!(store.marked(&id, &mark), Marked::Free);
        assert_eq!(store.marked(&id, ""), Marked::Absent);
        assert_eq!(store.marked("../x", &mark), Marked::Absent);
    }

    /// What an earlier release left stays, its locks are known, and it is named once.
    #[test]
    fn what_an_earlier_release_left_is_named_once() {
        let (_folder, store) = store();
        assert_eq!(store.earlier().unwrap(), None);
        let (waiting, applied) = ("a".repeat(32), "b".repeat(32));
        let runs = store.folder().join(EARLIER);
        fs::create_dir(&runs).unwrap();
        let mut held = Vec::new();
        for (id, state) in [(&waiting, "kept"), (&applied, "applied")] {
            fs::create_dir(runs.join(id)).unwrap();
            held.push(SessionFolder::create(id.clone(), runs.join(id)).unwrap());
            let record = format!(r#"{{"v":1,"run":"{id}","changes":{{"state":"{state}"}}}}"#);
            fs::write(runs.join(id).join("record.json"), record).unwrap();
        }
        assert!(store.is_alive(&waiting));
        let mark = held[0].mark().unwrap();
        assert_eq!(store.marked(&waiting, &mark), Marked::Held);
        drop(held);
        assert_eq!(store.marked(&waiting, &mark), Marked::Free);
        assert_eq!(store.earlier().unwrap(), Some((runs, 1)));
        assert_eq!(store.earlier().unwrap(), None);
        assert!(matches!(store.find(&waiting), Err(FindError::None(_))));
    }

    #[test]
    fn a_record_is_replaced_whole_and_events_only_grow() {
        let (_folder, store) = store();
        let session = store.create_session().unwrap();
        assert!(session.record().unwrap().is_none());
        let mut record = Record::begun(session.id(), "2026-11-21T10:00:00Z".parse().unwrap());
        session.write_record(&record).unwrap();
        record.exit = Some(130);
        session.write_record(&record).unwrap();
        assert_eq!(session.record().unwrap(), Some(record));
        session.events().unwrap().add(&1).unwrap();
        let mut events = session.events().unwrap();
        events.add(&"two").unwrap();
        events.sync().unwrap();
        assert_eq!(
            fs::read_to_string(session.path().join("events.jsonl")).unwrap(),
            "1\n\"two\"\n"
        );
        let left = fs::read_dir(session.path()).unwrap().count();
        assert_eq!(left, 3);
    }

    #[test]
    fn the_events_tell_whether_the_agent_began() {
        let (_folder, store) = store();
        let session = store.create_session().unwrap();
        let event = |name: &str| serde_json::json!({"n": 1, "event": name, "text": "request"});
        assert!(!session.tells_of_a_request());
        session.events().unwrap().add(&event("note")).unwrap();
        assert!(!session.tells_of_a_request());
        session.events().unwrap().add(&event("request")).unwrap();
        assert!(session.tells_of_a_request());
    }
}
