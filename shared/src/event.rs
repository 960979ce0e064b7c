//! What the sandbox reports while it works: JSON lines on `POST /events`, or on stdout in plain
//! mode. All of it is hearsay: the host shows events and does not believe them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::outcome::Outcome;
use crate::stream::Usage;

/// One line, tagged by `event`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The sandbox is up, and the workspace is in place if it is copied.
    Up { entries: u64, bytes: u64 },
    /// Instructions of the repository that were read: their path from the root, and how many bytes.
    Docs { path: String, bytes: u64, cut: bool },
    /// A model request is sent; `n` is 1, 2, 3, …
    Request { n: u32 },
    /// A model request failed and will be tried again.
    Retry { attempt: u32, of: u32, wait_ms: u64, why: String },
    /// A whole item that the model sent, for the journal.
    Item { item: Value },
    /// Text of the model before a tool call. The last text is in the outcome, as its answer.
    Text { text: String },
    /// A tool call starts. `title` is one line for people: a command, a path.
    CallStarted { call_id: String, tool: String, title: String },
    /// A tool call ended. `exit` is a command's exit code. `note` is one line for people and may be
    /// empty (`+3 −1`, `12 files`, `timed out after 10 s`).
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
    /// The model's whole plan, each time it changes.
    Plan { steps: Vec<PlanStep> },
    /// What one request used.
    Usage { usage: Usage },
    /// Handoff credentials: the backend refused the token. The host may send a fresh one.
    Unauthorized,
    /// One line that a person should know.
    Note { text: String },
    /// The end: no event follows.
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
