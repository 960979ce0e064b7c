//! Files that run: nobody types their name, a program reads them. What runs by itself is held, what
//! runs when its tool is started is applied and named. Which is which stands in [`table`].
//!
//! A link counts as what it is called, and what it leads to, through however many others, counts as
//! what the link is called: the file that `.vscode -> config` makes of `config/tasks.json`.

mod table; // the names, and the reason for each
mod agents; // those of coding agents
mod called; // what a path is called

use std::collections::HashMap;

use super::change::{Change, HeldReason};
use super::node::Node;
use super::rel_path::RelPath;
use super::resolve::LinkResolver;
use super::version_control;

pub(super) use called::Called;

/// What a path is by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RunsWhen {
    /// A version control's own; whose.
    VersionControl(&'static str),
    /// By itself; how.
    ByItself(&'static str),
    /// When its tool is started; how.
    WhenStarted(&'static str),
}

/// A name of the table, for people to read.
pub struct NamedTrigger {
    pub name: &'static str,
    pub is_held: bool,
    pub why: String,
}

/// The whole table: what is held, then what is only named.
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

/// What each entry of a tree is called, by its own names and by the links that lead to it, through
/// however many links.
///
/// Each entry is looked at again only when it got one more of a few dozen names, so the time is
/// linear in the tree.
// THREAT: `.vscode -> cfg` and `cfg/tasks.json -> ../shared/tasks.json` are the person's; the agent
// writes `shared/tasks.json`, which the editor runs. Tried by
// workspace::export::tests::what_links_of_links_lead_to_is_kept_back.
pub(super) fn called(links: &mut LinkResolver<'_>) -> Vec<Called> {
    let mut called = vec![Called::default()];
    by_names(links, &mut called);
    let mut todo: Vec<u32> = (0..links.len()).filter(|entry| links.is_link(*entry)).collect();
    while let Some(entry) = todo.pop() {
        let now = called[entry as usize];
        if now.is_plain() {
            continue;
        }
        if links.is_link(entry) {
            let (end, met) = (links.leads_to(entry), links.leads_through(entry));
            // What was met on the way, where that is only known now.
            let new = by_names(links, &mut called);
            todo.extend(new.filter(|entry| links.is_link(*entry)));
            if let Some(end) = end {
                is_called_too(end, now.end(), &mut called, &mut todo);
            }
            // THREAT: `.vscode -> current` and `current -> mine` are the person's; the agent makes
            // it `current -> examples/evil`, which is there already. Tried by
            // workspace::export::tests::what_a_link_leads_through_is_kept_back.
            for met in met {
                is_called_too(met, now.way(), &mut called, &mut todo);
            }
        }
        for child in links.children(entry) {
            is_called_too(child, now.enter(links.name(child)), &mut called, &mut todo);
        }
    }
    called
}

fn is_called_too(entry: u32, so: Called, called: &mut [Called], todo: &mut Vec<u32>) {
    let known = &mut called[entry as usize];
    let more = known.and(so);
    if more != *known {
        *known = more;
        todo.push(entry);
    }
}

/// What the entries that are not yet in the list are called by their names, and which those are: a
/// folder stands before what is in it.
fn by_names(links: &LinkResolver<'_>, called: &mut Vec<Called>) -> std::ops::Range<u32> {
    let known = u32::try_from(called.len()).unwrap_or(u32::MAX);
    for entry in known..links.len() {
        called.push(called[links.parent(entry) as usize].enter(links.name(entry)));
    }
    known..links.len()
}

/// What the links of a live tree make of the paths that they lead to.
#[derive(Default)]
pub(super) struct Aliases(HashMap<RelPath, Called>);

impl Aliases {
    /// `leads_to`: where a link ends, in the tree.
    pub(super) fn of<'a>(
        links: impl Iterator<Item = &'a RelPath>,
        mut leads_to: impl FnMut(&RelPath) -> Option<RelPath>,
    ) -> Self {
        let mut aliases: HashMap<RelPath, Called> = HashMap::new();
        for path in links {
            let called = Called::of(path.components());
            if !called.is_plain()
                && let Some(target) = leads_to(path)
            {
                let known = aliases.entry(target).or_default();
                *known = known.and(called);
            }
        }
        Self(aliases)
    }
}

/// What a file or a link is by its name, and by the links that lead to it.
pub(super) fn read_by_name(path: &RelPath, is_link: bool, aliases: &Aliases) -> Option<RunsWhen> {
    let mut folders: Vec<RelPath> = path.ancestors().collect();
    folders.reverse();
    let (mut called, mut names) = (Called::default(), path.components());
    for at in folders.iter().chain([path]) {
        called = called.enter(names.next().unwrap_or_default());
        called = called.and(aliases.0.get(at).copied().unwrap_or_default());
    }
    // Of the target no name is asked.
    let link = is_link.then(|| Node::Link { target: Vec::new() });
    called.runs(Some(link.as_ref().unwrap_or(&Node::Special)))
}

/// What a change of something that is called so makes run, if it does.
pub(super) fn judge(change: &Change, called: Called) -> Option<RunsWhen> {
    let runs = called.runs(change.after.as_ref())?;
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
    /// Why it is held; none: it is only named.
    pub(super) fn held(self, path: &RelPath) -> Option<HeldReason> {
        match self {
            Self::VersionControl(program) => {
                let is_own = |path: &RelPath| {
                    let runs = Called::of(path.components()).runs(None);
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

    /// In words, where it is a tool's.
    pub(super) fn how(self) -> Option<&'static str> {
        match self {
            Self::VersionControl(_) => None,
            Self::ByItself(how) | Self::WhenStarted(how) => Some(how),
        }
    }
}

#[cfg(test)]
mod tests;
