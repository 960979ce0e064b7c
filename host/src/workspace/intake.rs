//! The way out, first half: the stream of changes is read, compared with what was copied in,
//! judged by the export gate and stored in the run's folder. Nothing touches the workspace.
//!
//! Whoever writes the stream is hostile. It is all or nothing: what is no set of changes is a
//! fault, and leaves nothing behind.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use airlock_shared::limits;
use airlock_shared::link::{CHANGES_GONE, CHANGES_TREE};
use airlock_shared::outcome::{Fault, FaultKind};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::base::Base;
use super::change::{Change, ChangeSet};
use super::export;
use super::node::{Node, Sha};
use super::rel_path::{PathError, RelPath};
use super::store::{self, Writer};
use super::tar_read::{Header, Kind, Reader, TarError};

/// Why a stream is no set of changes.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Tar(#[from] TarError),
    #[error("a path is refused: {0}")]
    Path(#[from] PathError),
    #[error("{0} is in it twice")]
    Twice(RelPath),
    #[error("{0} lies beneath something that is no folder")]
    Beneath(RelPath),
    #[error("a path is neither in tree/ nor in gone/")]
    Place,
    #[error("a link of no target, or one too long")]
    Target,
    #[error(
        "it has more than {} entries, or their names are too long together",
        limits::CHANGES_ENTRIES
    )]
    TooMany,
    #[error("its files are larger than the box's disk, {0} bytes")]
    TooLarge(u64),
    #[error("it stopped coming for {} s", limits::LINK_STALL_SECONDS)]
    Stalled,
    #[error("it cannot be stored: {0}")]
    Store(#[from] io::Error),
}

/// Reads a stream to its end and stores what changed. `disk`: the bytes of the box's disk.
///
/// # Errors
/// [`FaultKind::Workspace`], and nothing is stored.
pub(super) async fn take(
    run: &Path,
    disk: u64,
    mut body: BoxStream<'static, io::Result<Bytes>>,
) -> Result<ChangeSet, Fault> {
    let (pieces, reader) = mpsc::channel(16);
    let folder = run.to_owned();
    let work = tokio::task::spawn_blocking(move || {
        let result = intake(&folder, disk, Pieces { reader, piece: Bytes::new() });
        if result.is_err() {
            store::drop_unfinished(&folder);
        }
        result
    });
    let stalled = feed(&mut body, pieces).await;
    let result = match work.await {
        Ok(result) => result,
        Err(error) => Err(Refused::Store(io::Error::other(error))),
    };
    result.map_err(|refused| {
        let refused = if stalled { Refused::Stalled } else { refused };
        Fault::new(FaultKind::Workspace, format!("the changes could not be taken: {refused}"))
    })
}

