//! How a container ended, as the engine reports it. What the sandbox says about it is not used here.

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
    /// The kernel killed a process in it because memory ran out: the sandbox if the code is 137, else
    /// a command. Not known if the code is 0.
    pub out_of_memory: bool,
}

impl ContainerExit {
    /// Whether the kernel killed the sandbox itself because memory ran out, and not only a command.
    #[must_use]
    pub fn ran_out(&self) -> bool {
        (self.code, self.out_of_memory) == (137, true)
    }

    /// For people.
    #[must_use]
    pub fn describe(&self) -> String {
        match (self.code, self.out_of_memory) {
            (137, true) => "the kernel killed the sandbox because memory ran out".to_owned(),
            (137, false) => "the sandbox was killed from outside".to_owned(),
            (code, _) => format!("the sandbox exited with code {code}"),
        }
    }
}

/// Waits until the container has ended.
pub(super) async fn wait_for_exit(docker: &Docker, id: &str) -> Result<ContainerExit, EngineError> {
    let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
    let mut waiting = Box::pin(docker.client().wait_container(id, Some(options)));
    let code = match waiting.next().await {
        Some(Ok(answer)) => answer.status_code,
        // The client returns every code but 0 as an error.
        Some(Err(Error::DockerContainerWaitError { code, .. })) => code,
        Some(Err(error)) => return Err(EngineError::at(EngineStep::Wait, &error)),
        None => {
            let reason = "its answer ended too early".to_owned();
            return Err(EngineError::Failed { step: EngineStep::Wait, reason });
        }
    };
    if code == 0 {
        return Ok(ContainerExit { code, out_of_memory: false });
    }
    let found = docker.client().inspect_container(id, None).await.ok();
    let out_of_memory = found.and_then(|found| found.state?.oom_killed).unwrap_or(false);
    Ok(ContainerExit { code, out_of_memory })
}
