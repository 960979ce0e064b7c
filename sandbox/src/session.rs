//! From the handoff to the outcome: one session, from top to bottom.
//!
//! ```text
//! ready → handoff → link → workspace in, model chosen → turn → changes out → outcome → end
//! ```
//!
//! There is one outcome. It is sent once, as the last event. If the host is gone, the session ends
//! at any point.

mod choice; // which model
mod repository; // git in the sandbox matches what was left out
mod work; // workspace in, turn, changes out

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

/// The longest turn. More would overflow the clock.
const MAX_SECONDS: u64 = 10 * 365 * 24 * 3600;

/// The whole life of this process.
pub(crate) async fn run() -> ExitCode {
    let cancel = CancellationToken::new();
    if let Err(error) = handle_signals(&cancel) {
        return fail(&format!("signals cannot be handled: {error}"));
    }
    let (mut input, mut output) = match (stdio::input(), stdio::output()) {
        (Ok(input), Ok(output)) => (input, output),
        (Err(error), _) | (_, Err(error)) => {
            return fail(&format!("stdin or stdout cannot be used: {error}"));
        }
    };
    if stdio::say_ready(&mut output).await.is_err() {
        return fail("stdout is closed");
    }
    let line = tokio::select! {
        line = stdio::first_line(&mut input) => line,
        () = cancel.cancelled() => return exit_code(&Outcome::Stopped { reason: Stop::Cancelled, answer: None }),
    };
    let began = Instant::now();
    let line = match line {
        Ok(line) => line,
        Err(LineError::Ended) => return fail("stdin ended before the handoff"),
        Err(LineError::TooLong) => return fail("the handoff is too long"),
    };
    let handoff = match Handoff::parse(&line.text) {
        Ok(handoff) => handoff,
        Err(error) => return refuse(&line.text, &error, output).await,
    };
    let rest = line.rest;
    drop(line.text);
    let seconds = handoff.job.budget.seconds.min(MAX_SECONDS);
    let deadline = began + Duration::from_secs(seconds);
    match handoff.link {
        LinkKind::H2 => linked(handoff, rest, input, output, deadline, cancel).await,
        LinkKind::None => alone(handoff, output, deadline, cancel).await,
    }
}

/// With our host on the pipe.
async fn linked(
    handoff: Handoff,
    rest: Vec<u8>,
    input: Input,
    output: Output,
    deadline: Instant,
    cancel: CancellationToken,
) -> ExitCode {
    let place = handoff.credentials_place();
    let gone = CancellationToken::new();
    let link = match Link::open(rest, input, output, &handoff.session_key, gone.clone()).await {
        Ok(link) => link,
        Err(fault) => return fail(&fault.message),
    };
    let scrub = Scrub::default();
    scrub.add(handoff.session_key);
    let credentials = Credentials::new(handoff.secrets, scrub.clone());
    let (report, lines) = Report::new(scrub.clone());
    let sending = tokio::spawn({
        let (link, gone) = (link.clone(), gone.clone());
        async move { link.report(lines).await.inspect_err(|fault| host_is_gone(&gone, fault)) }
    });
    tokio::spawn({
        let (link, gone) = (link.clone(), gone.clone());
        let (cancel, credentials) = (cancel.clone(), credentials.clone());
        async move {
            let commands = link.commands(|command| match command {
                Command::Interrupt => cancel.cancel(),
                Command::Secrets { bearer } => credentials.replace(bearer),
            });
            if let Err(fault) = commands.await {
                host_is_gone(&gone, &fault);
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
    let mut work = pin!(session.work(place, credentials));
    let outcome = tokio::select! {
        outcome = &mut work => outcome,
        () = overdue(&cancel, deadline) => return fail("the host takes no events"),
        () = gone.cancelled() => {
            // If we are PID 1, the kernel ends all processes with us. Otherwise we wait until the
            // commands are killed.
            cancel.cancel();
            if !rustix::process::getpid().is_init() {
                let _ended = timeout(Duration::from_millis(limits::CANCEL_MS), work).await;
            }
            return fail("the host is gone");
        }
    };
    let code = exit_code(&outcome);
    // Wait until the host has it on disk: when we end, the pipe closes.
    let last = async {
        report.send(Event::Outcome { outcome }).await;
        drop(report);
        sending.await
    };
    match timeout(outcome_timeout(&cancel), last).await {
        Ok(Ok(Ok(()))) => code,
        _ => fail("the host did not take the outcome"),
    }
}

/// Without our host: events go to stdout, the outcome last.
async fn alone(
    handoff: Handoff,
    output: Output,
    deadline: Instant,
    cancel: CancellationToken,
) -> ExitCode {
    let scrub = Scrub::default();
    let credentials = Credentials::new(handoff.secrets, scrub.clone());
    let (report, lines) = Report::new(scrub.clone());
    let stdout_closed = cancel.clone();
    let printing = tokio::spawn(async move {
        crate::plain::print(lines, output).await;
        stdout_closed.cancel();
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
        () = overdue(&cancel, deadline) => return fail("the events are not read"),
    };
    let code = exit_code(&outcome);
    let last = async {
        report.send(Event::Outcome { outcome }).await;
        drop(report);
        printing.await
    };
    match timeout(outcome_timeout(&cancel), last).await {
        Ok(Ok(())) => code,
        _ => fail("the outcome was not read"),
    }
}

/// Resolves if the turn should be over and is not: the other end of the pipe takes nothing, so our
/// events wait.
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

/// How long sending the outcome may take.
fn outcome_timeout(cancel: &CancellationToken) -> Duration {
    if cancel.is_cancelled() {
        Duration::from_millis(limits::CANCEL_MS)
    } else {
        Duration::from_secs(limits::LINK_STALL_SECONDS)
    }
}

/// Refuses a handoff. If it asks for plain mode, the answer is an outcome on stdout. Otherwise it
/// goes to stderr, because we do not know the protocol of stdout.
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
        report.send(Event::Outcome { outcome }).await;
        drop(report);
        crate::plain::print(lines, output).await;
    } else {
        complain(&error.to_string());
    }
    ExitCode::FAILURE
}

fn handle_signals(cancel: &CancellationToken) -> std::io::Result<()> {
    // PID 1 gets no signal that it has no handler for.
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

fn host_is_gone(gone: &CancellationToken, fault: &Fault) {
    complain(&fault.message);
    gone.cancel();
}

fn fail(why: &str) -> ExitCode {
    complain(why);
    ExitCode::FAILURE
}

/// The exit code of an outcome.
fn exit_code(outcome: &Outcome) -> ExitCode {
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
