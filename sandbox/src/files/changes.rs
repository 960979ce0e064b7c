//! Copies the changes out: what differs from the baseline, as the tar stream of `PUT /changes`.
//!
//! ```text
//! edits, small ones first · deleted paths · git's own directories and what git ignores · the end
//! ```
//! A bound cuts the tail, and the end says so. Fifos, sockets and devices are not copied. Files
//! that cannot be read or are mostly holes are not copied either, and are named.
//!
//! # Why deleted paths come after all edits
//! A moved file is one new path and one deleted path. In the other order, a cut between the two
//! would delete the only copy.

use std::io::{self, Read, Write};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use airlock_shared::limits;
use airlock_shared::link::{self, ChangesEnd, Cut, CutWhy};
use airlock_shared::outcome::Fault;
use bytes::{Bytes, BytesMut};
use rustix::fs::FileType;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::baseline::Baseline;
use super::read::{self, Omitted};
use super::scan::{ChangedPath, Differences, Scan, digest};
use super::workspace_fault;
use crate::exec::{ToolUser, UserThread};
use crate::tools::path::Root;
use crate::tools::walk::{self, Kind};

const PIECE_BYTES: usize = 64 << 10;
const PIECES: usize = 4;
/// How many paths that were cut off are named.
const CUT_NAMED: usize = 20;
/// Room in the host's limit for names other than those of the entries.
const NAMES_SPARE_BYTES: usize = 64 << 10;

/// Which changes to copy out.
#[derive(Clone)]
pub(crate) struct ChangesRequest {
    /// True: all changes, at the end, when no command runs any more. False: the edits so far.
    pub(crate) last: bool,
    /// The most paths, and the most bytes of files.
    pub(crate) paths: u64,
    pub(crate) bytes: u64,
    /// The digest of the set that was sent last. The same set is not sent again.
    pub(crate) sent: Option<u64>,
    /// Stops the scan.
    pub(crate) stop_scan: CancellationToken,
    /// Stops adding entries.
    pub(crate) stop_stream: CancellationToken,
}

/// The stream: pieces of a tar, in order. An error ends it. Then only complete entries count.
pub(crate) struct ChangesStream {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    _worker: UserThread,
}

impl futures_util::Stream for ChangesStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.pieces.poll_recv(context)
    }
}

/// What a stream of changes had, known at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChangesSummary {
    pub(crate) omitted: Omitted,
    pub(crate) cut: Option<Cut>,
    /// The digest of the edits.
    pub(crate) digest: u64,
}

/// Scans for the edits and starts the stream. The summary comes only if the stream ends well.
/// `None`: nothing is new since the last set.
///
/// # Errors
/// If the workspace cannot be opened.
pub(crate) async fn changes(
    root: &Path,
    uid: u32,
    gid: u32,
    baseline: Arc<Baseline>,
    wanted: ChangesRequest,
) -> Result<Option<(ChangesStream, oneshot::Receiver<ChangesSummary>)>, Fault> {
    let worker = UserThread::start(ToolUser::new(uid, gid)?)?;
    let path = root.to_string_lossy().into_owned();
    let (found, is_new) = oneshot::channel();
    let (sender, pieces) = mpsc::channel(PIECES);
    let (summary, summed) = oneshot::channel();
    worker.begin(move || {
        let root = match Root::open(&path) {
            Ok(root) => root,
            Err(error) => {
                let why = format!("the workspace cannot be read: {error}");
                return drop(found.send(Err(workspace_fault(why))));
            }
        };
        root.unlock();
        let mut scan = Scan::new(&root, &baseline, wanted.last, &wanted.stop_scan);
        let edits = scan.edits();
        let digest = digest(&baseline, &edits);
        let is_new = wanted.sent != Some(digest);
        if found.send(Ok(is_new)).is_err() || !is_new {
            return;
        }
        match stream(scan, edits, &root, &wanted, &sender) {
            // The receiver may be dropped if the summary is not needed.
            Ok(all) => drop(summary.send(ChangesSummary { digest, ..all })),
            // The receiver may be dropped if the stream is not read.
            Err(error) => drop(sender.blocking_send(Err(error))),
        }
    })?;
    let is_new = is_new.await.unwrap_or_else(|_| Err(workspace_fault("the scan was aborted")))?;
    Ok(is_new.then_some((ChangesStream { pieces, _worker: worker }, summed)))
}

fn stream(
    mut scan: Scan<'_>,
    edits: Differences,
    root: &Root,
    wanted: &ChangesRequest,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<ChangesSummary> {
    let mut out = TarOut {
        tar: tar::Builder::new(ChunkWriter { sender, piece: BytesMut::new() }),
        root,
        wanted,
        entries: 0,
        names: 0,
        bytes: 0,
        omitted: Omitted::default(),
        cut: None,
    };
    let unseen = scan.unseen;
    if unseen {
        out.cut(CutWhy::Looking).unseen = true;
    }
    out.take_unread(&mut scan);
    out.differences(edits)?;
    if let Some(cut) = &mut out.cut {
        cut.edits = true;
    }
    if wanted.last {
        let derived = scan.derived();
        if scan.unseen && !unseen {
            out.cut(CutWhy::Looking).unseen = true;
        }
        out.take_unread(&mut scan);
        out.differences(derived)?;
    }
    let mut omitted = scan.omitted;
    omitted.named.append(&mut out.omitted.named);
    omitted.more += out.omitted.more;
    out.end(omitted)
}

/// Writes the stream within its bounds.
struct TarOut<'a> {
    tar: tar::Builder<ChunkWriter<'a>>,
    root: &'a Root,
    wanted: &'a ChangesRequest,
    entries: u64,
    names: usize,
    bytes: u64,
    omitted: Omitted,
    cut: Option<Cut>,
}

