//! One run's folder. Its lock is the kernel's, so that it is free the moment the process that
//! held it is gone, however it went.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use super::record::{ChangesRecord, Record};

const LOCK: &str = "lock";
const RECORD: &str = "record.json";
const EVENTS: &str = "events.jsonl";
/// What is read of the events to find the first request.
const BEGINNING_BYTES: u64 = 1 << 20;

/// The folder of a run, alive or over.
#[derive(Debug)]
pub struct SessionFolder {
    id: String,
    path: PathBuf,
    /// Held by the process whose run it is.
    own: Option<Lock>,
}

/// How a lock is that was named by its mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marked {
    /// A process holds it.
    Held,
    /// Nobody does.
    Free,
    /// This state folder does not have it.
    Absent,
}

fn mark(lock: &Metadata) -> String {
    format!("{}-{}.{:09}", lock.ino(), lock.ctime(), lock.ctime_nsec())
}

/// Held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: Option<File>,
}

impl SessionFolder {
    /// A folder that was just made, locked for the run's life.
    pub(super) fn create(id: String, path: PathBuf) -> io::Result<Self> {
        let file = File::create_new(path.join(LOCK))?;
        // Waits out somebody who looks whether we are alive.
        file.lock()?;
        Ok(Self { id, path, own: Some(Lock { _file: Some(file) }) })
    }

    pub(crate) fn found(id: String, path: PathBuf) -> Self {
        Self { id, path, own: None }
    }

    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For whoever works on a run that is over; none while it is alive or somebody else does. The
    /// process that made the run holds it already.
    ///
    /// # Errors
    /// The lock cannot be opened.
    pub fn lock(&self) -> io::Result<Option<Lock>> {
        if self.own.is_some() {
            return Ok(Some(Lock { _file: None }));
        }
        let file = File::open(self.path.join(LOCK))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: Some(file) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// What its lock file is known by, which no copy of it has: its inode and the time of its last
    /// change of state, which nobody can set.
    ///
    /// # Errors
    /// There is no lock file.
    pub fn mark(&self) -> io::Result<String> {
        Ok(mark(&std::fs::metadata(self.path.join(LOCK))?))
    }

    /// How the lock is that has this mark.
    #[must_use]
    pub fn marked(&self, wanted: &str) -> Marked {
        let Ok(file) = File::open(self.path.join(LOCK)) else { return Marked::Absent };
        // THREAT: a copy of the state directory, in an image, a cache or a backup, has all locks of
        // the original, and every one of them is free. Tried by
        // records::store::tests::a_copied_folder_does_not_have_the_lock.
        match file.metadata() {
            Ok(found) if mark(&found) == wanted => {}
            _ => return Marked::Absent,
        }
        if file.try_lock_shared().is_ok() { Marked::Free } else { Marked::Held }
    }

    /// Whether a process holds the lock. One that cannot be asked is taken to be alive.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let Ok(file) = File::open(self.path.join(LOCK)) else { return self.path.exists() };
        file.try_lock_shared().is_err()
    }

    /// The record; none before the first was written.
    ///
    /// # Errors
    /// It cannot be read, or is no record.
    pub fn record(&self) -> io::Result<Option<Record>> {
        match std::fs::read(self.path.join(RECORD)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the record, and waits for the disk.
    ///
    /// # Errors
    /// The old one is still there.
    pub fn write_record(&self, record: &Record) -> io::Result<()> {
        self.put(record, true)
    }

    /// Writes the first record. Nothing is lost with it yet, so the disk is not waited for.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin_record(&self, record: &Record) -> io::Result<()> {
        self.put(record, false)
    }

    /// Writes into the record that the changes are in the person's directory. A run that was
    /// killed before its first record has none to write it into.
    ///
    /// # Errors
    /// As [`Self::record`] and [`Self::write_record`].
    pub fn record_applied(&self, at: Timestamp) -> io::Result<()> {
        match self.record()? {
            Some(record) => {
                self.write_record(&Record { changes: ChangesRecord::Applied { at }, ..record })
            }
            None => Ok(()),
        }
    }

    fn put(&self, record: &Record, wait: bool) -> io::Result<()> {
        let mut bytes = serde_json::to_vec_pretty(record)?;
        bytes.push(b'\n');
        let mut part = tempfile::Builder::new().prefix(RECORD).tempfile_in(&self.path)?;
        part.write_all(&bytes)?;
        if wait {
            part.as_file().sync_all()?;
        }
        part.persist(self.path.join(RECORD))?;
        if wait { File::open(&self.path)?.sync_all() } else { Ok(()) }
    }

    /// Whether the events tell of a request to the model. For a run whose host died: its record
    /// does not count them yet.
    #[must_use]
    pub fn tells_of_a_request(&self) -> bool {
        let Ok(events) = File::open(self.path.join(EVENTS)) else { return false };
        // The first request comes soon after the start; after more than this there was one.
        let mut beginning = Vec::new();
        match events.take(BEGINNING_BYTES).read_to_end(&mut beginning) {
            Ok(read) if (read as u64) < BEGINNING_BYTES => {}
            _ => return true,
        }
        let is_request = |line: &[u8]| {
            let line: serde_json::Value = serde_json::from_slice(line).unwrap_or_default();
            line["event"] == "request"
        };
        beginning.split(|byte| *byte == b'\n').any(is_request)
    }

    /// Opens the events to be added to.
    ///
    /// # Errors
    /// They cannot be opened.
    pub fn events(&self) -> io::Result<EventLog> {
        let path = self.path.join(EVENTS);
        Ok(EventLog { file: OpenOptions::new().create(true).append(true).open(path)? })
    }
}

/// The events of a run: one JSON line each.
#[derive(Debug)]
pub struct EventLog {
    file: File,
}

impl EventLog {
    /// Adds a line, whole.
    ///
    /// # Errors
    /// The disk is full or gone.
    pub fn add(&mut self, event: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        self.file.write_all(&line)
    }

    /// Waits for the disk.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}
