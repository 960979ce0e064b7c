//! Copies the workspace in: the tar stream of `GET /workspace`, beneath the root, as the tool user.
//!
//! It has only directories, regular files, links, and names of what was left out. No link is
//! followed, no existing file is overwritten, and modes lose their set-id bits.

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

/// The size of one piece of the stream.
const PIECE_BYTES: usize = 256 << 10;
/// How many pieces may wait for the thread that writes.
const PIECES: usize = 4;

/// What was copied in.
pub(crate) struct UnpackResult {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    pub(crate) left_out: LeftOut,
    /// For [`super::changes`].
    pub(crate) baseline: Baseline,
}

/// What the host left out, and the repositories whose index may have it.
#[derive(Default)]
pub(crate) struct LeftOut {
    /// The paths that the host names, in its order.
    pub(crate) paths: Vec<LeftOutPath>,
    /// Directories with a git repository. The root is the empty path.
    pub(crate) repositories: Vec<Vec<u8>>,
}

/// A path that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeftOutPath {
    pub(crate) path: Vec<u8>,
    /// The reason, in one word.
    pub(crate) why: String,
}

/// Unpacks a tar stream into a directory.
///
/// # Errors
/// If the stream breaks off or is not such a tar, or the sandbox has no room for it.
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

/// Passes the stream on until it ends, or until its reader does.
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

/// The other end: a blocking reader of the pieces.
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

/// A directory's mode and time. They are set once its content is complete.
struct DirTimes {
    path: Vec<u8>,
    mode: u32,
    modified: u64,
}

struct UnpackStream {
    root: Root,
    baseline: Baseline,
    dirs: Vec<DirTimes>,
    /// The directory of the previous entry. Most entries have the same one.
    last: Option<(Vec<u8>, OwnedFd)>,
    entries: u64,
    bytes: u64,
    left_out: LeftOut,
    buffer: Vec<u8>,
}

impl UnpackStream {
    fn new(root: Root) -> Self {
        let (baseline, dirs) = (Baseline::default(), Vec::new());
        Self {
            root,
            baseline,
            dirs,
            last: None,
            entries: 0,
            bytes: 0,
            left_out: LeftOut::default(),
            buffer: vec![0; PIECE_BYTES],
        }
    }

