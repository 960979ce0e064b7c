//! How a turn ends: with exactly one outcome.

use serde::{Deserialize, Serialize};

/// `finished`, `stopped` or `failed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The model gave its final answer.
    Finished { answer: String },
    /// The turn was ended on purpose. `answer` is what the model said at its last step, if it was
    /// asked.
    Stopped { reason: Stop, answer: Option<String> },
    /// Something broke.
    Failed { fault: Fault },
}

/// Why a turn was ended on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Stop {
    /// A person or a program asked for it.
    Cancelled,
    /// A budget is spent.
    Budget { spent: Spent },
    /// The account's usage limit is reached. `resets_at` is in seconds since 1970.
    UsageLimit { plan: Option<String>, resets_at: Option<u64>, message: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Spent {
    Steps,
    Tokens,
    Seconds,
}

/// What broke: a kind for programs, and a message for people (one line, no secret).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Fault {
    pub kind: FaultKind,
    pub message: String,
}

/// One variant for each consequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The login is gone: a person must sign in.
    SignIn,
    /// The backend refused the request and would refuse it again.
    Refused,
    /// The backend could not be reached, or its answers broke off too often.
    Backend,
    /// The account does not have this model, or none could be chosen.
    Model,
    /// The model must be named, or what was asked for cannot be used. No model request was sent.
    Choice,
    /// The conversation no longer fits the model's context window.
    Context,
    /// The host's policy refused a request of the sandbox.
    Policy,
    /// The sandbox could not be started, or could not be made safe: the engine, the image or the
    /// container.
    Sandbox,
    /// The sandbox ended before the turn: killed, out of memory, or the engine is gone.
    SandboxDied,
    /// The pipe broke, stalled, or carried something that is not the protocol.
    Link,
    /// The two halves speak different protocols.
    Protocol,
    /// The directory could not be copied in, or the changes could not be copied out.
    Workspace,
    /// The session departs from its recording: other requests, or too many or too few.
    Recording,
    /// What the sandbox reports contradicts what the host saw.
    Forged,
    /// The sandbox reports that something broke, and the host cannot check it.
    Claimed,
    /// What must be stored on the host cannot be: the disk is full, or a directory is read-only.
    Disk,
}

impl Fault {
    #[must_use]
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}
