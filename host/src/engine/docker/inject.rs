//! Our binary on the engine, once for each binary: a volume that containers mount read-only. It needs
//! nothing of an image, works under a read-only root and on an engine far away, and costs a run
//! two look-ups.
//!
//! ```text
//! airlock-sandbox-<sha>          the mark: an empty volume whose label names ↓
//! airlock-sandbox-<sha>-<once>   the binary, put there through a container that is never started
//! ```
//!
//! The mark is made last. Making a volume of a name that exists gives back the one that exists, so
//! of two hosts that fill at once one makes the mark and both use what it names. An upload that was
//! cut has no mark that names it: it is never used, and swept.
//!
//! # Why not a mark in the volume
//! It could be read only through a container that mounts the volume, for every run, and two hosts
//! would still write over one another's file while containers start from it.

use std::collections::HashMap;

use bollard::models::{ContainerCreateBody, HostConfig, Mount, VolumeCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptionsBuilder,
    UploadToContainerOptionsBuilder,
};
use bytes::Bytes;

use super::{Docker, ResolvedImage, is_absent, label, objects, plan};
use crate::engine::binary::{SANDBOX, SANDBOX_SHA256};
use crate::engine::confine::{self, BinaryMount, ContainerSpec};
use crate::engine::error::{EngineError, EngineStep, Remains};

/// Names the volume that a mark vouches for. Another name than releases had whose folder was open.
const VOUCHES: &str = "airlock.closed-volume";

/// The volume with our binary, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxVolume {
    pub(super) name: String,
}

impl SandboxVolume {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Docker {
    /// Sees to it that our binary is on the engine. `image` is what the never-started container is
    /// made from where it is not yet; `spec` says who may sweep what a crash leaves of it.
    ///
    /// # Errors
    /// When the engine does not take it.
    pub async fn prepare(
        &self,
        image: &ResolvedImage,
        spec: &ContainerSpec,
    ) -> Result<SandboxVolume, EngineError> {
        self.put_binary(SANDBOX, SANDBOX_SHA256, image, spec).await
    }

    pub(super) async fn put_binary(
        &self,
        binary: &'static [u8],
        sha256: &str,
        image: &ResolvedImage,
        spec: &ContainerSpec,
    ) -> Result<SandboxVolume, EngineError> {
        let mark = mark_name(sha256);
        if let Some(complete) = self.vouched(&mark).await? {
            return Ok(complete);
        }
        let once: [u8; 8] = rand::random();
        let once: String = once.iter().map(|byte| format!("{byte:02x}")).collect();
        let filling = format!("{mark}-{once}");
        let labels = HashMap::from([
            (label::BINARY.to_owned(), sha256.to_owned()),
            (label::INSTALL.to_owned(), spec.install.clone()),
        ]);

        // Nowhere that the image could have something.
        let entry = BinaryMount::random();
        let archive = archive(binary, &entry)
            .map_err(|error| EngineError::broke(EngineStep::Inject, &error))?;
        let mut of_session = plan::labels(spec);
        of_session.extend(labels.clone());
        let mount = plan::volume(&filling, entry.folder(), false, Some(labels.clone()));
        let filled = self.fill(&filling, mount, archive, image, of_session).await;
        let complete = match filled {
            // The container is still there, so that no sweep takes the volume for a leftover.
            Ok(()) => self.make_mark(&mark, &filling, labels).await,
            Err(error) => Err(error),
        };
        let removed = self.remove_filler(&filling).await;
        let complete = match complete {
            Ok(complete) => complete,
            // The volume is swept once it is old: no mark names it.
            Err(error) => return Err(objects::after(error, removed.err())),
        };
        removed?;
        if complete.name != filling {
            self.remove_volume(&filling).await?;
        }
        Ok(complete)
    }

    /// The volume that the mark vouches for, if both are there.
    async fn vouched(&self, mark: &str) -> Result<Option<SandboxVolume>, EngineError> {
        let found = match self.client().inspect_volume(mark).await {
            Ok(found) => found,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(self.unusable(&error)),
        };
        if let Some(name) = found.labels.get(VOUCHES) {
            match self.client().inspect_volume(name).await {
                // Not one that the engine made anew, empty, because a container named it.
                Ok(volume) if volume.labels.contains_key(label::BINARY) => {
                    return Ok(Some(SandboxVolume { name: name.clone() }));
                }
                Ok(_) => {}
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(self.unusable(&error)),
            }
        }
        // Somebody removed the volume and left its mark.
        self.remove_volume(mark).await?;
        Ok(None)
    }

