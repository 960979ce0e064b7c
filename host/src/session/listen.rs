//! From the handoff to the outcome: all waiting in one place, all doing in another.
//!
//! Cancelling is a ladder. Asked to stop, the sandbox is told so and has
//! [`limits::CANCEL_MS`] to bring its changes out; then it is killed with its container.

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

use super::report::{self, Report};
use super::settings::SessionSettings;
use super::token_refresher::TokenRefresher;
use super::workspace::SessionWorkspace;
use super::{SessionError, Stop, cancelled};
use crate::engine::EngineError;
use crate::engine::docker::{ContainerExit, Running, StderrTail};
use crate::failure::SANDBOX_SAYS;
use crate::gate::{self, FromSandbox, Gate};
use crate::neutral;
use crate::workspace::{CopySummary, KeptChanges};

/// Events that wait to be heard. One may take as much memory as [`limits::LINE_BYTES`] and
/// [`limits::EVENT_STRUCTURE_BYTES`] let it, so there is one.
///
/// THREAT: a sandbox fills the host's memory with events that nobody reads.
/// Tried by `link::memory::events_that_wait_are_few`.
const EVENTS_WAITING: usize = 1;
/// Commands that wait to go down.
const COMMANDS_WAITING: usize = 8;
/// How long after a broken pipe the engine may take to say how the container ended: longer where the
/// machine is busy.
const EXPLANATION: Duration = Duration::from_secs(10);
/// How long a sandbox may take to end after its outcome was kept, before it is removed as it is.
const PARTING: Duration = Duration::from_secs(1);
/// How long beyond its seconds a run may take to bring its changes out. The model answers it no
/// more, and its commands are over: the sandbox sees to that, and the gate to the model.
const OVERTIME: Duration = Duration::from_secs(60);

enum Next {
    Heard(FromSandbox),
    Renewed(Command),
    Copied(Result<CopySummary, SessionError>),
    Served(Result<(), Fault>),
    BoxEnded(Result<ContainerExit, EngineError>),
    Asked,
    SecondsSpent,
    Patience,
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
    let (events, mut heard) = mpsc::channel(EVENTS_WAITING);
    let (commands, commands_down) = mpsc::channel(COMMANDS_WAITING);
    let hang_up = CancellationToken::new();
    let serving = gate::serve(
        Arc::clone(gate),
        pipe,
        workspace.passage(),
        events,
        commands_down,
        hang_up.clone(),
    );
    let mut serving = AbortOnDropHandle::new(tokio::spawn(serving));
    let mut sandbox_ended = std::pin::pin!(running.ended());
    let mut copied = std::pin::pin!(workspace.copied());
    let (mut copy_known, mut served) = (false, false);
    let seconds = Instant::now() + Duration::from_secs(settings.budget.seconds) + OVERTIME;
    let mut patience: Option<(Instant, Outcome)> = None;
    let mut said_its_outcome = false;

