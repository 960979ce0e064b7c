//! The second check, against the directory itself. The export gate knows only what was copied in.
//! Here the host's files count as well: links that were left out and lead outside, the half of a
//! repository that was left out, and the files that the person's git configuration names.

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

/// Holds the changes in `set` that are dangerous in this directory. `root` is the directory of
/// `base`.
///
/// # Errors
/// The directory is gone.
pub(super) fn recheck_on_host(root: &Root, base: &Base, set: &mut ChangeSet) -> io::Result<()> {
    let runs = GitRuns::of(root, &base.root, &UserConfig::of_this_user())?;
    let coming = || set.applied().filter(|it| it.after.is_some()).map(|it| &it.path);
    // Which of the names that make a repository are added to each folder.
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
            // THREAT: the agent edits `tools/fsm`, which the person's `core.fsmonitor` names, or a
            // file that their configuration includes. The next `git status` runs it.
            // Tried by workspace::apply::tests::named_in_git::what_git_runs_is_held.
            None => runs.is_made_by(change).then_some(HeldReason::NamedInGit),
        })
        .collect();
    for (change, verdict) in set.changes.iter_mut().zip(verdicts) {
        if verdict.is_some() {
            change.held = verdict;
        }
    }
    // THREAT: the agent makes `x -> docs/credentials`. `docs` is a link in a folder that was left
    // out, and leads to ~/.aws. Tried by
    // workspace::apply::tests::a_link_through_one_that_was_left_out_is_held.
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

    /// If every `HEAD` were compared with every other, this would not end.
    #[test]
    fn a_hundred_thousand_folders_with_a_head_are_looked_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::open(folder.path()).unwrap();
        std::fs::create_dir_all(folder.path().join("f/7/objects")).unwrap();
        let heads = (0..100_000).map(|n| format!("f/{n}/HEAD"));
        let mut set = coming(heads.chain([7, 8].map(|n| format!("f/{n}/refs"))));
        let base = Base { root: folder.path().to_owned(), ..Base::default() };
        recheck_on_host(&root, &base, &mut set).unwrap();
        let held: Vec<_> = set.held().map(|change| change.path.to_string()).collect();
        assert_eq!(held, ["f/7/HEAD", "f/7/refs"]);
    }
}