/// Hands the body on, piece by piece, and says whether it stalled.
async fn feed(
    body: &mut (impl Stream<Item = io::Result<Bytes>> + Unpin),
    pieces: mpsc::Sender<io::Result<Bytes>>,
) -> bool {
    let patience = Duration::from_secs(limits::LINK_STALL_SECONDS);
    loop {
        match tokio::time::timeout(patience, body.next()).await {
            Ok(Some(piece)) => {
                if pieces.send(piece).await.is_err() {
                    return false;
                }
            }
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
}

struct Pieces {
    reader: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for Pieces {
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

/// What the stream says of a path.
struct Said {
    /// None: it is gone.
    node: Option<Node>,
    content: Option<u64>,
    special_bits: bool,
}

fn intake(run: &Path, disk: u64, stream: impl Read) -> Result<ChangeSet, Refused> {
    let mut writer = Writer::new(run)?;
    let base = Base::load(run)?;
    let said = read(stream, disk, &base.nodes, &mut writer)?;
    let mut changes = compare(&base.nodes, said)?;
    export::judge(&base, &mut changes);
    let set = ChangeSet { changes };
    if !set.is_empty() {
        Base::sync(run)?;
    }
    writer.finish(&set)?;
    Ok(set)
}

fn read(
    stream: impl Read,
    disk: u64,
    base: &BTreeMap<RelPath, Node>,
    writer: &mut Writer,
) -> Result<HashMap<RelPath, Said>, Refused> {
    let mut tar = Reader::new(stream);
    let mut said = HashMap::new();
    let (mut names, mut stored, mut entries) = (0, 0, 0);
    while let Some(header) = tar.next()? {
        entries += 1;
        names += header.path.len() + header.target.len();
        // THREAT: a million names, or a file without an end, until the host's memory or disk is
        // full. Tried by workspace::intake::tests::what_has_no_end_is_ended.
        if entries > limits::CHANGES_ENTRIES || names > limits::PATHS_BYTES {
            return Err(Refused::TooMany);
        }
        let Some((tree, path)) = place(&header)? else { continue };
        let before = base.get(&path);
        let mut content = None;
        let mode = header.mode & 0o777;
        let node = match header.kind {
            _ if !tree => None,
            Kind::Folder => Some(Node::Folder { mode }),
            Kind::Special => Some(Node::Special),
            Kind::Link if header.target.is_empty() || header.target.contains(&0) => {
                return Err(Refused::Target);
            }
            Kind::Link if header.target.len() > limits::LINK_TARGET_BYTES => {
                return Err(Refused::Target);
            }
            Kind::Link => Some(Node::Link { target: header.target }),
            Kind::File => {
                if header.size > disk.saturating_sub(stored) {
                    return Err(Refused::TooLarge(disk));
                }
                let sha256 = file(&mut tar, writer)?;
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
            return Err(Refused::Place);
        }
        let special_bits = tree && header.mode & 0o7000 != 0;
        if said.insert(path.clone(), Said { node, content, special_bits }).is_some() {
            return Err(Refused::Twice(path));
        }
    }
    Ok(said)
}

/// Where an entry says it lies: in the tree or among what is gone. None: the two folders
/// themselves.
fn place(header: &Header) -> Result<Option<(bool, RelPath)>, Refused> {
    let path = match header.kind {
        Kind::Folder => header.path.strip_suffix(b"/").unwrap_or(&header.path),
        _ => &header.path,
    };
    for (folder, tree) in [(CHANGES_TREE, true), (CHANGES_GONE, false)] {
        match path.strip_prefix(folder.as_bytes()) {
            Some(b"") if header.kind == Kind::Folder => return Ok(None),
            Some([b'/', rest @ ..]) => return Ok(Some((tree, RelPath::parse(rest)?))),
            _ => {}
        }
    }
    Err(Refused::Place)
}

fn file(tar: &mut Reader<impl Read>, writer: &mut Writer) -> Result<Sha, Refused> {
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

/// What differs from the base, sorted by path. What went with its folder is named as gone, a
/// folder that nobody named is taken for a plain one.
fn compare(
    base: &BTreeMap<RelPath, Node>,
    said: HashMap<RelPath, Said>,
) -> Result<Vec<Change>, Refused> {
    let mut now: BTreeMap<RelPath, Said> = BTreeMap::new();
    for (path, it) in &said {
        if it.node.as_ref().is_some_and(Node::is_folder)
            || !base.get(path).is_some_and(Node::is_folder)
        {
            continue;
        }
        let inside = base.range(path.clone()..).map(|(inner, _)| inner);
        let inside = inside.skip_while(|inner| *inner == path);
        for inner in inside.take_while(|inner| inner.as_bytes().starts_with(path.as_bytes())) {
            if inner.is_beneath(path) {
                now.insert(inner.clone(), Said { node: None, content: None, special_bits: false });
            }
        }
    }
    // THREAT: `a` is a link to /etc and `a/passwd` a file: written in this order, it lands there.
    // Tried by workspace::intake::tests::nothing_lies_beneath_a_link.
    let mut implied = 0;
    for (path, _) in said.iter().filter(|(_, it)| it.node.is_some()) {
        for folder in path.ancestors() {
            let there = match said.get(&folder) {
                Some(it) => it.node.as_ref(),
                None => base.get(&folder),
            };
            match there {
                // What this one lies in is asked for it.
                Some(node) if node.is_folder() => break,
                None if !said.contains_key(&folder) => {
                    implied += folder.as_bytes().len();
                    if implied > limits::PATHS_BYTES {
                        return Err(Refused::TooMany);
                    }
                    let node = Some(Node::Folder { mode: 0o755 });
                    let it = Said { node, content: None, special_bits: false };
                    if now.insert(folder, it).is_some_and(|it| it.node.is_some()) {
                        break;
                    }
                }
                _ => return Err(Refused::Beneath(path.clone())),
            }
        }
    }
    now.extend(said);
    let changes = now.into_iter().map(|(path, it)| Change {
        before: base.get(&path).cloned(),
        path,
        after: it.node,
        content: it.content,
        held: None,
        runs: None,
        special_bits: it.special_bits,
    });
    Ok(changes.filter(|change| change.before != change.after).collect())
}

#[cfg(test)]
mod tests;
