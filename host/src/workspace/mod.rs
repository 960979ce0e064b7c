//! Copies the person's directory into the sandbox and brings the changes back.
//!
//! ```text
//!  directory ──walk──▶ tar ──▶ the sandbox ──▶ tar ──intake──▶ export gate ──▶ <session>/changes
//!               └──▶ <session>/base.jsonl ────────┘                                 │
//!  directory ◀──rename── journal ◀── stage ◀── check ◀────────── apply ─────────────┤
//!                                                   diff · discard ─────────────────┘
//! ```
//! In: everything except secrets, git's configuration and hooks, and anything that is not a file, a
//! folder or a link. Out: the stream is hostile until it is judged, and it is written only into the
//! session's record until the person runs `airlock apply`. Both ways use descriptors and never
//! follow a link.
//!
//! Deliberately absent: git. It never runs on a tree that an agent wrote. No file of a workspace
//! configures airlock.

mod node; // what can be at a path
mod rel_path; // a path that cannot leave the root
mod beneath; // opens paths beneath a folder, never through a link

mod private; // our own folders and credential files, which are never copied in
mod secrets; // the names of secrets
mod content; // whether a file's content is a secret
mod rules; // what is left out by its name
mod fold; // file names as other systems compare them
mod version_control; // what each version control keeps in a work tree
mod git_config; // reads git's configuration
mod git; // what is left out of git's folders
mod walk; // finds every path of the directory
mod base; // the record of what was copied in
mod tar_write; // writes the tar stream
mod bounds; // how much may be copied in
mod copy_in; // the copy into the sandbox

mod tar_read; // reads a hostile tar stream
mod change; // one changed path, and why it may be held
mod nearest; // the nearest enclosing folder out of a set
mod resolve; // where the links of a tree lead
mod export; // the export gate: what is held
mod autorun; // files that programs run by their name
mod store; // changes on disk
mod compare; // what differs from what was copied in
mod intake; // takes the changes out, into the session's record

mod git_runs; // the files of a tree that the person's git runs
mod diff; // shows changes
mod apply; // puts changes into the directory

mod link; // both ways for one session
mod live; // what runs by itself in a directory that is used live
#[cfg(test)]
mod trial; // a directory, a session and a stream for tests

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

/// The stored changes of a session, if there are any.
///
/// # Errors
/// They cannot be read.
pub fn changes(session: &SessionFolder) -> std::io::Result<Option<ChangeSet>> {
    store::load(session.path())
}

/// The content that a session gave to one path.
pub enum ChangedContent {
    File(std::io::Take<std::fs::File>),
    /// Its target, percent-encoded.
    Link(String),
    /// A folder, a device, a removed path, a changed mode alone, or a path that did not change.
    None,
}

/// The new content of a path, held or not. `path` is written as it is displayed.
///
/// # Errors
/// The session's files cannot be read.
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

/// Whether the whole directory was copied in, so that the model may have changed it.
#[must_use]
pub fn went_in(session: &SessionFolder) -> bool {
    base::is_there(session.path())
}

/// Whether the changes of a session were applied.
#[must_use]
pub fn is_applied(session: &SessionFolder) -> bool {
    store::is_applied(session.path())
}
