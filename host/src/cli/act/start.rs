//! `airlock run`: runs a session and shows its turn; Ctrl-C and SIGTERM end it.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;

use super::context;
use crate::cli::choose::AtTerminal;
use crate::cli::config::OutputChoice;
use crate::cli::early_failure;
use crate::cli::outlet::detached;
use crate::cli::places::Places;
use crate::cli::screen::Screen;
use crate::cli::turn_printer::TurnPrinter;
use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::public::ChangesAre;
use crate::session::settings::SessionSettings;
use crate::session::{self, EndedSession, HostContext, Person, Stop};
use crate::setup;

/// How long the remaining output may take after a signal.
const OUTPUT_AFTER_SIGNAL: Duration = Duration::from_millis(500);

pub(super) async fn run(
    settings: SessionSettings,
    choice: OutputChoice,
    places: &Places,
    mut screen: Screen,
) -> Result<Exit, Failure> {
    let stop = Stop::default();
    let _signals = stop_on_signals(&stop);
    let context = tokio::select! {
        context = context(places, &mut screen) => context,
        () = stop.requested() => Err(stopped_failure(&stop, "nothing was started")),
    };
    let context = context.inspect_err(|failure| {
        if choice.json {
            early_failure::print(&mut screen, failure);
        }
    })?;
    let style = screen.err_style;
    let (screen, asks, written) = detached(screen).map_err(|error| unwritten(&error))?;
    // With --json a program reads the output, so no person is asked.
    let mut person = AtTerminal::of_this_process(asks, style).filter(|_| !choice.json);
    let mut turn_printer = TurnPrinter::new(choice, screen).of_tree(settings.dir.clone());
    let person_to_ask = person.as_mut().map(|person| person as &mut dyn Person);
    let done = match run_session(settings, &context, &stop, person_to_ask, &mut turn_printer).await
    {
        Ok(done) => {
            let short = context.store.short(&done.session).unwrap_or_else(|_| done.session.clone());
            let failure = failure(&done, &short);
            turn_printer.end(&short, failure.as_ref()).map(|()| done.exit)
        }
        Err(failure) => {
            turn_printer.refuse(&failure);
            Err(failure)
        }
    };
    drop(person);
    tokio::select! {
        written = written.all() => written.map_err(|error| unwritten(&error))?,
        // The turn is over; its record has everything that was not read.
        () = signal_and_wait(&stop) => return Ok(stop.exit()),
    }
    done
}

fn unwritten(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, "output", format!("stdout cannot be written: {error}"))
}

/// Ends shortly after a signal. Until then, a slow reader is waited for.
// THREAT: a stalled reader keeps the process from ending after SIGTERM. Tried by
// cli::face::a_stalled_reader_holds_neither_the_run_nor_sigterm.
async fn signal_and_wait(stop: &Stop) {
    stop.requested().await;
    tokio::time::sleep(OUTPUT_AFTER_SIGNAL).await;
}

/// Requests a stop when this process gets a signal, until the handle is dropped. A second signal
/// ends the process at once, because a terminal that does not read must not keep it alive. The
/// sandbox then ends with its pipe, and the next start removes its container.
pub(super) fn stop_on_signals(stop: &Stop) -> AbortOnDropHandle<()> {
    let stop = stop.clone();
    AbortOnDropHandle::new(tokio::spawn(async move {
        let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hang_up)) = (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
            signal(SignalKind::hangup()),
        ) else {
            // Without handlers, signals end the process.
            return;
        };
        loop {
            let is_second = stop.is_requested();
            let exit = tokio::select! {
                _ = interrupt.recv() => { stop.cancel(); Exit::Cancelled }
                _ = terminate.recv() => { stop.terminate(); Exit::Terminated }
                _ = hang_up.recv() => { stop.terminate(); Exit::Terminated }
            };
            if is_second {
                std::process::exit(i32::from(exit.code()));
            }
        }
    }))
}

