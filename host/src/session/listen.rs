//! From the handoff to the outcome. One `select!` waits, one `match` acts.
//!
//! A stop has two steps: the sandbox is interrupted and has [`limits::CANCEL_MS`] to send its
//! changes; then it is killed with its container.

use std::sync::Arc;
use std::time::Duration;

use airlock_shared::command::Command;
use airlock_shared::event::Event;
use airlock_shared::limits;
use airlock_shared::outcome::{Fault, FaultKind, Outcome, Spent, Stop as Reason};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::report::Report;
use super::settings::SessionSettings;
use super::token_refresher::TokenRefresher;
use super::workspace::SessionWorkspace;
use super::{SessionError, Stop, cancelled};
use crate::engine::EngineError;
use crate::engine::docker::{ContainerExit, Running, StderrTail};
use crate::failure::SANDBOX_SAYS;
use crate::gate::{self, FromSandbox, Gate};
use crate::sanitize;
use crate::workspace::{CopySummary, KeptChanges};

/// Events that wait in the channel: one, because an event may take as much memory as
/// [`limits::LINE_BYTES`] and [`limits::EVENT_STRUCTURE_BYTES`] allow.
///
/// THREAT: a sandbox fills the host's memory with events that are not read yet.
/// Tried by `link::memory::events_that_wait_are_few`.
const EVENTS_WAITING: usize = 1;
/// Commands that wait to be sent.
const COMMANDS_WAITING: usize = 8;
/// How long the engine may take, after a broken pipe, to say how the container ended. A busy machine
/// needs long.
const EXIT_STATUS_WAIT: Duration = Duration::from_secs(10);
/// How long a sandbox may take to end by itself after its outcome was saved.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(1);
/// How long after its budget of seconds a turn may still send its changes. By then the sandbox has
/// ended its commands, and the gate refuses its model requests.
const OVERTIME: Duration = Duration::from_secs(60);

enum Next {
    Received(FromSandbox),
    TokenCommand(Command),
    Copied(Result<CopySummary, SessionError>),
    Served(Result<(), Fault>),
    SandboxEnded(Result<ContainerExit, EngineError>),
    StopRequested,
    SecondsSpent,
    GraceOver,
}

