//! Files that run: nobody types their name, a program reads them. What runs by itself is held, what
//! runs when its tool is started is applied and named. Which is which stands in [`table`].
//!
//! A link counts as what it is called, and what it leads to counts as what the link is called: the
//! file that `.vscode -> config` makes of `config/tasks.json`.

mod table; // the names, and the reason for each
mod agents; // those of coding agents

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use super::change::{Change, HeldReason};
use super::fold;
use super::node::Node;
use super::rel_path::RelPath;
use super::version_control;

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

struct TriggerRule {
    /// The names, each in a folder of the one before.
    names: Vec<&'static str>,
    /// All that is in it too.
    folder: bool,
    runs: RunsWhen,
}

/// The triggers by their first name, those that end a name apart.
struct TriggerTable {
    first: HashMap<&'static str, Vec<TriggerRule>>,
    endings: Vec<(&'static str, RunsWhen)>,
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

static TRIGGERS: LazyLock<TriggerTable> = LazyLock::new(|| {
    let mut triggers = TriggerTable { first: HashMap::new(), endings: Vec::new() };
    for (pattern, runs) in all() {
        if let Some(ending) = pattern.strip_prefix('*') {
            triggers.endings.push((ending, runs));
            continue;
        }
        let folder = pattern.ends_with('/');
        let names: Vec<&str> = pattern.trim_end_matches('/').split('/').collect();
        let trigger = TriggerRule { names, folder, runs };
        triggers.first.entry(trigger.names[0]).or_default().push(trigger);
    }
    triggers
});

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

/// What is left of a trigger beyond what a link stands for.
#[derive(Clone, Copy)]
struct AliasedTrigger {
    names: &'static [&'static str],
    folder: bool,
    /// The link lies in the folder of a trigger already.
    inside: bool,
    runs: RunsWhen,
}

impl AliasedTrigger {
    /// `path`: the names below where the rest begins. A link stands for all that may be in it, a
    /// folder only for itself.
    fn fits(&self, path: &[String], node: Option<&Node>) -> bool {
        let both = self.names.len().min(path.len());
        if self.names[..both].iter().zip(path).any(|(name, given)| *name != given) {
            return false;
        }
        let is_link = matches!(node, Some(Node::Link { .. }));
        let is_folder = matches!(node, Some(Node::Folder { .. }));
        match path.len().cmp(&self.names.len()) {
            _ if self.inside => true,
            std::cmp::Ordering::Greater => self.folder,
            std::cmp::Ordering::Equal if self.folder => is_link || is_folder || node.is_none(),
            std::cmp::Ordering::Equal => !is_folder,
            std::cmp::Ordering::Less => is_link,
        }
    }
}

/// What the links of a tree make of the paths that they lead to.
#[derive(Default)]
pub(super) struct Aliases(HashMap<RelPath, Vec<AliasedTrigger>>);

impl Aliases {
    /// `leads_to`: where a link of the tree ends, in the tree. A link that is held itself makes
    /// nothing of what it leads to.
    pub(super) fn of<'a>(
        base: &BTreeMap<RelPath, Node>,
        tree: impl Iterator<Item = (&'a RelPath, &'a Node)>,
        mut leads_to: impl FnMut(&RelPath) -> Option<RelPath>,
    ) -> Self {
        let mut aliases: HashMap<RelPath, Vec<AliasedTrigger>> = HashMap::new();
        for (path, node) in tree.filter(|(_, node)| matches!(node, Node::Link { .. })) {
            let is_old = base.get(path) == Some(node);
            let names = folded(path);
            let rests = rests(&names, node);
            let rests: Vec<AliasedTrigger> = rests
                .into_iter()
                .filter(|rest| is_old || matches!(rest.runs, RunsWhen::WhenStarted(_)))
                .collect();
            let Some(target) = (!rests.is_empty()).then(|| leads_to(path)).flatten() else {
                continue;
            };
            let known = aliases.entry(target).or_default();
            for rest in rests {
                // As many as there are triggers, however many links lead here.
                let same = |it: &AliasedTrigger| {
                    it.runs == rest.runs && it.inside == rest.inside && it.names == rest.names
                };
                if !known.iter().any(same) {
                    known.push(rest);
                }
            }
        }
        Self(aliases)
    }
}

