//! The export gate: which changes of a set are held, and why.
//!
//! What is held is shown (`airlock diff SESSION --held`) and never applied. So the tree that
//! programs find, and that links lead through, is what was copied in plus the changes that are
//! *not* held. Each link that is held may change where others lead: the gate judges again until it
//! finds no more.
//!
//! When a set comes in, the gate knows only the base. Before the set is applied, the gate judges it
//! again, with the host's directory as it is then.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;

use super::autorun::{self, RunsWhen, TriggerNames};
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

/// After this many rounds every link that is left is held.
const ROUNDS: usize = 16;
/// In folders that were left out, at most this many entries are searched for links.
const LEFT_OUT_ENTRIES: usize = 10_000;

/// Sets `held` and `runs` of each change. What is held already stays held. `host`: the directory
/// that the changes would be applied to, if it is known.
pub(super) fn judge(base: &Base, host: Option<&Root>, changes: &mut [Change]) {
    let left_out = host.map(|host| links_left_out(base, host)).unwrap_or_default();
    let (held, runs) = Gate::of(base, host, &left_out, changes).judge(base);
    for ((change, held), runs) in changes.iter_mut().zip(held).zip(runs) {
        change.held = held;
        change.runs = runs.map(str::to_owned);
    }
}

/// The paths that were left out, and the links in those of them that have the name of a trigger:
/// `.git/hooks/pre-commit -> ../../scripts/check`.
fn links_left_out(base: &Base, host: &Root) -> Vec<RelPath> {
    let mut links = Vec::new();
    let mut most = LEFT_OUT_ENTRIES;
    for path in base.left_out.keys() {
        links.push(path.clone());
        if has_trigger_name(path) {
            links.extend(host.links_in(path, has_trigger_name, &mut most));
        }
    }
    links
}

fn has_trigger_name(path: &RelPath) -> bool {
    !TriggerNames::of(path.components()).is_plain()
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
        // THREAT: `.vscode -> cfg` was left out, but exists on the host: what the agent writes to
        // `cfg/tasks.json` runs. Tried by
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
        let names = loop {
            self.take_back(&found);
            self.links.forget();
            let names = autorun::trigger_names(&mut self.links);
            round += 1;
            // Links first: a link that is held in this round may change where other paths lead.
            found = self.in_the_tree(&names, moves_links);
            if !found.is_empty() && round >= ROUNDS {
                found.extend(self.every_link());
            }
            if found.is_empty() {
                found = self.in_the_tree(&names, |change| !moves_links(change));
            }
            if found.is_empty() {
                break names;
            }
        };
        let runs = self.changes.iter().zip(&self.entries).map(|(change, entry)| {
            autorun::judge(change, names[*entry as usize]).and_then(RunsWhen::how)
        });
        let runs = runs.collect();
        (self.held, runs)
    }

    /// Holds changes for reasons that do not depend on other changes.
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

    /// Holds the changes among `of` that are dangerous in the tree as it is now, and those in a
    /// folder that is held.
    fn in_the_tree(&mut self, names: &[TriggerNames], of: fn(&Change) -> bool) -> Vec<usize> {
        let Self { changes, held, paths, links, entries } = self;
        hold(changes, held, paths, |at, change| {
            if !of(change) {
                return None;
            }
            // THREAT: the agent makes `notes -> ../../.ssh/authorized_keys`, and the next program
            // writes through it.
            // Tried by workspace::export::tests::a_link_that_leaves_the_folder_is_held.
            if change.after.as_ref().is_some_and(is_link) && !links.stays_inside(entries[at]) {
                return Some(HeldReason::LinkOutside);
            }
            // THREAT: the next `hg status` runs what `.hg/hgrc` names, and an editor that opens the
            // folder runs `.vscode/tasks.json`. Tried by
            // workspace::export::tests::what_runs_by_itself_is_held and
            // flow::changes::what_runs_by_itself_is_held_and_the_rest_is_named.
            let runs = autorun::judge(change, names[entries[at] as usize])?;
            runs.held(&change.path)
        })
    }

    /// Holds every link that is left, and every change that replaces a link.
    // THREAT: of two hundred thousand links each is found only after the one before is held, and
    // the gate takes hours. Tried by
    // workspace::export::tests::links_that_hang_on_each_other_are_held_soon.
    fn every_link(&mut self) -> Vec<usize> {
        hold(self.changes, &mut self.held, &mut self.paths, |_, change| {
            moves_links(change).then_some(HeldReason::ManyLinks)
        })
    }

    /// Takes links that are held out of the tree again.
    fn take_back(&mut self, found: &[usize]) {
        for at in found.iter().copied().filter(|at| moves_links(&self.changes[*at])) {
            self.links.leave(self.entries[at], self.changes[at].before.as_ref());
        }
    }
}

/// Holds the changes for which `why` gives a reason, and everything in a folder that is held.
fn hold<'a>(
    changes: &'a [Change],
    held: &mut [Option<HeldReason>],
    paths: &mut HashSet<&'a [u8]>,
    mut why: impl FnMut(usize, &'a Change) -> Option<HeldReason>,
) -> Vec<usize> {
    let mut found = Vec::new();
    // The changes are sorted by path: a folder comes before the paths in it.
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

/// Whether a change may change where other links lead.
fn moves_links(change: &Change) -> bool {
    [&change.before, &change.after].into_iter().flatten().any(is_link)
}

fn by_itself(change: &Change, is_repository: bool, names: &Names<'_>) -> Option<HeldReason> {
    let path = &change.path;
    // THREAT: the agent writes a hook, a filter or a monitor, and it runs as the user at the next
    // `git status`. Tried by workspace::export::tests::nothing_of_git_is_let_out.
    if path.components().any(git::is_dot_git) {
        return Some(HeldReason::Git);
    }
    // THREAT: git takes `fixtures/x/{HEAD,objects,refs,config}` for a repository anywhere.
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

/// Holds a change that meets a file which was left out. The agent did not see that file, so it did
/// not decide to replace it.
// THREAT: the agent writes `.env`, or replaces the folder of `.env` with a file, and the person's
// own `.env` is lost. Tried by
// workspace::apply::tests::left_out::what_was_left_out_is_held_and_the_rest_is_applied.
fn left_out(change: &Change, base: &Base) -> Option<HeldReason> {
    let path = &change.path;
    let above = || {
        let mut folders = std::iter::once(path.clone()).chain(path.ancestors());
        folders.find_map(|folder| base.left_out.get_key_value(&folder))
    };
    // This sorts before every path in it.
    let inside = || base.left_out.range(path.join(b"\x01").ok()?..).next();
    let replaced = change.after.as_ref().is_some_and(|after| !after.is_folder());
    let inside = || inside().filter(|(inner, _)| replaced && inner.is_beneath(path));
    let found = if base.nodes.contains_key(path) { inside() } else { above().or_else(inside) };
    found.map(|(left_out, why)| HeldReason::LeftOut { left_out: left_out.clone(), reason: *why })
}

/// The folders that git would take for a repository, before the changes or after them.
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

/// The paths of a tree, as systems see them that ignore case and other differences in names.
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

    /// Another path that is the same on such a system.
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
