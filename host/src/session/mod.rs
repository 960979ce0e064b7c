//! One run, from nothing to gone.
//!
//! ```text
//! folder (locked) → image → who pays ‖ container, started → hand over → listen → remove → record told
//!                            tree begins to be read ─────────────────────┘
//! ```
//!
//! One task owns a run; whoever started it holds a [`Stop`]. Every run ends in exactly one outcome,
//! which is on disk before the sandbox is answered, and told only when the container is gone.
//!
//! Absent on purpose: flags, terminals, and anything that carries on an earlier run.

pub mod settings; // what it is to do
pub mod public; // what callers read while it works
mod begin; // the container, who pays, and whether the directory fits, side by side
mod credentials; // who pays, and which model that gives
mod choice; // which model, where a person may have to say
mod passed; // the variables that commands get
mod token_refresher; // what keeps that credential fresh
mod workspace; // the folder: a copy that comes back, or the folder itself
mod report; // what is told and kept of it
mod listen; // from the handoff to the outcome
mod stop; // how it is told to end

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
pub use choice::{Person, Question, Unsettled};
pub(crate) use credentials::client;
pub use credentials::{sign_in, sign_in_again};
pub use report::{EndedSession, EventSink, count, name_all, told};
pub use stop::Stop;

/// Where runs happen and are kept.
pub struct HostContext {
    pub docker: Docker,
    pub store: SessionStore,
    /// The folder of login files.
    pub logins: std::path::PathBuf,
    /// What of this machine never enters a sandbox.
    pub private: Private,
    /// Who starts runs, for people who look at the engine.
    pub owner: String,
}

/// What a fault is, with the command that mends it where one is known.
#[derive(Debug)]
pub struct SessionError {
    pub fault: Fault,
    pub hint: Option<String>,
}

/// Carries a run out and tells `show` each of its public lines; the last is the outcome. `person`
/// is asked for a model where nothing says which.
///
/// # Errors
/// Only where not even a folder for the run could be made, or the directory is none to work on;
/// every other end is an outcome.
pub async fn run(
    settings: SessionSettings,
    context: &HostContext,
    stop: &Stop,
    person: Option<&mut dyn Person>,
    show: EventSink<'_>,
) -> Result<EndedSession, SessionError> {
    workspace::admit(&settings, &context.private).await?;
    let mut report = Report::open(context, &settings, show)?;
    let ended = attempt(settings, context, stop, person, &mut report).await;
    report.tell_changes(stop).await;
    let done = report.end(ended, stop);
    // A login that is being renewed is not to be lost with the process.
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
        () = stop.asked() => return Ok(cancelled()),
    };
    let workspace = tokio::select! {
        workspace = SessionWorkspace::begin(&settings, &context.private, report.folder()) => workspace?,
        () = stop.asked() => return Ok(cancelled()),
    };
    let uid = context.docker.free_uid().await?;
    let terms = workspace.terms(&settings, context, report.folder(), uid);
    report.waived(&terms);

    let counted = workspace.counted(report.counting());
    let Begun { credentials, ready, counted, chosen } =
        begin(&settings, context, &terms, &image, counted, stop, person).await?;
    if let Ok(Some(ready)) = &ready {
        report.unchecked(ready.unchecked());
    }
    if let Some(Ok(credentials)) = &credentials {
        report.started(&settings, credentials, &image);
        if let Some(said) = chosen {
            report.note(said);
        }
        if settings.workspace == settings::WorkspaceMode::Live {
            report.note("nothing is left out of a live directory: commands see its secrets too");
        }
    }
    let ready = ready?;
    let prepared = match credentials {
        None => Ok(None),
        Some(_) if stop.is_asked() => Ok(None),
        Some(Err(broken)) => Err(broken),
        Some(Ok(_)) if counted.is_err() => counted.map(|()| None),
        Some(Ok(credentials)) => prepare(&settings, report.session(), credentials, &terms, stop)
            .await
            .map_err(SessionError::from),
    };
    let (Prepared { line, gate, mut token_refresher }, ready) = match (prepared, ready) {
        (Ok(Some(prepared)), Some(ready)) => (prepared, ready),
        (prepared, ready) => {
            if let Some(ready) = ready
                && let Err(leftover) = ready.remove().await
            {
                // Why there is no run is worth more than what the next start sweeps.
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
        // What was done and paid for is told all the same; the next start sweeps.
        report.note(leftover.to_string());
    }
    report.triggers(workspace.triggers().await);
    outcome
}

/// All that the sandbox's start waits for beside the sandbox.
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

/// The handoff line and the gate behind it, with a run key that both know. None: the run is wanted
/// no more.
async fn prepare(
    settings: &SessionSettings,
    session: &str,
    credentials: Credentials,
    terms: &ContainerSpec,
    stop: &Stop,
) -> Result<Option<Prepared>, Fault> {
    let session_key = Secret::new(random_id());
    let handed = credentials.hand_over(settings.credentials, stop).await?;
    let Some((secrets, token_refresher)) = handed else { return Ok(None) };
    let handoff = handoff(settings, session, &session_key, secrets, &credentials, terms.tool());
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