/// What of the triggers is left after a link: each that its name is the beginning of.
fn rests(names: &[String], link: &Node) -> Vec<AliasedTrigger> {
    let mut found = Vec::new();
    for at in 0..names.len() {
        for trigger in TRIGGERS.first.get(names[at].as_str()).into_iter().flatten() {
            let TriggerRule { names: all, folder, runs } = trigger;
            let whole = AliasedTrigger { names: all, folder: *folder, inside: false, runs: *runs };
            let here = names.len() - at;
            if whole.fits(&names[at..], Some(link)) {
                let inside = here > all.len() || (here == all.len() && !folder);
                let names = all.get(here..).unwrap_or_default();
                found.push(AliasedTrigger { names, inside, ..whole });
            }
        }
    }
    found.extend(ending(names).map(|runs| AliasedTrigger {
        names: &[],
        folder: false,
        inside: true,
        runs,
    }));
    found
}

fn ending(names: &[String]) -> Option<RunsWhen> {
    let last = names.last()?;
    let found = TRIGGERS
        .endings
        .iter()
        .find(|(ending, _)| last.len() > ending.len() && last.ends_with(ending));
    found.map(|(_, runs)| *runs)
}

/// What a path is by its name and by the links that lead to it; the first of what it could be.
fn by_name(path: &RelPath, node: Option<&Node>, aliases: &Aliases) -> Option<RunsWhen> {
    let names = folded(path);
    let mut found: Option<RunsWhen> = None;
    let mut add = |runs: RunsWhen| found = Some(found.map_or(runs, |known| known.min(runs)));
    for at in 0..names.len() {
        for trigger in TRIGGERS.first.get(names[at].as_str()).into_iter().flatten() {
            let TriggerRule { names: all, folder, runs } = trigger;
            let rest = AliasedTrigger { names: all, folder: *folder, inside: false, runs: *runs };
            if rest.fits(&names[at..], node) {
                add(*runs);
            }
        }
    }
    if !matches!(node, Some(Node::Folder { .. })) {
        ending(&names).into_iter().for_each(&mut add);
    }
    if !aliases.0.is_empty() {
        for target in std::iter::once(path.clone()).chain(path.ancestors()) {
            let below = &names[target.components().count()..];
            let rests = aliases.0.get(&target).into_iter().flatten();
            rests.filter(|rest| rest.fits(below, node)).for_each(|rest| add(rest.runs));
        }
    }
    found
}

/// What a file or a link is by its name, and by the links that lead to it.
pub(super) fn read_by_name(path: &RelPath, is_link: bool, aliases: &Aliases) -> Option<RunsWhen> {
    // Of the target no name is asked.
    let link = is_link.then(|| Node::Link { target: Vec::new() });
    by_name(path, Some(link.as_ref().unwrap_or(&Node::Special)), aliases)
}

/// What a change makes run, if it does.
pub(super) fn judge(change: &Change, aliases: &Aliases) -> Option<RunsWhen> {
    let runs = by_name(&change.path, change.after.as_ref(), aliases)?;
    let comes = match &change.after {
        Some(Node::File { .. } | Node::Link { .. }) => true,
        Some(Node::Folder { .. }) => {
            change.before.is_none() && !matches!(runs, RunsWhen::WhenStarted(_))
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
                    let runs = by_name(path, None, &Aliases::default());
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

/// The names of a path as other systems compare them.
fn folded(path: &RelPath) -> Vec<String> {
    path.components().map(fold::folded).collect()
}

#[cfg(test)]
mod tests;
