//! One session, from its start to its end.
//!
//! ```text
//! directory (locked) → image → credential ‖ container, started → hand over → listen → remove → report
//!                               the copy begins to be read ───────────────────┘
//! ```
//!
//! One task owns a session; its caller has a [`Stop`]. Every turn ends in exactly one outcome. The
//! outcome is on disk before the sandbox gets an answer, and the caller gets it only when the
//! container is gone.
//!
//! Deliberately absent: flags, terminals, and anything that continues an earlier session.

mod passed; // the variables that commands get
pub mod settings; // all settings of a session
pub mod public; // the events that callers read
mod begin; // the container, the credential and the size of the directory, in parallel
mod credentials; // the credential, and the model that it gives
mod choice; // which model; a person may have to choose
mod token_refresher; // renews the credential
mod workspace; // the directory: a copy that comes back, or the directory itself
mod report; // the events and the record
mod listen; // from the handoff to the outcome
mod stop; // stops a session from outside

use airlock_shared::handoff::{Handoff, Link, Secrets};
use airlock_shared::job::{Job, ModelChoice, Workspace};
use airlock_shared::limits;
use airlock_shared::outcome::{Fault, FaultKind, Outcome, Stop as Reason};
use airlock_shared::secret::Secret;
use zeroize::Zeroizing;

use crate::engine::docker::{Gone, ResolvedImage};
use crate::engine::{ContainerSpec, Docker, EngineError, base};
use crate::gate::{Gate, GateConfig};
use crate::records::{SessionStore, random_id};
use crate::workspace::Private;
use begin::{Begun, begin};
use credentials::Credentials;
use report::Report;
use settings::{CredentialsMode, ImageChoice, SessionSettings};
use token_refresher::TokenRefresher;
use workspace::SessionWorkspace;

pub(crate) use begin::claim;
pub use choice::{AskReason, Person, Question};
pub(crate) use credentials::client;
pub use credentials::{auth_fault, sign_in_again};
pub use report::{EndedSession, EventSink, changes_event, changes_state, list_held_and_triggers};
pub use stop::Stop;

/// What all sessions of this host share.
pub struct HostContext {
    pub docker: Docker,
    pub store: SessionStore,
    /// The directory of login files.
    pub logins: std::path::PathBuf,
    /// Files of this machine that never enter a sandbox.
    pub private: Private,
    /// The user, as a label on containers for people who look at the engine.
    pub owner: String,
}

/// A fault, with the command that helps if one is known.
#[derive(Debug)]
pub struct SessionError {
    pub fault: Fault,
    pub hint: Option<String>,
}

/// Runs a session and gives `show` each of its public events; the last one is the outcome. `person`
/// is asked for a model if there is no other way to know it.
///
/// # Errors
/// The session's directory cannot be made, or the person's directory must not be worked on. Every
/// other end is an outcome.
pub async fn run(
    settings: SessionSettings,
    context: &HostContext,
    stop: &Stop,
    person: Option<&mut dyn Person>,
    show: EventSink<'_>,
) -> Result<EndedSession, SessionError> {
    workspace::check_directory(&settings, &context.private).await?;
    let mut report = Report::open(context, &settings, show)?;
    let ended = attempt(settings, context, stop, person, &mut report).await;
    report.report_changes(stop).await;
    let done = report.finish(ended, stop);
    // The process must not end during a renewal: the login would be lost.
    crate::auth::refresh::wait_for_refreshes().await;
    Ok(done)
}

async fn attempt(
    settings: SessionSettings,
    context: &HostContext,
    stop: &Stop,
    person: Option<&mut dyn Person>,
    report: &mut Report<'_>,
) -> Result<Outcome, SessionError> {
    let image = tokio::select! {
        image = find_image(&settings.image, &context.docker, report) => image?,
        () = stop.requested() => return Ok(cancelled()),
    };
    let workspace = tokio::select! {
        workspace = SessionWorkspace::begin(&settings, &context.private, report.folder()) => workspace?,
        () = stop.requested() => return Ok(cancelled()),
    };
    let uid = context.docker.free_uid().await?;
    let spec = workspace.container_spec(&settings, context, report.folder(), uid);
    report.add_waivers(&spec);

    let counted = workspace.counted(report.counting());
    let Begun { credentials, ready, counted, chosen } =
        begin(&settings, context, &spec, &image, counted, stop, person).await?;
    if let Ok(Some(ready)) = &ready {
        report.add_unchecked(ready.unchecked());
    }
    if let Some(Ok(credentials)) = &credentials {
        report.started(&settings, credentials, &image);
        if let Some(note) = chosen {
            report.note(note);
        }
        if settings.workspace == settings::WorkspaceMode::Live {
            report
                .note("nothing is left out of a live directory: commands can read its secrets too");
        }
    }
    let ready = ready?;
    let prepared = match credentials {
        None => Ok(None),
        Some(_) if stop.is_requested() => Ok(None),
        Some(Err(broken)) => Err(broken),
        Some(Ok(_)) if counted.is_err() => counted.map(|()| None),
        Some(Ok(credentials)) => prepare(&settings, report.session(), credentials, &spec, stop)
            .await
            .map_err(SessionError::from),
    };
    let (Prepared { line, gate, mut token_refresher }, ready) = match (prepared, ready) {
        (Ok(Some(prepared)), Some(ready)) => (prepared, ready),
        (prepared, ready) => {
            if let Some(ready) = ready
                && let Err(leftover) = ready.remove().await
            {
                // The first error matters more than a leftover, which the next start removes.
                report.note(leftover.to_string());
            }
            return prepared.map(|_| cancelled());
        }
    };
    let mut running = ready.hand_over(&line).await?;
    drop(line);
    let outcome = listen::listen(
        &mut running,
        &gate,
        &mut token_refresher,
        &workspace,
        &settings,
        stop,
        report,
    )
    .await;
    let removed: Result<Gone, EngineError> = running.remove().await;
    if let Err(leftover) = removed {
        // The outcome is still reported; the next start removes the leftover.
        report.note(leftover.to_string());
    }
    report.triggers(workspace.triggers().await);
    outcome
}