    /// Makes a container that is never started, writes an archive into it, and leaves it there: its
    /// name keeps the volume from being taken for a leftover.
    pub(super) async fn fill(
        &self,
        filler: &str,
        mount: Mount,
        archive: Bytes,
        image: &ResolvedImage,
        labels: HashMap<String, String>,
    ) -> Result<(), EngineError> {
        let body = ContainerCreateBody {
            image: Some(image.digest.clone()),
            // Never run: an image may have no command of its own, and then one must be named.
            entrypoint: Some(vec![confine::BINARY.to_owned()]),
            labels: Some(labels),
            network_disabled: Some(true),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                mounts: Some(vec![mount]),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let failed = |error: bollard::errors::Error| EngineError::at(EngineStep::Inject, &error);
        let options = CreateContainerOptionsBuilder::new().name(filler).build();
        self.client().create_container(Some(options), body).await.map_err(failed)?;
        let options = UploadToContainerOptionsBuilder::new().path("/").build();
        let archive = bollard::body_full(archive);
        self.client().upload_to_container(filler, Some(options), archive).await.map_err(failed)
    }

    async fn make_mark(
        &self,
        mark: &str,
        filled: &str,
        mut labels: HashMap<String, String>,
    ) -> Result<SandboxVolume, EngineError> {
        // The mark belongs to every install that carries this binary: nobody sweeps it.
        labels.remove(label::INSTALL);
        labels.insert(VOUCHES.to_owned(), filled.to_owned());
        let request = VolumeCreateRequest {
            name: Some(mark.to_owned()),
            labels: Some(labels),
            ..VolumeCreateRequest::default()
        };
        let made = self
            .client()
            .create_volume(request)
            .await
            .map_err(|error| EngineError::at(EngineStep::Inject, &error))?;
        let name = made.labels.get(VOUCHES).cloned().unwrap_or_else(|| filled.to_owned());
        Ok(SandboxVolume { name })
    }

    pub(super) async fn remove_filler(&self, name: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.client().remove_container(name, Some(options)).await {
            Err(error) if !is_absent(&error) => Err(EngineError::Leftover {
                what: Remains::Container,
                name: name.to_owned(),
                reason: crate::engine::error::said(&error),
            }),
            _ => Ok(()),
        }
    }

    pub(super) async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        let options = RemoveVolumeOptionsBuilder::new().force(true).build();
        match self.client().remove_volume(name, Some(options)).await {
            Err(error) if !is_absent(&error) => Err(EngineError::Leftover {
                what: Remains::Volume,
                name: name.to_owned(),
                reason: crate::engine::error::said(&error),
            }),
            _ => Ok(()),
        }
    }

    /// Each of them is tried; the first that stays is the error.
    pub(super) async fn remove_volumes(&self, names: &[String]) -> Result<(), EngineError> {
        let mut removed = Ok(());
        for name in names {
            removed = removed.and(self.remove_volume(name).await);
        }
        removed
    }

    /// The volumes that marks of this binary vouch for: what a sweep must leave alone.
    pub(super) async fn is_vouched(&self, sha256: &str, volume: &str) -> bool {
        match self.client().inspect_volume(&mark_name(sha256)).await {
            Ok(mark) => mark.labels.get(VOUCHES).is_some_and(|name| name == volume),
            // Whoever cannot be asked is left alone.
            Err(error) => !is_absent(&error),
        }
    }
}

pub(super) fn mark_name(sha256: &str) -> String {
    format!("airlock-sandbox-{}", &sha256[..sha256.len().min(24)])
}

/// One file, executable, root's, in a folder that is closed to everybody else.
///
/// THREAT: all containers share this file. Whoever can open it locks it, or watches others open it,
/// and so speaks with a sandbox of somebody else. Tried by
/// escape::beside::the_binary_is_no_way_to_another_sandbox.
fn archive(binary: &[u8], entry: &BinaryMount) -> std::io::Result<Bytes> {
    let mut archive = tar::Builder::new(Vec::with_capacity(binary.len() + 4096));
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_mode(0o700);
    archive.append_data(&mut header, entry.folder().trim_start_matches('/'), std::io::empty())?;
    let mut header = tar::Header::new_ustar();
    header.set_size(binary.len() as u64);
    header.set_mode(0o755);
    archive.append_data(&mut header, entry.program().trim_start_matches('/'), binary)?;
    Ok(archive.into_inner()?.into())
}
