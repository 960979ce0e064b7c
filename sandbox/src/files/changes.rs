//! The changes out: what differs from the baseline, as the tar stream of `PUT /changes`.
//!
//! To be asked for when no command runs any more. Fifos, sockets and devices stay behind; so does
//! what cannot be read, and files that are mostly holes, which are named.

use std::io::{self, Read, Write};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use airlock_shared::outcome::Fault;
use airlock_shared::{limits, link};
use bytes::{Bytes, BytesMut};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tokio::sync::mpsc;

use super::baseline::{Baseline, Same};
use super::workspace_fault;
use crate::exec::{ToolUser, Worker};
use crate::tools::output::escaped;
use crate::tools::path::Root;
use crate::tools::walk::{self, Entry, Kind};

const PIECE_BYTES: usize = 64 << 10;
const PIECES: usize = 4;
/// A file over this with less than a sixteenth of it on disk is holes.
const HOLES_FLOOR_BYTES: i64 = 64 << 20;
/// Names of what was left out that are kept.
const LEFT_OUT: usize = 100;

/// The stream: pieces of a tar, in order. An error ends it, and then it must not be taken as whole.
pub(crate) struct Changes {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    _worker: Worker,
}

impl futures_util::Stream for Changes {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.pieces.poll_recv(context)
    }
}

/// What a stream of changes held, known at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) entries: u64,
    /// What could not be brought out, escaped, with the reason.
    pub(crate) left_out: Vec<String>,
}

/// Starts the stream. The summary comes once the stream has ended well, and never otherwise.
///
/// # Errors
/// When the workspace cannot be opened.
pub(crate) fn changes(
    root: &Path,
    uid: u32,
    gid: u32,
    baseline: Baseline,
) -> Result<(Changes, tokio::sync::oneshot::Receiver<Summary>), Fault> {
    let worker = Worker::start(ToolUser::new(uid, gid)?)?;
    let path = root.to_string_lossy().into_owned();
    let root = worker.run_now(move || Root::open(&path))?;
    let root =
        root.map_err(|error| workspace_fault(format!("the workspace cannot be read: {error}")))?;
    let (sender, pieces) = mpsc::channel(PIECES);
    let (summary, summed) = tokio::sync::oneshot::channel();
    worker.begin(move || {
        match stream(&root, baseline, &sender) {
            // Whoever does not want the summary has dropped its end.
            Ok(all) => drop(summary.send(all)),
            // Nobody to tell if nobody reads.
            Err(error) => drop(sender.blocking_send(Err(error))),
        }
    })?;
    Ok((Changes { pieces, _worker: worker }, summed))
}

fn stream(
    root: &Root,
    baseline: Baseline,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<Summary> {
    let mut scan = Scan { root, baseline, changed: Vec::new(), summary: Summary::default() };
    scan.run()?;
    let Scan { baseline, changed, mut summary, .. } = scan;
    let gone = baseline.gone();
    summary.entries = (gone.len() + changed.len()) as u64;
    if summary.entries > limits::CHANGES_ENTRIES {
        return Err(io::Error::other(format!(
            "more than {} entries changed",
            limits::CHANGES_ENTRIES
        )));
    }
    let mut tar = tar::Builder::new(Pieces { sender, piece: BytesMut::new() });
    for path in gone {
        let mut header = header(tar::EntryType::Regular, 0o644, 0, 0);
        let name = walk::joined(link::CHANGES_GONE.as_bytes(), &path);
        tar.append_data(&mut header, as_path(&name), io::empty())?;
    }
    for (path, mode) in changed {
        append(&mut tar, root, &path, mode, &mut summary)?;
    }
    tar.into_inner()?.flush()?;
    Ok(summary)
}

/// What differs, in order: each folder before what is in it.
struct Scan<'a> {
    root: &'a Root,
    baseline: Baseline,
    /// Each with its mode, which looking into it may have to change.
    changed: Vec<(Vec<u8>, u32)>,
    summary: Summary,
}

impl Scan<'_> {
    fn run(&mut self) -> io::Result<()> {
        let mut levels = vec![(Vec::new(), self.level(&[])?.into_iter())];
        while let Some((folder, rest)) = levels.last_mut() {
            let Some(entry) = rest.next() else {
                levels.pop();
                continue;
            };
            let path = walk::joined(folder, &entry.name);
            if path.len() >= limits::PATH_BYTES {
                self.leave_out(&path[..80], "its path is too long");
                continue;
            }
            self.entry(&path, entry.kind)?;
            if entry.kind == Kind::Folder {
                match self.level(&path) {
                    Ok(entries) => levels.push((path, entries.into_iter())),
                    Err(error) => {
                        self.leave_out(&path, &error.to_string());
                        self.baseline.forget_beneath(&path);
                    }
                }
            }
        }
        Ok(())
    }

    fn level(&mut self, path: &[u8]) -> io::Result<Vec<Entry>> {
        let folder = open_readable(self.root, path, OFlags::RDONLY | OFlags::DIRECTORY, 0o500)?;
        let (entries, more) = walk::entries(folder, ENTRIES_OF_A_FOLDER)?;
        if more {
            return Err(io::Error::other("it has too many entries"));
        }
        Ok(entries)
    }

    fn entry(&mut self, path: &[u8], kind: Kind) -> io::Result<()> {
        let stat = stat_of(self.root, path)?;
        let same = match self.baseline.take(path, &stat) {
            Same::IfHash(hash) => content(self.root, path, kind, &stat)
                .is_ok_and(|content| self.baseline.hash(&content) == hash),
            same => same == Same::Yes,
        };
        if same || kind == Kind::Other {
            return Ok(());
        }
        if kind == Kind::File
            && stat.st_size > HOLES_FLOOR_BYTES
            && stat.st_size / 16 > stat.st_blocks * 512
        {
            self.leave_out(path, "it is mostly holes");
            return Ok(());
        }
        if self.changed.len() as u64 >= limits::CHANGES_ENTRIES {
            return Err(io::Error::other(format!(
                "more than {} entries changed",
                limits::CHANGES_ENTRIES
            )));
        }
        self.changed.push((path.to_vec(), stat.st_mode & 0o7777));
        Ok(())
    }

    fn leave_out(&mut self, path: &[u8], why: &str) {
        leave_out(&mut self.summary, path, why);
    }
}

