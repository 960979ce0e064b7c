//! The repository's instructions to agents: AGENTS.md and CLAUDE.md at its root. They are
//! information and not orders, and the prompt marks where they come from.

use std::io::Read as _;
use std::path::Path;

use airlock_shared::limits;
use airlock_shared::outcome::Fault;

use crate::exec::{ToolUser, UserThread};
use crate::tools::path::Root;

/// The files, in the order of the prompt.
const NAMES: [&str; 2] = ["AGENTS.md", "CLAUDE.md"];

/// One of these files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DocFile {
    pub(crate) path: String,
    pub(crate) text: String,
    /// The file is longer than this.
    pub(crate) cut: bool,
}

/// Reads those that are regular files beneath the root, at most [`limits::PROJECT_DOCS_BYTES`] in
/// all. A file that cannot be read is skipped.
///
/// # Errors
/// If the sandbox is no longer safe.
pub(crate) async fn project_docs(root: &Path, uid: u32, gid: u32) -> Result<Vec<DocFile>, Fault> {
    let root = root.to_string_lossy().into_owned();
    let worker = UserThread::start(ToolUser::new(uid, gid)?)?;
    worker.run(move || read(&root)).await
}

fn read(root: &str) -> Vec<DocFile> {
    let Ok(root) = Root::open(root) else { return Vec::new() };
    let mut room = limits::PROJECT_DOCS_BYTES;
    let mut docs: Vec<DocFile> = Vec::new();
    for name in NAMES {
        let Ok((file, _)) = root.within(name).and_then(|path| root.file(&path)) else { continue };
        let mut bytes = Vec::new();
        if file.take(room as u64 + 1).read_to_end(&mut bytes).is_err() {
            continue;
        }
        let text = String::from_utf8_lossy(&bytes);
        let kept = &text[..text.floor_char_boundary(room)];
        // One file is often a link to the other.
        if !kept.is_empty() && docs.iter().all(|doc| doc.text != kept) {
            let cut = kept.len() < text.len();
            room -= kept.len();
            docs.push(DocFile { path: name.to_owned(), text: kept.to_owned(), cut });
        }
    }
    docs
}
