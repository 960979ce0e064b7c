//! The work tree in: the tar stream of `GET /workspace`, beneath the root, as the tool user.
//!
//! Only folders, regular files and links, and names of what was left out; nothing is followed,
//! nothing that is there is written over, and modes lose their set-id bits.

use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use airlock_shared::limits;
use airlock_shared::link::LEFT_OUT;
use airlock_shared::outcome::Fault;
use bytes::{Buf as _, Bytes, BytesMut};
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc;

use super::baseline::{Baseline, HASHED_BYTES};
use super::workspace_fault;
use crate::exec::{ToolUser, UserThread};
use crate::tools::output::escaped;
use crate::tools::path::Root;
use crate::tools::walk;

/// One piece of the stream on its way to the thread that writes.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces on their way.
const PIECES: usize = 4;

/// What came in.
pub(crate) struct UnpackResult {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    pub(crate) not_there: NotThere,
    /// To be given to [`super::changes`] at the end.
    pub(crate) baseline: Baseline,
}

/// What the host left out, and whose index may know of it.
#[derive(Default)]
pub(crate) struct NotThere {
    /// As far as they are named, in the host's order.
    pub(crate) paths: Vec<NotCopied>,
    /// Folders with a repository of git in them; the root is empty.
    pub(crate) repositories: Vec<Vec<u8>>,
}

/// A path that stayed on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotCopied {
    pub(crate) path: Vec<u8>,
    /// One word.
    pub(crate) why: String,
}

/// Unpacks a tar stream into a folder.
///
/// # Errors
/// When the stream breaks or is not such a tar, or the sandbox has no room for it.
pub(crate) async fn unpack(
    root: &Path,
    uid: u32,
    gid: u32,
    tar: impl AsyncRead + Send + Unpin,
) -> Result<UnpackResult, Fault> {
    let worker = UserThread::start(ToolUser::new(uid, gid)?)?;
    let root = root.to_string_lossy().into_owned();
    let (pieces, taken) = mpsc::channel(PIECES);
    let work = worker.run(move || {
        let root = Root::open(&root).map_err(|error| {
            workspace_fault(format!("the workspace {root} cannot be used: {error}"))
        })?;
        UnpackStream::new(root).run(StreamReader { pieces: taken, piece: Bytes::new() })
    });
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => done?,
        () = feed(tar, pieces) => work.await?,
    }
}

/// Passes the stream on until it or the taker ends.
async fn feed(mut tar: impl AsyncRead + Unpin, pieces: mpsc::Sender<io::Result<Bytes>>) {
    loop {
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        let piece = match tar.read_buf(&mut piece).await {
            Ok(0) => return,
            Ok(_) => Ok(piece.freeze()),
            Err(error) => Err(error),
        };
        let broken = piece.is_err();
        if pieces.send(piece).await.is_err() || broken {
            return;
        }
    }
}

/// The other end: what was passed on, as a blocking reader.
struct StreamReader {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for StreamReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let count = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// A folder's mode and times, given once all is in it.
struct FolderTimes {
    path: Vec<u8>,
    mode: u32,
    modified: u64,
}

struct UnpackStream {
    root: Root,
    baseline: Baseline,
    folders: Vec<FolderTimes>,
    /// The folder of the entry before: most entries are neighbours.
    last: Option<(Vec<u8>, OwnedFd)>,
    entries: u64,
    bytes: u64,
    not_there: NotThere,
    buffer: Vec<u8>,
}

impl UnpackStream {
    fn new(root: Root) -> Self {
        let (baseline, folders) = (Baseline::default(), Vec::new());
        Self {
            root,
            baseline,
            folders,
            last: None,
            entries: 0,
            bytes: 0,
            not_there: NotThere::default(),
            buffer: vec![0; PIECE_BYTES],
        }
    }

    fn run(mut self, tar: StreamReader) -> Result<UnpackResult, Fault> {
        let broken =
            |error: io::Error| workspace_fault(format!("the work tree broke off: {error}"));
        let mut archive = tar::Archive::new(tar);
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            let path = clean(&entry.path_bytes())?;
            if path.is_empty() {
                continue;
            }
            if entry.header().entry_type().as_byte() == LEFT_OUT {
                let why = entry.link_name_bytes().unwrap_or_default();
                let why = String::from_utf8_lossy(&why).into_owned();
                self.not_there.paths.push(NotCopied { path, why });
                continue;
            }
            self.entries += 1;
            if self.entries > limits::WORKSPACE_ENTRIES {
                return Err(workspace_fault(format!(
                    "the work tree has more than {} entries",
                    limits::WORKSPACE_ENTRIES
                )));
            }
            if let (folder, b".git") = split(&path) {
                self.not_there.repositories.push(folder.to_vec());
            }
            self.entry(&path, &mut entry).map_err(|error| {
                workspace_fault(format!(
                    "{} cannot be copied into the sandbox: {error}",
                    escaped(&path)
                ))
            })?;
        }
        self.end_folders()?;
        let Self { baseline, entries, bytes, not_there, .. } = self;
        Ok(UnpackResult { entries, bytes, not_there, baseline })
    }

