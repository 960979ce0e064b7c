//! `--json` of a run that ended before it was one: a program that reads JSON lines gets its last line
//! all the same. What a person reads on stderr is no other.

use std::ffi::OsString;

use airlock_shared::outcome::{Fault, FaultKind, Outcome, Stop};
use airlock_shared::stream::Usage;

use crate::cli::environment::{Environment, variable};
use crate::cli::screen::Screen;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::public::{ChangesAre, EventLine, OutcomeEvent, PublicEvent};

/// Whether JSON lines of a run were asked for. What was typed need not make sense otherwise: words
/// that are refused are answered in this form too.
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

/// Prints the one line. What cannot be written has a reader that is gone.
pub(super) fn tell(screen: &mut Screen, failure: &Failure) {
    let _gone = screen.print(&line(failure));
}

/// There is no run, so there is no id.
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

/// What broke, as far as the exit says it.
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
    fn who_asks_for_json_is_known_by_the_words_alone() {
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
