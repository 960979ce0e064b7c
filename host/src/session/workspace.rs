//! The person's directory in a session: a copy whose changes come back, or the directory itself.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use airlock_shared::outcome::{Fault, FaultKind};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{oneshot, watch};

use super::settings::{self, CredentialChoice, DiskOn, SessionSettings};
use super::{HostContext, SessionError, Stop};
use crate::engine::live::LiveDirectory;
use crate::engine::{ContainerSpec, WorkspaceMount};
use crate::gate;
use crate::records::{SessionFolder, Trigger};
use crate::workspace::{
    self, ChangesRefused, CopyError, CopySummary, Counted, KeptChanges, LeaveOutRules, Private,
    Triggers,
};

/// How long the last changes may take to be accepted after a stop is requested.
const LAST_CHANGES_WAIT: Duration = Duration::from_secs(5);

pub(super) enum SessionWorkspace {
    Copy {
        workspace: Arc<workspace::WorkspaceLink>,
        copied: Mutex<Option<oneshot::Receiver<Result<CopySummary, CopyError>>>>,
        counted: watch::Receiver<Counted>,
    },
    Live {
        workspace: LiveDirectory,
        dir: PathBuf,
        /// What could run by itself before the session.
        before: Triggers,
    },
}

pub(super) fn is_copied(settings: &SessionSettings) -> bool {
    matches!(settings.workspace, settings::WorkspaceMode::Copy { .. })
}

/// What never enters the sandbox: what is private on this machine, and the file that the key is read
/// from.
fn private(settings: &SessionSettings, machine: &Private) -> Private {
    let private = machine.clone();
    match &settings.credential {
        CredentialChoice::KeyFile(file) => private.file(file),
        // Stdin may be a file in the directory: `--api-key - < key.txt`.
        CredentialChoice::KeyStdin(_) => private.file(Path::new("/dev/fd/0")),
        CredentialChoice::Login(_) | CredentialChoice::Env | CredentialChoice::Replay => private,
    }
}

/// Refuses a directory that must not be worked on. A live directory is searched for private files.
pub(super) async fn check_directory(
    settings: &SessionSettings,
    machine: &Private,
) -> Result<(), SessionError> {
    let live = settings.workspace == settings::WorkspaceMode::Live;
    let (private, dir) = (private(settings, machine), settings.dir.clone());
    let admitted = on_blocking_thread(move || Ok(private.admits(&dir, live))).await?;
    admitted.map_err(|refused| SessionError {
        fault: Fault::new(FaultKind::Workspace, refused.to_string()),
        hint: Some(refused.hint().to_owned()),
    })
}

