//! The workspace: copied in from a tar stream, its changes copied out as another, and the
//! repository's instructions to agents.
//!
//! All of this runs as the tool user, on a separate thread. Absent: policy. The host compares and
//! filters the changes, and decides what is applied.

mod unpack; // the workspace in
mod baseline; // the workspace at the start
mod renew; // updates the baseline after git's own writes
mod read; // reads files, also those without read permission
mod place; // where a path is, as seen by git: in .git, ignored, or neither
mod scan; // what differs from the baseline, edits first
mod changes; // the changes out
mod docs; // AGENTS.md, CLAUDE.md

pub(crate) use baseline::Baseline;
pub(crate) use changes::{ChangesRequest, ChangesSummary, changes};
pub(crate) use docs::{DocFile, project_docs};
pub(crate) use renew::renew;
pub(crate) use unpack::{LeftOut, LeftOutPath, UnpackResult, unpack};

use airlock_shared::outcome::{Fault, FaultKind};

fn workspace_fault(message: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Workspace, message)
}

#[cfg(test)]
mod tests;
