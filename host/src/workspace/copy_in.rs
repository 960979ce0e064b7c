//! The way in: a folder as a bounded stream of tar, and the base it leaves behind.
//!
//! A thread walks, reads, hashes and writes into a channel of a few megabytes; it may begin before
//! there is a box to read it. What is read is what is sent and what is recorded: a file that
//! grows is cut, one that shrinks is filled with zeros, and as the base then holds the digest of
//! something the host never had, what the box makes of it is a conflict.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use airlock_shared::limits;
use airlock_shared::link::LEFT_OUT;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use sha2::{Digest, Sha256};
use tar::EntryType;
use tokio::sync::{mpsc, oneshot};

use super::base::{self, Recorder};
use super::beneath::Root;
use super::node::{Node, Sha};
use super::rel_path::{PathError, RelPath};
use super::rules::Rules;
use super::tar_write::{self, Entry};
use super::walk::{self, Found, Why};

/// A piece of the stream.
const CHUNK_BYTES: usize = 64 << 10;
/// Pieces that wait for a reader.
const CHUNKS: usize = 64;
/// What a file takes on a file system in memory: whole pages.
const PAGE_BYTES: u64 = 4096;

/// What went in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Folders, files and links.
    pub entries: u64,
    pub files: u64,
    /// Of all files together.
    pub bytes: u64,
    /// Whether there is a repository among it.
    pub git: bool,
    /// The first [`limits::LEFT_OUT_NAMED`], in the order of the walk.
    pub left_out: Vec<LeftOut>,
    /// All of them, by reason.
    pub left_out_count: HashMap<Why, u64>,
    /// Files that changed while they were read.
    pub changed_meanwhile: Vec<RelPath>,
}

/// A path that stayed at home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    pub path: RelPath,
    pub why: Why,
}

/// Why a folder cannot go in.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("{path} cannot be read: {source}")]
    Read { path: String, source: io::Error },
    #[error("a path in {folder:?} cannot be copied: {why}", folder = folder.to_string())]
    Path { folder: RelPath, why: PathError },
    #[error("it has more than {most} entries, or their names are too long together")]
    TooMany { most: u64 },
    #[error("it is larger than the box's disk, {disk} bytes")]
    TooLarge { disk: u64 },
    #[error("what was copied cannot be recorded: {0}")]
    Record(io::Error),
    /// Nobody reads the stream any more: the run ended first.
    #[error("the run ended while it was copied")]
    Abandoned,
}

impl CopyError {
    pub(super) fn read(path: &RelPath, source: io::Error) -> Self {
        let path = if path.is_root() { "the folder".to_owned() } else { path.to_string() };
        Self::Read { path, source }
    }

    /// The one thing to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::TooLarge { .. } => {
                Some("airlock run --disk SIZE …, or leave some out: --exclude GLOB")
            }
            Self::TooMany { .. } | Self::Path { .. } | Self::Read { .. } => {
                Some("leave some out: airlock run --exclude GLOB …")
            }
            Self::Record(_) | Self::Abandoned => None,
        }
    }
}

/// A folder on its way in.
pub(super) struct CopyIn {
    pub(super) stream: BoxStream<'static, io::Result<Bytes>>,
    pub(super) copied: oneshot::Receiver<Result<Copied, CopyError>>,
}

/// Begins at once. `record` is the run's folder.
pub(super) fn start(folder: &Path, rules: Rules, disk: u64, record: &Path) -> CopyIn {
    let (chunks, mut reader) = mpsc::channel(CHUNKS);
    let (done, copied) = oneshot::channel();
    let (folder, record) = (folder.to_owned(), record.to_owned());
    tokio::task::spawn_blocking(move || {
        let result = copy(&folder, &rules, disk, &record, &chunks);
        if let Err(error) = &result {
            // A reader that is gone needs no reason.
            let _gone = chunks.blocking_send(Err(io::Error::other(error.to_string())));
        }
        let _unasked = done.send(result);
    });
    CopyIn { stream: stream::poll_fn(move |context| reader.poll_recv(context)).boxed(), copied }
}