/// Does the work, unless a signal stops it. It always waits for a refresh that has begun: the
/// issuer's answer must not be lost.
pub(super) async fn unless_stopped<T>(work: impl Future<Output = T>) -> Result<T, Stop> {
    let stop = Stop::default();
    let _signals = stop_on_signals(&stop);
    let done = tokio::select! {
        done = work => Ok(done),
        () = stop.requested() => Err(stop.clone()),
    };
    setup::wait_for_refreshes().await;
    done
}

/// The failure of work that a signal stopped. `what`: the state now.
pub(super) fn stopped_failure(stop: &Stop, what: &str) -> Failure {
    Failure::new(stop.exit(), stopped_by(stop.exit()), what)
}

fn stopped_by(exit: Exit) -> &'static str {
    match exit {
        Exit::Terminated => "terminated",
        _ => "cancelled",
    }
}

/// Runs a session and shows its events.
pub(super) async fn run_session(
    settings: SessionSettings,
    context: &HostContext,
    stop: &Stop,
    person: Option<&mut dyn Person>,
    turn_printer: &mut TurnPrinter,
) -> Result<EndedSession, Failure> {
    let mut show = |line: &session::public::EventLine| turn_printer.show(line);
    let done = session::run(settings, context, stop, person, &mut show).await;
    done.map_err(|error| {
        let failure = Failure::from(&error.fault);
        Failure { hint: error.hint.or(failure.hint), ..failure }
    })
}

/// The failure of a turn that did not finish.
pub(super) fn failure(done: &EndedSession, short: &str) -> Option<Failure> {
    let failure = Failure::of(&done.outcome, clock::now())?;
    if !matches!(done.exit, Exit::Cancelled | Exit::Terminated) {
        let hint = done.hint.clone().or(failure.hint.clone());
        return Some(Failure { exit: done.exit, hint, ..failure });
    }
    let (state, hint) = match done.changes {
        ChangesAre::Kept => ("the sandbox is gone; its changes are stored", "airlock diff"),
        ChangesAre::Lost => ("the sandbox is gone, and its changes are lost", "airlock show"),
        ChangesAre::Live => {
            ("the sandbox is gone; the agent's changes are in your directory", "airlock show")
        }
        ChangesAre::None if done.began => {
            ("the sandbox is gone; the agent had changed nothing", "airlock show")
        }
        ChangesAre::None | ChangesAre::Applied | ChangesAre::Discarded => {
            ("the agent had not begun", "airlock show")
        }
    };
    let failure = Failure::new(done.exit, stopped_by(done.exit), state);
    Some(failure.hint(format!("{hint} {short}")))
}

#[cfg(test)]
mod tests {
    use airlock_shared::outcome::{Outcome, Stop};

    use super::*;

    #[test]
    fn the_failure_of_a_stopped_turn_says_where_the_changes_are() {
        let failure_of = |exit, changes, began| {
            let outcome = Outcome::Stopped { reason: Stop::Cancelled, answer: None };
            let session = "7c41".repeat(8);
            let done = EndedSession { session, outcome, exit, changes, began, hint: None };
            failure(&done, "7c41").map(|failure| (failure.exit, failure.to_string()))
        };
        let cases = [
            (
                (Exit::Cancelled, ChangesAre::Kept, true),
                "cancelled: the sandbox is gone; its changes are stored\nairlock diff 7c41",
            ),
            (
                (Exit::Terminated, ChangesAre::Lost, true),
                "terminated: the sandbox is gone, and its changes are lost\nairlock show 7c41",
            ),
            (
                (Exit::Cancelled, ChangesAre::Live, true),
                "cancelled: the sandbox is gone; the agent's changes are in your directory\n\
                 airlock show 7c41",
            ),
            (
                (Exit::Cancelled, ChangesAre::None, true),
                "cancelled: the sandbox is gone; the agent had changed nothing\nairlock show 7c41",
            ),
            (
                (Exit::Cancelled, ChangesAre::None, false),
                "cancelled: the agent had not begun\nairlock show 7c41",
            ),
        ];
        for ((exit, changes, began), expected) in cases {
            assert_eq!(failure_of(exit, changes, began), Some((exit, expected.to_owned())));
        }
    }
}
