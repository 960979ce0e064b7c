//! From the handoff to the outcome: one run, read straight through.
//!
//! ```text
//! ready → handoff → link → work tree in, model chosen → turn → changes out → outcome → gone
//! ```
//!
//! There is one outcome, said once, last. The end of the host is the end of the run, at any point.

mod choice; // which model
mod repository; // what git there is told
mod work; // work tree in, turn, changes out

use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use airlock_shared::command::Command;
use airlock_shared::event::Event;
use airlock_shared::handoff::{CredentialsPlace, Handoff, HandoffError, Link as LinkKind};
use airlock_shared::limits;
use airlock_shared::outcome::{Fault, FaultKind, Outcome, Stop};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use self::work::Session;
use crate::complain;
use crate::link::Link;
use crate::report::Report;
use crate::responses::Credentials;
use crate::scrub::Scrub;
use crate::stdio::{self, Input, LineError, Output};

/// The longest run there can be; more would overflow the clock.
const SECONDS_MOST: u64 = 10 * 365 * 24 * 3600;

/// The whole life of this process.
pub(crate) async fn run() -> ExitCode {
    let cancel = CancellationToken::new();
    if let Err(error) = heed_signals(&cancel) {
        return broken(&format!("signals cannot be heard: {error}"));
    }
    let (mut input, mut output) = match (stdio::input(), stdio::output()) {
        (Ok(input), Ok(output)) => (input, output),
        (Err(error), _) | (_, Err(error)) => {
            return broken(&format!("stdin or stdout cannot be used: {error}"));
        }
    };
    if stdio::say_ready(&mut output).await.is_err() {
        return broken("nobody listens on stdout");
    }
    let line = tokio::select! {
        line = stdio::first_line(&mut input) => line,
        () = cancel.cancelled() => return code(&Outcome::Stopped { reason: Stop::Cancelled, answer: None }),
    };
    let began = Instant::now();
    let line = match line {
        Ok(line) => line,
        Err(LineError::Ended) => return broken("stdin ended before the handoff"),
        Err(LineError::TooLong) => return broken("the handoff is too long"),
    };
    let handoff = match Handoff::parse(&line.text) {
        Ok(handoff) => handoff,
        Err(error) => return refuse(&line.text, &error, output).await,
    };
    let rest = line.rest;
    drop(line.text);
    let seconds = handoff.job.budget.seconds.min(SECONDS_MOST);
    let deadline = began + Duration::from_secs(seconds);
    match handoff.link {
        LinkKind::H2 => linked(handoff, rest, input, output, deadline, cancel).await,
        LinkKind::None => alone(handoff, output, deadline, cancel).await,
    }
}

/// With a host of ours on the pipe.
async fn linked(
    handoff: Handoff,
    rest: Vec<u8>,
    input: Input,
    output: Output,
    deadline: Instant,
    cancel: CancellationToken,
) -> ExitCode {
    let way = handoff.way();
    let gone = CancellationToken::new();
    let link = match Link::open(rest, input, output, &handoff.session_key, gone.clone()).await {
        Ok(link) => link,
        Err(fault) => return broken(&fault.message),
    };
    let scrub = Scrub::default();
    scrub.add(handoff.session_key);
    let credentials = Credentials::new(handoff.secrets, scrub.clone());
    let (report, lines) = Report::new(scrub.clone());
    let heard = tokio::spawn({
        let (link, gone) = (link.clone(), gone.clone());
        async move { link.report(lines).await.inspect_err(|fault| lose(&gone, fault)) }
    });
    tokio::spawn({
        let (link, gone) = (link.clone(), gone.clone());
        let (cancel, credentials) = (cancel.clone(), credentials.clone());
        async move {
            let obeyed = link.commands(|command| match command {
                Command::Interrupt => cancel.cancel(),
                Command::Secrets { bearer } => credentials.replace(bearer),
            });
            if let Err(fault) = obeyed.await {
                lose(&gone, &fault);
            }
        }
    });
    let session = Session {
        job: handoff.job,
        report: report.clone(),
        scrub,
        cancel: cancel.clone(),
        deadline,
        link: Some(link),
    };
    let mut work = pin!(session.work(way, credentials));
    let outcome = tokio::select! {
        outcome = &mut work => outcome,
        () = overdue(&cancel, deadline) => return broken("the host does not listen"),
        () = gone.cancelled() => {
            // As the first process of a sandbox our end is everybody's. Elsewhere commands are killed.
            cancel.cancel();
            if !rustix::process::getpid().is_init() {
                let _ended = timeout(Duration::from_millis(limits::CANCEL_MS), work).await;
            }
            return broken("the host is gone");
        }
    };
    let code = code(&outcome);
    // Not before the host has it on disk: our end is what closes the pipe.
    let last = async {
        report.say(Event::Outcome { outcome }).await;
        drop(report);
        heard.await
    };
    match timeout(last_words(&cancel), last).await {
        Ok(Ok(Ok(()))) => code,
        _ => broken("the host did not take the outcome"),
    }
}

