//! What was copied in: one JSON line for each path, in the run's folder, so that what comes back
//! can be compared with it, and the host's files with what they were.
//!
//! # Why no times and no inode numbers
//! Whether a file changed since is asked of its content: the changed set is small, and content
//! cannot lie about having been written twice within one tick of the clock.

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

const NAME: &str = "base.jsonl";
const UNFINISHED: &str = "base.jsonl.part";

/// The first line.
#[derive(Serialize, Deserialize)]
struct Header {
    v: u32,
    /// The folder, absolute, percent-encoded as paths are.
    root: String,
}

/// Every other line.
#[derive(Serialize, Deserialize)]
struct Line {
    path: RelPath,
    #[serde(flatten)]
    node: Node,
}

/// The paths of a workspace as the box got them.
pub(super) struct Base {
    pub(super) root: PathBuf,
    pub(super) nodes: BTreeMap<RelPath, Node>,
}

/// Writes a base, which counts only once it is finished.
pub(super) struct Recorder {
    folder: PathBuf,
    lines: BufWriter<File>,
}

impl Recorder {
    pub(super) fn new(folder: &Path, root: &Path) -> io::Result<Self> {
        let mut lines = BufWriter::new(File::create(folder.join(UNFINISHED))?);
        let root = rel_path::encode(root.as_os_str().as_bytes());
        serde_json::to_writer(&mut lines, &Header { v: 1, root })?;
        lines.write_all(b"\n")?;
        Ok(Self { folder: folder.to_owned(), lines })
    }

    pub(super) fn record(&mut self, path: RelPath, node: Node) -> io::Result<()> {
        serde_json::to_writer(&mut self.lines, &Line { path, node })?;
        self.lines.write_all(b"\n")
    }

    /// The disk is waited for only when changes come in: a run without any needs no base.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.lines.flush()?;
        std::fs::rename(self.folder.join(UNFINISHED), self.folder.join(NAME))
    }
}

impl Base {
    pub(super) fn load(folder: &Path) -> io::Result<Self> {
        let mut lines = BufReader::new(File::open(folder.join(NAME))?).lines();
        let first = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
        let header: Header = serde_json::from_str(&first)?;
        let root = rel_path::decode(&header.root).ok_or(io::ErrorKind::InvalidData)?;
        let mut nodes = BTreeMap::new();
        for line in lines {
            let Line { path, node } = serde_json::from_str(&line?)?;
            nodes.insert(path, node);
        }
        Ok(Self { root: PathBuf::from(OsStr::from_bytes(&root)), nodes })
    }

    /// Has it on the disk for good.
    pub(super) fn sync(folder: &Path) -> io::Result<()> {
        File::open(folder.join(NAME))?.sync_all()
    }
}

/// Whether a tree of this many entries and bytes of names is within its bounds.
pub(super) fn within_bounds(entries: u64, names: usize) -> bool {
    entries <= limits::WORKSPACE_ENTRIES && names <= limits::PATHS_BYTES
}
