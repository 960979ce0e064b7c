//! All sessions of an install, and how to find one of them.

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
/// Where earlier builds kept their sessions. It is left unchanged.
const EARLIER: &str = "runs";
/// Made after a person was told about the directory of an earlier release.
const EARLIER_NAMED: &str = "runs-named";
/// Digits of an install's id, and of a session's id in earlier releases: 128 bits.
const ID_DIGITS: usize = 32;
/// More than any record has.
const RECORD_BYTES: u64 = 1 << 20;
/// The shortest prefix that finds a session.
const PREFIX_DIGITS: usize = 4;

/// The state directory of an install.
#[derive(Clone, Debug)]
pub struct SessionStore {
    folder: PathBuf,
    install: String,
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("there is no home directory to keep sessions in")]
    NoHome,
    #[error("{directory} belongs to another user")]
    Foreign { directory: PathBuf },
    #[error("{directory} cannot be used: {source}")]
    Unusable { directory: PathBuf, source: io::Error },
}

/// Why a session is not found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    #[error("{0:?} is not a session's id: give {PREFIX_DIGITS} or more of its digits (0-9, a-f)")]
    NoId(String),
    #[error("no session's id begins with {0}")]
    None(String),
    /// The ids, newest first.
    #[error("the ids of {} sessions begin with {prefix}", sessions.len())]
    Ambiguous { prefix: String, sessions: Vec<String> },
    #[error("the sessions cannot be listed: {0}")]
    Unreadable(#[from] io::Error),
}

impl SessionStore {
    /// The user's store: `$XDG_STATE_HOME/airlock`, or `~/.local/state/airlock`.
    ///
    /// # Errors
    /// As [`Self::open`]; also if there is no home directory.
    pub fn of_user() -> Result<Self, StoreError> {
        let base = etcetera::base_strategy::Xdg::new().map_err(|_| StoreError::NoHome)?;
        let state = base.state_dir().ok_or(StoreError::NoHome)?;
        Self::open(&state.join("airlock"))
    }

    /// Makes the directory if it does not exist.
    ///
    /// # Errors
    /// It belongs to another user, or it cannot be made, read or closed to others.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let unusable = |source| StoreError::Unusable { directory: folder.to_owned(), source };
        private(folder).map_err(unusable)?;
        let own = rustix::process::geteuid().as_raw();
        let metadata = fs::metadata(folder).map_err(unusable)?;
        // THREAT: another user makes the directory first, and reads or replaces what we keep there.
        // Tried by records::store::tests::the_folder_is_closed_to_others.
        if metadata.uid() != own {
            return Err(StoreError::Foreign { directory: folder.to_owned() });
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

    /// The id of this install. It must not remove containers with the label of another install.
    #[must_use]
    pub fn install(&self) -> &str {
        &self.install
    }

    /// A new session. It is alive until the value is dropped or the process ends.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn create_session(&self) -> io::Result<SessionFolder> {
        let id = Uuid::new_v4().to_string();
        let path = self.sessions().join(&id);
        DirBuilder::new().mode(0o700).create(&path)?;
        SessionFolder::create(id, path)
    }

    /// The only session whose id begins with `prefix`.
    ///
    /// # Errors
    /// No id does, more than one does, or `prefix` is not the beginning of an id.
    pub fn find(&self, prefix: &str) -> Result<SessionFolder, FindError> {
        let prefix = prefix.to_ascii_lowercase().replace('-', "");
        if !is_digits(&prefix) || !(PREFIX_DIGITS..=ID_DIGITS).contains(&prefix.len()) {
            return Err(FindError::NoId(prefix));
        }
        let begins_so = |id: &String| digits(id).starts_with(&prefix);
        let mut found: Vec<_> = self.ids()?.into_iter().filter(begins_so).collect();
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

    /// All sessions, newest first, each with its record if it has a readable one.
    ///
    /// # Errors
    /// The directory cannot be read.
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

    /// The state of a session's lock, if the lock has this mark.
    #[must_use]
    pub fn marked(&self, id: &str, mark: &str) -> Marked {
        match self.known(id) {
            Some(folder) => folder.marked(mark),
            None => Marked::Absent,
        }
    }

    /// Whether a session of this store is alive. An unknown session is not.
    #[must_use]
    pub fn is_alive(&self, id: &str) -> bool {
        self.known(id).is_some_and(|folder| folder.is_alive())
    }

    /// The shortest prefix of an id that finds only this session.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn short(&self, id: &str) -> io::Result<String> {
        let id = digits(id);
        let shared =
            |other: String| other.bytes().zip(id.bytes()).take_while(|(a, b)| a == b).count();
        let others = self.ids()?.into_iter().map(|other| digits(&other));
        let longest = others.filter(|other| *other != id).map(shared).max();
        let length = longest.map_or(PREFIX_DIGITS, |shared| (shared + 1).max(PREFIX_DIGITS));
        Ok(id.chars().take(length).collect())
    }

    /// The directory of an earlier release, and how many of its sessions have changes that are not
    /// applied. Only the first call returns it.
    ///
    /// # Errors
    /// It cannot be read, or the mark of the first call cannot be written.
    pub fn earlier_release(&self) -> io::Result<Option<(PathBuf, usize)>> {
        let earlier = self.folder.join(EARLIER);
        let sessions = match fs::read_dir(&earlier) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            sessions => sessions?,
        };
        match fs::File::create_new(self.folder.join(EARLIER_NAMED)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            named => drop(named?),
        }
        let is_waiting = |record: &serde_json::Value| record["changes"]["state"] == "kept";
        let records = sessions.filter_map(|entry| {
            let record = fs::File::open(entry.ok()?.path().join("record.json")).ok()?;
            serde_json::from_reader(io::BufReader::new(record.take(RECORD_BYTES))).ok()
        });
        Ok(Some((earlier, records.filter(is_waiting).count())))
    }

    fn sessions(&self) -> PathBuf {
        self.folder.join(SESSIONS)
    }

    fn folder_of(&self, id: String) -> SessionFolder {
        let path = self.sessions().join(&id);
        SessionFolder::found(id, path)
    }

    /// The session that a container's label names, also one of an earlier release.
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

/// Sorts by the time of the lock file, which is written only when the session begins.
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

/// The install's id, made once. Two processes that start at the same time agree on one id.
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

/// 128 random bits in hexadecimal: no one can guess them.
#[must_use]
pub fn random_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Whether the text is a session's id: a UUID with its dashes.
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
mod tests;
