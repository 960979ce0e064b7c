//! Copies a directory into the sandbox as a bounded tar stream, and records the base.
//!
//! A thread walks the directory twice. The first walk counts: a directory that is too large is
//! refused before anything of it is sent. The second walk reads, hashes and writes into a channel
//! of a few megabytes; it may begin before there is a sandbox to read it. Exactly what is read is
//! sent and recorded. A file that grows is cut, and a file that shrinks is filled with zeros: the
//! base then has the digest of a content that the host never had, so a change of that file is a
//! conflict. When the reader is gone, both walks end at their next entry.
//!
//! # Why everything is judged twice
//! A path may be another file by the time it is read. With a list from the first walk, a file that
//! the second one leaves out would be copied.

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
use tokio::sync::{mpsc, oneshot, watch};

use super::base::{self, BaseWriter};
use super::beneath::Root;
use super::bounds::{Bounds, Most, is_mostly};
use super::node::{Node, Sha};
use super::rel_path::{PathError, RelPath};
use super::rules::LeaveOutRules;
use super::tar_write::{self, TarEntry};
use super::walk::{self, LeftOutReason, WalkEntry};
use crate::text;

/// A piece of the stream.
const CHUNK_BYTES: usize = 64 << 10;
/// Pieces that wait for a reader.
const CHUNKS: usize = 64;
/// The count is reported each time this many entries were visited.
const PROGRESS_EVERY: u64 = 1_000;
/// What was copied in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopySummary {
    /// Folders, files and links.
    pub entries: u64,
    pub files: u64,
    /// The size of all files together.
    pub bytes: u64,
    /// Whether a git repository is among it.
    pub git: bool,
    /// The first [`limits::LEFT_OUT_NAMED`], in the order of the walk.
    pub left_out: Vec<LeftOut>,
    /// All of them, by reason.
    pub left_out_count: HashMap<LeftOutReason, u64>,
    /// Files that changed while they were read.
    pub changed_meanwhile: Vec<RelPath>,
}

/// How far a directory was counted before the copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Entries that were visited, left out or not.
    pub entries: u64,
    /// The space that the files to be copied take.
    pub bytes: u64,
    /// The count is complete, and the directory may be copied.
    pub is_all: bool,
}

/// A path that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    pub path: RelPath,
    pub why: LeftOutReason,
}

/// Why a directory cannot be copied in.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("{path} cannot be read: {source}")]
    Read { path: String, source: io::Error },
    #[error("a path in {folder:?} cannot be copied: {why}", folder = folder.to_string())]
    Path { folder: RelPath, why: PathError },
    #[error("it has more than {most} entries")]
    TooMany { most: u64 },
    #[error("its names have more than {most} bytes together")]
    NamesTooLong { most: usize },
    #[error("it is larger than the sandbox's disk, {}{}", text::limit(*disk), is_mostly(most.as_ref()))]
    TooLarge { disk: u64, most: Option<Most> },
    /// The directory itself.
    #[error("it cannot be read: {0}")]
    Root(io::Error),
    #[error("the record of what was copied cannot be written: {0}")]
    Record(io::Error),
    /// The reader of the stream is gone: the session ended first.
    #[error("the session ended while it was copied")]
    Abandoned,
}

impl CopyError {
    pub(super) fn read(path: &RelPath, source: io::Error) -> Self {
        if path.is_root() {
            return Self::Root(source);
        }
        Self::Read { path: path.to_string(), source }
    }

    /// The command that helps.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::TooLarge { .. } => {
                Some("airlock run --disk SIZE …, or leave some out: --exclude GLOB")
            }
            Self::TooMany { .. }
            | Self::NamesTooLong { .. }
            | Self::Path { .. }
            | Self::Read { .. } => Some("leave some out: airlock run --exclude GLOB …"),
            Self::Root(_) => Some("airlock run -C DIR …"),
            Self::Record(_) | Self::Abandoned => None,
        }
    }
}

