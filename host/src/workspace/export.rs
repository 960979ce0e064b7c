//! The export gate: what of a set of changes is kept back, and why.
//!
//! What is kept back is shown (`airlock diff RUN --held`) and never applied. So the tree that links
//! lead through, and that programs find, is what was copied in and what is *not* kept back. Each
//! link that is kept back may change where others lead: it is asked again until no more is found.
//!
//! When a set comes in, the gate knows the base and nothing else. Before it is applied, the same is
//! asked of the host as it is then.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;

use super::autorun::{self, Called, RunsWhen};
use super::base::Base;
use super::beneath::Root;
use super::change::{Change, HeldReason};
use super::fold;
use super::git::{self, Shape};
use super::nearest::Nearest;
use super::node::Node;
use super::rel_path::RelPath;
use super::resolve::LinkResolver;
use super::walk::STAGING;

/// How often it is asked what comes of what was kept back. Then every link stays as it was.
const ROUNDS: usize = 16;
/// Entries of folders that were left out that are looked at for links.
const LEFT_OUT_ENTRIES: usize = 10_000;

/// Sets `held` and `runs` of each change; what is held already stays so. `host`: the folder that
/// they are put into, where that is now.
pub(super) fn judge(base: &Base, host: Option<&Root>, changes: &mut [Change]) {
    let left_out = host.map(|host| links_left_out(base, host)).unwrap_or_default();
    let (held, runs) = Gate::of(base, host, &left_out, changes).judge(base);
    for ((change, held), runs) in changes.iter_mut().zip(held).zip(runs) {
        change.held = held;
        change.runs = runs.map(str::to_owned);
    }
}

/// What was left out, and the links in those of its folders that have the name of something that
/// runs: `.git/hooks/pre-commit -> ../../scripts/check`.
fn links_left_out(base: &Base, host: &Root) -> Vec<RelPath> {
    let mut links = Vec::new();
    let mut most = LEFT_OUT_ENTRIES;
    for path in base.left_out.keys() {
        links.push(path.clone());
        if is_called(path) {
            links.extend(host.links_in(path, is_called, &mut most));
        }
    }
    links
}

fn is_called(path: &RelPath) -> bool {
    !Called::of(path.components()).is_plain()
}

struct Gate<'a> {
    changes: &'a [Change],
    held: Vec<Option<HeldReason>>,
    /// The paths that are held.
    paths: HashSet<&'a [u8]>,
    links: LinkResolver<'a>,
    /// The number of each change's path among the links.
    entries: Vec<u32>,
}

impl<'a> Gate<'a> {
    fn of(
        base: &'a Base,
        host: Option<&'a Root>,
        left_out: &'a [RelPath],
        changes: &'a [Change],
    ) -> Self {
        let mut links = LinkResolver::of(&base.root, host);
        // THREAT: `.vscode -> cfg` was left out and is on the host all the same: what the agent
        // writes to `cfg/tasks.json` runs. Tried by
        // workspace::apply::tests::left_out::a_link_that_was_left_out_leads_where_it_leads.
        for (path, node) in base.nodes.iter().chain(&base.links_left_out) {
            if is_link(node) {
                let entry = links.add(path);
                links.leave(entry, Some(node));
            }
        }
        for path in left_out {
            let entry = links.add(path);
            links.leave(entry, None);
        }
        let mut entries = Vec::with_capacity(changes.len());
        for change in changes {
            let entry = links.add(&change.path);
            match &change.held {
                None => links.put(entry, change.after.as_ref()),
                Some(_) => links.leave(entry, change.before.as_ref()),
            }
            entries.push(entry);
        }
        let held: Vec<_> = changes.iter().map(|change| change.held.clone()).collect();
        let paths = changes.iter().filter(|change| change.held.is_some());
        let paths = paths.map(|change| change.path.as_bytes()).collect();
        Self { changes, held, paths, links, entries }
    }

    fn judge(mut self, base: &Base) -> (Vec<Option<HeldReason>>, Vec<Option<&'static str>>) {
        let mut found = self.by_themselves(base);
        let mut round = 0;
        let called = loop {
            self.take_back(&found);
            self.links.forget();
            let called = autorun::called(&mut self.links);
            round += 1;
            // What is held because of a link that is held in the same round might be let out.
            found = self.in_the_tree(&called, moves_links);
            if !found.is_empty() && round >= ROUNDS {
                found.extend(self.every_link());
            }
            if found.is_empty() {
                found = self.in_the_tree(&called, |change| !moves_links(change));
            }
            if found.is_empty() {
                break called;
            }
        };
        let runs = self.changes.iter().zip(&self.entries).map(|(change, entry)| {
            autorun::judge(change, called[*entry as usize]).and_then(RunsWhen::how)
        });
        let runs = runs.collect();
        (self.held, runs)
    }

    /// Holds what has a reason that no other change makes or takes away.
    fn by_themselves(&mut self, base: &Base) -> Vec<usize> {
        let changes = self.changes;
        let after = changes.iter().filter(|it| it.after.is_some()).map(|it| &it.path);
        let repositories = repositories(base.nodes.keys().chain(after.clone()));
        let gone: HashSet<&RelPath> =
            changes.iter().filter(|it| it.after.is_none()).map(|it| &it.path).collect();
        let stays = base.nodes.keys().filter(|path| !gone.contains(path));
        let names = Names::of(stays.chain(after).chain(base.left_out.keys()));
        let mut in_repository = Nearest::default();
        hold(changes, &mut self.held, &mut self.paths, |_, change| {
            let is_repository = in_repository.is_in(&change.path, &repositories);
            by_itself(change, is_repository, &names).or_else(|| left_out(change, base))
        })
    }

