//! `airlock run`: one run, shown as it goes, ended by Ctrl-C or SIGTERM.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;

use super::house;
use crate::cli::config::FaceChoice;
use crate::cli::face::Face;
use crate::cli::outlet::detached;
use crate::cli::places::Places;
use crate::cli::screen::Screen;
use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::run::public::ChangesAre;
use crate::run::spec::Spec;
use crate::run::{self, Done, House, Stop};
use crate::setup;

/// How long what is left to write may take once a signal came.
const LAST_WORDS: Duration = Duration::from_millis(500);

pub(super) async fn run(
    spec: Spec,
    choice: FaceChoice,
    places: &Places,
    screen: Screen,
) -> Result<Exit, Failure> {
    let house = house(places).await?;
    let (screen, written) = detached(screen).map_err(|error| unwritten(&error))?;
    let mut face = Face::new(choice, screen).of_tree(spec.dir.clone());
    let stop = Stop::default();
    let _signals = obey_signals(&stop);
    let done = match carried_out(spec, &house, &stop, &mut face).await {
        Ok(done) => {
            let short = house.store.short(&done.run).unwrap_or_else(|_| done.run.clone());
            let failure = failure(&done, &short);
            face.end(&short, failure.as_ref()).map(|()| done.exit)
        }
        Err(failure) => {
            drop(face);
            Err(failure)
        }
    };
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
    setup::settled().await;
    done
}

/// What a person is told of work that a signal stopped. `what`: how things are now.
pub(super) fn stopped(stop: &Stop, what: &str) -> Failure {
    let headline = match stop.exit() {
        Exit::Terminated => "terminated",
        _ => "cancelled",
    };
    Failure::new(stop.exit(), headline, what)
}

/// A run, shown as it goes.
pub(super) async fn carried_out(
    spec: Spec,
    house: &House,
    stop: &Stop,
    face: &mut Face,
) -> Result<Done, Failure> {
    let mut show = |line: &run::public::Line| face.show(line);
    let done = run::run(spec, house, stop, &mut show).await;
    done.map_err(|broken| {
        let failure = Failure::from(&broken.fault);
        Failure { hint: broken.hint.or(failure.hint), ..failure }
    })
}

/// What a person is told of a run that did not finish.
pub(super) fn failure(done: &Done, short: &str) -> Option<Failure> {
    let failure = Failure::of(&done.outcome, clock::now())?;
    let (reason, hint) = match (done.exit, done.changes) {
        (Exit::Cancelled | Exit::Terminated, ChangesAre::Kept) => (
            format!("{}, its changes are kept", failure.reason),
            Some(format!("airlock diff {short}")),
        ),
        (Exit::Cancelled | Exit::Terminated, ChangesAre::Lost) => (
            format!("{}, and its changes with it", failure.reason),
            Some(format!("airlock show {short}")),
        ),
        _ => (failure.reason.clone(), done.hint.clone().or(failure.hint.clone())),
    };
    Some(Failure { exit: done.exit, reason, hint, ..failure })
}
