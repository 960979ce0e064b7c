//! The export gate: what of a set of changes is kept back, and why. Pure: the base, the changes,
//! and nothing of the host.
//!
//! What is kept back is shown (`airlock diff RUN --held`) and never applied.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::autorun::{self, Aliases, RunsWhen};
use super::base::Base;
use super::change::{Change, HeldReason};
use super::fold;
use super::git::{self, Shape};
use super::nearest::Nearest;
use super::node::Node;
use super::rel_path::RelPath;
use super::resolve::LinkResolver;
use super::walk::STAGING;

/// The tree as it would be if everything were applied.
type TreeAfter<'a> = BTreeMap<&'a RelPath, &'a Node>;

/// Sets `held` and `runs` of each change.
pub(super) fn judge(base: &Base, changes: &mut [Change]) {
    let mut verdicts = Vec::with_capacity(changes.len());
    {
        let mut tree: TreeAfter = base.nodes.iter().collect();
        for change in changes.iter() {
            match &change.after {
                Some(node) => tree.insert(&change.path, node),
                None => tree.remove(&change.path),
            };
        }
        let repositories = repositories(base.nodes.keys().chain(tree.keys().copied()));
        let repositories = repositories.iter().map(RelPath::as_bytes).collect();
        let cases = cases(tree.keys().copied().chain(base.left_out.keys()), tree.len());
        let nodes = || tree.iter().map(|(path, node)| (*path, *node));
        let mut links = LinkResolver::of(nodes());
        let aliases = Aliases::of(&base.nodes, nodes(), |link| links.leads_to(link));
        let mut in_repository = Nearest::default();
        // Sorted by path, a folder stands before what is in it.
        let (mut held, mut beneath) = (HashSet::new(), Nearest::default());
        for change in changes.iter() {
            let path = &change.path;
            let is_repository = in_repository.is_in(path, &repositories);
            let runs = autorun::judge(change, &aliases);
            let verdict = hold(change, is_repository, &mut links, &cases)
                .or_else(|| left_out(change, base))
                // THREAT: `.hg/hgrc` is run by the next `hg status`, `.vscode/tasks.json` by the
                // next look into the folder. Tried by
                // workspace::export::tests::what_runs_by_itself_is_kept_back and
                // flow::changes::what_runs_by_itself_is_held_and_the_rest_is_named.
                .or_else(|| runs?.held(path))
                .or_else(|| {
                    let folder = RelPath::parse(beneath.above(path, &held)?).ok()?;
                    Some(HeldReason::Beneath { folder })
                });
            if verdict.is_some() {
                held.insert(path.as_bytes());
            }
            verdicts.push((verdict, runs));
        }
    }
    for (change, (verdict, runs)) in changes.iter_mut().zip(verdicts) {
        change.held = verdict;
        change.runs = runs.and_then(RunsWhen::how).map(str::to_owned);
    }
}

fn hold(
    change: &Change,
    is_repository: bool,
    links: &mut LinkResolver<'_>,
    cases: &HashMap<String, Vec<&RelPath>>,
) -> Option<HeldReason> {
    let path = &change.path;
    // THREAT: a hook, a filter or a monitor of the agent's making runs as the user at the next
    // `git status`. Tried by workspace::export::tests::nothing_of_git_is_let_out.
    if path.components().any(git::is_dot_git) {
        return Some(HeldReason::Git);
    }
    // THREAT: `fixtures/x/{HEAD,objects,refs,config}` is a repository to git wherever it lies.
    // Tried by workspace::export::tests::nothing_shaped_like_a_repository_is_let_out.
    if is_repository {
        return Some(HeldReason::Repository);
    }
    if path.components().next().is_some_and(|name| fold::folded(name).starts_with(STAGING)) {
        return Some(HeldReason::Reserved);
    }
    match &change.after {
        Some(Node::Special) => return Some(HeldReason::Special),
        // THREAT: `notes -> ../../.ssh/authorized_keys`, which the next program writes through.
        // Tried by workspace::export::tests::a_link_that_leaves_the_folder_is_kept_back.
        Some(Node::Link { .. }) if !links.stays_inside(path) => {
            return Some(HeldReason::LinkOutside);
        }
        _ => {}
    }
    if change.before.is_none() && change.after.is_some() {
        let same = cases.get(&folded(path));
        let other = same.and_then(|paths| paths.iter().find(|other| **other != path));
        if let Some(other) = other {
            return Some(HeldReason::Case { other: (*other).clone() });
        }
    }
    None
}

