//! Takes the changes out of the sandbox: reads the stream, compares it with what was copied in,
//! lets the export gate judge it, and stores it in the session's record. The person's directory is
//! not touched.
//!
//! The writer of the stream is hostile. A stream that is not a set of changes is a fault, and the
//! earlier set stays. A stream that ends too early or is too large is kept as far as it came whole,
//! and the set says that it was cut.

mod refused; // why a stream is refused

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use airlock_shared::limits;
use airlock_shared::link::{
    CHANGES_END, CHANGES_END_BYTES, CHANGES_GONE, CHANGES_TREE, ChangesEnd,
};
use airlock_shared::outcome::{Fault, FaultKind};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedMutexGuard, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::base::Base;
use super::change::{ChangeCount, ChangeSet, ChangesExtent, Cut};
use super::compare::{StreamedPath, compare, has_all_of};
use super::export;
use super::git;
use super::node::{Node, Sha};
use super::rel_path::RelPath;
use super::store::{self, Writer};
use super::tar_read::{EntryKind, TarError, TarHeader, TarReader};
use crate::clock;
use refused::no_space;

pub use refused::ChangesRefused;
pub(super) use refused::IntakeError;

/// The changes of a session that are on the disk.
#[derive(Clone, Debug, Default)]
pub struct KeptChanges {
    /// Only the count: two sets in memory at once would be too much.
    pub set: Option<ChangeCount>,
    /// Why a later set was not stored.
    pub unkept: Option<Fault>,
}

/// What one intake needs. There is one at a time.
pub(super) struct IntakeSlot {
    pub(super) taken: Arc<watch::Sender<KeptChanges>>,
    /// Held until the set is on the disk.
    pub(super) lock: OwnedMutexGuard<()>,
    /// Cancelled: no more is read.
    pub(super) closed: CancellationToken,
    /// Cancelled: nothing more is stored.
    pub(super) given_up: CancellationToken,
}

/// Reads a stream to its end, or until `closed`, and stores what changed. `disk`: the bytes of the
/// sandbox's disk. If it is dropped, the intake goes on with what came, and `taken` has the result.
///
/// # Errors
/// The earlier set is unchanged.
pub(super) async fn take(
    session: &Path,
    disk: u64,
    mut body: BoxStream<'static, io::Result<Bytes>>,
    slot: IntakeSlot,
) -> Result<(), ChangesRefused> {
    let (pieces, reader) = mpsc::channel(16);
    let folder = session.to_owned();
    let IntakeSlot { taken, lock, closed, given_up } = slot;
    let work = tokio::task::spawn_blocking(move || {
        let stream = ChunkReader { reader, piece: Bytes::new() };
        let result = intake(&folder, disk, stream, &given_up);
        let result = result.map_err(|refused| {
            store::drop_unfinished(&folder);
            ChangesRefused::of(&refused, &folder)
        });
        let result = match result {
            Ok((set, is_full)) => {
                let unkept = is_full.then(|| no_space(&folder));
                taken.send_replace(KeptChanges { set: Some(set), unkept: unkept.clone() });
                unkept.map_or(Ok(()), |fault| Err(ChangesRefused::Unkept(fault)))
            }
            Err(ChangesRefused::Unkept(fault)) => {
                taken.send_modify(|taken| taken.unkept = Some(fault.clone()));
                Err(ChangesRefused::Unkept(fault))
            }
            malformed => malformed.map(drop),
        };
        drop(lock);
        result
    });
    closed.run_until_cancelled(feed(&mut body, pieces)).await;
    let lost = |error| {
        let why = format!("the changes could not be kept: {error}");
        Err(ChangesRefused::Unkept(Fault::new(FaultKind::Workspace, why)))
    };
    work.await.unwrap_or_else(lost)
}

/// Passes the body on, piece by piece. A body that stalls ends with an error.
async fn feed(
    body: &mut (impl Stream<Item = io::Result<Bytes>> + Unpin),
    pieces: mpsc::Sender<io::Result<Bytes>>,
) {
    let patience = Duration::from_secs(limits::LINK_STALL_SECONDS);
    loop {
        let piece = match tokio::time::timeout(patience, body.next()).await {
            Ok(Some(piece)) => piece,
            Ok(None) => return,
            Err(_) => {
                Err(io::Error::other(format!("no data came for {} s", limits::LINK_STALL_SECONDS)))
            }
        };
        let is_last = piece.is_err();
        if pieces.send(piece).await.is_err() || is_last {
            return;
        }
    }
}

