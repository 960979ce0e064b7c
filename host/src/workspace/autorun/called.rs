//! What a path is called: how far its names are the names of triggers. Taken one name at a time,
//! from a folder to what is in it, so that a link can hand on to its target what it is called
//! itself.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::super::fold;
use super::super::node::Node;
use super::{RunsWhen, all};

/// What a path is called, by all its names together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::workspace) struct Called {
    /// The triggers that are begun and go on below it: one bit for each of their folders.
    begun: u64,
    /// The name of a trigger that is a file.
    file: First,
    /// The name of a trigger that is a folder.
    folder: First,
    /// It lies in the folder of a trigger.
    inside: First,
    /// A link with the name of a trigger leads through it.
    way: First,
}

/// The first of some ways to run, by its place among all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct First(u16);

impl Default for First {
    fn default() -> Self {
        Self(u16::MAX)
    }
}

/// One name further in a trigger.
#[derive(Default)]
struct Step {
    /// The folder in which it goes on.
    begins: Option<usize>,
    file: First,
    folder: First,
}

/// The triggers by their names, and those that end a name apart.
struct Table {
    /// In order.
    runs: Vec<RunsWhen>,
    steps: HashMap<(usize, &'static str), Step>,
    /// The first of all that goes on in a folder.
    below: Vec<First>,
    endings: Vec<(&'static str, First)>,
}

/// The folder of all triggers, which every folder is.
const ANYWHERE: usize = 0;

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut runs: Vec<RunsWhen> = all().map(|(_, runs)| runs).collect();
    runs.sort_unstable();
    runs.dedup();
    let (mut steps, mut endings) = (HashMap::<_, Step>::new(), Vec::new());
    let mut below = vec![First::default()];
    for (pattern, how) in all() {
        let first = runs.binary_search(&how).ok().and_then(|at| u16::try_from(at).ok());
        let first = first.map_or_else(First::default, First);
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
                below.push(First::default());
                below.len() - 1
            });
            below[at] = first.min(below[at]);
        }
    }
    Table { runs, steps, below, endings }
});

impl Called {
    /// By the names of a path alone.
    pub(in crate::workspace) fn of<'a>(names: impl Iterator<Item = &'a [u8]>) -> Self {
        names.fold(Self::default(), Self::enter)
    }

    /// What something is called that has this name in here.
    pub(in crate::workspace) fn enter(self, name: &[u8]) -> Self {
        let name = fold::folded(name);
        let mut called = Self { inside: self.inside.min(self.folder), ..Self::default() };
        for folder in std::iter::once(ANYWHERE).chain(self.begun()) {
            if let Some(step) = TABLE.steps.get(&(folder, name.as_str())) {
                called.begun |= step.begins.map_or(0, |begins| 1 << begins);
                called.file = called.file.min(step.file);
                called.folder = called.folder.min(step.folder);
            }
        }
        let ends =
            |(ending, _): &&(&str, First)| name.len() > ending.len() && name.ends_with(ending);
        for (_, first) in TABLE.endings.iter().filter(ends) {
            called.file = called.file.min(*first);
        }
        called
    }

    /// Is called so too.
    #[must_use]
    pub(in crate::workspace) fn and(self, other: Self) -> Self {
        Self {
            begun: self.begun | other.begun,
            file: self.file.min(other.file),
            folder: self.folder.min(other.folder),
            inside: self.inside.min(other.inside),
            way: self.way.min(other.way),
        }
    }

    /// What the end of a link is that is called so.
    #[must_use]
    pub(super) fn end(self) -> Self {
        Self { way: First::default(), ..self }
    }

    /// What something is that a link leads through that is called so.
    #[must_use]
    pub(super) fn way(self) -> Self {
        Self { way: self.as_link(), ..Self::default() }
    }

    /// A link stands for all that may be in it.
    fn as_link(self) -> First {
        let below = self.begun().map(|folder| TABLE.below[folder]);
        below.fold(self.inside.min(self.folder).min(self.file).min(self.way), First::min)
    }

    /// Whether it has nothing of a trigger.
    pub(in crate::workspace) fn is_plain(self) -> bool {
        self == Self::default()
    }

    /// What it is to a program, if this is there.
    pub(super) fn runs(self, node: Option<&Node>) -> Option<RunsWhen> {
        let first = match node {
            Some(Node::Link { .. }) => self.as_link(),
            // It stands for itself alone.
            Some(Node::Folder { .. }) => self.inside.min(self.folder).min(self.way),
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
    fn every_folder_of_the_table_has_a_bit_of_its_own() {
        assert!(TABLE.below.len() <= u64::BITS as usize, "{}", TABLE.below.len());
        assert!(TABLE.runs.len() < usize::from(u16::MAX));
    }
}