fn copy(
    folder: &Path,
    rules: &Rules,
    disk: u64,
    record: &Path,
    chunks: &mpsc::Sender<io::Result<Bytes>>,
) -> Result<Copied, CopyError> {
    let open = || -> io::Result<(PathBuf, Root)> {
        let folder = folder.canonicalize()?;
        let root = Root::open(&folder)?;
        Ok((folder, root))
    };
    let (folder, root) = open().map_err(|error| CopyError::read(&RelPath::root(), error))?;
    let base = Recorder::new(record, &folder).map_err(CopyError::Record)?;
    let out = Pipe { chunks, buffer: Vec::with_capacity(CHUNK_BYTES) };
    let copied = Copied::default();
    let (names, pages, told, left_out_names) = (0, 0, 0, 0);
    let mut packer = Packer { out, base, disk, names, pages, told, left_out_names, copied };
    walk::walk(&root, &folder, rules, &mut |found| packer.take(found))?;
    tar_write::end(&mut packer.out).and_then(|()| packer.out.flush()).map_err(abandoned)?;
    packer.base.finish().map_err(CopyError::Record)?;
    Ok(packer.copied)
}

struct Packer<'a> {
    out: Pipe<'a>,
    base: Recorder,
    disk: u64,
    names: usize,
    pages: u64,
    /// Paths that were left out, of which the sandbox is told the first.
    told: usize,
    left_out_names: usize,
    copied: Copied,
}