/// Whether a change meets what the person has and the sandbox never got. The agent did not see it, so
/// nobody decided that it goes.
// THREAT: the agent writes `.env` or makes a file of the folder that `.env` is in, and the person's
// own is gone. Tried by workspace::apply::tests::what_was_left_out_is_held_and_the_rest_is_applied.
fn left_out(change: &Change, base: &Base) -> Option<HeldReason> {
    let path = &change.path;
    let above = || {
        let mut folders = std::iter::once(path.clone()).chain(path.ancestors());
        folders.find_map(|folder| base.left_out.get_key_value(&folder))
    };
    // Nothing sorts before this among what is in it.
    let inside = || base.left_out.range(path.join(b"\x01").ok()?..).next();
    let replaced = change.after.as_ref().is_some_and(|after| !after.is_folder());
    let inside = || inside().filter(|(inner, _)| replaced && inner.is_beneath(path));
    let found = if base.nodes.contains_key(path) { inside() } else { above().or_else(inside) };
    found.map(|(left_out, why)| HeldReason::LeftOut { left_out: left_out.clone(), reason: *why })
}

/// The folders that git would take for a repository, before or after.
fn repositories<'a>(paths: impl Iterator<Item = &'a RelPath>) -> HashSet<RelPath> {
    let mut shapes: HashMap<RelPath, Shape> = HashMap::new();
    for path in paths {
        let mut shape = Shape::default();
        if shape.add(path.name()) {
            let known = shapes.entry(path.parent()).or_default();
            *known = known.with(shape);
        }
    }
    shapes.into_iter().filter(|(_, it)| it.is_repository()).map(|(folder, _)| folder).collect()
}

/// The paths of a tree by what they are to a system that compares names less exactly than ours.
fn cases<'a>(
    paths: impl Iterator<Item = &'a RelPath>,
    about: usize,
) -> HashMap<String, Vec<&'a RelPath>> {
    let mut cases: HashMap<String, Vec<&RelPath>> = HashMap::with_capacity(about);
    for path in paths {
        cases.entry(folded(path)).or_default().push(path);
    }
    cases
}

