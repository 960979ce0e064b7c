//! Prepares a session, in parallel: the credential and the model, a container that is ready, and a
//! directory that fits.

use tokio_util::sync::CancellationToken;

use super::credentials::{self, Credentials, Opened};
use super::settings::SessionSettings;
use super::{HostContext, Person, SessionError, Stop};
use crate::engine::docker::{Created, Owner, Ready, ResolvedImage};
use crate::engine::{ContainerSpec, EngineError};
use crate::records::{Marked, SessionStore};

/// The credentials and the container. `None`: the session was stopped or is not needed any more.
pub(super) struct Begun {
    pub(super) credentials: Option<Result<Credentials, SessionError>>,
    pub(super) ready: Result<Option<Ready>, EngineError>,
    /// Whether the directory fits.
    pub(super) counted: Result<(), SessionError>,
    /// What a person is told about the model that they chose.
    pub(super) chosen: Option<String>,
}

/// Makes and starts the container while it fetches the catalogue and counts the directory. The
/// container is not started if there is no credential, the directory is too large, or the session
/// was stopped.
pub(super) async fn begin(
    settings: &SessionSettings,
    context: &HostContext,
    spec: &ContainerSpec,
    image: &ResolvedImage,
    counted: impl Future<Output = Result<(), SessionError>>,
    stop: &Stop,
    person: Option<&mut dyn Person>,
) -> Result<Begun, EngineError> {
    let cancel = CancellationToken::new();
    let opened = async {
        let opened = tokio::select! {
            opened = credentials::open(settings, &context.logins) => Some(opened),
            () = stop.requested() => None,
        };
        if !matches!(opened, Some(Ok(Opened::Ready(_)))) {
            cancel.cancel();
        }
        opened
    };
    // A person is asked for a model only if the directory fits, so that must be known first.
    let counted = async {
        let counted = tokio::select! {
            counted = counted => counted,
            () = stop.requested() => Ok(()),
        };
        if counted.is_err() {
            cancel.cancel();
        }
        counted
    };
    let (opened, ready, counted) =
        tokio::join!(opened, start_container(context, spec, image, &cancel, stop), counted);
    let begun =
        |credentials, ready, counted| Ok(Begun { credentials, ready, counted, chosen: None });
    let model_needed = match opened {
        None => return begun(None, ready, counted),
        Some(Err(broken)) => return begun(Some(Err(broken)), ready, counted),
        Some(Ok(Opened::Ready(credentials))) => {
            return begun(Some(Ok(*credentials)), ready, counted);
        }
        Some(Ok(Opened::NeedsModel(model_needed))) => model_needed,
    };
    if let Err(broken) = counted {
        return begun(Some(Err(broken)), ready, Ok(()));
    }
    let Some(person) = person.filter(|_| model_needed.has_models()) else {
        return begun(Some(Err(model_needed.into_error())), ready, counted);
    };
    // While a person thinks there is no container, and no second of the budget is used.
    if let Some(ready) = ready? {
        ready.remove().await?;
    }
    let answered = tokio::select! {
        answered = model_needed.ask(settings, person) => Some(answered),
        () = stop.requested() => None,
    };
    match answered {
        None => begun(None, Ok(None), counted),
        Some(Err(broken)) => begun(Some(Err(broken)), Ok(None), counted),
        Some(Ok((credentials, note))) => {
            let ready =
                start_container(context, spec, image, &CancellationToken::new(), stop).await;
            Ok(Begun { credentials: Some(Ok(credentials)), ready, counted, chosen: Some(note) })
        }
    }
}

/// The container, started. `None` if it is not needed any more; then it is removed.
async fn start_container(
    context: &HostContext,
    spec: &ContainerSpec,
    image: &ResolvedImage,
    cancel: &CancellationToken,
    stop: &Stop,
) -> Result<Option<Ready>, EngineError> {
    let created = create_container(context, spec, image).await?;
    if cancel.is_cancelled() || stop.is_requested() {
        return created.remove().await.map(|_gone| None);
    }
    let unwanted = async {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = stop.requested() => {}
        }
    };
    created.start_unless(unwanted).await
}

/// Says of a container whether its session is over. Only a store that has the lock itself, and not
/// a copy of it, can say so.
pub(crate) fn claim(store: &SessionStore) -> impl Fn(&str, &str) -> Owner {
    |session, lock| match store.marked(session, lock) {
        Marked::Held => Owner::Alive,
        Marked::Free => Owner::Over,
        // A container of an earlier release has no mark; its session can still be found alive.
        Marked::Absent if lock.is_empty() && store.is_alive(session) => Owner::Alive,
        Marked::Absent => Owner::Unknown,
    }
}

async fn create_container(
    context: &HostContext,
    spec: &ContainerSpec,
    image: &ResolvedImage,
) -> Result<Created, EngineError> {
    // Sweep what a crash left, in parallel. A session that is alive has its lock and keeps its sandbox.
    let claim = claim(&context.store);
    let now = crate::clock::now().as_second();
    let made = async {
        let sandbox = context.docker.prepare(image, spec).await?;
        context.docker.plan(spec.clone(), image, &sandbox).create().await
    };
    let (created, swept) =
        tokio::join!(made, context.docker.sweep(context.store.install(), now, claim));
    if let Err(error) = swept {
        tracing::warn!(%error, "leftover containers could not be removed");
    }
    created
}