/// What is needed to start the sandbox, beside the sandbox itself.
struct Prepared {
    line: Zeroizing<Vec<u8>>,
    gate: std::sync::Arc<Gate>,
    token_refresher: TokenRefresher,
}

async fn find_image(
    choice: &ImageChoice,
    docker: &Docker,
    report: &mut Report<'_>,
) -> Result<ResolvedImage, SessionError> {
    let mut progress = |text: String| report.note(text);
    match choice {
        ImageChoice::Named(name) => Ok(docker.image(name, &mut progress).await?),
        ImageChoice::Base => {
            Ok(base::ensure(docker, &mut progress).await.map(|(image, _)| image)?)
        }
    }
}

fn handoff(
    settings: &SessionSettings,
    session: &str,
    session_key: &Secret,
    secrets: Secrets,
    credentials: &Credentials,
    (uid, gid): (u32, u32),
) -> Handoff {
    Handoff {
        protocol: limits::PROTOCOL,
        session: session.to_owned(),
        session_key: session_key.clone(),
        link: Link::H2,
        secrets,
        job: Job {
            prompt: settings.prompt.clone(),
            model: ModelChoice {
                slug: Some(credentials.model.slug.clone()),
                effort: credentials.model.effort.clone(),
                resolved: Some(credentials.model.clone()),
            },
            backend: credentials.backend.clone(),
            budget: settings.budget,
            workspace: Workspace {
                copied: workspace::is_copied(settings),
                uid,
                gid,
                changes_bytes: Some(settings.limits.disk),
                ..Workspace::default()
            },
            env: settings.env.clone(),
        },
    }
}

/// The handoff line and the gate, with a session key that both know. None: the session was stopped.
async fn prepare(
    settings: &SessionSettings,
    session: &str,
    credentials: Credentials,
    spec: &ContainerSpec,
    stop: &Stop,
) -> Result<Option<Prepared>, Fault> {
    let session_key = Secret::new(random_id());
    let handed = credentials.hand_over(settings.credentials, stop).await?;
    let Some((secrets, token_refresher)) = handed else { return Ok(None) };
    let handoff = handoff(settings, session, &session_key, secrets, &credentials, spec.tool());
    let line = handoff.line().map_err(|error| Fault::new(FaultKind::Sandbox, error.to_string()))?;
    let gate = Gate::new(GateConfig {
        session: session.to_owned(),
        session_key,
        model: credentials.model,
        backend: credentials.backend,
        base: credentials.base,
        budget: settings.budget,
        credentials: match settings.credentials {
            CredentialsMode::Relay => crate::gate::CredentialsMode::Relay,
            CredentialsMode::Handoff => crate::gate::CredentialsMode::Handoff,
        },
        upstream: credentials.upstream,
        recorder: credentials.recorder,
        catalogue: credentials.catalogue,
        changes_bytes: settings.limits.disk.saturating_add(limits::CHANGES_OVERHEAD_BYTES),
    })?;
    Ok(Some(Prepared { line, gate, token_refresher }))
}

fn cancelled() -> Outcome {
    Outcome::Stopped { reason: Reason::Cancelled, answer: None }
}

impl From<Fault> for SessionError {
    fn from(fault: Fault) -> Self {
        Self { fault, hint: None }
    }
}

impl From<EngineError> for SessionError {
    fn from(error: EngineError) -> Self {
        let (headline, reason, hint) = error.describe();
        let kind = match error {
            EngineError::Protocol { .. } => FaultKind::Protocol,
            _ => FaultKind::Sandbox,
        };
        Self { fault: Fault::new(kind, format!("{headline}: {reason}")), hint }
    }
}

impl From<base::ImageError> for SessionError {
    fn from(error: base::ImageError) -> Self {
        let (headline, reason, hint) = error.describe();
        Self { fault: Fault::new(FaultKind::Sandbox, format!("{headline}: {reason}")), hint }
    }
}
