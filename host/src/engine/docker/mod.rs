//! Containers on a Docker engine, or on another engine with Docker's API, 1.41 or later.
//!
//! Absent on purpose: `ssh://` engines (they need the user's ssh, and a forwarded socket does the
//! same), credential helpers (`docker pull` runs them), and everything about networks.

mod connect; // where the engine is, and whether it is safe to use
mod hello; // which version of the API it supports
mod context; // the files of `docker context`
mod image; // resolves an image name to a digest
mod inject; // puts our binary on the engine, once
mod lifecycle; // Planned → Created → Ready → Running → Gone
mod objects; // our objects on the engine, and their removal
mod ended; // how a container ended
mod pipe; // stdin and stdout of a container as one stream
mod plan; // the request for a container
mod program; // which program runs in it, checked from outside
mod capabilities; // names and bits of capabilities
mod mounts; // mounts as requested and as reported
mod rules; // writes each rule as a request, with its check
mod sweep; // removes what a crash left behind
mod uid; // a uid that no other container uses
mod verify; // runs the checks

pub use connect::EngineChoice;
pub use ended::ContainerExit;
pub use image::{ImageName, OURS, ResolvedImage};
pub use inject::SandboxVolume;
pub use lifecycle::{Created, Planned, Ready, Running};
pub use objects::Gone;
pub use pipe::{Pipe, StderrTail};
pub use sweep::{Owner, SweepReport, Unclaimed};

use super::error::{EngineError, Unusable};

/// The labels of our containers and volumes.
pub(crate) mod label {
    pub(crate) const INSTALL: &str = "airlock.install";
    pub(crate) const SESSION: &str = "airlock.session";
    /// The name of [`SESSION`] in releases before 0.2.
    pub(super) const EARLIER_SESSION: &str = "airlock.run";
    pub(crate) const OWNER: &str = "airlock.owner";
    /// The mark of the lock that the host holds during the session.
    pub(crate) const LOCK: &str = "airlock.lock";
    /// On containers: the uid of their commands.
    pub(crate) const UID: &str = "airlock.uid";
    /// On volumes with our binary: its SHA-256.
    pub(crate) const BINARY: &str = "airlock.binary";
}

/// An engine that answered.
#[derive(Clone, Debug)]
pub struct Docker {
    client: bollard::Docker,
    endpoint: String,
    api: String,
    config: std::path::PathBuf,
}

impl Docker {
    /// Its address.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The version of the API that we use with it.
    #[must_use]
    pub fn api(&self) -> &str {
        &self.api
    }

    /// What it reports of itself.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn about(&self) -> Result<EngineInfo, EngineError> {
        let info = self.client.info().await.map_err(|error| self.unusable(&error))?;
        Ok(EngineInfo {
            version: info.server_version.unwrap_or_default(),
            cgroups: info.cgroup_version.map(|version| version.to_string()).unwrap_or_default(),
            seccomp: info
                .security_options
                .unwrap_or_default()
                .iter()
                .any(|option| option.starts_with("name=seccomp") && !option.contains("unconfined")),
            memory: info.memory_limit.unwrap_or(false),
            swap: info.swap_limit.unwrap_or(false),
            pids: info.pids_limit.unwrap_or(false),
            cpus: info.cpu_cfs_quota.unwrap_or(false),
        })
    }

    pub(crate) fn client(&self) -> &bollard::Docker {
        &self.client
    }

    pub(crate) fn unusable(&self, error: &bollard::errors::Error) -> EngineError {
        EngineError::Unusable { endpoint: self.endpoint.clone(), why: Unusable::of(error) }
    }
}

/// What an engine reports of itself, as far as we use it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one ability of the engine")]
pub struct EngineInfo {
    pub version: String,
    /// `1` or `2`.
    pub cgroups: String,
    /// Whether its default seccomp profile is on.
    pub seccomp: bool,
    pub memory: bool,
    pub swap: bool,
    pub pids: bool,
    pub cpus: bool,
}

/// Whether the engine answered 404.
pub(crate) fn is_absent(error: &bollard::errors::Error) -> bool {
    matches!(error, bollard::errors::Error::DockerResponseServerError { status_code: 404, .. })
}

#[cfg(test)]
mod tests;
