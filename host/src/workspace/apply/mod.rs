//! Puts a run's changes into the folder they were made for.
//!
//! ```text
//! check      every path against what was copied in, and whether each step can be taken; one
//!            conflict, one obstacle, and nothing is written
//! stage      the new contents, in a hidden folder of the same file system
//! journal    the steps, on the disk, in the run's folder
//! step …     exchanges, removals, modes; each can be taken twice. What comes out of the tree is
//!            looked at, and put back if it is not what was checked
//! applied    marked, if all of it was
//! let go     what came out is looked at once more, and kept beside if somebody wrote into it; then
//!            the staging folder and the journal go
//! ```
//! Whatever is killed after the journal is there is finished by the next apply, from what it finds
//! on the disk: a content that is staged no more is written again. Before that, nothing was
//! touched. `discard` gives up what was begun.
//!
//! # Why one conflict stops everything
//! Half of a change is a tree that neither the person nor the model ever saw. What conflicts is
//! listed; the person decides with `airlock diff` in hand.
//!
//! Deliberately absent: git.

mod attributes; // modes, owners and what else a file has
mod check; // what is to be done, and whether it may be
mod last_look; // what only the host's own files show
mod obstacle; // what would keep it from being done
mod let_go; // what came out, looked at once more
mod stage; // the new contents, on the same file system
mod steps; // doing it
mod swap; // a path and a staged content, in each other's place

use std::io;
use std::path::{Path, PathBuf};

use super::base::Base;
use super::beneath::Root;
use super::change::Change;
use super::rel_path::RelPath;
use super::store;
use crate::records::SessionFolder;
use stage::Staging;
use steps::ApplyJournal;

pub use attributes::ApplyNote;
pub use check::{Conflict, FoundInstead};
pub use let_go::Saved;
pub use obstacle::Obstacle;

/// What an apply did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The folder.
    pub root: PathBuf,
    /// Files, links and folders that were put in, changed or removed.
    pub done: Vec<RelPath>,
    /// Kept back by the export gate, and by a last look at the folder.
    pub held: Vec<Change>,
    /// That is all there is: nothing was applied, and the changes stay kept.
    pub all_held: bool,
    /// Applied, and run by themselves.
    pub run_by_themselves: Vec<Change>,
    /// Folders that were to go and stay, because something is in them that was not copied.
    pub stayed: Vec<RelPath>,
    /// Paths that were left as they are. With one of them the changes are not applied, only in
    /// part: they stay kept.
    pub left: Vec<Skipped>,
    /// What was written into the old files while it went on.
    pub saved: Vec<Saved>,
    /// What one would not think of the rest.
    pub remarks: Vec<ApplyNote>,
    /// An apply that had been cut short was finished.
    pub finished: bool,
    /// The folder of staged contents, where it could not be removed.
    pub staging_stays: Option<RelPath>,
}

/// A path that was left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    pub path: RelPath,
    pub why: SkipReason,
}

/// Why it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    #[error("it changed here since the apply began")]
    Changed,
    #[error("it is somebody else's by now, and only the owner may change its mode")]
    NotOwner,
}

/// A step that could not be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedStep {
    pub path: RelPath,
    pub why: String,
}

/// Why nothing, or not all, was applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("the run has no changes")]
    NoChanges,
    #[error("its changes were applied already")]
    AlreadyApplied,
    #[error("the run is still going on, or is being applied by somebody else")]
    Busy,
    /// Nothing was written.
    #[error("{} of its paths changed here since they were copied", .0.len())]
    Conflicts(Vec<Conflict>),
    /// Nothing was written.
    #[error("{} of its paths cannot be written", .0.len())]
    Obstacles(Vec<Obstacle>),
    /// Nothing was written.
    #[error("the folder {folder} cannot be written: {source}")]
    Folder { folder: String, source: io::Error },
    /// Begun; the next apply goes on, and discarding gives up.
    #[error("it was begun and is not finished: {}", stuck(.0))]
    CutShort(Vec<FailedStep>),
    #[error("the run's own files cannot be read or written: {0}")]
    Store(#[from] io::Error),
}

impl ApplyError {
    /// The one command to go on with.
    #[must_use]
    pub fn hint(&self, session: &str) -> Option<String> {
        match self {
            Self::NoChanges | Self::AlreadyApplied => None,
            Self::Conflicts(_) => Some(format!("airlock diff {session}")),
            Self::CutShort(_) | Self::Obstacles(_) | Self::Folder { .. } => {
                Some(format!("airlock apply {session}"))
            }
            Self::Busy | Self::Store(_) => Some(format!("airlock show {session}")),
        }
    }
}