/// Without: events go to stdout, the outcome last.
async fn alone(
    handoff: Handoff,
    output: Output,
    deadline: Instant,
    cancel: CancellationToken,
) -> ExitCode {
    let scrub = Scrub::default();
    let credentials = Credentials::new(handoff.secrets, scrub.clone());
    let (report, lines) = Report::new(scrub.clone());
    let unheard = cancel.clone();
    let printing = tokio::spawn(async move {
        crate::plain::print(lines, output).await;
        unheard.cancel();
    });
    let session = Session {
        job: handoff.job,
        report: report.clone(),
        scrub,
        cancel: cancel.clone(),
        deadline,
        link: None,
    };
    let outcome = tokio::select! {
        outcome = session.work(CredentialsPlace::Direct, credentials) => outcome,
        () = overdue(&cancel, deadline) => return broken("nobody reads the events"),
    };
    let code = code(&outcome);
    let last = async {
        report.say(Event::Outcome { outcome }).await;
        drop(report);
        printing.await
    };
    match timeout(last_words(&cancel), last).await {
        Ok(Ok(())) => code,
        _ => broken("nobody read the outcome"),
    }
}

/// Resolves when a run that should be over still is not: somebody on the pipe takes nothing, and
/// whoever has something to say waits.
async fn overdue(cancel: &CancellationToken, deadline: Instant) {
    let cancelled = async {
        cancel.cancelled().await;
        tokio::time::sleep(Duration::from_millis(limits::CANCEL_MS)).await;
    };
    tokio::select! {
        () = cancelled => {}
        () = tokio::time::sleep_until(deadline + Duration::from_secs(limits::CHANGES_SECONDS * 2)) => {}
    }
}

/// How long the outcome may take to be heard.
fn last_words(cancel: &CancellationToken) -> Duration {
    if cancel.is_cancelled() {
        Duration::from_millis(limits::CANCEL_MS)
    } else {
        Duration::from_secs(limits::LINK_STALL_SECONDS)
    }
}

/// A handoff that is not taken. Where it says that nobody of ours listens, the answer is an outcome
/// as any other; else it goes to stderr, for the protocol of stdout is not known to be ours.
async fn refuse(line: &[u8], error: &HandoffError, output: Output) -> ExitCode {
    #[derive(serde::Deserialize)]
    struct OnlyLink {
        link: LinkKind,
    }
    let kind = match error {
        HandoffError::Protocol(_) => FaultKind::Protocol,
        _ => FaultKind::Link,
    };
    let outcome = Outcome::Failed { fault: Fault::new(kind, error.to_string()) };
    let is_plain = matches!(serde_json::from_slice(line), Ok(OnlyLink { link: LinkKind::None }));
    if is_plain {
        let (report, lines) = Report::new(Scrub::default());
        report.say(Event::Outcome { outcome }).await;
        drop(report);
        crate::plain::print(lines, output).await;
    } else {
        complain(&error.to_string());
    }
    ExitCode::FAILURE
}

fn heed_signals(cancel: &CancellationToken) -> std::io::Result<()> {
    // The first process of a sandbox gets no signal that it has no handler for.
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        let mut signals = signal(kind)?;
        let cancel = cancel.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                cancel.cancel();
            }
        });
    }
    Ok(())
}

fn lose(gone: &CancellationToken, fault: &Fault) {
    complain(&fault.message);
    gone.cancel();
}

fn broken(why: &str) -> ExitCode {
    complain(why);
    ExitCode::FAILURE
}

/// The exit code an outcome has.
fn code(outcome: &Outcome) -> ExitCode {
    ExitCode::from(match outcome {
        Outcome::Finished { .. } => 0,
        Outcome::Failed { fault: Fault { kind: FaultKind::SignIn, .. } } => 3,
        Outcome::Failed { .. } => 1,
        Outcome::Stopped { reason: Stop::UsageLimit { .. }, .. } => 4,
        Outcome::Stopped { reason: Stop::Budget { .. }, .. } => 5,
        Outcome::Stopped { reason: Stop::Cancelled, .. } => 130,
    })
}

#[cfg(test)]
mod tests;
