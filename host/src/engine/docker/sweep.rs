//! What a crash left behind: containers and volumes of ours whose run is over.
//!
//! Never anybody else's: everything must carry this install's label. Never a sibling's: the caller
//! says which runs are alive (the lock on a run's folder is held); a run whose folder is gone is over.

use std::collections::HashMap;

use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder,
};

use super::{Docker, is_absent, label, plan};
use crate::engine::binary::SANDBOX_SHA256;
use crate::engine::error::EngineError;

/// How old a container must be that was to carry our binary: uploads take seconds.
const FILLER_SECONDS: i64 = 600;

/// What was removed, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub containers: Vec<String>,
    pub volumes: Vec<String>,
    /// What could not be removed, and why.
    pub left: Vec<(String, String)>,
}

impl Docker {
    /// Removes what is left of runs of `install` that are not alive. `now` is seconds since 1970.
    ///
    /// # Errors
    /// When the engine does not answer; what cannot be removed is in the result.
    pub async fn sweep(
        &self,
        install: &str,
        now: i64,
        is_alive: impl Fn(&str) -> bool,
    ) -> Result<Swept, EngineError> {
        let mut swept = Swept::default();
        let ours = format!("{}={install}", label::INSTALL);
        let filters = HashMap::from([("label", vec![ours.as_str()])]);

        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let found = self.client().list_containers(Some(options)).await;
        for container in found.map_err(|error| self.unreachable(&error))? {
            let labels = container.labels.unwrap_or_default();
            let names = container.names.unwrap_or_default();
            let name = names.first().map_or("", |name| name.trim_start_matches('/')).to_owned();
            // THREAT: labels come with images too; one that names our install would have us remove
            // what is not ours. A container of ours also bears its run's name. Tried by
            // engine::docker::tests::a_sweep_takes_only_what_is_over_and_ours.
            let over = match (labels.get(label::RUN), labels.get(label::BINARY)) {
                (Some(run), _) => {
                    let own = [plan::container_name(run), plan::filler_name(run)];
                    own.contains(&name) && !is_alive(run)
                }
                (None, Some(_)) => {
                    let made = container.created.unwrap_or(now);
                    name.starts_with("airlock-sandbox-") && now - made > FILLER_SECONDS
                }
                (None, None) => false,
            };
            if !over || labels.get(label::INSTALL).is_none_or(|found| found != install) {
                continue;
            }
            let Some(id) = container.id else { continue };
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
            match self.client().remove_container(&id, Some(options)).await {
                Ok(()) => swept.containers.push(name),
                Err(error) if is_absent(&error) => {}
                Err(error) => swept.left.push((name, crate::engine::error::said(&error))),
            }
        }

        let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
        let found = self.client().list_volumes(Some(options)).await;
        let volumes = found.map_err(|error| self.unreachable(&error))?.volumes;
        for volume in volumes.unwrap_or_default() {
            if volume.labels.get(label::INSTALL).is_none_or(|found| found != install) {
                continue;
            }
            let over = match (volume.labels.get(label::RUN), volume.labels.get(label::BINARY)) {
                (Some(run), _) => {
                    volume.name.starts_with(&plan::work_volume(run)) && !is_alive(run)
                }
                // An upload that was cut, or the binary of another release of ours.
                (None, Some(sha256)) => {
                    sha256 != SANDBOX_SHA256 || !self.is_vouched(sha256, &volume.name).await
                }
                (None, None) => false,
            };
            if !over {
                continue;
            }
            match self.remove_volume(&volume.name).await {
                Ok(()) => swept.volumes.push(volume.name),
                // Still in use: its container was left, or an upload is under way.
                Err(EngineError::Leftover { name, reason }) if reason.contains("in use") => {
                    tracing::debug!(name, "left for the next sweep");
                }
                Err(EngineError::Leftover { name, reason }) => swept.left.push((name, reason)),
                Err(other) => return Err(other),
            }
        }
        Ok(swept)
    }
}
