//! What a run needs before it can begin, all at once: who pays and with which model, a container that
//! is ready, and a directory that fits.

use tokio_util::sync::CancellationToken;

use super::credentials::{self, Credentials, Opened};
use super::settings::SessionSettings;
use super::{HostContext, Person, SessionError, Stop};
use crate::engine::docker::{Created, Owner, Ready, ResolvedImage};
use crate::engine::{ContainerSpec, EngineError};
use crate::records::{Marked, SessionStore};

/// Who pays, and the container. `None`: somebody stopped it, or it is wanted no more.
pub(super) struct Begun {
    pub(super) credentials: Option<Result<Credentials, SessionError>>,
    pub(super) ready: Result<Option<Ready>, EngineError>,
    /// Whether the directory fits.
    pub(super) counted: Result<(), SessionError>,
    /// What became of a model that a person chose.
    pub(super) chosen: Option<String>,
}

/// The container is made and started while the catalogue is asked for and the directory is counted:
/// none waits for the other. A run that is over by then (nobody pays, the directory is too large,
/// somebody stopped it) starts nothing.
pub(super) async fn begin(
    settings: &SessionSettings,
    context: &HostContext,
    terms: &ContainerSpec,
    image: &ResolvedImage,
    counted: impl Future<Output = Result<(), SessionError>>,
    stop: &Stop,
    person: Option<&mut dyn Person>,
) -> Result<Begun, EngineError> {
    let over = CancellationToken::new();
    let opened = async {
        let opened = tokio::select! {
            opened = credentials::open(settings, &context.logins) => Some(opened),
            () = stop.asked() => None,
        };
        if !matches!(opened, Some(Ok(Opened::Paying(_)))) {
            over.cancel();
        }
        opened
    };
    // A person can be asked only about a directory that fits, so that is known first.
    let counted = async {
        let counted = tokio::select! {
            counted = counted => counted,
            () = stop.asked() => Ok(()),
        };
        if counted.is_err() {
            over.cancel();
        }
        counted
    };
    let (opened, ready, counted) =
        tokio::join!(opened, container(context, terms, image, &over, stop), counted);
    let begun =
        |credentials, ready, counted| Ok(Begun { credentials, ready, counted, chosen: None });
    let asks = match opened {
        None => return begun(None, ready, counted),
        Some(Err(broken)) => return begun(Some(Err(broken)), ready, counted),
        Some(Ok(Opened::Paying(credentials))) => {
            return begun(Some(Ok(*credentials)), ready, counted);
        }
        Some(Ok(Opened::Asks(asks))) => asks,
    };
    if let Err(broken) = counted {
        return begun(Some(Err(broken)), ready, Ok(()));
    }
    let Some(person) = person.filter(|_| asks.has_names()) else {
        return begun(Some(Err(asks.unasked())), ready, counted);
    };
    // No container waits while a person thinks, and no second of the budget counts.
    if let Some(ready) = ready? {
        ready.remove().await?;
    }
    let answered = tokio::select! {
        answered = asks.ask(settings, person) => Some(answered),
        () = stop.asked() => None,
    };
    match answered {
        None => begun(None, Ok(None), counted),
        Some(Err(broken)) => begun(Some(Err(broken)), Ok(None), counted),
        Some(Ok((credentials, said))) => {
            let ready = container(context, terms, image, &CancellationToken::new(), stop).await;
            Ok(Begun { credentials: Some(Ok(credentials)), ready, counted, chosen: Some(said) })
        }
    }
}

/// The container, started; `None` where it is wanted no more by then, and gone again.
async fn container(
    context: &HostContext,
    terms: &ContainerSpec,
    image: &ResolvedImage,
    over: &CancellationToken,
    stop: &Stop,
) -> Result<Option<Ready>, EngineError> {
    let created = create(context, terms, image).await?;
    if over.is_cancelled() || stop.is_asked() {
        return created.remove().await.map(|_gone| None);
    }
    let unwanted = async {
        tokio::select! {
            () = over.cancelled() => {}
            () = stop.asked() => {}
        }
    };
    created.start_unless(unwanted).await
}

/// Who may say of a container whether its session is over: whoever has its very lock.
pub(crate) fn claim(store: &SessionStore) -> impl Fn(&str, &str) -> Owner {
    |session, lock| match store.marked(session, lock) {
        Marked::Held => Owner::Alive,
        Marked::Free => Owner::Over,
        // One of an earlier release has no mark; that it is alive can be said all the same.
        Marked::Absent if lock.is_empty() && store.is_alive(session) => Owner::Alive,
        Marked::Absent => Owner::Unknown,
    }
}

async fn create(
    context: &HostContext,
    terms: &ContainerSpec,
    image: &ResolvedImage,
) -> Result<Created, EngineError> {
    // What a crash left is swept beside the making: a run alive keeps its lock, and its sandbox.
    let claim = claim(&context.store);
    let now = crate::clock::now().as_second();
    let made = async {
        let sandbox = context.docker.prepare(image, terms).await?;
        context.docker.plan(terms.clone(), image, &sandbox).create().await
    };
    let (created, swept) =
        tokio::join!(made, context.docker.sweep(context.store.install(), now, claim));
    if let Err(error) = swept {
        tracing::warn!(%error, "leftovers could not be swept");
    }
    created
}