    let outcome = loop {
        let next = tokio::select! {
            // A person who stops it comes before a sandbox that does not stop talking; and what was
            // said before the end is heard before the end.
            biased;
            () = until(&patience) => Next::Patience,
            () = stop.asked(), if patience.is_none() => Next::Asked,
            () = tokio::time::sleep_until(seconds), if patience.is_none() => Next::SecondsSpent,
            command = token_refresher.next() => Next::Renewed(command),
            Some(word) = heard.recv() => Next::Heard(word),
            copied = copied.as_mut(), if !copy_known => Next::Copied(copied),
            ended = &mut serving, if !served => Next::Served(ended.unwrap_or_else(|_| {
                Err(Fault::new(FaultKind::Link, "the gate stopped"))
            })),
            ended = sandbox_ended.as_mut() => Next::BoxEnded(ended),
        };
        match next {
            Next::Heard(FromSandbox::Event(Event::Unauthorized)) => token_refresher.refused(),
            // THREAT: a sandbox that asks for tokens and takes none would have us wait for it, deaf
            // to whoever wants the run to end. One that reads has room for this.
            Next::Renewed(command) => {
                token_refresher.told(commands.try_send(command).is_ok());
            }
            Next::Heard(FromSandbox::Event(event)) => report.hear(&event),
            Next::Heard(FromSandbox::Refused { what }) => {
                report.say(super::public::PublicEvent::Refused { what });
            }
            Next::Heard(FromSandbox::Outcome { outcome, kept }) => {
                let is_asked = patience.is_some() || stop.is_asked();
                let judged = tokio::select! {
                    judged = judged(gate, outcome, is_asked) => judged,
                    () = stop.asked(), if !is_asked => cancelled(),
                };
                let taken = workspace.changes(stop).await;
                let unkept = taken.as_ref().and_then(|taken| taken.unkept.clone());
                let outcome = match (judged, &patience, unkept) {
                    // It was told to stop because its seconds were spent.
                    (Outcome::Stopped { reason: Reason::Cancelled, .. }, Some((_, why)), _) => {
                        why.clone()
                    }
                    // It says that its changes were not taken; why is known here.
                    (Outcome::Failed { .. }, _, Some(fault)) => Outcome::Failed { fault },
                    (outcome, ..) => outcome,
                };
                settle(gate, taken, settings, &outcome, stop, report);
                // A sandbox that is gone needs no answer; one whose outcome is not on disk gets none.
                if report.is_kept() {
                    let _gone = kept.send(());
                    said_its_outcome = true;
                }
                break Ok(outcome);
            }
            Next::Copied(Ok(summary)) => {
                copy_known = true;
                report.copied(&summary);
            }
            Next::Copied(Err(broken)) => break Err(broken),
            // The gate says it first; what was heard before is in the channel still.
            Next::Served(ended) => {
                served = true;
                let explained = tokio::select! {
                    explained = tokio::time::timeout(EXPLANATION, sandbox_ended.as_mut()) => explained.ok(),
                    () = stop.asked() => None,
                };
                break Err(explain(ended.err(), explained, &complaint(gate, &stderr_tail)));
            }
            Next::BoxEnded(ended) => {
                break Err(explain(None, Some(ended), &complaint(gate, &stderr_tail)));
            }
            Next::Asked => {
                let _over = commands.try_send(Command::Interrupt);
                patience = Some((in_ms(limits::CANCEL_MS), cancelled()));
            }
            Next::SecondsSpent => {
                let _over = commands.try_send(Command::Interrupt);
                let reason = Reason::Budget { spent: Spent::Seconds };
                patience =
                    Some((in_ms(limits::CANCEL_MS), Outcome::Stopped { reason, answer: None }));
            }
            Next::Patience => {
                break Ok(patience.take().map_or_else(cancelled, |(_, outcome)| outcome));
            }
        }
    };
    // A sandbox whose outcome is kept closes the pipe itself, and the gate bounds how long that
    // takes. Nobody else is waited for: one that does not end would hold us for ever.
    if !said_its_outcome {
        hang_up.cancel();
    }
    if !served {
        let _served = (&mut serving).await;
    }
    if said_its_outcome {
        // It ends by itself now. An engine that is to remove a sandbox that runs starts a program to
        // kill it first, which takes longer than to wait.
        let _ended = tokio::time::timeout(PARTING, sandbox_ended).await;
    }
    let outcome = match (outcome, stop.is_asked()) {
        // Whoever was asked to stop and broke off has stopped.
        (Err(_), true) => Ok(cancelled()),
        (outcome, _) => outcome,
    };
    if !report.is_kept() {
        let told = match &outcome {
            Ok(outcome) => outcome.clone(),
            Err(broken) => Outcome::Failed { fault: broken.fault.clone() },
        };
        settle(gate, workspace.changes(stop).await, settings, &told, stop, report);
    }
    outcome
}

/// What the sandbox claims, held against what the host saw.
async fn judged(gate: &Gate, claim: Outcome, is_asked: bool) -> Outcome {
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

/// Everything that is known of the run goes to its record.
fn settle(
    gate: &Gate,
    taken: Option<KeptChanges>,
    settings: &SessionSettings,
    outcome: &Outcome,
    stop: &Stop,
    report: &mut Report<'_>,
) {
    report.spent(settings.credentials, gate.spent());
    report.changed(taken);
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
            report.note(format!("other than in the recording, as may be: {}", counted.join(", ")));
        }
    }
    // Tried again once the container is gone, and told then.
    if let Err(error) = report.keep(outcome, report::exit(outcome, stop)) {
        tracing::warn!(%error, "the record of this run cannot be written yet");
    }
}

/// What it said on stderr.
///
/// THREAT: it prints the credential there, and how the session ended is shown and kept. Tried by
/// `gate::credential::the_last_words_of_a_sandbox_hold_no_credential`.
fn complaint(gate: &Gate, stderr_tail: &StderrTail) -> String {
    gate.message(&stderr_tail.from_sandbox())
}

/// Why there is no outcome: the engine's word on the container is better than a broken pipe's.
fn explain(
    link: Option<Fault>,
    ended: Option<Result<ContainerExit, EngineError>>,
    said: &str,
) -> SessionError {
    let ran_out = matches!(&ended, Some(Ok(ended)) if ended.ran_out());
    let fault = match (link, ended) {
        (Some(fault), _) if !matches!(fault.kind, FaultKind::Link) => fault,
        (_, Some(Ok(ended))) if ended.code != 0 || ended.out_of_memory => {
            let said = if said.is_empty() {
                String::new()
            } else {
                format!("; {SANDBOX_SAYS}{}", neutral::quoted(said))
            };
            Fault::new(FaultKind::SandboxDied, format!("{}{said}", ended.describe()))
        }
        (Some(fault), _) => fault,
        (None, Some(Err(error))) => Fault::new(FaultKind::SandboxDied, error.to_string()),
        (None, _) => Fault::new(FaultKind::Link, "the sandbox ended without an outcome"),
    };
    let is_of_memory = ran_out && fault.kind == FaultKind::SandboxDied;
    SessionError { fault, hint: is_of_memory.then(|| "airlock run --memory SIZE …".to_owned()) }
}

async fn until(patience: &Option<(Instant, Outcome)>) {
    match patience {
        Some((at, _)) => tokio::time::sleep_until(*at).await,
        None => std::future::pending().await,
    }
}

fn in_ms(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}