    fn entry(&mut self, path: &[u8], entry: &mut tar::Entry<'_, StreamReader>) -> io::Result<()> {
        let header = entry.header();
        // THREAT: a set-uid file of the host's tree in a sandbox that runs as root. Tried by
        // files::tests::what_comes_in_is_what_was_sent_less_set_id_bits.
        let (mode, modified) = (header.mode()? & 0o777, header.mtime()?);
        let kind = header.entry_type();
        if kind.is_dir() {
            self.folder(path)?;
            self.folders.push(FolderTimes { path: path.to_vec(), mode, modified });
        } else if kind.is_file() || kind == tar::EntryType::Continuous {
            self.file(path, mode, modified, entry)?;
        } else if kind.is_symlink() {
            let target = entry.link_name_bytes().unwrap_or_default().into_owned();
            self.link(path, &target, modified)?;
        } else {
            return Err(io::Error::other("it is neither a folder, a file nor a link"));
        }
        Ok(())
    }

    fn file(
        &mut self,
        path: &[u8],
        mode: u32,
        modified: u64,
        content: &mut impl Read,
    ) -> io::Result<()> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (folder, name) = split(path);
        let folder = self.folder(folder)?;
        let file = rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o600))?;
        let mut file = std::fs::File::from(file);
        let mut size = 0;
        let mut hash = Some(self.baseline.hash(&[]));
        loop {
            let count = content.read(&mut self.buffer)?;
            if count == 0 {
                break;
            }
            // A file that comes in one read is hashed as it goes by.
            let is_whole = size == 0 && count as u64 <= HASHED_BYTES;
            hash = is_whole.then(|| self.baseline.hash(&self.buffer[..count]));
            file.write_all(&self.buffer[..count])?;
            size += count as u64;
        }
        self.bytes += size;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        rustix::fs::futimens(&file, &times(modified))?;
        let stat = rustix::fs::fstat(&file)?;
        self.baseline.note(path.to_vec(), &stat, hash);
        Ok(())
    }

    fn link(&mut self, path: &[u8], target: &[u8], modified: u64) -> io::Result<()> {
        if target.is_empty() || target.len() > limits::LINK_TARGET_BYTES || target.contains(&0) {
            return Err(io::Error::other("its target cannot be one"));
        }
        let (folder, name) = split(path);
        let folder = self.folder(folder)?;
        rustix::fs::symlinkat(target, folder, name)?;
        rustix::fs::utimensat(folder, name, &times(modified), AtFlags::SYMLINK_NOFOLLOW)?;
        let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let hash = self.baseline.hash(target);
        self.baseline.note(path.to_vec(), &stat, Some(hash));
        Ok(())
    }

    /// A folder beneath the root, made where it is missing.
    fn folder(&mut self, path: &[u8]) -> io::Result<&OwnedFd> {
        let is_last = self.last.as_ref().is_some_and(|(last, _)| last == path);
        if !is_last {
            let folder = self.make_folder(path)?;
            self.last = Some((path.to_vec(), folder));
        }
        self.last.as_ref().map(|(_, folder)| folder).ok_or_else(|| io::Error::other("no folder"))
    }

    fn make_folder(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let open = |path| walk::open(self.root.as_fd(), path, OFlags::PATH | OFlags::DIRECTORY);
        match open(path) {
            Err(Errno::NOENT) => {}
            answer => return Ok(answer?),
        }
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let (parent, name) = split(&path[..end]);
            match rustix::fs::mkdirat(open(parent)?, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(open(path)?)
    }

    /// Modes and times of folders, the innermost first: filling them would change both.
    fn end_folders(&mut self) -> Result<(), Fault> {
        for folder in std::mem::take(&mut self.folders).into_iter().rev() {
            let ended = self.end_folder(&folder);
            ended.map_err(|error| {
                workspace_fault(format!(
                    "{} cannot be copied into the sandbox: {error}",
                    escaped(&folder.path)
                ))
            })?;
        }
        Ok(())
    }

    fn end_folder(&mut self, folder: &FolderTimes) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = match walk::open(self.root.as_fd(), &folder.path, flags) {
            // Named twice, the second time with a mode that no longer lets us in: it has its mode.
            Err(Errno::ACCESS) => return Ok(()),
            answer => answer?,
        };
        rustix::fs::futimens(&opened, &times(folder.modified))?;
        rustix::fs::fchmod(&opened, Mode::from_raw_mode(folder.mode))?;
        let stat = rustix::fs::fstat(opened.as_fd())?;
        self.baseline.note(folder.path.clone(), &stat, None);
        Ok(())
    }
}

/// A path of the stream without `.` and empty parts.
///
/// THREAT: a name that climbs out of the workspace, should the host ever be fooled into sending
/// one. Tried by files::tests::a_name_that_climbs_out_is_refused.
fn clean(path: &[u8]) -> Result<Vec<u8>, Fault> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    let parts: Vec<&[u8]> = parts.collect();
    let bad = path.starts_with(b"/") || path.contains(&0) || path.len() >= limits::PATH_BYTES;
    if bad || parts.contains(&b"..".as_slice()) {
        return Err(workspace_fault(format!(
            "the work tree names a path that cannot be: {}",
            escaped(path)
        )));
    }
    Ok(parts.join(&b'/'))
}

/// The folder a path is in, and its name there.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

fn times(modified: u64) -> Timestamps {
    let time = Timespec { tv_sec: i64::try_from(modified).unwrap_or(0), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}