pub(super) async fn listen(
    running: &mut Running,
    gate: &Arc<Gate>,
    token_refresher: &mut TokenRefresher,
    workspace: &SessionWorkspace,
    settings: &SessionSettings,
    stop: &Stop,
    report: &mut Report<'_>,
) -> Result<Outcome, SessionError> {
    let Some(pipe) = running.take_pipe() else {
        return Err(Fault::new(FaultKind::Link, "the pipe was taken already").into());
    };
    let stderr_tail = pipe.stderr_tail();
    let (events, mut received) = mpsc::channel(EVENTS_WAITING);
    let (commands, commands_down) = mpsc::channel(COMMANDS_WAITING);
    let hang_up = CancellationToken::new();
    let serving = gate::serve(
        Arc::clone(gate),
        pipe,
        workspace.transfer(),
        events,
        commands_down,
        hang_up.clone(),
    );
    let mut serving = AbortOnDropHandle::new(tokio::spawn(serving));
    let mut sandbox_ended = std::pin::pin!(running.ended());
    let mut copied = std::pin::pin!(workspace.copied());
    let (mut copy_known, mut served) = (false, false);
    let seconds = Instant::now() + Duration::from_secs(settings.budget.seconds) + OVERTIME;
    let mut grace: Option<(Instant, Outcome)> = None;
    let mut outcome_acknowledged = false;

    let outcome = loop {
        let next = tokio::select! {
            // A stop comes before the events of a sandbox that never pauses. Events come before the
            // end of the sandbox, because they were sent before it.
            biased;
            () = until(&grace) => Next::GraceOver,
            () = stop.requested(), if grace.is_none() => Next::StopRequested,
            () = tokio::time::sleep_until(seconds), if grace.is_none() => Next::SecondsSpent,
            command = token_refresher.next() => Next::TokenCommand(command),
            Some(message) = received.recv() => Next::Received(message),
            copied = copied.as_mut(), if !copy_known => Next::Copied(copied),
            ended = &mut serving, if !served => Next::Served(ended.unwrap_or_else(|_| {
                Err(Fault::new(FaultKind::Link, "the gate stopped"))
            })),
            ended = sandbox_ended.as_mut() => Next::SandboxEnded(ended),
        };
        match next {
            Next::Received(FromSandbox::Event(Event::Unauthorized)) => token_refresher.refused(),
            // THREAT: a sandbox asks for tokens and does not read them; a host that waited for it
            // would not see a stop. The channel of a sandbox that reads has room for this command.
            Next::TokenCommand(command) => {
                token_refresher.delivered(commands.try_send(command).is_ok());
            }
            Next::Received(FromSandbox::Event(event)) => report.on_event(&event),
            Next::Received(FromSandbox::Refused { what }) => {
                report.emit(super::public::PublicEvent::Refused { what });
            }
            Next::Received(FromSandbox::Outcome { outcome, kept }) => {
                let is_asked = grace.is_some() || stop.is_requested();
                let judged = tokio::select! {
                    judged = judge_outcome(gate, outcome, is_asked) => judged,
                    () = stop.requested(), if !is_asked => cancelled(),
                };
                let taken = workspace.changes(stop).await;
                let unkept = taken.as_ref().and_then(|taken| taken.unkept.clone());
                let outcome = match (judged, &grace, unkept) {
                    // It was interrupted because its seconds were spent.
                    (Outcome::Stopped { reason: Reason::Cancelled, .. }, Some((_, why)), _) => {
                        why.clone()
                    }
                    // It says that its changes were not accepted; only the host knows why.
                    (Outcome::Failed { .. }, _, Some(fault)) => Outcome::Failed { fault },
                    (outcome, ..) => outcome,
                };
                save_outcome(gate, taken, settings, &outcome, stop, report);
                // A sandbox gets an answer only if its outcome is on disk. If it is gone, it needs none.
                if report.is_saved() {
                    let _sandbox_gone = kept.send(());
                    outcome_acknowledged = true;
                }
                break Ok(outcome);
            }
            Next::Copied(Ok(summary)) => {
                copy_known = true;
                report.copied(&summary);
            }
            Next::Copied(Err(error)) => break Err(error),
            // The gate ended. Why the container ended explains more, so wait for that.
            Next::Served(ended) => {
                served = true;
                let explained = tokio::select! {
                    explained = tokio::time::timeout(EXIT_STATUS_WAIT, sandbox_ended.as_mut()) => explained.ok(),
                    () = stop.requested() => None,
                };
                break Err(broken_session(
                    ended.err(),
                    explained,
                    &stderr_text(gate, &stderr_tail),
                ));
            }
            Next::SandboxEnded(ended) => {
                break Err(broken_session(None, Some(ended), &stderr_text(gate, &stderr_tail)));
            }
            Next::StopRequested => {
                let _over = commands.try_send(Command::Interrupt);
                grace = Some((in_ms(limits::CANCEL_MS), cancelled()));
            }
            Next::SecondsSpent => {
                let _over = commands.try_send(Command::Interrupt);
                let reason = Reason::Budget { spent: Spent::Seconds };
                grace = Some((in_ms(limits::CANCEL_MS), Outcome::Stopped { reason, answer: None }));
            }
            Next::GraceOver => {
                break Ok(grace.take().map_or_else(cancelled, |(_, outcome)| outcome));
            }
        }
    };
    // A sandbox whose outcome was acknowledged closes the pipe itself, and the gate limits how long
    // that takes. Any other sandbox is not waited for: it might never end.
    if !outcome_acknowledged {
        hang_up.cancel();
    }
    if !served {
        let _served = (&mut serving).await;
    }
    if outcome_acknowledged {
        // It ends by itself now. To wait is faster than to remove a running container, for which the
        // engine starts another program.
        let _ended = tokio::time::timeout(SHUTDOWN_WAIT, sandbox_ended).await;
    }
    let outcome = match (outcome, stop.is_requested()) {
        // A session that breaks after a stop counts as stopped.
        (Err(_), true) => Ok(cancelled()),
        (outcome, _) => outcome,
    };
    if !report.is_saved() {
        let recorded = match &outcome {
            Ok(outcome) => outcome.clone(),
            Err(error) => Outcome::Failed { fault: error.fault.clone() },
        };
        let changes = workspace.changes(stop).await;
        save_outcome(gate, changes, settings, &recorded, stop, report);
    }
    outcome
}