/// Runs work that takes long on a large tree on its own thread, so that signals are still handled.
async fn on_blocking_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SessionError> + Send + 'static,
) -> Result<T, SessionError> {
    let failed = |error| {
        let why = format!("the directory could not be searched: {error}");
        Err(Fault::new(FaultKind::Workspace, why).into())
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(failed)
}

impl SessionWorkspace {
    /// Starts the session's workspace. A copy is counted from now on.
    pub(super) async fn begin(
        settings: &SessionSettings,
        machine: &Private,
        folder: &SessionFolder,
    ) -> Result<Self, SessionError> {
        match &settings.workspace {
            settings::WorkspaceMode::Copy { include, exclude, history } => {
                let rules = LeaveOutRules::new(include, exclude).map_err(|error| SessionError {
                    fault: Fault::new(FaultKind::Workspace, error.to_string()),
                    hint: Some("airlock run --help".to_owned()),
                })?;
                let rules = rules.without(private(settings, machine));
                let rules = if *history { rules } else { rules.without_history() };
                let copy = workspace::WorkspaceLink::copy(
                    &settings.dir,
                    rules,
                    settings.limits.disk,
                    folder,
                );
                Ok(Self::Copy {
                    workspace: Arc::new(copy.workspace),
                    copied: Mutex::new(Some(copy.copied)),
                    counted: copy.counted,
                })
            }
            settings::WorkspaceMode::Live => {
                let dir = settings.dir.clone();
                let look = move || {
                    let workspace = LiveDirectory::look(&dir)?;
                    let before = Triggers::look(&dir).map_err(|error| {
                        let why = format!("{} cannot be read: {error}", dir.display());
                        Fault::new(FaultKind::Workspace, why)
                    })?;
                    Ok(Self::Live { workspace, dir, before })
                };
                on_blocking_thread(look).await
            }
        }
    }

    pub(super) fn container_spec(
        &self,
        settings: &SessionSettings,
        context: &HostContext,
        folder: &SessionFolder,
        uid: u32,
    ) -> ContainerSpec {
        ContainerSpec {
            session: folder.id().to_owned(),
            install: context.store.install().to_owned(),
            // Without a mark, the container is swept only after it has ended.
            lock: folder.mark().unwrap_or_default(),
            owner: context.owner.clone(),
            uid,
            memory: settings.limits.memory,
            cpus: settings.limits.cpus,
            pids: settings.limits.pids,
            work: match (self, settings.limits.disk_on) {
                (Self::Live { workspace, .. }, _) => WorkspaceMount::Live(workspace.clone()),
                (Self::Copy { .. }, DiskOn::Tmpfs) => {
                    WorkspaceMount::Memory { bytes: settings.limits.disk }
                }
                (Self::Copy { .. }, DiskOn::Engine) => WorkspaceMount::EngineDisk,
            },
        }
    }

    /// Waits until the copy is counted and fits, and reports to `progress`.
    ///
    /// # Errors
    /// It does not fit. Nothing was copied.
    pub(super) async fn counted(
        &self,
        mut progress: impl FnMut(Counted),
    ) -> Result<(), SessionError> {
        let Self::Copy { counted, .. } = self else { return Ok(()) };
        let mut counted = counted.clone();
        loop {
            let now = *counted.borrow_and_update();
            if now.is_all {
                return Ok(());
            }
            progress(now);
            if counted.changed().await.is_err() {
                // The last value can still be read.
                let is_all = counted.borrow().is_all;
                return if is_all { Ok(()) } else { self.copied().await.map(drop) };
            }
        }
    }

    /// The summary of the copy, once. Pending for ever for a live directory and after the first call.
    pub(super) async fn copied(&self) -> Result<CopySummary, SessionError> {
        let receiver = match self {
            Self::Copy { copied, .. } => {
                copied.lock().unwrap_or_else(PoisonError::into_inner).take()
            }
            Self::Live { .. } => None,
        };
        let Some(receiver) = receiver else { return std::future::pending().await };
        let abandoned = Err(CopyError::Abandoned);
        receiver.await.unwrap_or(abandoned).map_err(|error| SessionError {
            hint: error.hint().map(str::to_owned),
            fault: Fault::new(FaultKind::Workspace, error.to_string()),
        })
    }

    /// The workspace as the gate sees it.
    pub(super) fn transfer(&self) -> Arc<dyn gate::WorkspaceTransfer> {
        match self {
            Self::Copy { workspace, .. } => Arc::new(CopyTransfer(Arc::clone(workspace))),
            Self::Live { .. } => Arc::new(NoTransfer),
        }
    }

    /// Files in a live directory that may run by themselves and are new or changed. The container
    /// must be gone.
    pub(super) async fn triggers(&self) -> Vec<Trigger> {
        let Self::Live { dir, before, .. } = self else { return Vec::new() };
        let dir = dir.clone();
        let now = tokio::task::spawn_blocking(move || Triggers::look(&dir)).await;
        match now.map_err(io::Error::other).flatten() {
            Ok(now) => now.since(before),
            Err(error) => {
                let what = format!("it can no longer be searched: {error}");
                vec![Trigger { path: ".".to_owned(), what }]
            }
        }
    }

    /// The changes of a copy that are on the disk; no more are accepted. If a stop is requested, this
    /// soon stops waiting for the last of them. None for a live directory.
    pub(super) async fn changes(&self, stop: &Stop) -> Option<KeptChanges> {
        let give_up = async {
            stop.requested().await;
            tokio::time::sleep(LAST_CHANGES_WAIT).await;
        };
        match self {
            Self::Live { .. } => None,
            Self::Copy { workspace, .. } => Some(workspace.close(give_up).await),
        }
    }
}

struct CopyTransfer(Arc<workspace::WorkspaceLink>);

impl gate::WorkspaceTransfer for CopyTransfer {
    fn stream_in(&self) -> BoxStream<'static, io::Result<Bytes>> {
        self.0.stream_in()
    }

    fn take_changes(
        &self,
        body: BoxStream<'static, io::Result<Bytes>>,
    ) -> BoxFuture<'_, Result<(), gate::ChangesError>> {
        let taken = self.0.take_changes(body);
        async {
            taken.await.map_err(|not_taken| match not_taken {
                ChangesRefused::Malformed(fault) => gate::ChangesError::Malformed(fault),
                ChangesRefused::Unkept(fault) => gate::ChangesError::Unkept(fault),
            })
        }
        .boxed()
    }
}

/// A live directory does not pass the gate.
struct NoTransfer;

impl gate::WorkspaceTransfer for NoTransfer {
    fn stream_in(&self) -> BoxStream<'static, io::Result<Bytes>> {
        stream::iter([Err(io::Error::other("the directory is live: there is no copy"))]).boxed()
    }

    fn take_changes(
        &self,
        _body: BoxStream<'static, io::Result<Bytes>>,
    ) -> BoxFuture<'_, Result<(), gate::ChangesError>> {
        let fault =
            Fault::new(FaultKind::Workspace, "the directory is live: there are no changes to take");
        std::future::ready(Err(gate::ChangesError::Malformed(fault))).boxed()
    }
}
