//! What was said and done, on disk: one folder for each run, in a folder that only its owner may
//! enter.
//!
//! ```text
//! <state>/airlock/            0700
//!   install                   which install this is: what it made, only it removes
//!   runs/<32 hex digits>/
//!     lock                    held ⇔ the run is alive
//!     record.json             who paid, what ran, how it ended; replaced whole
//!     events.jsonl            what a user reads with --json; only grows
//!     base.jsonl, changes/    the workspace's, see there
//! ```
//! Deliberately absent: anything secret, and any index: the folders are the list.

mod record; // what is known of a run
mod session_folder; // one run's folder and its lock
mod store; // all of them

pub(crate) use record::rfc3339_or_none;
pub use record::{
    ChangesRecord, ImageRecord, LimitsRecord, LoginRecord, Record, TreeMode, Trigger, VERSION,
    WorkspaceRecord,
};
pub use session_folder::{EventLog, Lock, Marked, SessionFolder};
pub use store::{FindError, SessionStore, StoreError, random_id};
