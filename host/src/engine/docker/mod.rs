//! Boxes on a Docker engine, or one that speaks its API, from 1.41 up.
//!
//! Absent on purpose: `ssh://` engines (they want the user's ssh; a forwarded socket does the
//! same), credential helpers (`docker pull` runs them), and everything about networks.

mod connect; // where the engine is, and whether we may speak to it
mod hello; // the first word with it
mod context; // what `docker context` has written down
mod image; // a name becomes a digest
mod inject; // our binary on the engine, once
mod lifecycle; // Planned → Created → Ready → Running → Gone
mod objects; // what is on the engine because of us, and how it goes
mod ended; // how a container ended
mod pipe; // stdin and stdout of a container as one stream
mod plan; // a container as it is asked for
mod program; // which program runs in it, seen from outside
mod capabilities; // their names and their bits
mod mounts; // as they are asked for, and as they are found
mod rules; // each term in the engine's words, and how it is seen to hold
mod sweep; // what a crash left behind
mod uid; // a user that no other container has
mod verify; // what was found of the terms

pub use connect::EngineChoice;
pub use ended::ContainerExit;
pub use image::{ImageName, OURS, ResolvedImage};
pub use inject::SandboxVolume;
pub use lifecycle::{Created, Planned, Ready, Running};
pub use objects::Gone;
pub use pipe::{Pipe, StderrTail};
pub use sweep::{Owner, SweepReport, Unclaimed};

use super::error::{EngineError, Unusable};

/// Labels by which we know what is ours.
pub(crate) mod label {
    pub(crate) const INSTALL: &str = "airlock.install";
    pub(crate) const SESSION: &str = "airlock.session";
    /// The same by the name that releases before 0.2 gave it.
    pub(super) const EARLIER_SESSION: &str = "airlock.run";
    pub(crate) const OWNER: &str = "airlock.owner";
    /// The mark of the lock that is held while the session lives.
    pub(crate) const LOCK: &str = "airlock.lock";
    /// On containers: the user of its commands.
    pub(crate) const UID: &str = "airlock.uid";
    /// On what carries our binary: its SHA-256.
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
    /// Where it is.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The version of its API that we speak with it.
    #[must_use]
    pub fn api(&self) -> &str {
        &self.api
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// When it no longer answers.
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

/// What an engine says of itself, as far as it matters to us.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing the engine can or cannot do")]
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

/// Whether the engine answered that there is no such thing.
pub(crate) fn is_absent(error: &bollard::errors::Error) -> bool {
    matches!(error, bollard::errors::Error::DockerResponseServerError { status_code: 404, .. })
}

#[cfg(test)]
mod tests;