fn stuck(all: &[FailedStep]) -> String {
    let Some(first) = all.first() else { return String::new() };
    let more = match all.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let path = if first.path.is_root() { "the folder itself" } else { &first.path.to_string() };
    format!("{path}: {}{more}", first.why)
}

/// What is about to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ApplyStage {
    /// A file was read for the check; it is looked at once more.
    Compare,
    /// A content is staged, a step is taken, or what comes after all of them is done.
    Step,
    /// What is at a path is what was checked; it is replaced or taken out.
    Swap,
    /// It was replaced or taken out; what came out is looked at.
    Look,
    /// All is done; what came out is looked at once more, and removed.
    LetGo,
}

/// Called before each of them; a test that panics in it leaves what a kill at that moment leaves,
/// for nothing here cleans up while it unwinds.
type StageHook<'a> = &'a mut dyn FnMut(ApplyStage);

/// Applies the changes of a run that is over, or finishes an apply that was cut short.
///
/// # Errors
/// See [`ApplyError`] for what was written by then.
pub fn apply(session: &SessionFolder) -> Result<Applied, ApplyError> {
    apply_watched(session, &mut |_| ())
}

/// Removes a run's changes. Of an apply that was cut short, what was done stays; `Some`: there was
/// one, and what of the person's files is under another name now.
///
/// # Errors
/// [`ApplyError::Busy`], [`ApplyError::NoChanges`], [`ApplyError::Store`].
pub fn discard(session: &SessionFolder) -> Result<Option<Vec<Saved>>, ApplyError> {
    let _lock = session.lock()?.ok_or(ApplyError::Busy)?;
    let begun = match store::read_journal::<ApplyJournal>(session.path()) {
        Ok(None) => {
            remove_staged(session);
            None
        }
        Ok(Some(journal)) => Some(journal.abandon(session.path())?),
        // A journal that cannot be read can still be given up.
        Err(_) => {
            store::remove_journal(session.path())?;
            Some(Vec::new())
        }
    };
    if store::load(session.path())?.is_none() {
        return Err(ApplyError::NoChanges);
    }
    store::discard(session.path())?;
    Ok(begun)
}

/// What an apply staged that was killed before its journal was there: nothing came out of the tree
/// for it. A folder that cannot be removed is better than changes that cannot be given up.
fn remove_staged(session: &SessionFolder) {
    let root = Base::load(session.path()).and_then(|base| Root::open(&base.root));
    if let (Ok(root), Ok(place)) = (root, steps::staging(session.id())) {
        let _stays = Staging::open(&root, &place, session.path()).clear();
    }
}

fn apply_watched(session: &SessionFolder, before: StageHook<'_>) -> Result<Applied, ApplyError> {
    let _lock = session.lock()?.ok_or(ApplyError::Busy)?;
    let folder = session.path();
    if let Some(journal) = store::read_journal::<ApplyJournal>(folder)? {
        let root = open(&journal.root())?;
        return journal.carry_out(&root, folder, true, before);
    }
    let mut set = store::load(folder)?.ok_or(ApplyError::NoChanges)?;
    if set.is_empty() {
        return Err(ApplyError::NoChanges);
    }
    if store::is_applied(folder) {
        return Err(ApplyError::AlreadyApplied);
    }
    let base = Base::load(folder)?;
    let root = open(&base.root)?;
    let unwritable =
        |source| ApplyError::Folder { folder: base.root.display().to_string(), source };
    let plan = check::check(&root, &base, &mut set, before).map_err(unwritable)?;
    if !plan.conflicts.is_empty() {
        return Err(ApplyError::Conflicts(plan.conflicts));
    }
    if !plan.obstacles.is_empty() {
        return Err(ApplyError::Obstacles(plan.obstacles));
    }
    if plan.steps.is_empty() {
        let all_held = set.applied().next().is_none();
        if !all_held {
            store::mark_applied(folder)?;
        }
        let held = set.held().cloned().collect();
        let remarks = plan.remarks;
        return Ok(Applied { root: base.root, held, all_held, remarks, ..Applied::default() });
    }
    let mut journal = ApplyJournal::new(session.id(), &base.root, plan.steps, &set, plan.remarks)?;
    let remarks = stage::stage(&root, &journal, folder, before).map_err(unwritable)?;
    journal.remarks.extend(remarks);
    before(ApplyStage::Step);
    store::write_journal(folder, &journal)?;
    journal.carry_out(&root, folder, false, before)
}

fn open(root: &Path) -> Result<Root, ApplyError> {
    let folder = root.display().to_string();
    Root::open(root).map_err(|source| ApplyError::Folder { folder, source })
}

#[cfg(test)]
mod tests;
