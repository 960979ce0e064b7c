//! What the sandbox says while it works: JSON lines on `POST /events`, or on stdout in plain mode.
//! All of it is hearsay: the host trusts no event to be true, only to be shown.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::outcome::Outcome;
use crate::stream::Usage;

/// One line, tagged by `event`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The sandbox is up and the work tree, if it is copied, is in place.
    Up { entries: u64, bytes: u64 },
    /// Instructions of the repository that were read: a path from the root, bytes taken.
    Docs { path: String, bytes: u64, cut: bool },
    /// A model request goes out; 1, 2, 3, …
    Request { n: u32 },
    /// A model request failed and will be tried again.
    Retry { attempt: u32, of: u32, wait_ms: u64, why: String },
    /// An item the model sent, whole, to be journalled.
    Item { item: Value },
    /// Text of the model that came before a tool call. The last text is the outcome's answer.
    Text { text: String },
    /// A call starts. `title` is one line for people: a command, a path.
    CallStarted { call_id: String, tool: String, title: String },
    /// A call ended. `exit` is a command's exit code; `note` one line for people, may be empty
    /// (`+3 −1`, `12 files`, `timed out after 10 s`).
    CallEnded {
        call_id: String,
        tool: String,
        title: String,
        ok: bool,
        exit: Option<i32>,
        ms: u64,
        note: String,
        output: String,
    },
    /// The model's plan, whole, each time it changes.
    Plan { steps: Vec<PlanStep> },
    /// What one request used.
    Usage { usage: Usage },
    /// Handoff credentials: the backend refused the token. A fresh one may come down.
    Unauthorized,
    /// Something a person should know; one line.
    Note { text: String },
    /// The end; nothing follows.
    Outcome { outcome: Outcome },
}

/// A step of a plan (`update_plan`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PlanStep {
    pub step: String,
    pub status: StepStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    Pending,
    InProgress,
    Completed,
}
