//! Puts a session's changes into the directory they were made for.
//!
//! ```text
//! check      every path is compared with what was copied in, and every step is checked; after one
//!            conflict or obstacle nothing is written
//! stage      the new contents are written to a hidden folder on the same file system
//! journal    the steps are written to the disk, in the session's record
//! step …     exchanges, removals, modes; each can be taken twice. A file that is replaced is
//!            compared again, and put back if it is not what was checked
//! applied    the set is marked as applied, if all steps were taken
//! replaced   each replaced file is compared once more, and saved beside the new one if a program
//!            wrote into it; then the staging folder and the journal are removed
//! ```
//! An apply that is killed after the journal was written is finished by the next apply, from what
//! it finds on the disk: a staged content that is missing is written again. Before the journal,
//! nothing in the directory was touched. `discard` gives up an apply that was begun.
//!
//! # Why one conflict stops everything
//! Half of the changes make a tree that neither the person nor the model ever saw. The conflicts
//! are listed, and the person decides with the help of `airlock diff`.
//!
//! Deliberately absent: git.

mod attributes; // modes, owners and what else a file has
mod check; // which steps are needed, and what conflicts
mod recheck; // what only the host's own files show to be dangerous
mod obstacle; // what prevents a step
mod replaced; // what was replaced: compared once more, then removed
mod stage; // the new contents, on the same file system
mod steps; // the steps and their journal
mod swap; // exchanges a path with its staged content

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
pub use obstacle::Obstacle;
pub use replaced::Saved;

/// What an apply did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The directory.
    pub root: PathBuf,
    /// Files, links and folders that were added, changed or removed.
    pub done: Vec<RelPath>,
    /// Held by the export gate, or by the second check against the directory.
    pub held: Vec<Change>,
    /// Everything is held: nothing was applied, and the changes are still stored.
    pub all_held: bool,
    /// Applied, and a program runs them by their name.
    pub run_by_themselves: Vec<Change>,
    /// Folders that were not removed, because they hold something that was not copied in.
    pub stayed: Vec<RelPath>,
    /// Paths that were left as they are. If there is one, the changes count as applied in part
    /// only, and are still stored.
    pub left: Vec<Skipped>,
    /// Old files that a program wrote into during the apply.
    pub saved: Vec<Saved>,
    /// What is unexpected about paths that were applied.
    pub remarks: Vec<ApplyNote>,
    /// An earlier apply that did not finish was finished.
    pub finished: bool,
    /// The staging folder, if it could not be removed.
    pub staging_stays: Option<RelPath>,
}

/// A path that was left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    pub path: RelPath,
    pub why: SkipReason,
}

/// Why a path was left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    #[error("it changed here since the apply began")]
    Changed,
    #[error("it belongs to another user now, and only its owner may change its mode")]
    NotOwner,
}

/// A step that could not be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedStep {
    pub path: RelPath,
    pub why: String,
}

/// Why nothing was applied, or not everything.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("the session has no changes")]
    NoChanges,
    #[error("its changes were applied already")]
    AlreadyApplied,
    #[error("another airlock process is using the session")]
    Busy,
    /// Nothing was written.
    #[error("{} of its paths changed here since they were copied", .0.len())]
    Conflicts(Vec<Conflict>),
    /// Nothing was written.
    #[error("{} of its paths cannot be written", .0.len())]
    Obstacles(Vec<Obstacle>),
    /// Nothing was written.
    #[error("the directory {folder} cannot be written: {source}")]
    Folder { folder: String, source: io::Error },
    /// The next apply continues it, and `discard` gives it up.
    #[error("the apply began and did not finish: {}", stuck(.0))]
    CutShort(Vec<FailedStep>),
    #[error("the session's files cannot be read or written: {0}")]
    Store(#[from] io::Error),
}

impl ApplyError {
    /// The command that helps.
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
    let path = if first.path.is_root() { "the directory itself" } else { &first.path.to_string() };
    format!("{path}: {}{more}", first.why)
}

/// What is about to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ApplyStage {
    /// A file was read for the check; it is about to be compared again.
    Compare,
    /// A content is staged, a step is taken, or the work after the last step is done.
    Step,
    /// A path is what was checked; it is about to be replaced or removed.
    Swap,
    /// It was replaced or removed; the old file is about to be compared.
    Look,
    /// All steps are taken; the old files are compared once more and removed.
    RemoveReplaced,
}

/// TriggerNames before each of them; a test that panics in it leaves what a kill at that moment
/// leaves, for nothing here cleans up while it unwinds.
type StageHook<'a> = &'a mut dyn FnMut(ApplyStage);

/// Applies the changes of a session, or finishes an apply that was interrupted.
///
/// # Errors
/// [`ApplyError`] says what was written before each of them.
pub fn apply(session: &SessionFolder) -> Result<Applied, ApplyError> {
    apply_watched(session, &mut |_| ())
}

/// Removes a session's changes. What an interrupted apply did stays done. `Some`: there was such an
/// apply, and these files of the person have another name now.
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

/// Removes what an apply staged before it was killed without a journal: it replaced nothing yet. A
/// folder that cannot be removed is better than changes that cannot be discarded.
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
