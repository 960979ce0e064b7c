//! The folder a run is about: a copy whose changes come back, or the folder itself.

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

/// How long the last changes may be looked at once the run is to stop.
const PARTING: Duration = Duration::from_secs(5);

pub(super) enum SessionWorkspace {
    Copy {
        workspace: Arc<workspace::WorkspaceLink>,
        copied: Mutex<Option<oneshot::Receiver<Result<CopySummary, CopyError>>>>,
        counted: watch::Receiver<Counted>,
    },
    Live {
        workspace: LiveDirectory,
        dir: PathBuf,
        /// What acted by itself before the session.
        before: Triggers,
    },
}

pub(super) fn is_copied(settings: &SessionSettings) -> bool {
    matches!(settings.workspace, settings::WorkspaceMode::Copy { .. })
}

/// What never enters the sandbox of this run: what is private on this machine, and the file that
/// the key is read from.
fn private(settings: &SessionSettings, machine: &Private) -> Private {
    let private = machine.clone();
    match &settings.credential {
        CredentialChoice::KeyFile(file) => private.file(file),
        // It may be a file of the directory: `--api-key - < key.txt`.
        CredentialChoice::KeyStdin(_) => private.file(Path::new("/dev/fd/0")),
        CredentialChoice::Login(_) | CredentialChoice::Env | CredentialChoice::Replay => private,
    }
}

/// Whether the directory is one to work on. A live one is looked through for it.
pub(super) async fn admit(
    settings: &SessionSettings,
    machine: &Private,
) -> Result<(), SessionError> {
    let live = settings.workspace == settings::WorkspaceMode::Live;
    let (private, dir) = (private(settings, machine), settings.dir.clone());
    let admitted = aside(move || Ok(private.admits(&dir, live))).await?;
    admitted.map_err(|refused| SessionError {
        fault: Fault::new(FaultKind::Workspace, refused.to_string()),
        hint: Some(refused.hint().to_owned()),
    })
}

/// What takes as long as a tree is large, on a thread of its own: signals are heard meanwhile.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SessionError> + Send + 'static,
) -> Result<T, SessionError> {
    let lost = |error| {
        let why = format!("the directory was not looked through: {error}");
        Err(Fault::new(FaultKind::Workspace, why).into())
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(lost)
}

impl SessionWorkspace {
    /// A copy begins to be counted at once.
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
                aside(look).await
            }
        }
    }

    pub(super) fn terms(
        &self,
        settings: &SessionSettings,
        context: &HostContext,
        folder: &SessionFolder,
        uid: u32,
    ) -> ContainerSpec {
        ContainerSpec {
            session: folder.id().to_owned(),
            install: context.store.install().to_owned(),
            // Without one it is swept only when it has ended.
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

    /// Waits until it is known that all of it may go in, and tells `progress` how far that is.
    ///
    /// # Errors
    /// It may not, and nothing of it went in.
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
                // What was told last is still to be had.
                let is_all = counted.borrow().is_all;
                return if is_all { Ok(()) } else { self.copied().await.map(drop) };
            }
        }
    }

    /// What went in, once; pending for ever where there is nothing to wait for (any more).
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

    /// The gate's view of it.
    pub(super) fn passage(&self) -> Arc<dyn gate::WorkspaceTransfer> {
        match self {
            Self::Copy { workspace, .. } => Arc::new(Passage(Arc::clone(workspace))),
            Self::Live { .. } => Arc::new(NoPassage),
        }
    }

    /// What acts by itself in a live tree now, and did not, or otherwise, before. Its container
    /// must be gone.
    pub(super) async fn triggers(&self) -> Vec<Trigger> {
        let Self::Live { dir, before, .. } = self else { return Vec::new() };
        let dir = dir.clone();
        let now = tokio::task::spawn_blocking(move || Triggers::look(&dir)).await;
        match now.map_err(io::Error::other).flatten() {
            Ok(now) => now.since(before),
            Err(error) => {
                let what = format!("it can no longer be looked through: {error}");
                vec![Trigger { path: ".".to_owned(), what }]
            }
        }
    }

    /// What is on the disk of a copy's changes; no more of them are taken, and the last are waited
    /// for until a while after it was to stop. None: what was changed is where it is.
    pub(super) async fn changes(&self, stop: &Stop) -> Option<KeptChanges> {
        let give_up = async {
            stop.asked().await;
            tokio::time::sleep(PARTING).await;
        };
        match self {
            Self::Live { .. } => None,
            Self::Copy { workspace, .. } => Some(workspace.close(give_up).await),
        }
    }
}

struct Passage(Arc<workspace::WorkspaceLink>);

impl gate::WorkspaceTransfer for Passage {
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

/// A live tree does not pass the gate.
struct NoPassage;

impl gate::WorkspaceTransfer for NoPassage {
    fn stream_in(&self) -> BoxStream<'static, io::Result<Bytes>> {
        stream::iter([Err(io::Error::other("the folder is live: there is no copy"))]).boxed()
    }

    fn take_changes(
        &self,
        _body: BoxStream<'static, io::Result<Bytes>>,
    ) -> BoxFuture<'_, Result<(), gate::ChangesError>> {
        let fault =
            Fault::new(FaultKind::Workspace, "the folder is live: there are no changes to take");
        std::future::ready(Err(gate::ChangesError::Malformed(fault))).boxed()
    }
}
