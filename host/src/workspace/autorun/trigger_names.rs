//! Matches a path against the names of triggers, one component at a time, from a folder to the
//! entries in it. So a link can pass its names on to its target.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::super::fold;
use super::super::node::Node;
use super::{RunsWhen, all};

/// The triggers that a path has the name of, or the beginning of the name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::workspace) struct TriggerNames {
    /// The folders of triggers that go on below this path, one bit each.
    begun: u64,
    /// It has the name of a trigger that is a file.
    file: RunRank,
    /// It has the name of a trigger that is a folder.
    folder: RunRank,
    /// It is in a folder that is a trigger.
    inside: RunRank,
    /// A link with the name of a trigger leads through this path.
    passed_through: RunRank,
}

/// The position of a [`RunsWhen`] in the sorted table. The smallest one counts; the default is
/// none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RunRank(u16);

impl Default for RunRank {
    fn default() -> Self {
        Self(u16::MAX)
    }
}

/// What one more component of a trigger's name leads to.
#[derive(Default)]
struct Step {
    /// The folder in which the name goes on.
    begins: Option<usize>,
    file: RunRank,
    folder: RunRank,
}

/// All triggers by their names. Those that are an ending (`*.x`) are listed apart.
struct Table {
    /// Sorted.
    runs: Vec<RunsWhen>,
    steps: HashMap<(usize, &'static str), Step>,
    /// For each folder, the smallest rank of all triggers that go on in it.
    below: Vec<RunRank>,
    endings: Vec<(&'static str, RunRank)>,
}

/// The folder that every trigger starts in: any folder.
const ANYWHERE: usize = 0;

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut runs: Vec<RunsWhen> = all().map(|(_, runs)| runs).collect();
    runs.sort_unstable();
    runs.dedup();
    let (mut steps, mut endings) = (HashMap::<_, Step>::new(), Vec::new());
    let mut below = vec![RunRank::default()];
    for (pattern, how) in all() {
        let first = runs.binary_search(&how).ok().and_then(|at| u16::try_from(at).ok());
        let first = first.map_or_else(RunRank::default, RunRank);
        if let Some(ending) = pattern.strip_prefix('*') {
            endings.push((ending, first));
            continue;
        }
        let mut names = pattern.trim_end_matches('/').split('/').peekable();
        let mut at = ANYWHERE;
        while let Some(name) = names.next() {
            let step = steps.entry((at, name)).or_default();
            if names.peek().is_none() {
                let one = if pattern.ends_with('/') { &mut step.folder } else { &mut step.file };
                *one = first.min(*one);
                break;
            }
            at = *step.begins.get_or_insert_with(|| {
                below.push(RunRank::default());
                below.len() - 1
            });
            below[at] = first.min(below[at]);
        }
    }
    Table { runs, steps, below, endings }
});

impl TriggerNames {
    /// By the components of a path alone.
    pub(in crate::workspace) fn of<'a>(names: impl Iterator<Item = &'a [u8]>) -> Self {
        names.fold(Self::default(), Self::enter)
    }

    /// The names of an entry `name` in this folder.
    pub(in crate::workspace) fn enter(self, name: &[u8]) -> Self {
        let name = fold::folded(name);
        let mut names = Self { inside: self.inside.min(self.folder), ..Self::default() };
        for folder in std::iter::once(ANYWHERE).chain(self.begun()) {
            if let Some(step) = TABLE.steps.get(&(folder, name.as_str())) {
                names.begun |= step.begins.map_or(0, |begins| 1 << begins);
                names.file = names.file.min(step.file);
                names.folder = names.folder.min(step.folder);
            }
        }
        let ends =
            |(ending, _): &&(&str, RunRank)| name.len() > ending.len() && name.ends_with(ending);
        for (_, first) in TABLE.endings.iter().filter(ends) {
            names.file = names.file.min(*first);
        }
        names
    }

    /// The names of both.
    #[must_use]
    pub(in crate::workspace) fn merged(self, other: Self) -> Self {
        Self {
            begun: self.begun | other.begun,
            file: self.file.min(other.file),
            folder: self.folder.min(other.folder),
            inside: self.inside.min(other.inside),
            passed_through: self.passed_through.min(other.passed_through),
        }
    }

    /// What a link with these names gives to its target.
    #[must_use]
    pub(super) fn of_target(self) -> Self {
        Self { passed_through: RunRank::default(), ..self }
    }

    /// What a link with these names gives to the paths that it leads through.
    #[must_use]
    pub(super) fn of_passed_through(self) -> Self {
        Self { passed_through: self.as_link(), ..Self::default() }
    }

    /// A link stands for everything that may be in its target.
    fn as_link(self) -> RunRank {
        let below = self.begun().map(|folder| TABLE.below[folder]);
        below.fold(
            self.inside.min(self.folder).min(self.file).min(self.passed_through),
            RunRank::min,
        )
    }

    /// Whether no trigger has such a name.
    pub(in crate::workspace) fn is_plain(self) -> bool {
        self == Self::default()
    }

    /// When it runs, if `node` is at the path.
    pub(super) fn runs(self, node: Option<&Node>) -> Option<RunsWhen> {
        let first = match node {
            Some(Node::Link { .. }) => self.as_link(),
            // A folder alone; what is in it is judged by itself.
            Some(Node::Folder { .. }) => self.inside.min(self.folder).min(self.passed_through),
            Some(Node::File { .. } | Node::Special) => self.inside.min(self.file),
            None => self.inside.min(self.folder).min(self.file),
        };
        TABLE.runs.get(usize::from(first.0)).copied()
    }

    fn begun(self) -> impl Iterator<Item = usize> {
        let mut left = self.begun;
        std::iter::from_fn(move || {
            let bit = (left != 0).then_some(left.trailing_zeros() as usize);
            left &= left.wrapping_sub(1);
            bit
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_of_the_table_has_its_own_bit() {
        assert!(TABLE.below.len() <= u64::BITS as usize, "{}", TABLE.below.len());
        assert!(TABLE.runs.len() < usize::from(u16::MAX));
    }
}
