//! The changes out: what differs from the baseline, as the tar stream of `PUT /changes`.
//!
//! ```text
//! edits, small ones first · what is gone · git's own folders and what git ignores · the end
//! ```
//! A bound cuts the tail, and the end says so. Fifos, sockets and devices stay behind; so does what
//! cannot be read, and files that are mostly holes, which are named.
//!
//! # Why what is gone comes after all edits
//! A file that was moved is one that is new and one that is gone. Cut between the two the other way
//! around, the set would delete the only copy.

use std::io::{self, Read, Write};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use airlock_shared::limits;
use airlock_shared::link::{self, ChangesEnd, Cut};
use airlock_shared::outcome::Fault;
use bytes::{Bytes, BytesMut};
use rustix::fs::FileType;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::baseline::Baseline;
use super::read::{self, LeftOut};
use super::scan::{ChangedPath, Differences, Scan, digest};
use super::workspace_fault;
use crate::exec::{ToolUser, UserThread};
use crate::tools::output::escaped;
use crate::tools::path::Root;
use crate::tools::walk::{self, Kind};

const PIECE_BYTES: usize = 64 << 10;
const PIECES: usize = 4;
/// Paths of what was cut that are named.
const CUT_NAMED: usize = 20;
/// What the host's count of names knows beside those of the entries.
const NAMES_SPARE_BYTES: usize = 64 << 10;
/// Why what could not be read is missing.
const UNREAD: &str = "some of it could not be read";

/// What is wanted of the changes.
#[derive(Clone)]
pub(crate) struct ChangesRequest {
    /// The end: no command runs, and none will. Otherwise only the edits so far.
    pub(crate) last: bool,
    /// Paths, and bytes of files, at most.
    pub(crate) paths: u64,
    pub(crate) bytes: u64,
    /// The set that is out already: one like it is not made again.
    pub(crate) out: Option<u64>,
    /// No more is looked for.
    pub(crate) looked: CancellationToken,
    /// No more is added.
    pub(crate) enough: CancellationToken,
}

/// The stream: pieces of a tar, in order. An error ends it, and then only what came whole counts.
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

/// What a stream of changes held, known at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChangesSummary {
    pub(crate) left_out: LeftOut,
    pub(crate) cut: Option<Cut>,
    /// What the edits were.
    pub(crate) digest: u64,
}

/// Looks for the edits, and starts the stream. The summary comes once the stream has ended well,
/// and never otherwise. None: nothing is new since the set that is out.
///
/// # Errors
/// When the workspace cannot be opened.
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
        root.give_back();
        let mut scan = Scan::new(&root, &baseline, wanted.last, &wanted.looked);
        let edits = scan.edits();
        let digest = digest(&baseline, &edits);
        let is_new = wanted.out != Some(digest);
        if found.send(Ok(is_new)).is_err() || !is_new {
            return;
        }
        match stream(scan, edits, &root, &wanted, &sender) {
            // Whoever does not want the summary has dropped its end.
            Ok(all) => drop(summary.send(ChangesSummary { digest, ..all })),
            // Nobody to tell if nobody reads.
            Err(error) => drop(sender.blocking_send(Err(error))),
        }
    })?;
    let is_new = is_new.await.unwrap_or_else(|_| Err(workspace_fault("the scan was given up")))?;
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
        left_out: LeftOut::default(),
        cut: None,
    };
    let unseen = scan.unseen;
    if unseen {
        out.cut("there was no time to look for more").unseen = true;
    }
    out.unread(&mut scan);
    out.differences(edits)?;
    if let Some(cut) = &mut out.cut {
        cut.edits = true;
    }
    if wanted.last {
        let derived = scan.derived();
        if scan.unseen && !unseen {
            out.cut("there was no time to look for more").unseen = true;
        }
        out.unread(&mut scan);
        out.differences(derived)?;
    }
    let mut left_out = scan.left_out;
    left_out.named.append(&mut out.left_out.named);
    left_out.more += out.left_out.more;
    out.end(left_out)
}

