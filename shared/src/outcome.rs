//! How a run ends: exactly one of these, once.

use serde::{Deserialize, Serialize};

/// `finished`, `stopped` or `failed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The model said it was done.
    Finished { answer: String },
    /// The run was ended on purpose; `answer` is what the model said at its last step, if it was
    /// asked.
    Stopped { reason: Stop, answer: Option<String> },
    /// Something broke.
    Failed { fault: Fault },
}

/// Why a run was ended on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Stop {
    /// A person or a caller said so.
    Cancelled,
    /// A budget is spent.
    Budget { spent: Spent },
    /// The account's usage limit is reached. `resets_at` in seconds since 1970.
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

/// What broke: a kind for programs, a message for people (one line, no secret).
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
    /// The backend refused the request and would again.
    Refused,
    /// The backend could not be reached, or broke off too often.
    Backend,
    /// The model is unknown to the account, or none could be chosen.
    Model,
    /// The model must be named, or what was asked for cannot be: nothing was asked of a model.
    Choice,
    /// The conversation no longer fits the model's context window.
    Context,
    /// The host's policy refused a request of the sandbox.
    Policy,
    /// The engine, the image or the container: a sandbox could not be made, or made safe.
    Sandbox,
    /// The sandbox ended before the run did: killed, out of memory, engine gone.
    SandboxDied,
    /// The pipe broke, stalled, or carried something that is not the protocol.
    Link,
    /// The two halves speak different protocols.
    Protocol,
    /// The work tree could not be copied in, or the changes out.
    Workspace,
    /// A recording departs from the run, or has exchanges missing or left over.
    Recording,
    /// What the sandbox claims is not what the host saw.
    Forged,
    /// The sandbox says that something broke, and the host cannot see whether it did.
    Claimed,
    /// What must be kept on this machine cannot be: a full disk, a folder that is read-only.
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
