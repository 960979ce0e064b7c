//! `--json` when the session did not start: a program that reads JSON lines still gets an outcome as
//! the last line. The text on stderr is the same as without `--json`.

use std::ffi::OsString;

use airlock_shared::outcome::{Fault, FaultKind, Outcome, Stop};
use airlock_shared::stream::Usage;

use crate::cli::environment::{Environment, variable};
use crate::cli::screen::Screen;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::public::{ChangesAre, EventLine, OutcomeEvent, PublicEvent};

/// Whether `run` is used with `--json`. The other arguments may be wrong: the error for them is a JSON
/// line too.
pub(super) fn wants_json(arguments: &[OsString], environment: &Environment) -> bool {
    let mut words = arguments.iter().skip(1).filter_map(|word| word.to_str());
    if words.next() != Some("run") {
        return false;
    }
    let typed = words.take_while(|word| *word != "--").filter_map(|word| match word {
        "--json" => Some(true),
        word => word.strip_prefix("--json=").map(|value| value == "true"),
    });
    let is_set = || matches!(environment.text(&variable("json")), Some("true" | "1"));
    typed.last().unwrap_or_else(is_set)
}

/// Prints the only line. If it cannot be written, its reader is gone.
pub(super) fn print(screen: &mut Screen, failure: &Failure) {
    let _gone = screen.print(&line(failure));
}

/// The session has no id, because it does not exist.
fn line(failure: &Failure) -> String {
    let is_stopped = matches!(failure.exit, Exit::Cancelled | Exit::Terminated);
    let outcome = match is_stopped {
        true => Outcome::Stopped { reason: Stop::Cancelled, answer: None },
        false => {
            let message = format!("{}: {}", failure.headline, failure.reason);
            Outcome::Failed { fault: Fault::new(kind(failure.exit), message) }
        }
    };
    let ended = OutcomeEvent::of(&outcome, failure.exit, 0, Usage::default(), ChangesAre::None);
    EventLine::new(1, "", 0, PublicEvent::Outcome(ended)).json()
}

/// The kind of the fault, from the exit code.
fn kind(exit: Exit) -> FaultKind {
    match exit {
        Exit::SignIn => FaultKind::SignIn,
        Exit::Usage => FaultKind::Choice,
        Exit::Sandbox => FaultKind::Sandbox,
        _ => FaultKind::Workspace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_found_in_arguments_that_are_wrong_otherwise() {
        let wants = |line: &str, set: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            wants_json(&words, &Environment::from_iter([("AIRLOCK_JSON", set)]))
        };
        for line in ["a run --json p", "a run p --bogus --json", "a run --json=false --json p"] {
            assert!(wants(line, ""), "{line}");
        }
        for line in ["a run p", "a runs --json", "a run -- --json", "a run --json=false p", "a"] {
            assert!(!wants(line, ""), "{line}");
        }
        assert!(wants("a run p", "1") && !wants("a run --json=false p", "true"));
    }
}
