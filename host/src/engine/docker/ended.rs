//! How a container ended, in the engine's words. What the container itself says of its end is not asked here.

use bollard::errors::Error;
use bollard::query_parameters::WaitContainerOptionsBuilder;
use futures_util::StreamExt;

use super::Docker;
use crate::engine::error::{EngineError, EngineStep};

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContainerExit {
    /// The exit code; 137 after a kill.
    pub code: i64,
    /// The kernel killed something in it for want of memory: the sandbox where the code is 137,
    /// else a command. Not asked where the code is 0.
    pub out_of_memory: bool,
}

impl ContainerExit {
    /// The sandbox itself was ended for want of memory, not one of its commands.
    #[must_use]
    pub fn ran_out(&self) -> bool {
        (self.code, self.out_of_memory) == (137, true)
    }

    /// In a person's words.
    #[must_use]
    pub fn describe(&self) -> String {
        match (self.code, self.out_of_memory) {
            (137, true) => "the kernel ended the sandbox for want of memory".to_owned(),
            (137, false) => "the sandbox was killed from outside".to_owned(),
            (code, _) => format!("the sandbox ended by itself with code {code}"),
        }
    }
}

/// Waits until the container runs no longer.
pub(super) async fn ended(docker: &Docker, id: &str) -> Result<ContainerExit, EngineError> {
    let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
    let mut waiting = Box::pin(docker.client().wait_container(id, Some(options)));
    let code = match waiting.next().await {
        Some(Ok(answer)) => answer.status_code,
        // The client makes an error of every code but 0.
        Some(Err(Error::DockerContainerWaitError { code, .. })) => code,
        Some(Err(error)) => return Err(EngineError::at(EngineStep::Wait, &error)),
        None => {
            let reason = "it broke off".to_owned();
            return Err(EngineError::Box { step: EngineStep::Wait, reason });
        }
    };
    if code == 0 {
        // Nothing is to be explained.
        return Ok(ContainerExit { code, out_of_memory: false });
    }
    let found = docker.client().inspect_container(id, None).await.ok();
    let out_of_memory = found.and_then(|found| found.state?.oom_killed).unwrap_or(false);
    Ok(ContainerExit { code, out_of_memory })
}