impl TarOut<'_> {
    fn differences(&mut self, differences: Differences) -> io::Result<()> {
        for found in differences.found {
            self.found(&found)?;
        }
        for path in differences.gone {
            match self.cut.as_ref().map(|cut| cut.why) {
                // The file may have been moved, and its new path may be missing.
                Some(why) => self.missing(&path, why),
                None => self.gone(&path)?,
            }
        }
        Ok(())
    }

    fn gone(&mut self, path: &[u8]) -> io::Result<()> {
        let name = walk::joined(link::CHANGES_GONE.as_bytes(), path);
        if let Some(why) = self.no_room(name.len(), 0) {
            self.missing(path, why);
            return Ok(());
        }
        let mut header = header(tar::EntryType::Regular, 0o644, 0, 0);
        self.tar.append_data(&mut header, as_path(&name), io::empty())
    }

    fn found(&mut self, found: &ChangedPath) -> io::Result<()> {
        let path = &found.path;
        let name = walk::joined(link::CHANGES_TREE.as_bytes(), path);
        let stat = match read::stat(self.root, path) {
            Ok(stat) => stat,
            Err(error) => {
                self.add_unread(path, &error);
                return Ok(());
            }
        };
        let header = |kind, size| header(kind, found.mode, stat.st_mtime, size);
        match Kind::of(FileType::from_raw_mode(stat.st_mode)) {
            Kind::Dir => {
                if let Some(why) = self.no_room(name.len(), 0) {
                    self.missing(path, why);
                    return Ok(());
                }
                let mut header = header(tar::EntryType::Directory, 0);
                self.tar.append_data(&mut header, as_path(&name), io::empty())
            }
            Kind::Link => {
                let target = read::target(self.root, path)?;
                if let Some(why) = self.no_room(name.len() + target.len(), 0) {
                    self.missing(path, why);
                    return Ok(());
                }
                let mut header = header(tar::EntryType::Symlink, 0);
                self.tar.append_link(&mut header, as_path(&name), as_path(&target))
            }
            Kind::File => {
                let file = match read::file(self.root, path, self.wanted.last) {
                    Ok(file) => file,
                    Err(error) => {
                        self.add_unread(path, &error);
                        return Ok(());
                    }
                };
                let size = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
                if let Some(why) = self.no_room(name.len(), size) {
                    self.missing(path, why);
                    return Ok(());
                }
                let content = ExactBytes { file, left: size, stop: &self.wanted.stop_stream };
                let mut header = header(tar::EntryType::Regular, size);
                self.tar.append_data(&mut header, as_path(&name), content)
            }
            Kind::Other => Ok(()),
        }
    }

    /// Why there is no room for one more entry. If there is, the entry is counted.
    fn no_room(&mut self, names: usize, bytes: u64) -> Option<CutWhy> {
        if self.wanted.stop_stream.is_cancelled() {
            return Some(CutWhy::Sending);
        }
        if self.entries >= self.wanted.paths {
            return Some(CutWhy::Paths);
        }
        if self.names + names + NAMES_SPARE_BYTES > limits::PATHS_BYTES {
            return Some(CutWhy::Names);
        }
        if bytes > self.wanted.bytes.saturating_sub(self.bytes) {
            return Some(CutWhy::Bytes);
        }
        self.entries += 1;
        self.names += names;
        self.bytes += bytes;
        None
    }

    fn cut(&mut self, why: CutWhy) -> &mut Cut {
        self.cut.get_or_insert_with(|| Cut::by(why))
    }

    /// Records a path that could not be read.
    fn add_unread(&mut self, path: &[u8], error: &io::Error) {
        self.omitted.add(path, &error.to_string());
        self.missing(path, CutWhy::Unread);
        self.cut(CutWhy::Unread).unread = true;
    }

    /// Names the paths that the scan could not read as missing.
    fn take_unread(&mut self, scan: &mut Scan<'_>) {
        for path in std::mem::take(&mut scan.unread) {
            self.missing(&path, CutWhy::Unread);
            self.cut(CutWhy::Unread).unread = true;
        }
    }

    fn missing(&mut self, path: &[u8], why: CutWhy) {
        let cut = self.cut(why);
        cut.paths += 1;
        if cut.first.len() < CUT_NAMED {
            cut.first.push(read::named(path));
        }
    }

    fn end(mut self, omitted: Omitted) -> io::Result<ChangesSummary> {
        let end = ChangesEnd { so_far: !self.wanted.last, cut: self.cut.clone() };
        let end = serde_json::to_vec(&end)?;
        let mut header = header(tar::EntryType::Regular, 0o644, 0, end.len() as u64);
        self.tar.append_data(&mut header, link::CHANGES_END, end.as_slice())?;
        self.tar.into_inner()?.flush()?;
        Ok(ChangesSummary { omitted, cut: self.cut, digest: 0 })
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

/// Reads exactly as many bytes as the header says, or fails.
struct ExactBytes<'a> {
    file: std::fs::File,
    left: u64,
    stop: &'a CancellationToken,
}

impl Read for ExactBytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        // Half a file cannot be completed. The entries before it are complete and count.
        if self.stop.is_cancelled() && self.left > PIECE_BYTES as u64 {
            return Err(io::Error::other("there was no time for more"));
        }
        let count = self.file.read(&mut buffer[..most])?;
        if count == 0 && self.left > 0 && most > 0 {
            return Err(io::Error::other("a file became shorter while it was read"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// A writer that sends its bytes as pieces of the stream.
struct ChunkWriter<'a> {
    sender: &'a mpsc::Sender<io::Result<Bytes>>,
    piece: BytesMut,
}

impl Write for ChunkWriter<'_> {
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
            .map_err(|_| io::Error::other("the changes are not read"))
    }
}
