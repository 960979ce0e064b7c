//! The changes of a session on the disk: a list, and one file with all contents one after another.
//! A name from the sandbox is never used as a name on the host's disk.
//!
//! ```text
//! changes.part/ → changes/{list.jsonl, content}   renamed or exchanged when both are synced
//! changes/applied                                 exists if they were applied
//! apply.journal                                   exists if an apply began and did not finish
//! ```

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::change::{Change, ChangeSet, ChangesExtent};

const UNFINISHED: &str = "changes.part";
const FOLDER: &str = "changes";
const ASIDE: &str = "changes.old";
const LIST: &str = "list.jsonl";
const CONTENT: &str = "content";
const APPLIED: &str = "applied";
const JOURNAL: &str = "apply.journal";

#[derive(Serialize, Deserialize)]
struct StoreHeader {
    v: u32,
    changes: usize,
    #[serde(flatten)]
    extent: ChangesExtent,
}

/// A set that is being written. It counts only after [`Self::finish`].
pub(super) struct Writer {
    session: PathBuf,
    /// Written without a buffer, so that nothing is lost on a full disk.
    pub(super) content: File,
}

impl Writer {
    pub(super) fn new(session: &Path) -> io::Result<Self> {
        let folder = session.join(UNFINISHED);
        drop_folder(&folder)?;
        std::fs::create_dir(&folder)?;
        let content = File::create(folder.join(CONTENT))?;
        Ok(Self { session: session.to_owned(), content })
    }

    /// Forgets what was written after `offset`.
    pub(super) fn rewind(&mut self, offset: u64) -> io::Result<()> {
        self.content.seek(SeekFrom::Start(offset))?;
        self.content.set_len(offset)
    }

    /// Replaces the earlier set, if there is one.
    // THREAT: the sandbox cuts its stream, or the machine stops, and half of a set is applied as if
    // it were complete. Tried by
    // workspace::intake::tests::a_stream_that_is_cut_gives_what_came_whole.
    pub(super) fn finish(self, set: &ChangeSet) -> io::Result<()> {
        let folder = self.session.join(UNFINISHED);
        // Of an empty set only the list is synced: losing it changes nothing.
        let is_empty = set.is_empty();
        if !is_empty {
            self.content.sync_all()?;
        }
        let header = StoreHeader { v: 1, changes: set.changes.len(), extent: set.extent.clone() };
        let mut list = BufWriter::new(File::create(folder.join(LIST))?);
        serde_json::to_writer(&mut list, &header)?;
        list.write_all(b"\n")?;
        for change in &set.changes {
            serde_json::to_writer(&mut list, change)?;
            list.write_all(b"\n")?;
        }
        list.flush()?;
        list.get_ref().sync_all()?;
        if !is_empty {
            sync_folder(&folder)?;
        }
        replace(&folder, &self.session)?;
        if is_empty { Ok(()) } else { sync_folder(&self.session) }
    }
}

/// At any moment there is one complete set, the old one or the new one.
fn replace(new: &Path, session: &Path) -> io::Result<()> {
    let place = session.join(FOLDER);
    if !place.exists() {
        return std::fs::rename(new, place);
    }
    let exchange = rustix::fs::RenameFlags::EXCHANGE;
    match rustix::fs::renameat_with(rustix::fs::CWD, new, rustix::fs::CWD, &place, exchange) {
        Ok(()) => {}
        // The file system cannot exchange. Between the two steps the old set is at `ASIDE`.
        Err(_) => {
            let aside = session.join(ASIDE);
            drop_folder(&aside)?;
            std::fs::rename(&place, &aside)?;
            std::fs::rename(new, &place)?;
            drop_unwanted(&aside);
        }
    }
    // After an exchange the old set is here.
    drop_unwanted(new);
    Ok(())
}

/// Removes the old set. If that fails, the next intake removes it.
fn drop_unwanted(folder: &Path) {
    if let Err(error) = drop_folder(folder) {
        tracing::warn!(%error, "an earlier set of changes stays on the disk");
    }
}

fn drop_folder(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The folder of the current set.
fn set_of(session: &Path) -> PathBuf {
    let (place, aside) = (session.join(FOLDER), session.join(ASIDE));
    if !place.exists() && aside.exists() { aside } else { place }
}

/// Removes what a failed intake left.
pub(super) fn drop_unfinished(session: &Path) {
    // If this fails, the next intake removes it, or the removal of the session does.
    let _stays = std::fs::remove_dir_all(session.join(UNFINISHED));
}

/// The stored changes of a session, if there are any.
pub(super) fn load(session: &Path) -> io::Result<Option<ChangeSet>> {
    let file = match File::open(set_of(session).join(LIST)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut lines = BufReader::new(file).lines();
    let first = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    let header: StoreHeader = serde_json::from_str(&first)?;
    let changes = lines
        .map(|line| Ok(serde_json::from_str::<Change>(&line?)?))
        .collect::<io::Result<Vec<_>>>()?;
    if changes.len() != header.changes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(ChangeSet { changes, extent: header.extent }))
}

/// Reads the stored contents one by one.
pub(super) struct Contents(File);

impl Contents {
    pub(super) fn open(session: &Path) -> io::Result<Self> {
        Ok(Self(File::open(set_of(session).join(CONTENT))?))
    }

    /// One stored content.
    pub(super) fn at(&mut self, offset: u64, size: u64) -> io::Result<impl Read + '_> {
        self.0.seek(SeekFrom::Start(offset))?;
        Ok((&mut self.0).take(size))
    }
}

/// One stored content with its own open file.
pub(super) fn content(session: &Path, offset: u64, size: u64) -> io::Result<io::Take<File>> {
    let mut file = File::open(set_of(session).join(CONTENT))?;
    file.seek(SeekFrom::Start(offset))?;
    Ok(file.take(size))
}

pub(super) fn is_applied(session: &Path) -> bool {
    set_of(session).join(APPLIED).exists()
}

pub(super) fn mark_applied(session: &Path) -> io::Result<()> {
    File::create(set_of(session).join(APPLIED))?.sync_all()?;
    sync_folder(&set_of(session))
}

pub(super) fn discard(session: &Path) -> io::Result<()> {
    // Renamed first, so that half of a set is never read as a set.
    std::fs::rename(set_of(session), session.join(UNFINISHED))?;
    std::fs::remove_dir_all(session.join(UNFINISHED))?;
    sync_folder(session)
}

pub(super) fn write_journal(session: &Path, journal: &impl Serialize) -> io::Result<()> {
    let unfinished = session.join("apply.journal.part");
    let mut file = File::create(&unfinished)?;
    file.write_all(&serde_json::to_vec(journal)?)?;
    file.sync_all()?;
    std::fs::rename(unfinished, session.join(JOURNAL))?;
    sync_folder(session)
}

pub(super) fn read_journal<T: serde::de::DeserializeOwned>(
    session: &Path,
) -> io::Result<Option<T>> {
    match std::fs::read(session.join(JOURNAL)) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn remove_journal(session: &Path) -> io::Result<()> {
    std::fs::remove_file(session.join(JOURNAL))?;
    sync_folder(session)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
