//! What in a live tree acts on the host, before a session and after it: which repositories there
//! are, what of each git runs or obeys, what runs by itself or when its tool is started, files that
//! run as their owner, sockets and fifos.
//!
//! A live tree cannot be held: programs on the host take what commands left there. So it is compared,
//! and what is new or other than it was is named. The way is by descriptor and never through a link;
//! what git's configuration names of the tree is read by `git_runs`.
//!
//! Deliberately absent: objects and refs, which are no programs; what is only run when somebody asks
//! for it by its name; and what a hook or a program starts in its turn.

mod looking; // the walk

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::Path;

use super::autorun::RunsWhen;
use super::git_runs::UserConfig;
use super::node::Sha;
use super::rel_path::RelPath;
use crate::records::Trigger;
use looking::TriggerSearch;

/// What was there at one time.
#[derive(Debug, Default)]
pub struct Triggers {
    seen: BTreeMap<RelPath, TriggerState>,
    /// There was more than is looked at.
    is_cut: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct TriggerState {
    what: TriggerKind,
    mark: Fingerprint,
}

/// What a path is; of two that it is, the first counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum TriggerKind {
    /// Git takes it for a repository, or for the way to one.
    Repository,
    /// Git runs or obeys it.
    OfGit,
    /// Its set-uid or set-gid bit is set.
    SetId,
    /// A socket, a fifo, a device.
    Special,
    /// It cannot be looked into.
    Closed,
    /// The folder of another version control; whose.
    Control(&'static str),
    /// What such a program obeys.
    OfControl(&'static str),
    /// A program reads it by its name.
    Runs(RunsWhen),
}

/// What tells one state of a path from another.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fingerprint {
    Is,
    Link(Vec<u8>),
    File { mode: u32, sha: Sha },
    Large { mode: u32, size: i64, inode: u64, changed: (i64, u64) },
}

impl Triggers {
    /// Looks through a tree.
    ///
    /// # Errors
    /// The tree itself cannot be opened.
    pub fn look(tree: &Path) -> io::Result<Self> {
        TriggerSearch::through(tree, &UserConfig::of_this_user())
    }

    /// What is new or other than it was, and acts; what is in a new repository is the repository's.
    /// What only runs when its tool is started comes last.
    ///
    /// THREAT: commands make a repository, a `.git` file or a hook, put a repository in another's
    /// place, or write an editor's tasks, and the person's next `git status` or look into the folder
    /// runs what it names.
    /// Tried by `flow::live::what_git_would_run_is_named` and
    /// `flow::live::what_an_editor_or_a_build_would_run_is_named`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Vec<Trigger> {
        let (mut found, mut when_started) = (Vec::new(), Vec::new());
        let mut new: HashSet<&RelPath> = HashSet::new();
        for (path, now) in &self.seen {
            let was = before.seen.get(path);
            let is_no_more = |was: &TriggerState| was.mark == now.mark && was.what <= now.what;
            let is_in_new = matches!(now.what, TriggerKind::OfGit | TriggerKind::OfControl(_))
                && path.ancestors().any(|folder| new.contains(&folder));
            if was.is_some_and(is_no_more) || is_in_new {
                continue;
            }
            let is_root = matches!(now.what, TriggerKind::Repository | TriggerKind::Control(_));
            let is_other = was.is_some_and(|was| !is_root || was.what == now.what);
            if is_root && !is_other {
                new.insert(path);
            }
            let told = Trigger { path: path.to_string(), what: now.what.says(is_other) };
            match now.what {
                TriggerKind::Runs(RunsWhen::WhenStarted(_)) => when_started.push(told),
                _ => found.push(told),
            }
        }
        for (path, was) in before.seen.iter().filter(|(path, _)| !self.seen.contains_key(path)) {
            let what = match was.what {
                TriggerKind::Repository | TriggerKind::Control(_) => "a repository that is gone",
                TriggerKind::OfGit => "git ran or obeyed it, and does no more",
                _ => continue,
            };
            found.push(Trigger { path: path.to_string(), what: what.to_owned() });
        }
        if self.is_cut {
            let what = "there is more in it than can be looked through";
            found.push(Trigger { path: ".".to_owned(), what: what.to_owned() });
        }
        found.append(&mut when_started);
        found
    }
}

impl TriggerKind {
    /// `is_other`: it was there, and is not what it was.
    fn says(self, is_other: bool) -> String {
        let became = if is_other { "it changed" } else { "it was not there" };
        let said = match self {
            Self::Repository if is_other => "it leads to another repository now",
            Self::Repository => "a repository that was not there: git runs what its settings name",
            Self::OfGit if is_other => "git runs or obeys it, and it changed",
            Self::OfGit => "git runs or obeys it, and it was not there",
            Self::SetId if is_other => {
                "it runs with its owner's rights, whoever starts it, and it changed"
            }
            Self::SetId => "it runs with its owner's rights, whoever starts it, and did not before",
            Self::Special => "a socket, a fifo or a device that was not there",
            Self::Closed => "it cannot be looked into, and could before",
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
        said.to_owned()
    }
}

#[cfg(test)]
mod tests;