struct ChunkReader {
    reader: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.reader.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let count = self.piece.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

/// The set, and whether the disk was too full for all of it.
fn intake(
    session: &Path,
    disk: u64,
    stream: impl Read,
    given_up: &CancellationToken,
) -> Result<(ChangeCount, bool), IntakeError> {
    let mut writer = Writer::new(session)?;
    let base = Base::load(session)?;
    let WholeStream { paths, so_far, cut, broke_off, is_full } =
        read(stream, disk, &base.nodes, &mut writer)?;
    let mut changes = compare(&base.nodes, paths)?;
    changes.retain(|change| !git::is_refreshed_index(change));
    if let Some(why) = broke_off
        && !has_all_of(&changes, store::load(session)?.as_ref())
    {
        return Err(IntakeError::Cut(why));
    }
    // THREAT: a command makes a folder unreadable, and the edits in it that were stored before are
    // replaced by none. Tried by
    // workspace::intake::tests::edits_so_far_that_could_not_be_read_replace_none_that_were.
    if let Some(cut) = cut.as_ref().filter(|cut| cut.unread)
        && (so_far || changes.is_empty())
        && let before @ Some(_) = store::load(session)?.as_ref()
        && !has_all_of(&changes, before)
    {
        return Err(IntakeError::Cut(cut.why.clone()));
    }
    export::judge(&base, None, &mut changes);
    let extent = ChangesExtent { kept: Some(clock::now()), so_far, cut };
    let set = ChangeSet { changes, extent };
    if given_up.is_cancelled() {
        return Err(IntakeError::GivenUp);
    }
    if !set.is_empty() {
        Base::sync(session)?;
    }
    writer.finish(&set)?;
    Ok((set.count(), is_full))
}

/// The part of a stream that came whole.
#[derive(Default)]
struct WholeStream {
    paths: HashMap<RelPath, StreamedPath>,
    so_far: bool,
    cut: Option<Cut>,
    broke_off: Option<String>,
    is_full: bool,
}

impl WholeStream {
    /// A stream that ends too early counts as far as it came. A malformed one is refused.
    fn break_off(&mut self, error: TarError) -> Result<(), IntakeError> {
        let why = match error {
            TarError::Cut => "the stream broke off".to_owned(),
            TarError::Read(error) => error.to_string(),
            TarError::Malformed(_) => return Err(error.into()),
        };
        self.broke_off = Some(why.clone());
        self.cut_short(why);
        Ok(())
    }

