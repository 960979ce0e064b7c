//! The work tree's way into the sandbox and the way of its changes out.
//!
//! ```text
//!  folder ──walk──▶ tar ─────▶ the sandbox ─────▶ tar ──intake──▶ export gate ──▶ <run>/changes
//!            └──▶ <run>/base.jsonl ──────────────┘                               │
//!  folder ◀──rename── journal ◀── stage ◀── check ◀────────── apply ─────────────┤
//!                                                diff · discard ─────────────────┘
//! ```
//! In: everything but secrets, git's configuration and hooks, and what is no file, folder or
//! link. Out: hostile until judged, and written nowhere but into the run's folder until a person
//! says `apply`. Both ways by descriptor, never through a link.
//!
//! Deliberately absent: git. It is never run on a tree that an agent wrote, and nothing in a
//! workspace configures anything.

mod node; // what can be at a path
mod rel_path; // a path that cannot leave the root
mod beneath; // opening what lies beneath a folder

mod private; // our own folders and the files of credentials, which never go in
mod secrets; // their names
mod content; // whether a content is one
mod rules; // what is left out by its name
mod fold; // names as other systems compare them
mod version_control; // what each of them keeps in a work tree
mod git_config; // its settings, one by one
mod git; // what of git's folders stays at home
mod walk; // what is there
mod base; // what went in
mod tar_write; // the stream that carries it
mod bounds; // how much may go in
mod copy_in; // the way in

mod tar_read; // the stream that comes back, hostile until judged
mod change; // what the sandbox made of it
mod nearest; // the nearest of some folders that a path is in
mod resolve; // where the links of a tree lead
mod export; // what is kept back
mod autorun; // files that run
mod store; // changes on disk
mod compare; // what differs from what was copied in
mod intake; // the way out, as far as the run's folder

mod git_runs; // what the person's git runs of a tree
mod diff; // looking at them
mod apply; // putting them into the folder

mod link; // both ways for one run
mod live; // what acts by itself in a tree that was not copied
#[cfg(test)]
mod trial; // a folder, a run and a stream to try it all with

pub use apply::{
    Applied, ApplyError, ApplyNote, Conflict, FoundInstead, Obstacle, Saved, Skipped, apply,
    discard,
};
pub use autorun::{NamedTrigger, table as triggers};
pub use bounds::Most;
pub use change::{Change, ChangeCount, ChangeSet, ChangeStatus, ChangesExtent, HeldReason};
pub use copy_in::{CopyError, CopySummary, Counted, LeftOut};
pub use diff::{CompareDeadline, DiffView, SummaryLine, diff, stat};
pub use intake::{ChangesRefused, KeptChanges};
pub use link::{CopyStarted, WorkspaceLink};
pub use live::Triggers;
pub use node::{Node, Sha};
pub use private::{NotAllowed, Private};
pub use rel_path::{PathError, RelPath};
pub use rules::{BadGlob, LeaveOutRules, check_glob};
pub use walk::LeftOutReason;

use crate::records::SessionFolder;

/// The changes of a run as they are stored; none where there are none.
///
/// # Errors
/// They cannot be read.
pub fn changes(session: &SessionFolder) -> std::io::Result<Option<ChangeSet>> {
    store::load(session.path())
}

/// What a run made of one path.
pub enum ChangedContent {
    File(std::io::Take<std::fs::File>),
    /// Its target, percent-encoded.
    Link(String),
    /// A folder, a device, gone, or not among the changes; or only its mode changed.
    None,
}

/// What a run made of a path that is written as it is shown, held or not.
///
/// # Errors
/// The run's files cannot be read.
pub fn content(session: &SessionFolder, path: &str) -> std::io::Result<ChangedContent> {
    let set = store::load(session.path())?.unwrap_or_default();
    let found = set.changes.iter().find(|change| change.path.to_string() == path);
    Ok(match found.map(|change| (&change.after, change.content)) {
        Some((Some(Node::File { size, .. }), Some(offset))) => {
            ChangedContent::File(store::content(session.path(), offset, *size)?)
        }
        Some((Some(Node::Link { target }), _)) => ChangedContent::Link(rel_path::encode(target)),
        _ => ChangedContent::None,
    })
}

/// Whether the directory went in whole, so that somebody may have worked on it.
#[must_use]
pub fn went_in(session: &SessionFolder) -> bool {
    base::is_there(session.path())
}

/// Whether they were applied.
#[must_use]
pub fn is_applied(session: &SessionFolder) -> bool {
    store::is_applied(session.path())
}
