//! One session's directory. Its lock is a kernel lock, so it is free as soon as the process that
//! holds it has ended, however it ended.

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
/// How much of the events is read to find the first request.
const BEGINNING_BYTES: u64 = 1 << 20;

/// The directory of a session, alive or over.
#[derive(Debug)]
pub struct SessionFolder {
    id: String,
    path: PathBuf,
    /// Held by the process that runs the session.
    own: Option<Lock>,
}

/// The state of the lock that has a given mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marked {
    /// A process holds it.
    Held,
    /// No process holds it.
    Free,
    /// This state directory does not have this lock.
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
    /// A new directory, locked for the life of the session.
    pub(super) fn create(id: String, path: PathBuf) -> io::Result<Self> {
        let file = File::create_new(path.join(LOCK))?;
        // Waits if another process is just checking whether this session is alive.
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

    /// Locks a session that is over, to work on it. `None` while it is alive or another process
    /// works on it. The process that runs the session has the lock already.
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

    /// Identifies the lock file, and no copy of it: its inode and its ctime, which no program can
    /// set.
    ///
    /// # Errors
    /// There is no lock file.
    pub fn mark(&self) -> io::Result<String> {
        Ok(mark(&std::fs::metadata(self.path.join(LOCK))?))
    }

    /// The state of the lock, if it has this mark.
    #[must_use]
    pub fn marked(&self, wanted: &str) -> Marked {
        let Ok(file) = File::open(self.path.join(LOCK)) else { return Marked::Absent };
        // THREAT: a copy of the state directory, in an image, a cache or a backup, has all locks of
        // the original, and all of them are free. Tried by
        // records::store::tests::a_copied_folder_does_not_have_the_lock.
        match file.metadata() {
            Ok(found) if mark(&found) == wanted => {}
            _ => return Marked::Absent,
        }
        if file.try_lock_shared().is_ok() { Marked::Free } else { Marked::Held }
    }

    /// Whether a process holds the lock. If the lock cannot be opened, the session counts as alive.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let Ok(file) = File::open(self.path.join(LOCK)) else { return self.path.exists() };
        file.try_lock_shared().is_err()
    }

    /// The record; `None` before the first one is written.
    ///
    /// # Errors
    /// It cannot be read, or is not a record.
    pub fn record(&self) -> io::Result<Option<Record>> {
        match std::fs::read(self.path.join(RECORD)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the record, and syncs it to the disk.
    ///
    /// # Errors
    /// The old record is still there.
    pub fn write_record(&self, record: &Record) -> io::Result<()> {
        self.put(record, true)
    }

    /// Writes the first record, without a sync: nothing would be lost with it yet.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin_record(&self, record: &Record) -> io::Result<()> {
        self.put(record, false)
    }

    /// Records that the changes were applied. Does nothing for a session that was killed before its
    /// first record.
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

    fn put(&self, record: &Record, sync: bool) -> io::Result<()> {
        let mut bytes = serde_json::to_vec_pretty(record)?;
        bytes.push(b'\n');
        let mut part = tempfile::Builder::new().prefix(RECORD).tempfile_in(&self.path)?;
        part.write_all(&bytes)?;
        if sync {
            part.as_file().sync_all()?;
        }
        part.persist(self.path.join(RECORD))?;
        if sync { File::open(&self.path)?.sync_all() } else { Ok(()) }
    }

    /// Whether the events contain a request to the model. Needed if the host died: then the record
    /// has no count.
    #[must_use]
    pub fn has_request_event(&self) -> bool {
        let Ok(events) = File::open(self.path.join(EVENTS)) else { return false };
        // The first request comes early. If there are more events than this, there was one.
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

    /// Opens the events for appending.
    ///
    /// # Errors
    /// They cannot be opened.
    pub fn events(&self) -> io::Result<EventLog> {
        let path = self.path.join(EVENTS);
        Ok(EventLog { file: OpenOptions::new().create(true).append(true).open(path)? })
    }
}

/// The events of a session, one JSON line each.
#[derive(Debug)]
pub struct EventLog {
    file: File,
}

impl EventLog {
    /// Appends one line.
    ///
    /// # Errors
    /// The disk is full or gone.
    pub fn add(&mut self, event: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        self.file.write_all(&line)
    }

    /// Syncs to the disk.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}
