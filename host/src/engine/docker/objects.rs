//! The container and the volumes of a session on the engine, and their removal.

use std::time::Duration;

use bollard::errors::Error;
use bollard::query_parameters::RemoveContainerOptionsBuilder;

use super::ended::ContainerExit;
use super::pipe::StderrTail;
use super::{Docker, is_absent};
use crate::engine::error::{EngineError, Remains, engine_message};

/// How long a removal may take that the engine reports as in progress.
const REMOVAL_SECONDS: u64 = 10;
/// How often it is asked meanwhile.
const REMOVAL_PAUSE: Duration = Duration::from_millis(50);

/// Proof that nothing of the session is left on the engine.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone(());

/// `error`, with what could not be removed after it. That is logged, and added to the reason if the
/// error has one, because the person has to remove it.
pub(super) fn after(error: EngineError, leftover: Option<EngineError>) -> EngineError {
    let Some(leftover) = leftover else { return error };
    tracing::warn!(%leftover, "left on the engine for the next sweep");
    match error {
        EngineError::Failed { step, reason } => {
            EngineError::Failed { step, reason: format!("{reason}; and {leftover}") }
        }
        other => other,
    }
}

/// What a session has on the engine.
#[derive(Debug)]
pub(super) struct EngineObjects {
    pub(super) docker: Docker,
    pub(super) name: String,
    pub(super) id: String,
    pub(super) volumes: Vec<String>,
}

impl EngineObjects {
    pub(super) async fn remove(self) -> Result<Gone, EngineError> {
        let container = self.remove_container().await;
        let volumes = self.docker.remove_volumes(&self.volumes).await;
        container?;
        volumes?;
        Ok(Gone(()))
    }

    async fn remove_container(&self) -> Result<(), EngineError> {
        let removal = async {
            loop {
                // `v`: also the anonymous volumes that an image declares.
                let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
                match self.docker.client().remove_container(&self.id, Some(options)).await {
                    Ok(()) => return Ok(()),
                    Err(error) if is_absent(&error) => return Ok(()),
                    // Its removal is in progress already.
                    Err(Error::DockerResponseServerError { status_code: 409, .. }) => {
                        tokio::time::sleep(REMOVAL_PAUSE).await;
                    }
                    Err(error) => return Err(engine_message(&error)),
                }
            }
        };
        let left = |reason: String| EngineError::Leftover {
            what: Remains::Container,
            name: self.name.clone(),
            reason,
        };
        tokio::time::timeout(Duration::from_secs(REMOVAL_SECONDS), removal)
            .await
            .unwrap_or_else(|_| Err(format!("its removal takes longer than {REMOVAL_SECONDS} s")))
            .map_err(left)
    }

    /// Removes the container, then returns the error that led here.
    pub(super) async fn removed_after(self, error: EngineError) -> EngineError {
        after(error, self.remove().await.err())
    }

    /// Adds what the container wrote on stderr, and how it ended if it did.
    pub(super) async fn explained(&self, error: EngineError, stderr: &StderrTail) -> EngineError {
        let EngineError::Failed { step, mut reason } = error else { return error };
        if let Ok(found) = self.docker.client().inspect_container(&self.id, None).await {
            let state = found.state.unwrap_or_default();
            if state.running != Some(true)
                && let Some(code) = state.exit_code
            {
                let ended = ContainerExit { code, out_of_memory: state.oom_killed == Some(true) };
                reason = format!("{reason}; {}", ended.describe());
            }
        }
        // Quotes that the sandbox cannot end.
        let stderr = stderr.from_sandbox().replace(['“', '”'], "\"");
        if !stderr.is_empty() {
            reason = format!("{reason}; sandbox says: “{stderr}”");
        }
        EngineError::Failed { step, reason }
    }
}