    /// Holds of some changes what is dangerous in the tree as it is by now, and what lies in a
    /// folder that is held.
    fn in_the_tree(&mut self, called: &[Called], of: fn(&Change) -> bool) -> Vec<usize> {
        let Self { changes, held, paths, links, entries } = self;
        hold(changes, held, paths, |at, change| {
            if !of(change) {
                return None;
            }
            // THREAT: `notes -> ../../.ssh/authorized_keys`, which the next program writes through.
            // Tried by workspace::export::tests::a_link_that_leaves_the_folder_is_kept_back.
            if change.after.as_ref().is_some_and(is_link) && !links.stays_inside(entries[at]) {
                return Some(HeldReason::LinkOutside);
            }
            // THREAT: `.hg/hgrc` is run by the next `hg status`, `.vscode/tasks.json` by the
            // next look into the folder. Tried by
            // workspace::export::tests::what_runs_by_itself_is_kept_back and
            // flow::changes::what_runs_by_itself_is_held_and_the_rest_is_named.
            let runs = autorun::judge(change, called[entries[at] as usize])?;
            runs.held(&change.path)
        })
    }

    /// Holds every link that is left, and what takes the place of one.
    // THREAT: two hundred thousand links, each of which is found only when the one before is held,
    // take hours. Tried by workspace::export::tests::links_that_hang_on_each_other_are_held_soon.
    fn every_link(&mut self) -> Vec<usize> {
        hold(self.changes, &mut self.held, &mut self.paths, |_, change| {
            moves_links(change).then_some(HeldReason::ManyLinks)
        })
    }

    /// What is held stays as it was.
    fn take_back(&mut self, found: &[usize]) {
        for at in found.iter().copied().filter(|at| moves_links(&self.changes[*at])) {
            self.links.leave(self.entries[at], self.changes[at].before.as_ref());
        }
    }
}

/// Holds what `why` says of what is not held yet. In a folder that is held everything is.
fn hold<'a>(
    changes: &'a [Change],
    held: &mut [Option<HeldReason>],
    paths: &mut HashSet<&'a [u8]>,
    mut why: impl FnMut(usize, &'a Change) -> Option<HeldReason>,
) -> Vec<usize> {
    let mut found = Vec::new();
    // Sorted by path, a folder stands before what is in it.
    let mut beneath = Nearest::default();
    for (at, change) in changes.iter().enumerate() {
        if held[at].is_some() {
            continue;
        }
        let verdict = why(at, change).or_else(|| {
            let folder = RelPath::parse(beneath.above(&change.path, paths)?).ok()?;
            Some(HeldReason::Beneath { folder })
        });
        if verdict.is_some() {
            held[at] = verdict;
            paths.insert(change.path.as_bytes());
            found.push(at);
        }
    }
    found
}

fn is_link(node: &Node) -> bool {
    matches!(node, Node::Link { .. })
}

/// Whether other links may lead elsewhere with it than without it.
fn moves_links(change: &Change) -> bool {
    [&change.before, &change.after].into_iter().flatten().any(is_link)
}

fn by_itself(change: &Change, is_repository: bool, names: &Names<'_>) -> Option<HeldReason> {
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
    if change.after == Some(Node::Special) {
        return Some(HeldReason::Special);
    }
    let is_new = change.before.is_none() && change.after.is_some();
    let other = is_new.then(|| names.same(path)).flatten()?;
    Some(HeldReason::Case { other: other.clone() })
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
fn repositories<'a>(paths: impl Iterator<Item = &'a RelPath>) -> HashSet<&'a [u8]> {
    let mut shapes: HashMap<&[u8], Shape> = HashMap::new();
    for path in paths {
        let mut shape = Shape::default();
        if shape.add(path.name()) {
            let known = shapes.entry(path.folder()).or_default();
            *known = known.with(shape);
        }
    }
    shapes.into_iter().filter(|(_, it)| it.is_repository()).map(|(folder, _)| folder).collect()
}

/// The paths of a tree by what they are to a system that compares names less exactly than ours.
struct Names<'a> {
    hasher: std::hash::RandomState,
    /// Sorted.
    paths: Vec<(u64, &'a RelPath)>,
}

impl<'a> Names<'a> {
    fn of(paths: impl Iterator<Item = &'a RelPath>) -> Self {
        let hasher = std::hash::RandomState::new();
        let mut paths: Vec<_> = paths.map(|path| (hasher.hash_one(folded(path)), path)).collect();
        paths.sort_unstable();
        Self { hasher, paths }
    }

    /// Another path that is the same to such a system.
    fn same(&self, path: &RelPath) -> Option<&'a RelPath> {
        let name = folded(path);
        let hash = self.hasher.hash_one(&name);
        let from = self.paths.partition_point(|(other, _)| *other < hash);
        let same = self.paths[from..].iter().take_while(|(other, _)| *other == hash);
        same.map(|(_, other)| *other).find(|other| *other != path && folded(other) == name)
    }
}

fn folded(path: &RelPath) -> String {
    path.components().map(fold::folded).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests;