/// Entries of one folder that are looked at: more cannot be brought out anyhow.
const ENTRIES_OF_A_FOLDER: usize = 400_000;

fn leave_out(summary: &mut Summary, path: &[u8], why: &str) {
    if summary.left_out.len() < LEFT_OUT {
        summary.left_out.push(format!("{}: {why}", escaped(path)));
    }
}

/// A file or link that is small enough to have been hashed.
fn content(root: &Root, path: &[u8], kind: Kind, stat: &Stat) -> io::Result<Vec<u8>> {
    if kind == Kind::Link {
        return target(root, path);
    }
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    let file = open_readable(root, path, FILE, 0o400)?;
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(size).read_to_end(&mut bytes)?;
    Ok(bytes)
}

const FILE: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

fn append(
    tar: &mut tar::Builder<Pieces<'_>>,
    root: &Root,
    path: &[u8],
    mode: u32,
    summary: &mut Summary,
) -> io::Result<()> {
    let name = walk::joined(link::CHANGES_TREE.as_bytes(), path);
    let name = as_path(&name);
    let stat = stat_of(root, path)?;
    let header = |kind, size| header(kind, mode, stat.st_mtime, size);
    match Kind::of(FileType::from_raw_mode(stat.st_mode)) {
        Kind::Folder => {
            tar.append_data(&mut header(tar::EntryType::Directory, 0), name, io::empty())
        }
        Kind::Link => {
            let target = target(root, path)?;
            tar.append_link(&mut header(tar::EntryType::Symlink, 0), name, as_path(&target))
        }
        Kind::File => {
            let file = match open_readable(root, path, FILE, 0o400) {
                Ok(file) => std::fs::File::from(file),
                Err(error) => {
                    leave_out(summary, path, &error.to_string());
                    return Ok(());
                }
            };
            let size = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
            tar.append_data(
                &mut header(tar::EntryType::Regular, size),
                name,
                Exactly { file, left: size },
            )
        }
        Kind::Other => Ok(()),
    }
}

fn header(kind: tar::EntryType, mode: u32, modified: i64, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(u64::try_from(modified).unwrap_or(0));
    header.set_size(size);
    header
}

fn as_path(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt as _;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

/// The folder of a path, and the name there.
fn parent<'p>(root: &Root, path: &'p [u8]) -> io::Result<(std::os::fd::OwnedFd, &'p [u8])> {
    let at = path.iter().rposition(|byte| *byte == b'/');
    let (folder, name) = at.map_or((&[][..], path), |at| (&path[..at], &path[at + 1..]));
    Ok((walk::open(root.as_fd(), folder, OFlags::PATH | OFlags::DIRECTORY)?, name))
}

fn stat_of(root: &Root, path: &[u8]) -> io::Result<Stat> {
    let (folder, name) = parent(root, path)?;
    Ok(rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn target(root: &Root, path: &[u8]) -> io::Result<Vec<u8>> {
    let (folder, name) = parent(root, path)?;
    Ok(rustix::fs::readlinkat(folder, name, Vec::new())?.into_bytes())
}

/// Opens what its owner took the right to read from himself: gives it back, opens, restores.
fn open_readable(
    root: &Root,
    path: &[u8],
    flags: OFlags,
    needed: u32,
) -> io::Result<std::os::fd::OwnedFd> {
    match walk::open(root.as_fd(), path, flags) {
        Err(Errno::ACCESS) if !path.is_empty() => {}
        answer => return Ok(answer?),
    }
    let mode = stat_of(root, path)?.st_mode & 0o7777;
    let (folder, name) = parent(root, path)?;
    // Not a link: those are never opened for reading, and no command runs that could put one here.
    rustix::fs::chmodat(&folder, name, Mode::from_raw_mode(mode | needed), AtFlags::empty())?;
    let opened = walk::open(root.as_fd(), path, flags);
    if needed == 0o400 {
        rustix::fs::chmodat(&folder, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
    }
    Ok(opened?)
}

/// Exactly as many bytes as the header promises, or an error.
struct Exactly {
    file: std::fs::File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read(&mut buffer[..most])?;
        if count == 0 && self.left > 0 && most > 0 {
            return Err(io::Error::other("a file became shorter while it was read"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// A writer whose bytes come out of the stream.
struct Pieces<'a> {
    sender: &'a mpsc::Sender<io::Result<Bytes>>,
    piece: BytesMut,
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = self.piece.split().freeze();
        self.sender
            .blocking_send(Ok(piece))
            .map_err(|_| io::Error::other("nobody takes the changes"))
    }
}
