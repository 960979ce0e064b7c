//! The changes of a run on disk: a list, and one file with all contents one after another. No
//! name of the box's making is ever a name on the host's disk.
//!
//! ```text
//! changes.part/ → changes/{list.jsonl, content}   renamed once both are on the disk
//! changes/applied                                 there: they were applied
//! apply.journal                                   there: an apply was begun and not finished
//! ```

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::change::{Change, ChangeSet};

const UNFINISHED: &str = "changes.part";
const FOLDER: &str = "changes";
const LIST: &str = "list.jsonl";
const CONTENT: &str = "content";
const APPLIED: &str = "applied";
const JOURNAL: &str = "apply.journal";

#[derive(Serialize, Deserialize)]
struct Header {
    v: u32,
    changes: usize,
}

/// A set that is being written. Dropped before [`Self::finish`], it leaves nothing that counts.
pub(super) struct Writer {
    run: PathBuf,
    pub(super) content: BufWriter<File>,
}

impl Writer {
    pub(super) fn new(run: &Path) -> io::Result<Self> {
        let folder = run.join(UNFINISHED);
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => std::fs::create_dir(&folder)?,
        }
        let content = BufWriter::with_capacity(64 << 10, File::create(folder.join(CONTENT))?);
        Ok(Self { run: run.to_owned(), content })
    }

    /// Forgets what was written after `offset`.
    pub(super) fn rewind(&mut self, offset: u64) -> io::Result<()> {
        self.content.seek(SeekFrom::Start(offset))?;
        self.content.get_ref().set_len(offset)
    }

    // THREAT: the box cuts its stream, or the machine stops, and half a set is applied as if it
    // were whole. Tried by workspace::intake::tests::a_stream_that_is_cut_leaves_nothing.
    pub(super) fn finish(mut self, set: &ChangeSet) -> io::Result<()> {
        let folder = self.run.join(UNFINISHED);
        self.content.flush()?;
        // Of a run that changed nothing the list alone must be whole; lost, it says the same.
        let is_empty = set.is_empty();
        if !is_empty {
            self.content.get_ref().sync_all()?;
        }
        let mut list = BufWriter::new(File::create(folder.join(LIST))?);
        serde_json::to_writer(&mut list, &Header { v: 1, changes: set.changes.len() })?;
        list.write_all(b"\n")?;
        for change in &set.changes {
            serde_json::to_writer(&mut list, change)?;
            list.write_all(b"\n")?;
        }
        list.flush()?;
        list.get_ref().sync_all()?;
        if is_empty {
            return std::fs::rename(folder, self.run.join(FOLDER));
        }
        sync_folder(&folder)?;
        std::fs::rename(folder, self.run.join(FOLDER))?;
        sync_folder(&self.run)
    }
}

/// Removes what an intake left that failed.
pub(super) fn drop_unfinished(run: &Path) {
    // What stays is removed by the next intake, or with the run.
    let _stays = std::fs::remove_dir_all(run.join(UNFINISHED));
}

/// The changes of a run; none where there are none on disk.
pub(super) fn load(run: &Path) -> io::Result<Option<ChangeSet>> {
    let file = match File::open(run.join(FOLDER).join(LIST)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut lines = BufReader::new(file).lines();
    let first = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    let header: Header = serde_json::from_str(&first)?;
    let changes = lines
        .map(|line| Ok(serde_json::from_str::<Change>(&line?)?))
        .collect::<io::Result<Vec<_>>>()?;
    if changes.len() != header.changes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(ChangeSet { changes }))
}

/// The stored contents, to be read piece by piece.
pub(super) struct Contents(File);

impl Contents {
    pub(super) fn open(run: &Path) -> io::Result<Self> {
        Ok(Self(File::open(run.join(FOLDER).join(CONTENT))?))
    }

    /// A stored content.
    pub(super) fn at(&mut self, offset: u64, size: u64) -> io::Result<impl Read + '_> {
        self.0.seek(SeekFrom::Start(offset))?;
        Ok((&mut self.0).take(size))
    }
}

/// A stored content to be kept open.
pub(super) fn content(run: &Path, offset: u64, size: u64) -> io::Result<io::Take<File>> {
    let mut file = File::open(run.join(FOLDER).join(CONTENT))?;
    file.seek(SeekFrom::Start(offset))?;
    Ok(file.take(size))
}

pub(super) fn is_applied(run: &Path) -> bool {
    run.join(FOLDER).join(APPLIED).exists()
}

pub(super) fn mark_applied(run: &Path) -> io::Result<()> {
    File::create(run.join(FOLDER).join(APPLIED))?.sync_all()?;
    sync_folder(&run.join(FOLDER))
}

pub(super) fn discard(run: &Path) -> io::Result<()> {
    // Renamed first, so that half of a set is never read as a set.
    std::fs::rename(run.join(FOLDER), run.join(UNFINISHED))?;
    std::fs::remove_dir_all(run.join(UNFINISHED))?;
    sync_folder(run)
}

pub(super) fn write_journal(run: &Path, journal: &impl Serialize) -> io::Result<()> {
    let unfinished = run.join("apply.journal.part");
    let mut file = File::create(&unfinished)?;
    file.write_all(&serde_json::to_vec(journal)?)?;
    file.sync_all()?;
    std::fs::rename(unfinished, run.join(JOURNAL))?;
    sync_folder(run)
}

pub(super) fn read_journal<T: serde::de::DeserializeOwned>(run: &Path) -> io::Result<Option<T>> {
    match std::fs::read(run.join(JOURNAL)) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn remove_journal(run: &Path) -> io::Result<()> {
    std::fs::remove_file(run.join(JOURNAL))?;
    sync_folder(run)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