impl Packer<'_> {
    fn take(&mut self, found: Found) -> Result<(), CopyError> {
        match found {
            Found::Folder { path, mode, mtime } => {
                self.copied.git |= path.name() == b".git";
                self.head(&path, EntryType::Directory, &[], mode, mtime, 0)?;
                self.record(path, Node::Folder { mode })
            }
            Found::Link { path, target, mtime } => {
                self.head(&path, EntryType::Symlink, &target, 0o777, mtime, 0)?;
                self.record(path, Node::Link { target })
            }
            Found::File { path, file } => self.file(path, file),
            Found::StandIn { path, content } => {
                let (mode, size) = (0o644, content.len() as u64);
                self.head(&path, EntryType::Regular, &[], mode, 0, size)?;
                self.out.write_all(&content).map_err(abandoned)?;
                tar_write::pad(&mut self.out, size).map_err(abandoned)?;
                let sha256 = Sha::of(Sha256::new_with_prefix(&content));
                self.record(path, Node::File { mode, size, sha256 })
            }
            Found::LeftOut { path, why } => self.left_out(path, why),
        }
    }

    /// Named to the person, to the sandbox and to whoever judges what comes back. Of git's own
    /// folders only the last wants to know: a stand-in is there.
    fn left_out(&mut self, path: RelPath, why: Why) -> Result<(), CopyError> {
        *self.copied.left_out_count.entry(why).or_default() += 1;
        // Beyond the bounds of a workspace the rest is not named: a change there is a conflict.
        self.left_out_names += path.as_bytes().len();
        if base::within_bounds(self.copied.left_out_count.values().sum(), self.left_out_names) {
            self.base.leave_out(path.clone(), why).map_err(CopyError::Record)?;
        }
        if why == Why::Git {
            return Ok(());
        }
        self.told += 1;
        if self.told <= limits::LEFT_OUT_TOLD {
            let (kind, target) = (EntryType::new(LEFT_OUT), why.as_str().as_bytes());
            let path = path.as_bytes();
            let entry = Entry { kind, path, target, mode: 0, mtime: 0, size: 0 };
            tar_write::head(&mut self.out, &entry).map_err(abandoned)?;
        }
        if self.copied.left_out.len() < limits::LEFT_OUT_NAMED {
            self.copied.left_out.push(LeftOut { path, why });
        }
        Ok(())
    }

    fn file(&mut self, path: RelPath, mut file: File) -> Result<(), CopyError> {
        let read = |error| CopyError::read(&path, error);
        let before = file.metadata().map_err(read)?;
        let (mode, size) = (before.mode() & 0o777, before.len());
        self.head(&path, EntryType::Regular, &[], mode, before.mtime(), size)?;
        let sha256 = self.content(&path, &mut file, size)?;
        let after = file.metadata().map_err(read)?;
        let stamp = |it: &Metadata| (it.len(), it.mtime(), it.mtime_nsec(), it.ctime_nsec());
        if stamp(&before) != stamp(&after)
            && self.copied.changed_meanwhile.len() < limits::LEFT_OUT_NAMED
        {
            self.copied.changed_meanwhile.push(path.clone());
        }
        self.copied.files += 1;
        self.copied.bytes += size;
        self.record(path, Node::File { mode, size, sha256 })
    }

    /// Exactly `size` bytes, whatever the file has become.
    fn content(&mut self, path: &RelPath, file: &mut File, size: u64) -> Result<Sha, CopyError> {
        let mut hash = Sha256::new();
        let mut left = size;
        while left > 0 {
            let piece = self.out.room(left);
            let room = piece.len();
            let count = match file.read(piece) {
                // It shrank: the rest is zeros.
                Ok(0) => {
                    piece.fill(0);
                    room
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) => return Err(CopyError::read(path, error)),
            };
            hash.update(&piece[..count]);
            self.out.filled(room, count).map_err(abandoned)?;
            left -= count as u64;
        }
        tar_write::pad(&mut self.out, size).map_err(abandoned)?;
        Ok(Sha::of(hash))
    }

    fn head(
        &mut self,
        path: &RelPath,
        kind: EntryType,
        target: &[u8],
        mode: u32,
        mtime: i64,
        size: u64,
    ) -> Result<(), CopyError> {
        self.names += path.as_bytes().len() + target.len();
        self.pages = self.pages.saturating_add(size.div_ceil(PAGE_BYTES));
        if !base::within_bounds(self.copied.entries + 1, self.names) {
            return Err(CopyError::TooMany { most: limits::WORKSPACE_ENTRIES });
        }
        if self.pages.saturating_mul(PAGE_BYTES) > self.disk {
            return Err(CopyError::TooLarge { disk: self.disk });
        }
        self.copied.entries += 1;
        let entry = Entry { kind, path: path.as_bytes(), target, mode, mtime, size };
        tar_write::head(&mut self.out, &entry).map_err(abandoned)
    }

    fn record(&mut self, path: RelPath, node: Node) -> Result<(), CopyError> {
        self.base.record(path, node).map_err(CopyError::Record)
    }
}

fn abandoned(_: io::Error) -> CopyError {
    CopyError::Abandoned
}

/// Gathers bytes into pieces and waits while nobody takes them.
struct Pipe<'a> {
    chunks: &'a mpsc::Sender<io::Result<Bytes>>,
    /// Never longer than a piece.
    buffer: Vec<u8>,
}

impl Pipe<'_> {
    /// Where up to `most` bytes may be put; [`Self::filled`] says how many were.
    fn room(&mut self, most: u64) -> &mut [u8] {
        let from = self.buffer.len();
        let room = usize::try_from(most).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES - from);
        self.buffer.resize(from + room, 0);
        &mut self.buffer[from..]
    }

    fn filled(&mut self, room: usize, count: usize) -> io::Result<()> {
        self.buffer.truncate(self.buffer.len() - room + count);
        if self.buffer.len() == CHUNK_BYTES { self.flush() } else { Ok(()) }
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.len().min(CHUNK_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..fits]);
        if self.buffer.len() == CHUNK_BYTES {
            self.flush()?;
        }
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK_BYTES));
        self.chunks.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests;
