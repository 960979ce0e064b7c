//! What only the host's own files show to be dangerous. The export gate knows what was copied; here
//! stands what was not: a link that was left out and leads outside, a half of a repository that was
//! left out, and what the person's git configuration names.

use std::collections::{HashMap, HashSet};
use std::io;

use super::super::base::Base;
use super::super::beneath::Root;
use super::super::change::{ChangeSet, HeldReason};
use super::super::export;
use super::super::git::Shape;
use super::super::git_runs::{GitRuns, UserConfig};
use super::super::nearest::Nearest;
use super::super::rel_path::RelPath;

/// Holds in `set` what must not be applied here. `root` is the directory of `base`.
///
/// # Errors
/// The directory is gone.
pub(super) fn last_look(root: &Root, base: &Base, set: &mut ChangeSet) -> io::Result<()> {
    let runs = GitRuns::of(root, &base.root, &UserConfig::of_this_user())?;
    let coming = || set.applied().filter(|it| it.after.is_some()).map(|it| &it.path);
    // Which names of a repository come into a folder.
    let mut shapes: HashMap<RelPath, Shape> = HashMap::new();
    for path in coming() {
        let mut shape = Shape::default();
        if shape.add(path.name()) {
            let known = shapes.entry(path.parent()).or_default();
            *known = known.with(shape);
        }
    }
    let is_repository =
        |(folder, comes): &(&RelPath, &Shape)| comes.with(root.shape(folder)).is_repository();
    let repositories = shapes.iter().filter(is_repository).map(|(folder, _)| folder.as_bytes());
    let repositories: HashSet<&[u8]> = repositories.collect();
    let mut in_repository = Nearest::default();
    let verdicts: Vec<Option<HeldReason>> = (set.changes.iter())
        .map(|change| match change.held {
            Some(_) => None,
            None if in_repository.is_in(&change.path, &repositories) => {
                Some(HeldReason::Repository)
            }
            // THREAT: the agent edits `tools/fsm`, which the person's `core.fsmonitor` names, or the
            // file that their configuration includes, and the next `git status` runs it.
            // Tried by workspace::apply::tests::named_in_git::what_git_runs_is_held.
            None => runs.is_made_by(change).then_some(HeldReason::NamedInGit),
        })
        .collect();
    for (change, verdict) in set.changes.iter_mut().zip(verdicts) {
        if verdict.is_some() {
            change.held = verdict;
        }
    }
    // THREAT: `x -> docs/credentials`, where `docs` is in a folder that was left out and leads to
    // ~/.aws. Tried by workspace::apply::tests::a_link_through_one_that_was_left_out_is_kept_back.
    export::judge(base, Some(root), &mut set.changes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::change::Change;
    use crate::workspace::node::{Node, Sha};

    fn coming(paths: impl Iterator<Item = String>) -> ChangeSet {
        let node = Node::File { mode: 0o644, size: 0, sha256: Sha::default() };
        let change = |path: String| Change {
            path: RelPath::parse(path.as_bytes()).unwrap(),
            before: None,
            after: Some(node.clone()),
            content: None,
            held: None,
            runs: None,
            special_bits: false,
        };
        ChangeSet { changes: paths.map(change).collect(), ..ChangeSet::default() }
    }

    /// Where every `HEAD` is held against every other, this does not end.
    #[test]
    fn a_hundred_thousand_folders_with_a_head_are_looked_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::open(folder.path()).unwrap();
        std::fs::create_dir_all(folder.path().join("f/7/objects")).unwrap();
        let heads = (0..100_000).map(|n| format!("f/{n}/HEAD"));
        let mut set = coming(heads.chain([7, 8].map(|n| format!("f/{n}/refs"))));
        let base = Base { root: folder.path().to_owned(), ..Base::default() };
        last_look(&root, &base, &mut set).unwrap();
        let held: Vec<_> = set.held().map(|change| change.path.to_string()).collect();
        assert_eq!(held, ["f/7/HEAD", "f/7/refs"]);
    }
}