/// The outcome that the sandbox reports, checked against what the host saw.
async fn judge_outcome(gate: &Gate, claim: Outcome, is_asked: bool) -> Outcome {
    let outcome = gate.judge(claim, is_asked).await;
    let ran_out = matches!(
        outcome,
        Outcome::Finished { .. } | Outcome::Stopped { reason: Reason::Budget { .. }, .. }
    );
    match gate.finish().await {
        Err(fault) if ran_out => Outcome::Failed { fault },
        _ => outcome,
    }
}

/// Writes everything that is known to the record.
fn save_outcome(
    gate: &Gate,
    taken: Option<KeptChanges>,
    settings: &SessionSettings,
    outcome: &Outcome,
    stop: &Stop,
    report: &mut Report<'_>,
) {
    report.set_usage(settings.credentials, gate.spent());
    report.set_changes(taken);
    if let Some(differences) = gate.differences()
        && matches!(outcome, Outcome::Finished { .. })
    {
        let counted = [
            (differences.outputs, "tool outputs"),
            (differences.texts, "texts"),
            (differences.instructions, "instructions"),
            (differences.definitions, "tool definitions"),
        ];
        let counted = counted.iter().filter(|(count, _)| *count > 0);
        let counted: Vec<String> = counted.map(|(count, what)| format!("{count} {what}")).collect();
        if !counted.is_empty() {
            report.note(format!(
                "these differ from the recording, which is allowed: {}",
                counted.join(", ")
            ));
        }
    }
    // It is tried again when the container is gone; then a person is told.
    if let Err(error) = report.save(outcome, stop.exit_of(outcome)) {
        tracing::warn!(%error, "the record of this session cannot be written yet");
    }
}

/// The end of the sandbox's stderr.
///
/// THREAT: the sandbox prints the credential there, and the message is shown and recorded. Tried by
/// `gate::credential::the_last_words_of_a_sandbox_hold_no_credential`.
fn stderr_text(gate: &Gate, stderr_tail: &StderrTail) -> String {
    gate.message(&stderr_tail.from_sandbox())
}

/// The error if there is no outcome. How the container ended says more than that the pipe broke.
fn broken_session(
    link: Option<Fault>,
    ended: Option<Result<ContainerExit, EngineError>>,
    stderr: &str,
) -> SessionError {
    let ran_out = matches!(&ended, Some(Ok(ended)) if ended.ran_out());
    let fault = match (link, ended) {
        (Some(fault), _) if !matches!(fault.kind, FaultKind::Link) => fault,
        (_, Some(Ok(ended))) if ended.code != 0 || ended.out_of_memory => {
            let quoted = if stderr.is_empty() {
                String::new()
            } else {
                format!("; {SANDBOX_SAYS}{}", sanitize::quoted(stderr))
            };
            Fault::new(FaultKind::SandboxDied, format!("{}{quoted}", ended.describe()))
        }
        (Some(fault), _) => fault,
        (None, Some(Err(error))) => Fault::new(FaultKind::SandboxDied, error.to_string()),
        (None, _) => Fault::new(FaultKind::Link, "the sandbox ended without an outcome"),
    };
    let is_of_memory = ran_out && fault.kind == FaultKind::SandboxDied;
    SessionError { fault, hint: is_of_memory.then(|| "airlock run --memory SIZE …".to_owned()) }
}

async fn until(grace: &Option<(Instant, Outcome)>) {
    match grace {
        Some((at, _)) => tokio::time::sleep_until(*at).await,
        None => std::future::pending().await,
    }
}

fn in_ms(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}