    fn run(mut self, tar: StreamReader) -> Result<UnpackResult, Fault> {
        let broken = |error: io::Error| {
            workspace_fault(format!("the copy of the directory broke off: {error}"))
        };
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
                self.left_out.paths.push(LeftOutPath { path, why });
                continue;
            }
            self.entries += 1;
            if self.entries > limits::WORKSPACE_ENTRIES {
                return Err(workspace_fault(format!(
                    "the directory has more than {} entries",
                    limits::WORKSPACE_ENTRIES
                )));
            }
            if let (dir, b".git") = walk::split(&path) {
                self.left_out.repositories.push(dir.to_vec());
            }
            self.entry(&path, &mut entry).map_err(|error| {
                workspace_fault(format!(
                    "{} cannot be copied into the sandbox: {error}",
                    escaped(&path)
                ))
            })?;
        }
        self.end_dirs()?;
        let Self { baseline, entries, bytes, left_out, .. } = self;
        Ok(UnpackResult { entries, bytes, left_out, baseline })
    }

    fn entry(&mut self, path: &[u8], entry: &mut tar::Entry<'_, StreamReader>) -> io::Result<()> {
        let header = entry.header();
        // THREAT: a set-uid file of the person's directory runs as root in the sandbox. Tried by
        // files::tests::the_copy_is_exact_but_for_set_id_bits.
        let (mode, modified) = (header.mode()? & 0o777, header.mtime()?);
        let kind = header.entry_type();
        if kind.is_dir() {
            self.open_dir(path)?;
            self.dirs.push(DirTimes { path: path.to_vec(), mode, modified });
        } else if kind.is_file() || kind == tar::EntryType::Continuous {
            self.file(path, mode, modified, entry)?;
        } else if kind.is_symlink() {
            let target = entry.link_name_bytes().unwrap_or_default().into_owned();
            self.link(path, &target, modified)?;
        } else {
            return Err(io::Error::other("it is neither a directory, a file nor a link"));
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
        let (dir, name) = walk::split(path);
        let dir = self.open_dir(dir)?;
        let file = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600))?;
        let mut file = std::fs::File::from(file);
        let mut size = 0;
        let mut hash = Some(self.baseline.hash(&[]));
        loop {
            let count = content.read(&mut self.buffer)?;
            if count == 0 {
                break;
            }
            // A file that comes with one read is hashed here.
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
            return Err(io::Error::other("its target is not valid"));
        }
        let (dir, name) = walk::split(path);
        let dir = self.open_dir(dir)?;
        rustix::fs::symlinkat(target, dir, name)?;
        rustix::fs::utimensat(dir, name, &times(modified), AtFlags::SYMLINK_NOFOLLOW)?;
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let hash = self.baseline.hash(target);
        self.baseline.note(path.to_vec(), &stat, Some(hash));
        Ok(())
    }

    /// Opens a directory beneath the root, and makes it if it is missing.
    fn open_dir(&mut self, path: &[u8]) -> io::Result<&OwnedFd> {
        let is_last = self.last.as_ref().is_some_and(|(last, _)| last == path);
        if !is_last {
            let dir = self.make_dir(path)?;
            self.last = Some((path.to_vec(), dir));
        }
        self.last.as_ref().map(|(_, dir)| dir).ok_or_else(|| io::Error::other("no directory"))
    }

    fn make_dir(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let open = |path| walk::open(self.root.as_fd(), path, OFlags::PATH | OFlags::DIRECTORY);
        match open(path) {
            Err(Errno::NOENT) => {}
            answer => return Ok(answer?),
        }
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let (parent, name) = walk::split(&path[..end]);
            match rustix::fs::mkdirat(open(parent)?, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(open(path)?)
    }

    /// Sets modes and times of directories, the innermost first, after their content.
    fn end_dirs(&mut self) -> Result<(), Fault> {
        for dir in std::mem::take(&mut self.dirs).into_iter().rev() {
            let ended = self.end_dir(&dir);
            ended.map_err(|error| {
                workspace_fault(format!(
                    "{} cannot be copied into the sandbox: {error}",
                    escaped(&dir.path)
                ))
            })?;
        }
        Ok(())
    }

    fn end_dir(&mut self, dir: &DirTimes) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = match walk::open(self.root.as_fd(), &dir.path, flags) {
            // It is in the stream twice, and its mode no longer lets us in: the mode is set
            // already.
            Err(Errno::ACCESS) => return Ok(()),
            answer => answer?,
        };
        rustix::fs::futimens(&opened, &times(dir.modified))?;
        rustix::fs::fchmod(&opened, Mode::from_raw_mode(dir.mode))?;
        let stat = rustix::fs::fstat(opened.as_fd())?;
        self.baseline.note(dir.path.clone(), &stat, None);
        Ok(())
    }
}

/// A path of the stream without `.` and empty parts.
///
/// THREAT: the host is tricked into sending a name that leads out of the workspace. Tried by
/// files::tests::a_name_that_climbs_out_is_refused.
fn clean(path: &[u8]) -> Result<Vec<u8>, Fault> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    let parts: Vec<&[u8]> = parts.collect();
    let bad = path.starts_with(b"/") || path.contains(&0) || path.len() >= limits::PATH_BYTES;
    if bad || parts.contains(&b"..".as_slice()) {
        return Err(workspace_fault(format!(
            "the directory has a path that is not allowed: {}",
            escaped(path)
        )));
    }
    Ok(parts.join(&b'/'))
}

fn times(modified: u64) -> Timestamps {
    let time = Timespec { tv_sec: i64::try_from(modified).unwrap_or(0), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}
