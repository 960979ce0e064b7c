//! What is on the engine because of us, and how it goes again.

use std::time::Duration;

use bollard::errors::Error;
use bollard::query_parameters::RemoveContainerOptionsBuilder;

use super::ended::ContainerExit;
use super::pipe::StderrTail;
use super::{Docker, is_absent};
use crate::engine::error::{EngineError, Remains, said};

/// How long the engine may take over a removal that it says is under way.
const REMOVAL_SECONDS: u64 = 10;
/// How often it is asked.
const REMOVAL_PAUSE: Duration = Duration::from_millis(50);

/// Nothing of it is left on the engine.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone(());

/// The error that led here. What could not be removed then is logged, and said in the reason where
/// there is room for it: it leaves work to the person.
pub(super) fn after(error: EngineError, leftover: Option<EngineError>) -> EngineError {
    let Some(leftover) = leftover else { return error };
    tracing::warn!(%leftover, "left on the engine for the next sweep");
    match error {
        EngineError::Box { step, reason } => {
            EngineError::Box { step, reason: format!("{reason}; and {leftover}") }
        }
        other => other,
    }
}

/// What is on the engine because of us.
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
        let asked = async {
            loop {
                // `v`: the anonymous volumes that an image declares go too.
                let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
                match self.docker.client().remove_container(&self.id, Some(options)).await {
                    Ok(()) => return Ok(()),
                    Err(error) if is_absent(&error) => return Ok(()),
                    // Somebody is removing it already.
                    Err(Error::DockerResponseServerError { status_code: 409, .. }) => {
                        tokio::time::sleep(REMOVAL_PAUSE).await;
                    }
                    Err(error) => return Err(said(&error)),
                }
            }
        };
        let left = |reason: String| EngineError::Leftover {
            what: Remains::Container,
            name: self.name.clone(),
            reason,
        };
        tokio::time::timeout(Duration::from_secs(REMOVAL_SECONDS), asked)
            .await
            .unwrap_or_else(|_| Err(format!("still being removed after {REMOVAL_SECONDS} s")))
            .map_err(left)
    }

    /// The error that led here, after the container is gone.
    pub(super) async fn removed_after(self, error: EngineError) -> EngineError {
        after(error, self.remove().await.err())
    }

    /// Adds what the container said and how it ended, where it did.
    pub(super) async fn explained(&self, error: EngineError, said: &StderrTail) -> EngineError {
        let EngineError::Box { step, mut reason } = error else { return error };
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
        let said = said.from_sandbox().replace(['“', '”'], "\"");
        if !said.is_empty() {
            reason = format!("{reason}; sandbox says: “{said}”");
        }
        EngineError::Box { step, reason }
    }
}
