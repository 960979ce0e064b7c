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

pub mod spec; // what it is to do
pub mod public; // what callers read while it works
mod begin; // the container, who pays, and whether the directory fits, side by side
mod paying; // who pays, and which model that gives
mod choice; // which model, where a person may have to say
mod renewals; // what keeps that credential fresh
mod tree; // the folder: a copy that comes back, or the folder itself
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
use crate::engine::{BoxSpec, Docker, EngineError, base};
use crate::gate::{Gate, GateConfig};
use crate::session::{Store, random_id};
use crate::workspace::Private;
use begin::{Begun, begin};
use paying::Paying;
use renewals::Renewals;
use report::Report;
use spec::{Custody, ImageChoice, Spec};
use tree::Tree;

pub(crate) use begin::claim;
pub use choice::{Person, Question, Unsettled};
pub(crate) use paying::client;
pub use paying::{sign_in, sign_in_again};
pub use report::{Done, Show, count, name_all, told};
pub use stop::Stop;

/// Where runs happen and are kept.
pub struct House {
    pub docker: Docker,
    pub store: Store,
    /// The folder of login files.
    pub logins: std::path::PathBuf,
    /// What of this machine never enters a sandbox.
    pub private: Private,
    /// Who starts runs, for people who look at the engine.
    pub owner: String,
}

/// What a fault is, with the command that mends it where one is known.
#[derive(Debug)]
pub struct Broken {
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
    spec: Spec,
    house: &House,
    stop: &Stop,
    person: Option<&mut dyn Person>,
    show: Show<'_>,
) -> Result<Done, Broken> {
    tree::admit(&spec, &house.private).await?;
    let mut report = Report::open(house, &spec, show)?;
    let ended = attempt(spec, house, stop, person, &mut report).await;
    report.tell_changes(stop).await;
    let done = report.end(ended, stop);
    // A login that is being renewed is not to be lost with the process.
    crate::auth::refresh::settled().await;
    Ok(done)
}

