//! Files that run because a program reads them by their name. A file that runs by itself is held. A
//! file that runs when its tool is started is applied, and named to the person. [`table`] says
//! which is which.
//!
//! A link counts by its own name, and its target counts by the link's name too, through any number
//! of links: with `.vscode -> config`, `config/tasks.json` counts as `.vscode/tasks.json`.

mod table; // the names, and the reason for each
mod agents; // those of coding agents
mod trigger_names; // which triggers a path has the name of

use std::collections::HashMap;

use super::change::{Change, HeldReason};
use super::node::Node;
use super::rel_path::RelPath;
use super::resolve::LinkResolver;
use super::version_control;

pub(super) use trigger_names::TriggerNames;

/// When a path runs, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RunsWhen {
    /// It belongs to this version control program.
    VersionControl(&'static str),
    /// By itself; the text says how.
    ByItself(&'static str),
    /// When its tool is started; the text says how.
    WhenStarted(&'static str),
}

/// A name of the table, for people to read.
pub struct NamedTrigger {
    pub name: &'static str,
    pub is_held: bool,
    pub why: String,
}

/// The whole table: first what is held, then what is only named.
pub fn table() -> impl Iterator<Item = NamedTrigger> {
    all().map(|(name, runs)| match runs {
        RunsWhen::VersionControl(by) => {
            NamedTrigger { name, is_held: true, why: format!("{by} keeps it, and obeys it") }
        }
        RunsWhen::ByItself(how) => NamedTrigger { name, is_held: true, why: how.to_owned() },
        RunsWhen::WhenStarted(how) => NamedTrigger { name, is_held: false, why: how.to_owned() },
    })
}

fn all() -> impl Iterator<Item = (&'static str, RunsWhen)> {
    let kept = version_control::KEPT.iter();
    let kept = kept.map(|kept| (kept.name, RunsWhen::VersionControl(kept.program)));
    let by_itself = table::HELD.iter().chain(agents::HELD);
    let by_itself = by_itself.map(|(name, how)| (*name, RunsWhen::ByItself(how)));
    let named = table::NAMED.iter().map(|(name, how)| (*name, RunsWhen::WhenStarted(how)));
    let read =
        agents::NAMED.iter().map(|name| (*name, RunsWhen::WhenStarted("coding agents obey it")));
    kept.chain(by_itself).chain(named).chain(read)
}

/// The trigger names of each entry of a tree: by its own path, and by the links that lead to it,
/// through any number of links.
///
/// An entry is visited again only when it gains one of a few dozen names, so the time is linear in
/// the size of the tree.
// THREAT: the person has `.vscode -> cfg` and `cfg/tasks.json -> ../shared/tasks.json`. The agent
// writes `shared/tasks.json`, and the editor runs it. Tried by
// workspace::export::tests::what_links_of_links_lead_to_is_held.
pub(super) fn trigger_names(links: &mut LinkResolver<'_>) -> Vec<TriggerNames> {
    let mut names = vec![TriggerNames::default()];
    add_by_path(links, &mut names);
    let mut todo: Vec<u32> = (0..links.len()).filter(|entry| links.is_link(*entry)).collect();
    while let Some(entry) = todo.pop() {
        let now = names[entry as usize];
        if now.is_plain() {
            continue;
        }
        if links.is_link(entry) {
            let (end, met) = (links.leads_to(entry), links.leads_through(entry));
            // Entries that the resolver found only now.
            let new = add_by_path(links, &mut names);
            todo.extend(new.filter(|entry| links.is_link(*entry)));
            if let Some(end) = end {
                add_names(end, now.of_target(), &mut names, &mut todo);
            }
            // THREAT: the person has `.vscode -> current` and `current -> mine`. The agent makes it
            // `current -> examples/evil`, which exists already. Tried by
            // workspace::export::tests::what_a_link_leads_through_is_held.
            for met in met {
                add_names(met, now.of_passed_through(), &mut names, &mut todo);
            }
        }
        for child in links.children(entry) {
            add_names(child, now.enter(links.name(child)), &mut names, &mut todo);
        }
    }
    names
}

fn add_names(entry: u32, other: TriggerNames, names: &mut [TriggerNames], todo: &mut Vec<u32>) {
    let known = &mut names[entry as usize];
    let more = known.merged(other);
    if more != *known {
        *known = more;
        todo.push(entry);
    }
}

/// Adds the names of the entries that are not yet in the list, by their paths, and returns which
/// entries those are. A folder comes before the entries in it.
fn add_by_path(links: &LinkResolver<'_>, names: &mut Vec<TriggerNames>) -> std::ops::Range<u32> {
    let known = u32::try_from(names.len()).unwrap_or(u32::MAX);
    for entry in known..links.len() {
        names.push(names[links.parent(entry) as usize].enter(links.name(entry)));
    }
    known..links.len()
}

/// The trigger names that the links of a live tree give to their targets.
#[derive(Default)]
pub(super) struct Aliases(HashMap<RelPath, TriggerNames>);

impl Aliases {
    /// `leads_to`: the path in the tree at which a link ends.
    pub(super) fn of<'a>(
        links: impl Iterator<Item = &'a RelPath>,
        mut leads_to: impl FnMut(&RelPath) -> Option<RelPath>,
    ) -> Self {
        let mut aliases: HashMap<RelPath, TriggerNames> = HashMap::new();
        for path in links {
            let names = TriggerNames::of(path.components());
            if !names.is_plain()
                && let Some(target) = leads_to(path)
            {
                let known = aliases.entry(target).or_default();
                *known = known.merged(names);
            }
        }
        Self(aliases)
    }
}

/// When a file or a link runs, by its path and by the links that lead to it.
pub(super) fn read_by_name(path: &RelPath, is_link: bool, aliases: &Aliases) -> Option<RunsWhen> {
    let mut folders: Vec<RelPath> = path.ancestors().collect();
    folders.reverse();
    let (mut names, mut components) = (TriggerNames::default(), path.components());
    for at in folders.iter().chain([path]) {
        names = names.enter(components.next().unwrap_or_default());
        names = names.merged(aliases.0.get(at).copied().unwrap_or_default());
    }
    // The target of the link does not matter here.
    let link = is_link.then(|| Node::Link { target: Vec::new() });
    names.runs(Some(link.as_ref().unwrap_or(&Node::Special)))
}

/// When the changed path runs, if it has these trigger names and the change makes it run.
pub(super) fn judge(change: &Change, names: TriggerNames) -> Option<RunsWhen> {
    let runs = names.runs(change.after.as_ref())?;
    let comes = match &change.after {
        Some(Node::File { .. } | Node::Link { .. }) => true,
        Some(Node::Folder { .. }) => {
            let was = change.before.as_ref().is_some_and(Node::is_folder);
            !was && !matches!(runs, RunsWhen::WhenStarted(_))
        }
        Some(Node::Special) | None => false,
    };
    (comes || matches!(runs, RunsWhen::VersionControl(_))).then_some(runs)
}

impl RunsWhen {
    /// Why it is held. None: it is only named.
    pub(super) fn held(self, path: &RelPath) -> Option<HeldReason> {
        match self {
            Self::VersionControl(program) => {
                let is_own = |path: &RelPath| {
                    let runs = TriggerNames::of(path.components()).runs(None);
                    matches!(runs, Some(Self::VersionControl(_)))
                };
                let above = path.ancestors().filter(is_own).last();
                let root = above.unwrap_or_else(|| path.clone());
                Some(HeldReason::VersionControl { root, program: program.to_owned() })
            }
            Self::ByItself(how) => Some(HeldReason::RunsByItself { how: how.to_owned() }),
            Self::WhenStarted(_) => None,
        }
    }

    /// The words for how a tool runs it. None for version control.
    pub(super) fn how(self) -> Option<&'static str> {
        match self {
            Self::VersionControl(_) => None,
            Self::ByItself(how) | Self::WhenStarted(how) => Some(how),
        }
    }
}

#[cfg(test)]
mod tests;