/// The stream as it is written, within its bounds.
struct TarOut<'a> {
    tar: tar::Builder<ChunkWriter<'a>>,
    root: &'a Root,
    wanted: &'a ChangesRequest,
    entries: u64,
    names: usize,
    bytes: u64,
    left_out: LeftOut,
    cut: Option<Cut>,
}

impl TarOut<'_> {
    fn differences(&mut self, differences: Differences) -> io::Result<()> {
        for found in differences.found {
            self.found(&found)?;
        }
        for path in differences.gone {
            match &mut self.cut {
                // What is missing may be what this became.
                Some(_) => self.missing(&path, "what it may have become is missing"),
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
                self.not_read(path, &error);
                return Ok(());
            }
        };
        let header = |kind, size| header(kind, found.mode, stat.st_mtime, size);
        match Kind::of(FileType::from_raw_mode(stat.st_mode)) {
            Kind::Folder => {
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
                        self.not_read(path, &error);
                        return Ok(());
                    }
                };
                let size = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
                if let Some(why) = self.no_room(name.len(), size) {
                    self.missing(path, why);
                    return Ok(());
                }
                let content = ExactBytes { file, left: size, enough: &self.wanted.enough };
                let mut header = header(tar::EntryType::Regular, size);
                self.tar.append_data(&mut header, as_path(&name), content)
            }
            Kind::Other => Ok(()),
        }
    }

    /// Why one more entry does not go in; if it does, it is counted.
    fn no_room(&mut self, names: usize, bytes: u64) -> Option<&'static str> {
        if self.wanted.enough.is_cancelled() {
            return Some("there was no time for more");
        }
        if self.entries >= self.wanted.paths {
            return Some("there are more than a set of changes may have");
        }
        if self.names + names + NAMES_SPARE_BYTES > limits::PATHS_BYTES {
            return Some("their names are too long together");
        }
        if bytes > self.wanted.bytes.saturating_sub(self.bytes) {
            return Some("they are larger than what may come out");
        }
        self.entries += 1;
        self.names += names;
        self.bytes += bytes;
        None
    }

    fn cut(&mut self, why: &str) -> &mut Cut {
        self.cut.get_or_insert_with(|| Cut { why: why.to_owned(), ..Cut::default() })
    }

    fn not_read(&mut self, path: &[u8], error: &io::Error) {
        self.left_out.add(path, &error.to_string());
        self.missing(path, UNREAD);
        self.cut(UNREAD).unread = true;
    }

    /// What the scan could not read.
    fn unread(&mut self, scan: &mut Scan<'_>) {
        for path in std::mem::take(&mut scan.unread) {
            self.missing(&path, UNREAD);
            self.cut(UNREAD).unread = true;
        }
    }

    fn missing(&mut self, path: &[u8], why: &str) {
        let cut = self.cut(why);
        cut.paths += 1;
        if cut.first.len() < CUT_NAMED {
            let shown = escaped(path);
            cut.first.push(shown.chars().take(200).collect());
        }
    }

    fn end(mut self, left_out: LeftOut) -> io::Result<ChangesSummary> {
        let end = ChangesEnd { so_far: !self.wanted.last, cut: self.cut.clone() };
        let end = serde_json::to_vec(&end)?;
        let mut header = header(tar::EntryType::Regular, 0o644, 0, end.len() as u64);
        self.tar.append_data(&mut header, link::CHANGES_END, end.as_slice())?;
        self.tar.into_inner()?.flush()?;
        Ok(ChangesSummary { left_out, cut: self.cut, digest: 0 })
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

/// Exactly as many bytes as the header promises, or an error.
struct ExactBytes<'a> {
    file: std::fs::File,
    left: u64,
    enough: &'a CancellationToken,
}

impl Read for ExactBytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        // Half a file cannot be ended well. What came before it is whole, and kept.
        if self.enough.is_cancelled() && self.left > PIECE_BYTES as u64 {
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

/// A writer whose bytes come out of the stream.
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
            .map_err(|_| io::Error::other("nobody takes the changes"))
    }
}
