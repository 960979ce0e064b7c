//! The last line: how the turn ended, what it used, where its changes are.

use airlock_shared::outcome::{FaultKind, Outcome, Spent, Stop};
use airlock_shared::stream::Usage;
use serde::{Deserialize, Serialize};

use super::{LINE_BYTES, truncate};
use crate::exit::Exit;

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeEvent {
    /// `finished`, `stopped`, `failed`.
    pub outcome: String,
    /// If it was stopped: `cancelled`, `budget`, `usage_limit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Which part of the budget is spent: `steps`, `tokens`, `seconds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spent: Option<Spent>,
    /// When a usage limit ends, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<u64>,
    /// If it failed: the kind of fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultKind>,
    /// One sentence if it did not finish.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The model's whole answer.
    pub answer: Option<String>,
    pub requests: u32,
    pub usage: Usage,
    /// Some of the usage is an estimate from the traffic: a request was given up or broke off before
    /// the backend reported its usage, or the backend never reports it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
    /// Whether changes wait for `apply` or `discard`.
    pub changes: ChangesAre,
    /// The exit code of `airlock run`.
    pub exit: u8,
}

/// Where the changes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangesAre {
    /// There are none.
    None,
    /// They wait for `apply` or `discard`.
    Kept,
    /// They are in the directory, which was live. Airlock does not list them.
    Live,
    /// They were applied to the directory.
    Applied,
    Discarded,
    /// The sandbox ended before it sent them.
    Lost,
}

impl OutcomeEvent {
    /// The public form of an outcome. `exit` also says which signal ended the turn.
    #[must_use]
    pub fn of(
        outcome: &Outcome,
        exit: Exit,
        requests: u32,
        usage: Usage,
        changes: ChangesAre,
    ) -> Self {
        let ended = Self {
            outcome: String::new(),
            reason: None,
            spent: None,
            resets_at: None,
            fault: None,
            message: None,
            answer: None,
            requests,
            usage,
            estimated: false,
            changes,
            exit: exit.code(),
        };
        match outcome {
            Outcome::Finished { answer } => {
                Self { outcome: "finished".to_owned(), answer: Some(answer.clone()), ..ended }
            }
            Outcome::Failed { fault } => Self {
                outcome: "failed".to_owned(),
                fault: Some(fault.kind),
                message: Some(truncate(&fault.message, LINE_BYTES).0),
                ..ended
            },
            Outcome::Stopped { reason, answer } => {
                let stopped =
                    Self { outcome: "stopped".to_owned(), answer: answer.clone(), ..ended };
                let because = |word: &str| Some(word.to_owned());
                match reason {
                    Stop::Cancelled => Self { reason: because("cancelled"), ..stopped },
                    Stop::Budget { spent } => {
                        Self { reason: because("budget"), spent: Some(*spent), ..stopped }
                    }
                    Stop::UsageLimit { resets_at, message, .. } => Self {
                        reason: because("usage_limit"),
                        resets_at: *resets_at,
                        message: Some(truncate(message, LINE_BYTES).0),
                        ..stopped
                    },
                }
            }
        }
    }
}
