//! `airlock run`: one run, shown as it goes, ended by Ctrl-C or SIGTERM.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;

use super::context;
use crate::cli::choose::AtTerminal;
use crate::cli::config::OutputChoice;
use crate::cli::outlet::detached;
use crate::cli::places::Places;
use crate::cli::screen::Screen;
use crate::cli::turn_printer::TurnPrinter;
use crate::cli::unbegun;
use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::public::ChangesAre;
use crate::session::settings::SessionSettings;
use crate::session::{self, EndedSession, HostContext, Person, Stop};
use crate::setup;

/// How long what is left to write may take once a signal came.
const LAST_WORDS: Duration = Duration::from_millis(500);

pub(super) async fn run(
    settings: SessionSettings,
    choice: OutputChoice,
    places: &Places,
    mut screen: Screen,
) -> Result<Exit, Failure> {
    let stop = Stop::default();
    let _signals = obey_signals(&stop);
    let context = tokio::select! {
        context = context(places, &mut screen) => context,
        () = stop.asked() => Err(stopped(&stop, "nothing was begun")),
    };
    let context = context.inspect_err(|failure| {
        if choice.json {
            unbegun::tell(&mut screen, failure);
        }
    })?;
    let style = screen.err_style;
    let (screen, asks, written) = detached(screen).map_err(|error| unwritten(&error))?;
    // A program that reads JSON is no person, wherever it runs.
    let mut person = AtTerminal::of_this_process(asks, style).filter(|_| !choice.json);
    let mut turn_printer = TurnPrinter::new(choice, screen).of_tree(settings.dir.clone());
    let asked = person.as_mut().map(|person| person as &mut dyn Person);
    let done = match carried_out(settings, &context, &stop, asked, &mut turn_printer).await {
        Ok(done) => {
            let short = context.store.short(&done.run).unwrap_or_else(|_| done.run.clone());
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
        // The run is over; what nobody read is in its record.
        () = patience(&stop) => return Ok(stop.exit()),
    }
    done
}

fn unwritten(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, "output", format!("stdout cannot be written: {error}"))
}

/// Whoever does not read is waited for until a signal comes.
// THREAT: a reader that stalls, by mistake or on purpose, keeps the process from ending when it is
// told to. Tried by cli::face::a_stalled_reader_holds_neither_the_run_nor_sigterm.
async fn patience(stop: &Stop) {
    stop.asked().await;
    tokio::time::sleep(LAST_WORDS).await;
}

/// Lets the signals of this process stop what `stop` stops, until it is dropped. A second one ends
/// the process at once: a terminal that takes no more output must not keep it, and what it leaves
/// ends with the pipe and is swept by the next start.
pub(super) fn obey_signals(stop: &Stop) -> AbortOnDropHandle<()> {
    let stop = stop.clone();
    AbortOnDropHandle::new(tokio::spawn(async move {
        let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hang_up)) = (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
            signal(SignalKind::hangup()),
        ) else {
            // Without handlers the signals end the process.
            return;
        };
        loop {
            let is_second = stop.is_asked();
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

/// The work, unless a signal stops it. A refresh that is on its way is waited for either way: the
/// issuer's answer must not be lost.
pub(super) async fn unless_stopped<T>(work: impl Future<Output = T>) -> Result<T, Stop> {
    let stop = Stop::default();
    let _signals = obey_signals(&stop);
    let done = tokio::select! {
        done = work => Ok(done),
        () = stop.asked() => Err(stop.clone()),
    };
    setup::wait_for_refreshes().await;
    done
}

/// What a person is told of work that a signal stopped. `what`: how things are now.
pub(super) fn stopped(stop: &Stop, what: &str) -> Failure {
    Failure::new(stop.exit(), stopped_by(stop.exit()), what)
}

fn stopped_by(exit: Exit) -> &'static str {
    match exit {
        Exit::Terminated => "terminated",
        _ => "cancelled",
    }
}

/// A run, shown as it goes.
pub(super) async fn carried_out(
    settings: SessionSettings,
    context: &HostContext,
    stop: &Stop,
    person: Option<&mut dyn Person>,
    turn_printer: &mut TurnPrinter,
) -> Result<EndedSession, Failure> {
    let mut show = |line: &session::public::EventLine| turn_printer.show(line);
    let done = session::run(settings, context, stop, person, &mut show).await;
    done.map_err(|broken| {
        let failure = Failure::from(&broken.fault);
        Failure { hint: broken.hint.or(failure.hint), ..failure }
    })
}

/// What a person is told of a run that did not finish.
pub(super) fn failure(done: &EndedSession, short: &str) -> Option<Failure> {
    let failure = Failure::of(&done.outcome, clock::now())?;
    if !matches!(done.exit, Exit::Cancelled | Exit::Terminated) {
        let hint = done.hint.clone().or(failure.hint.clone());
        return Some(Failure { exit: done.exit, hint, ..failure });
    }
    let (how_it_is, hint) = match done.changes {
        ChangesAre::Kept => ("the sandbox is gone, its changes are kept", "airlock diff"),
        ChangesAre::Lost => ("the sandbox is gone, and its changes with it", "airlock show"),
        ChangesAre::Live => {
            ("the sandbox is gone; what the agent changed is in your directory", "airlock show")
        }
        ChangesAre::None if done.began => {
            ("the sandbox is gone; the agent had changed nothing", "airlock show")
        }
        ChangesAre::None | ChangesAre::Applied | ChangesAre::Discarded => {
            ("the agent had not begun", "airlock show")
        }
    };
    let failure = Failure::new(done.exit, stopped_by(done.exit), how_it_is);
    Some(failure.hint(format!("{hint} {short}")))
}

#[cfg(test)]
mod tests {
    use airlock_shared::outcome::{Outcome, Stop};

    use super::*;

    #[test]
    fn a_run_that_was_stopped_says_how_things_are() {
        let said = |exit, changes, began| {
            let outcome = Outcome::Stopped { reason: Stop::Cancelled, answer: None };
            let run = "7c41".repeat(8);
            let done = EndedSession { run, outcome, exit, changes, began, hint: None };
            failure(&done, "7c41").map(|failure| (failure.exit, failure.to_string()))
        };
        let cases = [
            (
                (Exit::Cancelled, ChangesAre::Kept, true),
                "cancelled: the sandbox is gone, its changes are kept\nairlock diff 7c41",
            ),
            (
                (Exit::Terminated, ChangesAre::Lost, true),
                "terminated: the sandbox is gone, and its changes with it\nairlock show 7c41",
            ),
            (
                (Exit::Cancelled, ChangesAre::Live, true),
                "cancelled: the sandbox is gone; what the agent changed is in your directory\n\
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
            assert_eq!(said(exit, changes, began), Some((exit, expected.to_owned())));
        }
    }
}
