//! What a stream of changes says, held against what was copied in.

use std::collections::{BTreeMap, HashMap};

use airlock_shared::limits;

use super::change::{Change, ChangeSet};
use super::intake::IntakeError;
use super::node::Node;
use super::rel_path::RelPath;

/// What the stream says of a path.
pub(super) struct StreamedPath {
    /// None: it is gone.
    pub(super) node: Option<Node>,
    pub(super) content: Option<u64>,
    pub(super) special_bits: bool,
}

/// What differs from the base, sorted by path. What went with its folder is named as gone, a
/// folder that nobody named is taken for a plain one.
pub(super) fn compare(
    base: &BTreeMap<RelPath, Node>,
    said: HashMap<RelPath, StreamedPath>,
) -> Result<Vec<Change>, IntakeError> {
    let mut now: BTreeMap<RelPath, StreamedPath> = BTreeMap::new();
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
                now.insert(
                    inner.clone(),
                    StreamedPath { node: None, content: None, special_bits: false },
                );
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
                        return Err(IntakeError::NamesTooLong);
                    }
                    let node = Some(Node::Folder { mode: 0o755 });
                    let it = StreamedPath { node, content: None, special_bits: false };
                    if now.insert(folder, it).is_some_and(|it| it.node.is_some()) {
                        break;
                    }
                }
                _ => return Err(IntakeError::Beneath(path.clone())),
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

/// Whether nothing is lost if these replace what was there: of a stream that broke off nobody knows
/// what it would have had.
pub(super) fn has_all_of(changes: &[Change], before: Option<&ChangeSet>) -> bool {
    let has = |path: &RelPath| changes.binary_search_by(|change| change.path.cmp(path)).is_ok();
    match before {
        Some(before) => before.changes.iter().all(|change| has(&change.path)),
        None => !changes.is_empty(),
    }
}
