//! The base: what was copied in and what was left out, one JSON line for each path, in the
//! session's record. The changes that come back and the host's files at apply are compared with it.
//!
//! # Why no times and no inode numbers
//! Contents are compared instead. The changed set is small, and two writes within one tick of the
//! clock have the same time but not the same content.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use airlock_shared::limits;
use serde::{Deserialize, Serialize};

use super::node::Node;
use super::rel_path::{self, RelPath};
use super::walk::LeftOutReason;

const NAME: &str = "base.jsonl";
const UNFINISHED: &str = "base.jsonl.part";

/// The first line.
#[derive(Serialize, Deserialize)]
struct BaseHeader {
    v: u32,
    /// The absolute path of the directory, percent-encoded.
    root: String,
}

/// Every other line: a path with a node or a reason. A link that was left out has both.
#[derive(Serialize, Deserialize)]
struct BaseLine {
    path: RelPath,
    #[serde(flatten)]
    node: Option<Node>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left_out: Option<LeftOutReason>,
}

/// The paths of a workspace as they were copied.
#[derive(Default)]
pub(super) struct Base {
    pub(super) root: PathBuf,
    pub(super) nodes: BTreeMap<RelPath, Node>,
    /// What was left out, and why. Only the folder itself, if a whole folder was left out.
    pub(super) left_out: BTreeMap<RelPath, LeftOutReason>,
    /// The links among them. On the host they still lead somewhere.
    pub(super) links_left_out: BTreeMap<RelPath, Node>,
}

/// Writes a base. It counts only after [`Self::finish`].
pub(super) struct BaseWriter {
    folder: PathBuf,
    lines: BufWriter<File>,
}

impl BaseWriter {
    pub(super) fn new(folder: &Path, root: &Path) -> io::Result<Self> {
        let mut lines = BufWriter::new(File::create(folder.join(UNFINISHED))?);
        let root = rel_path::encode(root.as_os_str().as_bytes());
        serde_json::to_writer(&mut lines, &BaseHeader { v: 1, root })?;
        lines.write_all(b"\n")?;
        Ok(Self { folder: folder.to_owned(), lines })
    }

    pub(super) fn record(&mut self, path: RelPath, node: Node) -> io::Result<()> {
        self.line(&BaseLine { path, node: Some(node), left_out: None })
    }

    /// `target`: of a link.
    pub(super) fn leave_out(
        &mut self,
        path: RelPath,
        why: LeftOutReason,
        target: Option<Vec<u8>>,
    ) -> io::Result<()> {
        let node = target.map(|target| Node::Link { target });
        self.line(&BaseLine { path, node, left_out: Some(why) })
    }

    fn line(&mut self, line: &BaseLine) -> io::Result<()> {
        serde_json::to_writer(&mut self.lines, line)?;
        self.lines.write_all(b"\n")
    }

    /// Does not sync: a session without changes needs no base. See [`Base::sync`].
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.lines.flush()?;
        std::fs::rename(self.folder.join(UNFINISHED), self.folder.join(NAME))
    }
}

impl Base {
    pub(super) fn load(folder: &Path) -> io::Result<Self> {
        let mut lines = BufReader::new(File::open(folder.join(NAME))?).lines();
        let first = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
        let header: BaseHeader = serde_json::from_str(&first)?;
        let root = rel_path::decode(&header.root).ok_or(io::ErrorKind::InvalidData)?;
        let mut base = Self { root: OsStr::from_bytes(&root).into(), ..Self::default() };
        for line in lines {
            let line: BaseLine = serde_json::from_str(&line?)?;
            match (line.node, line.left_out) {
                (Some(node), None) => _ = base.nodes.insert(line.path, node),
                (link, Some(why)) => {
                    if let Some(link) = link {
                        base.links_left_out.insert(line.path.clone(), link);
                    }
                    base.left_out.insert(line.path, why);
                }
                (None, None) => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        Ok(base)
    }

    /// Syncs the base to the disk.
    pub(super) fn sync(folder: &Path) -> io::Result<()> {
        File::open(folder.join(NAME))?.sync_all()
    }
}

/// Whether a complete base exists.
pub(super) fn is_there(folder: &Path) -> bool {
    folder.join(NAME).exists()
}

/// Whether a tree of this many entries and bytes of names is within its bounds.
pub(super) fn within_bounds(entries: u64, names: usize) -> bool {
    entries <= limits::WORKSPACE_ENTRIES && names <= limits::PATHS_BYTES
}
