//! Compares a stream of changes with what was copied in.

use std::collections::{BTreeMap, HashMap};

use airlock_shared::limits;

use super::change::{Change, ChangeSet};
use super::intake::IntakeError;
use super::node::Node;
use super::rel_path::RelPath;

/// What the stream says about a path.
pub(super) struct StreamedPath {
    /// None: it was removed.
    pub(super) node: Option<Node>,
    pub(super) content: Option<u64>,
    pub(super) special_bits: bool,
}

/// What differs from the base, sorted by path. Paths in a removed folder are listed as removed. A
/// folder that the stream does not name counts as a plain one.
pub(super) fn compare(
    base: &BTreeMap<RelPath, Node>,
    streamed: HashMap<RelPath, StreamedPath>,
) -> Result<Vec<Change>, IntakeError> {
    let mut bounds = SetSize { paths: streamed.len(), bytes: 0 };
    bounds.bytes = streamed.keys().map(|path| path.as_bytes().len()).sum();
    let mut now: BTreeMap<RelPath, StreamedPath> = BTreeMap::new();
    for (path, it) in &streamed {
        if it.node.as_ref().is_some_and(Node::is_folder)
            || !base.get(path).is_some_and(Node::is_folder)
        {
            continue;
        }
        let inside = base.range(path.clone()..).map(|(inner, _)| inner);
        let inside = inside.skip_while(|inner| *inner == path);
        for inner in inside.take_while(|inner| inner.as_bytes().starts_with(path.as_bytes())) {
            if inner.is_beneath(path) {
                now.insert(
                    inner.clone(),
                    StreamedPath { node: None, content: None, special_bits: false },
                );
            }
        }
    }
    // THREAT: `a` is a link to /etc and `a/passwd` a file: written in this order, /etc/passwd
    // changes.
    // Tried by workspace::intake::tests::nothing_lies_beneath_a_link.
    for (path, _) in streamed.iter().filter(|(_, it)| it.node.is_some()) {
        for folder in path.ancestors() {
            let there = match streamed.get(&folder) {
                Some(it) => it.node.as_ref(),
                None => base.get(&folder),
            };
            match there {
                // The folders above are checked for this folder itself.
                Some(node) if node.is_folder() => break,
                None if !streamed.contains_key(&folder) => {
                    if now.get(&folder).is_some_and(|it| it.node.is_some()) {
                        break;
                    }
                    bounds.add(&folder)?;
                    let node = Some(Node::Folder { mode: 0o755 });
                    let it = StreamedPath { node, content: None, special_bits: false };
                    now.insert(folder, it);
                }
                _ => return Err(IntakeError::Beneath(path.clone())),
            }
        }
    }
    now.retain(|path, _| !streamed.contains_key(path));
    let mut changes = Vec::with_capacity(now.len() + streamed.len());
    for (path, it) in now.into_iter().chain(streamed) {
        let before = base.get(&path);
        if before != it.node.as_ref() {
            changes.push(Change {
                before: before.cloned(),
                path,
                after: it.node,
                content: it.content,
                held: None,
                runs: None,
                special_bits: it.special_bits,
            });
        }
    }
    changes.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    Ok(changes)
}

/// The size of a set, with the folders that it does not name.
// THREAT: 200,000 paths, each in ten own folders that are not named, make two million paths.
// Tried by workspace::intake::tests::folders_that_are_not_named_count and
// link::memory::a_set_of_many_folders.
struct SetSize {
    paths: usize,
    bytes: usize,
}

impl SetSize {
    fn add(&mut self, path: &RelPath) -> Result<(), IntakeError> {
        self.paths += 1;
        self.bytes += path.as_bytes().len();
        if self.paths as u64 > limits::CHANGES_ENTRIES {
            return Err(IntakeError::TooManyFolders);
        }
        if self.bytes > limits::PATHS_BYTES {
            return Err(IntakeError::NamesTooLong);
        }
        Ok(())
    }
}

/// Whether these changes have all paths of the earlier set, so that nothing is lost if they replace
/// it. Asked of a stream that broke off.
pub(super) fn has_all_of(changes: &[Change], before: Option<&ChangeSet>) -> bool {
    let has = |path: &RelPath| changes.binary_search_by(|change| change.path.cmp(path)).is_ok();
    match before {
        Some(before) => before.changes.iter().all(|change| has(&change.path)),
        None => !changes.is_empty(),
    }
}