    /// Marks the set as cut.
    fn cut_short(&mut self, why: String) {
        let cut = self.cut.get_or_insert_default();
        (cut.edits, cut.unseen) = (true, true);
        cut.why = why;
    }
}

fn read(
    stream: impl Read,
    disk: u64,
    base: &BTreeMap<RelPath, Node>,
    writer: &mut Writer,
) -> Result<WholeStream, IntakeError> {
    let mut tar = TarReader::new(stream);
    let mut whole = WholeStream::default();
    let (mut names, mut stored, mut entries) = (0, 0, 0);
    let mut ended = false;
    loop {
        let header = match tar.next() {
            Ok(Some(header)) => header,
            Ok(None) => return Ok(whole),
            Err(error) => {
                whole.break_off(error)?;
                return Ok(whole);
            }
        };
        if ended {
            return Err(IntakeError::AfterEnd);
        }
        if header.kind == EntryKind::File && header.path == CHANGES_END.as_bytes() {
            let end = match last(&mut tar, header.size) {
                Err(IntakeError::Tar(error)) => {
                    whole.break_off(error)?;
                    return Ok(whole);
                }
                end => end?,
            };
            (whole.so_far, whole.cut) = (end.so_far, end.cut.map(Cut::heard));
            ended = true;
            continue;
        }
        entries += 1;
        names += header.path.len() + header.target.len();
        // THREAT: the sandbox sends names or a file without end, until the host's memory or disk is
        // full. Tried by workspace::intake::tests::what_has_no_end_is_ended.
        if entries > limits::CHANGES_ENTRIES {
            whole.cut_short(format!("there are more than {} paths", limits::CHANGES_ENTRIES));
            return Ok(whole);
        }
        if names > limits::PATHS_BYTES {
            whole.cut_short("their names are too long together".to_owned());
            return Ok(whole);
        }
        let Some((tree, path)) = place(&header)? else { continue };
        let before = base.get(&path);
        let mut content = None;
        let mode = header.mode & 0o777;
        let node = match header.kind {
            _ if !tree => None,
            EntryKind::Folder => Some(Node::Folder { mode }),
            EntryKind::Special => Some(Node::Special),
            EntryKind::Link if header.target.is_empty() => return Err(IntakeError::NoTarget(path)),
            EntryKind::Link if header.target.contains(&0) => {
                return Err(IntakeError::NulTarget(path));
            }
            EntryKind::Link if header.target.len() > limits::LINK_TARGET_BYTES => {
                return Err(IntakeError::LongTarget(path));
            }
            EntryKind::Link => Some(Node::Link { target: header.target }),
            EntryKind::File => {
                if header.size > disk.saturating_sub(stored) {
                    whole.cut_short(format!(
                        "its files are larger than the sandbox's disk, {disk} bytes"
                    ));
                    return Ok(whole);
                }
                let sha256 = match file(&mut tar, writer) {
                    Err(IntakeError::Tar(error)) => {
                        whole.break_off(error)?;
                        writer.rewind(stored)?;
                        return Ok(whole);
                    }
                    // What came before is still stored.
                    Err(IntakeError::Store(error))
                        if error.kind() == io::ErrorKind::StorageFull =>
                    {
                        writer.rewind(stored)?;
                        whole.is_full = true;
                        whole.cut_short("there was no space left to keep more".to_owned());
                        return Ok(whole);
                    }
                    sha256 => sha256?,
                };
                let node = Node::File { mode, size: header.size, sha256 };
                if before.is_some_and(|before| before.same_but_mode(&node)) {
                    writer.rewind(stored)?;
                } else {
                    content = Some(stored);
                    stored += header.size;
                }
                Some(node)
            }
        };
        if !tree && header.size > 0 {
            return Err(IntakeError::GoneContent(path));
        }
        let special_bits = tree && header.mode & 0o7000 != 0;
        if whole.paths.insert(path.clone(), StreamedPath { node, content, special_bits }).is_some()
        {
            return Err(IntakeError::Twice(path));
        }
    }
}

/// The last entry, in which the sandbox says what is missing. Not trusted: more may be missing.
fn last(tar: &mut TarReader<impl Read>, size: u64) -> Result<ChangesEnd, IntakeError> {
    if size > CHANGES_END_BYTES {
        return Err(IntakeError::LongEnd);
    }
    let mut text = vec![0; usize::try_from(size).unwrap_or(0)];
    let mut filled = 0;
    while filled < text.len() {
        filled += tar.content(&mut text[filled..])?;
    }
    serde_json::from_slice(&text).map_err(IntakeError::End)
}

/// The path of an entry, and whether it is in the tree or among the removed paths. None for these
/// two folders themselves.
fn place(header: &TarHeader) -> Result<Option<(bool, RelPath)>, IntakeError> {
    let path = match header.kind {
        EntryKind::Folder => header.path.strip_suffix(b"/").unwrap_or(&header.path),
        _ => &header.path,
    };
    for (folder, tree) in [(CHANGES_TREE, true), (CHANGES_GONE, false)] {
        match path.strip_prefix(folder.as_bytes()) {
            Some(b"") if header.kind == EntryKind::Folder => return Ok(None),
            Some([b'/', rest @ ..]) => return Ok(Some((tree, RelPath::parse(rest)?))),
            _ => {}
        }
    }
    Err(IntakeError::Place)
}

fn file(tar: &mut TarReader<impl Read>, writer: &mut Writer) -> Result<Sha, IntakeError> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = tar.content(&mut buffer)?;
        if count == 0 {
            return Ok(Sha::of(hash));
        }
        hash.update(&buffer[..count]);
        writer.content.write_all(&buffer[..count])?;
    }
}

#[cfg(test)]
mod tests;
