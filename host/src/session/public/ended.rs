//! The last line of a run: how it ended, what it used, where its changes are.

use airlock_shared::outcome::{FaultKind, Outcome, Spent, Stop};
use airlock_shared::stream::Usage;
use serde::{Deserialize, Serialize};

use super::{LINE_BYTES, cut};
use crate::exit::Exit;

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeEvent {
    /// `finished`, `stopped`, `failed`.
    pub outcome: String,
    /// Of a stopped run: `cancelled`, `budget`, `usage_limit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What of the budget is spent: `steps`, `tokens`, `seconds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spent: Option<Spent>,
    /// When a usage limit ends, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<u64>,
    /// Of a failed run: what broke.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultKind>,
    /// One sentence where it did not finish.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What the model said at its end, whole.
    pub answer: Option<String>,
    pub requests: u32,
    pub usage: Usage,
    /// Some of it is estimated by what passed: a request was given up, or broke off, before the
    /// backend said what it cost, or the backend never says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
    /// Whether changes wait for `apply` or `discard`.
    pub changes: ChangesAre,
    /// The exit code of `airlock session`.
    pub exit: u8,
}

/// Where a run's changes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangesAre {
    /// There are none.
    None,
    /// They wait for `apply` or `discard`.
    Kept,
    /// They are in the directory, which was live: only comparing it with what it was shows them.
    Live,
    /// They are in the directory: they were applied.
    Applied,
    Discarded,
    /// The sandbox ended before they came out.
    Lost,
}

impl OutcomeEvent {
    /// The public form of an outcome. `exit` says more than the outcome where a signal ended it.
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
                message: Some(cut(&fault.message, LINE_BYTES).0),
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
                        message: Some(cut(message, LINE_BYTES).0),
                        ..stopped
                    },
                }
            }
        }
    }
}