/// A copy that has begun.
pub(super) struct CopyIn {
    pub(super) stream: BoxStream<'static, io::Result<Bytes>>,
    pub(super) copied: oneshot::Receiver<Result<CopySummary, CopyError>>,
    pub(super) counted: watch::Receiver<Counted>,
}

/// Starts the copy at once. `record` is the folder of the session's record.
pub(super) fn start(folder: &Path, rules: LeaveOutRules, disk: u64, record: &Path) -> CopyIn {
    let (chunks, mut reader) = mpsc::channel(CHUNKS);
    let (done, copied) = oneshot::channel();
    let (count, counted) = watch::channel(Counted::default());
    let (folder, record) = (folder.to_owned(), record.to_owned());
    tokio::task::spawn_blocking(move || {
        let result = copy(&folder, &rules, disk, &record, &chunks, &count);
        drop(count);
        if let Err(error) = &result {
            // If the reader is gone, there is no one to tell.
            let _gone = chunks.blocking_send(Err(io::Error::other(error.to_string())));
        }
        let _unasked = done.send(result);
    });
    let stream = stream::poll_fn(move |context| reader.poll_recv(context)).boxed();
    CopyIn { stream, copied, counted }
}

fn copy(
    folder: &Path,
    rules: &LeaveOutRules,
    disk: u64,
    record: &Path,
    chunks: &mpsc::Sender<io::Result<Bytes>>,
    counted: &watch::Sender<Counted>,
) -> Result<CopySummary, CopyError> {
    let open = || -> io::Result<(PathBuf, Root)> {
        let folder = folder.canonicalize()?;
        let root = Root::open(&folder)?;
        Ok((folder, root))
    };
    let (folder, root) = open().map_err(CopyError::Root)?;
    let wanted = || if chunks.is_closed() { Err(CopyError::Abandoned) } else { Ok(()) };
    let mut counter = Counter { bounds: Bounds::new(disk), seen: 0, progress: counted };
    walk::walk(&root, &folder, rules, &mut |found| wanted().and_then(|()| counter.take(&found)))?;
    counter.report(true);
    let base = BaseWriter::new(record, &folder).map_err(CopyError::Record)?;
    let out = ChunkPipe { chunks, buffer: Vec::with_capacity(CHUNK_BYTES) };
    let mut packer = TarPacker::new(out, base, disk);
    walk::walk(&root, &folder, rules, &mut |found| wanted().and_then(|()| packer.take(found)))?;
    tar_write::end(&mut packer.out).and_then(|()| packer.out.flush()).map_err(abandoned)?;
    packer.base.finish().map_err(CopyError::Record)?;
    Ok(packer.copied)
}

/// The first walk.
struct Counter<'a> {
    bounds: Bounds,
    seen: u64,
    progress: &'a watch::Sender<Counted>,
}

impl Counter<'_> {
    fn take(&mut self, found: &WalkEntry) -> Result<(), CopyError> {
        self.seen += 1;
        if self.seen.is_multiple_of(PROGRESS_EVERY) {
            self.report(false);
        }
        match found {
            WalkEntry::Folder { path, .. } => self.bounds.add(path, &[], 0),
            WalkEntry::Link { path, target, .. } => self.bounds.add(path, target, 0),
            WalkEntry::StandIn { path, content } => {
                self.bounds.add(path, &[], content.len() as u64)
            }
            WalkEntry::File { path, file } => {
                let about = file.metadata().map_err(|error| CopyError::read(path, error))?;
                self.bounds.add(path, &[], about.len())
            }
            WalkEntry::LeftOut { .. } => Ok(()),
        }
    }

    fn report(&self, is_all: bool) {
        let (entries, bytes) = (self.seen, self.bounds.bytes());
        self.progress.send_replace(Counted { entries, bytes, is_all });
    }
}

struct TarPacker<'a> {
    out: ChunkPipe<'a>,
    base: BaseWriter,
    bounds: Bounds,
    /// How many paths were left out. The sandbox gets the first of them.
    named: usize,
    left_out_names: usize,
    copied: CopySummary,
}

