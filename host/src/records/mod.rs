//! Sessions on disk: one directory for each session, in a directory that only its owner can open.
//!
//! ```text
//! <state>/airlock/            0700
//!   install                   the id of this install, which removes only what it made
//!   sessions/<UUID>/
//!     lock                    held ⇔ the session is alive
//!     record.json             its login, model, limits and outcome; replaced as a whole
//!     events.jsonl            what a user reads with --json; only appended to
//!     base.jsonl, changes/    the workspace's: see crate::workspace
//! ```
//! Deliberately absent: secrets, and an index: the directories are the list.

mod record; // what is known of a session
mod session_folder; // one session's directory and its lock
mod store; // all sessions

pub(crate) use record::rfc3339_or_none;
pub use record::{
    ChangesRecord, ImageRecord, LimitsRecord, LoginRecord, Record, TreeMode, Trigger, VERSION,
    WorkspaceRecord,
};
pub use session_folder::{EventLog, Lock, Marked, SessionFolder};
pub use store::{FindError, SessionStore, StoreError, random_id};