fn folded(path: &RelPath) -> String {
    path.components().map(fold::folded).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::node::Sha;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    fn file() -> Node {
        Node::File { mode: 0o644, size: 0, sha256: Sha::default() }
    }

    fn link(target: &str) -> Node {
        Node::Link { target: target.as_bytes().to_vec() }
    }

    /// What becomes of `added` on a base of files, folders (`x/`) and links (`x -> y`).
    fn judged(base: &[&str], added: &[(&str, Node)]) -> Vec<Option<HeldReason>> {
        let base =
            base.iter().map(|text| match (text.split_once(" -> "), text.strip_suffix('/')) {
                (Some((from, to)), _) => (path(from), link(to)),
                (_, Some(folder)) => (path(folder), Node::Folder { mode: 0o755 }),
                _ => (path(text), file()),
            });
        let base: BTreeMap<_, _> = base.collect();
        let mut changes: Vec<_> = added
            .iter()
            .map(|(text, node)| Change {
                before: base.get(&path(text)).cloned(),
                path: path(text),
                after: Some(node.clone()),
                content: None,
                held: None,
                runs: None,
                special_bits: false,
            })
            .collect();
        let base = Base { root: "/".into(), nodes: base, left_out: BTreeMap::new() };
        judge(&base, &mut changes);
        changes.into_iter().map(|change| change.held).collect()
    }

    #[test]
    fn nothing_of_git_is_let_out() {
        for name in
            [".git/hooks/post-checkout", "a/.GIT/config", "a/b/.git", ".git./x", "git~1/config"]
        {
            assert_eq!(judged(&[], &[(name, file())]), [Some(HeldReason::Git)], "{name}");
        }
        assert_eq!(judged(&[], &[(".gitignore", file()), (".github/x", file())]), [None, None]);
    }

    #[test]
    fn nothing_shaped_like_a_repository_is_let_out() {
        let folder = || Node::Folder { mode: 0o755 };
        let all = [
            ("f", folder()),
            ("f/Head", file()),
            ("f/config", file()),
            ("f/objects", folder()),
            ("f/refs", link("../refs")),
            ("g", file()),
        ];
        let held = judged(&[], &all);
        assert_eq!(held.iter().filter(|held| **held == Some(HeldReason::Repository)).count(), 5);
        assert_eq!(held[5], None);
        let rest = [("f/HEAD", file()), ("f/config", file())];
        assert_eq!(
            judged(&["f/", "f/objects/", "f/refs/"], &rest),
            [Some(HeldReason::Repository), Some(HeldReason::Repository)]
        );
        let linked = [("f/HEAD", file()), ("f/commondir", file())];
        assert_eq!(
            judged(&["f/"], &linked),
            [Some(HeldReason::Repository), Some(HeldReason::Repository)]
        );
        assert_eq!(
            judged(&["objects/", "refs/"], &[("HEAD", file())]),
            [Some(HeldReason::Repository)]
        );
    }

    #[test]
    fn a_link_that_leaves_the_folder_is_kept_back() {
        let base = ["d/", "d/e/", "d/f", "up -> d/e", "docs -> /home/u/.aws", "loop -> loop"];
        for target in [
            "/etc/passwd",
            "..",
            "../x",
            "d/../../x",
            "docs/credentials",
            "up/../../../x",
            "loop",
            "",
            "d/../docs",
        ] {
            assert_eq!(
                judged(&base, &[("new", link(target))]),
                [Some(HeldReason::LinkOutside)],
                "{target}"
            );
        }
        for target in ["d/f", "./d//f", "d/../x", "up/../f", "nothing/there", "."] {
            assert_eq!(judged(&base, &[("new", link(target))]), [None], "{target}");
        }
        assert_eq!(judged(&base, &[("d/e/new", link("../../up"))]), [None]);
        assert_eq!(
            judged(&base, &[("d/e/new", link("../../../up"))]),
            [Some(HeldReason::LinkOutside)]
        );
        let pair = [("a", link("b")), ("b", link("../x"))];
        assert_eq!(
            judged(&[], &pair),
            [Some(HeldReason::LinkOutside), Some(HeldReason::LinkOutside)]
        );
    }

    #[test]
    fn paths_that_are_one_on_other_systems_are_kept_back() {
        let case = |other: &str| Some(HeldReason::Case { other: path(other) });
        assert_eq!(judged(&["readme.md"], &[("README.md", file())]), [case("readme.md")]);
        assert_eq!(judged(&[], &[("A", file()), ("a", file())]), [case("a"), case("A")]);
        let folder = Node::Folder { mode: 0o755 };
        assert_eq!(
            judged(&["src/"], &[("Src", folder), ("Src/x", file())]),
            [case("src"), Some(HeldReason::Beneath { folder: path("Src") })]
        );
        assert_eq!(judged(&["a", "A"], &[("a", file())]), [None]);
        // Not only case: dots at the end, and what HFS+ passes over.
        assert_eq!(judged(&["a"], &[("a.", file())]), [case("a")]);
        assert_eq!(judged(&["d/a"], &[("d/\u{200c}a", file())]), [case("d/a")]);
        assert_eq!(judged(&["a"], &[("a:1", file()), ("a:2", file())]), [None, None]);
    }

    #[test]
    fn what_runs_by_itself_is_kept_back() {
        let hg =
            || Some(HeldReason::VersionControl { root: path(".hg"), program: "Mercurial".into() });
        assert_eq!(judged(&[".hg/"], &[(".hg/hgrc", file())]), [hg()]);
        assert_eq!(judged(&[], &[(".hg", link("d")), ("d/hgrc", file())]), [hg(), None]);
        let by_itself =
            |held: &Option<HeldReason>| matches!(held, Some(HeldReason::RunsByItself { .. }));
        // The link is the person's own, what it leads to is the agent's.
        let held = judged(
            &[".vscode -> up/config", "up -> a/b", "a/", "a/b/", "a/b/config/"],
            &[("a/b/config/tasks.json", file()), ("a/b/x", file())],
        );
        assert!(by_itself(&held[0]) && held[1].is_none(), "{held:?}");
        let held = judged(&[], &[(".husky", link("d")), ("d/pre-commit", file())]);
        assert!(by_itself(&held[0]) && held[1].is_none(), "{held:?}");
        assert_eq!(judged(&[], &[("Makefile", file()), (".envrc", file())]), [None, None]);
    }

    #[test]
    fn names_of_our_own_and_devices_are_kept_back() {
        assert_eq!(judged(&[], &[(".airlock-apply-1/0", file())]), [Some(HeldReason::Reserved)]);
        assert_eq!(judged(&[], &[(".AIRLOCK-apply-1/0", file())]), [Some(HeldReason::Reserved)]);
        assert_eq!(judged(&[], &[("tty", Node::Special)]), [Some(HeldReason::Special)]);
        assert_eq!(judged(&[], &[("a/.airlock-apply-1", file())]), [None]);
    }
}