impl<'a> TarPacker<'a> {
    fn new(out: ChunkPipe<'a>, base: BaseWriter, disk: u64) -> Self {
        let (bounds, copied) = (Bounds::new(disk), CopySummary::default());
        Self { out, base, bounds, named: 0, left_out_names: 0, copied }
    }

    fn take(&mut self, found: WalkEntry) -> Result<(), CopyError> {
        match found {
            WalkEntry::Folder { path, mode, mtime } => {
                self.copied.git |= path.name() == b".git";
                self.head(&path, EntryType::Directory, &[], mode, mtime, 0)?;
                self.record(path, Node::Folder { mode })
            }
            WalkEntry::Link { path, target, mtime } => {
                self.head(&path, EntryType::Symlink, &target, 0o777, mtime, 0)?;
                self.record(path, Node::Link { target })
            }
            WalkEntry::File { path, file } => self.file(path, file),
            WalkEntry::StandIn { path, content } => {
                let (mode, size) = (0o644, content.len() as u64);
                self.head(&path, EntryType::Regular, &[], mode, 0, size)?;
                self.out.write_all(&content).map_err(abandoned)?;
                tar_write::pad(&mut self.out, size).map_err(abandoned)?;
                let sha256 = Sha::of(Sha256::new_with_prefix(&content));
                self.record(path, Node::File { mode, size, sha256 })
            }
            WalkEntry::LeftOut { path, why, target } => self.left_out(path, why, target),
        }
    }

    /// Records a path that was left out, for the person, for the sandbox and for the export gate.
    /// Paths of git's own folders are only for the gate: the person and the sandbox need not know
    /// them.
    fn left_out(
        &mut self,
        path: RelPath,
        why: LeftOutReason,
        target: Option<Vec<u8>>,
    ) -> Result<(), CopyError> {
        *self.copied.left_out_count.entry(why).or_default() += 1;
        // Paths beyond the bounds of a workspace are not recorded: a change there is a conflict.
        self.left_out_names += path.as_bytes().len() + target.as_ref().map_or(0, Vec::len);
        if base::within_bounds(self.copied.left_out_count.values().sum(), self.left_out_names) {
            self.base.leave_out(path.clone(), why, target).map_err(CopyError::Record)?;
        }
        if why == LeftOutReason::Git {
            return Ok(());
        }
        self.named += 1;
        if self.named <= limits::LEFT_OUT_SENT {
            let (kind, target) = (EntryType::new(LEFT_OUT), why.as_str().as_bytes());
            let path = path.as_bytes();
            let entry = TarEntry { kind, path, target, mode: 0, mtime: 0, size: 0 };
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

    /// Sends exactly `size` bytes, even if the file has changed.
    fn content(&mut self, path: &RelPath, file: &mut File, size: u64) -> Result<Sha, CopyError> {
        let mut hash = Sha256::new();
        let mut left = size;
        while left > 0 {
            let piece = self.out.room(left);
            let room = piece.len();
            let count = match file.read(piece) {
                // The file shrank: the rest is zeros.
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
        self.bounds.add(path, target, size)?;
        self.copied.entries = self.bounds.entries();
        let entry = TarEntry { kind, path: path.as_bytes(), target, mode, mtime, size };
        tar_write::head(&mut self.out, &entry).map_err(abandoned)
    }

    fn record(&mut self, path: RelPath, node: Node) -> Result<(), CopyError> {
        self.base.record(path, node).map_err(CopyError::Record)
    }
}

fn abandoned(_: io::Error) -> CopyError {
    CopyError::Abandoned
}

/// Gathers bytes into pieces, and waits for the reader to take them.
struct ChunkPipe<'a> {
    chunks: &'a mpsc::Sender<io::Result<Bytes>>,
    /// Never longer than a piece.
    buffer: Vec<u8>,
}

impl ChunkPipe<'_> {
    /// Room for up to `most` bytes. [`Self::filled`] says how many were written.
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

impl Write for ChunkPipe<'_> {
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
