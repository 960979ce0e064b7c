//! The exit codes, in one table. The help and the README show the same table; a test compares them.

use airlock_shared::outcome::{FaultKind, Outcome, Stop};

/// The exit code of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Finished = 0,
    Failed = 1,
    Usage = 2,
    SignIn = 3,
    UsageLimit = 4,
    Budget = 5,
    Sandbox = 6,
    Cancelled = 130,
    Terminated = 143,
}

impl Exit {
    pub const ALL: [Self; 9] = [
        Self::Finished,
        Self::Failed,
        Self::Usage,
        Self::SignIn,
        Self::UsageLimit,
        Self::Budget,
        Self::Sandbox,
        Self::Cancelled,
        Self::Terminated,
    ];

    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The meaning, as the help and the README show it.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Failed => {
                "failed; also: a conflict in apply, or a replay that differs from its recording"
            }
            Self::Usage => "usage: a wrong argument, or a file that it names",
            Self::SignIn => "sign-in needed",
            Self::UsageLimit => "usage limit of the account reached",
            Self::Budget => "budget spent, also if the model still answered with its last request",
            Self::Sandbox => {
                "no sandbox: it is not safe, or the engine or the image cannot be used"
            }
            Self::Cancelled => "cancelled (Ctrl-C)",
            Self::Terminated => "terminated (SIGTERM)",
        }
    }

    /// The exit code of an outcome. SIGTERM ends a turn as `Cancelled` too; the code that got the
    /// signal must use [`Exit::Terminated`] instead.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Finished { .. } => Self::Finished,
            Outcome::Stopped { reason: Stop::Cancelled, .. } => Self::Cancelled,
            Outcome::Stopped { reason: Stop::Budget { .. }, .. } => Self::Budget,
            Outcome::Stopped { reason: Stop::UsageLimit { .. }, .. } => Self::UsageLimit,
            Outcome::Failed { fault } => Self::of_fault(fault.kind),
        }
    }

    #[must_use]
    pub fn of_fault(kind: FaultKind) -> Self {
        match kind {
            FaultKind::SignIn => Self::SignIn,
            FaultKind::Sandbox => Self::Sandbox,
            FaultKind::Choice => Self::Usage,
            FaultKind::Refused
            | FaultKind::Backend
            | FaultKind::Model
            | FaultKind::Context
            | FaultKind::Policy
            | FaultKind::SandboxDied
            | FaultKind::Link
            | FaultKind::Protocol
            | FaultKind::Workspace
            | FaultKind::Recording
            | FaultKind::Forged
            | FaultKind::Claimed
            | FaultKind::Disk => Self::Failed,
        }
    }
}

impl From<&Outcome> for Exit {
    fn from(outcome: &Outcome) -> Self {
        Self::of(outcome)
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The table for the help: one line for each code.
#[must_use]
pub fn table() -> String {
    let line = |exit: Exit| format!("  {:>3}  {}\n", exit.code(), exit.meaning());
    Exit::ALL.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use airlock_shared::outcome::{Fault, Spent};

    use super::*;

    #[test]
    fn every_outcome_has_its_code() {
        let stopped = |reason, answer: Option<&str>| Outcome::Stopped {
            reason,
            answer: answer.map(str::to_owned),
        };
        let limit = Stop::UsageLimit { plan: None, resets_at: None, message: String::new() };
        let cases = [
            (Outcome::Finished { answer: "x".into() }, 0),
            (stopped(Stop::Cancelled, None), 130),
            (stopped(Stop::Budget { spent: Spent::Tokens }, None), 5),
            (stopped(Stop::Budget { spent: Spent::Steps }, Some("so far")), 5),
            (stopped(limit, None), 4),
            (Outcome::Failed { fault: Fault::new(FaultKind::SignIn, "x") }, 3),
            (Outcome::Failed { fault: Fault::new(FaultKind::Sandbox, "x") }, 6),
            (Outcome::Failed { fault: Fault::new(FaultKind::Recording, "x") }, 1),
            (Outcome::Failed { fault: Fault::new(FaultKind::SandboxDied, "x") }, 1),
            (Outcome::Failed { fault: Fault::new(FaultKind::Claimed, "x") }, 1),
        ];
        for (outcome, code) in cases {
            assert_eq!(Exit::of(&outcome).code(), code, "{outcome:?}");
        }
    }

    #[test]
    fn the_readme_has_this_table() {
        let readme = include_str!("../../README.md");
        for exit in Exit::ALL {
            let row = format!("| {} | {} |", exit.code(), exit.meaning());
            assert!(readme.contains(&row), "README.md lacks `{row}`");
        }
    }
}