async fn attempt(
    spec: Spec,
    house: &House,
    stop: &Stop,
    person: Option<&mut dyn Person>,
    report: &mut Report<'_>,
) -> Result<Outcome, Broken> {
    let image = tokio::select! {
        image = find_image(&spec.image, &house.docker, report) => image?,
        () = stop.asked() => return Ok(cancelled()),
    };
    let tree = tokio::select! {
        tree = Tree::begin(&spec, &house.private, report.folder()) => tree?,
        () = stop.asked() => return Ok(cancelled()),
    };
    let uid = house.docker.free_uid().await?;
    let terms = tree.terms(&spec, house, report.folder(), uid);
    report.waived(&terms);

    let counted = tree.counted(report.counting());
    let Begun { paying, ready, counted, chosen } =
        begin(&spec, house, &terms, &image, counted, stop, person).await?;
    if let Ok(Some(ready)) = &ready {
        report.unchecked(ready.unchecked());
    }
    if let Some(Ok(paying)) = &paying {
        report.started(&spec, paying, &image);
        if let Some(said) = chosen {
            report.note(said);
        }
        if spec.tree == spec::Tree::Live {
            report.note("nothing is left out of a live directory: commands see its secrets too");
        }
    }
    let ready = ready?;
    let prepared = match paying {
        None => Ok(None),
        Some(_) if stop.is_asked() => Ok(None),
        Some(Err(broken)) => Err(broken),
        Some(Ok(_)) if counted.is_err() => counted.map(|()| None),
        Some(Ok(paying)) => {
            prepare(&spec, report.run(), paying, &terms, stop).await.map_err(Broken::from)
        }
    };
    let (Prepared { line, gate, mut renewals }, ready) = match (prepared, ready) {
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
    let outcome =
        listen::listen(&mut running, &gate, &mut renewals, &tree, &spec, stop, report).await;
    let removed: Result<Gone, EngineError> = running.remove().await;
    if let Err(leftover) = removed {
        // What was done and paid for is told all the same; the next start sweeps.
        report.note(leftover.to_string());
    }
    report.triggers(tree.triggers().await);
    outcome
}

/// All that the box's start waits for beside the box.
struct Prepared {
    line: Zeroizing<Vec<u8>>,
    gate: std::sync::Arc<Gate>,
    renewals: Renewals,
}

async fn find_image(
    choice: &ImageChoice,
    docker: &Docker,
    report: &mut Report<'_>,
) -> Result<ResolvedImage, Broken> {
    let mut progress = |text: String| report.note(text);
    match choice {
        ImageChoice::Named(name) => Ok(docker.image(name, &mut progress).await?),
        ImageChoice::Base => {
            Ok(base::ensure(docker, &mut progress).await.map(|(image, _)| image)?)
        }
    }
}

fn handoff(
    spec: &Spec,
    run: &str,
    run_key: &Secret,
    secrets: Secrets,
    paying: &Paying,
    (uid, gid): (u32, u32),
) -> Handoff {
    Handoff {
        protocol: limits::PROTOCOL,
        run: run.to_owned(),
        run_key: run_key.clone(),
        link: Link::H2,
        secrets,
        job: Job {
            prompt: spec.prompt.clone(),
            model: ModelChoice {
                slug: Some(paying.model.slug.clone()),
                effort: paying.model.effort.clone(),
                resolved: Some(paying.model.clone()),
            },
            backend: paying.backend.clone(),
            budget: spec.budget,
            workspace: Workspace {
                copied: tree::is_copied(spec),
                uid,
                gid,
                changes_bytes: Some(spec.limits.disk),
                ..Workspace::default()
            },
            env: spec.env.clone(),
        },
    }
}

/// The handoff line and the gate behind it, with a run key that both know. None: the run is wanted
/// no more.
async fn prepare(
    spec: &Spec,
    run: &str,
    paying: Paying,
    terms: &BoxSpec,
    stop: &Stop,
) -> Result<Option<Prepared>, Fault> {
    let run_key = Secret::new(random_id());
    let handed = paying.hand_over(spec.custody, stop).await?;
    let Some((secrets, renewals)) = handed else { return Ok(None) };
    let handoff = handoff(spec, run, &run_key, secrets, &paying, terms.tool());
    let line = handoff.line().map_err(|error| Fault::new(FaultKind::Box, error.to_string()))?;
    let gate = Gate::new(GateConfig {
        run: run.to_owned(),
        run_key,
        model: paying.model,
        backend: paying.backend,
        base: paying.base,
        budget: spec.budget,
        custody: match spec.custody {
            Custody::Relay => crate::gate::Custody::Relay,
            Custody::Handoff => crate::gate::Custody::Handoff,
        },
        upstream: paying.upstream,
        recorder: paying.recorder,
        catalogue: paying.catalogue,
        changes_bytes: spec.limits.disk.saturating_add(limits::CHANGES_OVERHEAD_BYTES),
    })?;
    Ok(Some(Prepared { line, gate, renewals }))
}

fn cancelled() -> Outcome {
    Outcome::Stopped { reason: Reason::Cancelled, answer: None }
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Self {
        Self { fault, hint: None }
    }
}

impl From<EngineError> for Broken {
    fn from(error: EngineError) -> Self {
        let (headline, reason, hint) = error.describe();
        let kind = match error {
            EngineError::Protocol { .. } => FaultKind::Protocol,
            _ => FaultKind::Box,
        };
        Self { fault: Fault::new(kind, format!("{headline}: {reason}")), hint }
    }
}

impl From<base::ImageError> for Broken {
    fn from(error: base::ImageError) -> Self {
        let (headline, reason, hint) = error.describe();
        Self { fault: Fault::new(FaultKind::Box, format!("{headline}: {reason}")), hint }
    }
}
