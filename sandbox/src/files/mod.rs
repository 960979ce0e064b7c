//! The work tree: in as a tar stream, what changed out as another, and what the repository says to
//! agents.
//!
//! All of it happens as the tool user, on a thread of its own. Absent: judgement. What may reach
//! somebody's files is decided by the host, which compares and filters what comes out.

mod unpack; // the tree in
mod baseline; // what was there at the start
mod renew; // and what git wrote since, before anybody worked
mod read; // also what its owner locked
mod place; // git's own, ignored, or neither
mod scan; // what differs, edits first
mod changes; // the changes out
mod docs; // AGENTS.md, CLAUDE.md

pub(crate) use baseline::Baseline;
pub(crate) use changes::{ChangesRequest, ChangesSummary, changes};
pub(crate) use docs::{DocFile, project_docs};
pub(crate) use renew::renew;
pub(crate) use unpack::{NotCopied, NotThere, UnpackResult, unpack};

use airlock_shared::outcome::{Fault, FaultKind};

fn workspace_fault(message: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Workspace, message)
}

#[cfg(test)]
mod tests;
