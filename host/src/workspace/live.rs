//! Finds what in a live tree can act on the host, before a session and after it: repositories, the
//! files that git runs or obeys, files that run by themselves or when their tool is started,
//! set-uid files, sockets and fifos.
//!
//! Nothing in a live tree can be held: programs on the host use it directly. So the tree is
//! compared, and what is new or changed is named. The search uses descriptors and never follows a
//! link. The files that git's configuration names are found by `git_runs`.
//!
//! Deliberately absent: objects and refs, which are not programs; files that run only when a person
//! starts them by name; and what a hook or a program starts.

mod search; // the search through the tree

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::Path;

use super::autorun::RunsWhen;
use super::git_runs::UserConfig;
use super::node::Sha;
use super::rel_path::RelPath;
use crate::records::Trigger;
use search::TriggerSearch;

/// What was found at one time.
#[derive(Debug, Default)]
pub struct Triggers {
    seen: BTreeMap<RelPath, TriggerState>,
    /// The search stopped at its limit.
    is_cut: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct TriggerState {
    what: TriggerKind,
    mark: Fingerprint,
}

/// What a path is. If it is several of these, the first counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum TriggerKind {
    /// Git takes it for a repository, or for a file that leads to one.
    Repository,
    /// Git runs or obeys it.
    OfGit,
    /// Its set-uid or set-gid bit is set.
    SetId,
    /// A socket, a fifo, a device.
    Special,
    /// It cannot be read.
    Closed,
    /// The folder of this other version control program.
    Control(&'static str),
    /// A file that this version control program obeys.
    OfControl(&'static str),
    /// A program reads it by its name.
    Runs(RunsWhen),
}

/// Distinguishes two states of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fingerprint {
    Is,
    Link(Vec<u8>),
    File { mode: u32, sha: Sha },
    Large { mode: u32, size: i64, inode: u64, changed: (i64, u64) },
}

impl Triggers {
    /// Searches a tree.
    ///
    /// # Errors
    /// The tree itself cannot be opened.
    pub fn look(tree: &Path) -> io::Result<Self> {
        TriggerSearch::through(tree, &UserConfig::of_this_user())
    }

    /// What is new or changed since `before`. Files of a new repository are not listed: the
    /// repository is. What runs only when its tool is started comes last.
    ///
    /// THREAT: commands make a repository, a `.git` file or a hook, replace a repository with
    /// another, or write an editor's tasks. The person's next `git status`, or their editor, runs
    /// what it names.
    /// Tried by `flow::live::what_git_would_run_is_named` and
    /// `flow::live::what_an_editor_or_a_build_would_run_is_named`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Vec<Trigger> {
        let (mut found, mut when_started) = (Vec::new(), Vec::new());
        let mut new: HashSet<&RelPath> = HashSet::new();
        for (path, now) in &self.seen {
            let was = before.seen.get(path);
            let is_unchanged = |was: &TriggerState| was.mark == now.mark && was.what <= now.what;
            let is_in_new = matches!(now.what, TriggerKind::OfGit | TriggerKind::OfControl(_))
                && path.ancestors().any(|folder| new.contains(&folder));
            if was.is_some_and(is_unchanged) || is_in_new {
                continue;
            }
            let is_root = matches!(now.what, TriggerKind::Repository | TriggerKind::Control(_));
            let is_other = was.is_some_and(|was| !is_root || was.what == now.what);
            if is_root && !is_other {
                new.insert(path);
            }
            let trigger = Trigger { path: path.to_string(), what: now.what.says(is_other) };
            match now.what {
                TriggerKind::Runs(RunsWhen::WhenStarted(_)) => when_started.push(trigger),
                _ => found.push(trigger),
            }
        }
        for (path, was) in before.seen.iter().filter(|(path, _)| !self.seen.contains_key(path)) {
            let what = match was.what {
                TriggerKind::Repository | TriggerKind::Control(_) => {
                    "a repository that was removed"
                }
                TriggerKind::OfGit => "git ran or obeyed it, and no longer does",
                _ => continue,
            };
            found.push(Trigger { path: path.to_string(), what: what.to_owned() });
        }
        if self.is_cut {
            let what = "the directory has more entries than can be searched";
            found.push(Trigger { path: ".".to_owned(), what: what.to_owned() });
        }
        found.append(&mut when_started);
        found
    }
}

impl TriggerKind {
    /// `is_other`: it was there before, and changed.
    fn says(self, is_other: bool) -> String {
        let became = if is_other { "it changed" } else { "it was not there" };
        let text = match self {
            Self::Repository if is_other => "it leads to another repository now",
            Self::Repository => "a repository that was not there: git runs what its settings name",
            Self::OfGit if is_other => "git runs or obeys it, and it changed",
            Self::OfGit => "git runs or obeys it, and it was not there",
            Self::SetId if is_other => {
                "it runs with the rights of its owner (set-uid or set-gid), and it changed"
            }
            Self::SetId => {
                "it runs with the rights of its owner (set-uid or set-gid), and did not before"
            }
            Self::Special => "a socket, a fifo or a device that was not there",
            Self::Closed => "it cannot be read, and could be before",
            Self::Control(program) => {
                return format!(
                    "a repository that was not there: {program} runs what its settings name"
                );
            }
            Self::OfControl(program) => return format!("{program} obeys it, and {became}"),
            Self::Runs(runs) => {
                return format!("{}; {became}", runs.how().unwrap_or("a program reads it"));
            }
        };
        text.to_owned()
    }
}

#[cfg(test)]
mod tests;
