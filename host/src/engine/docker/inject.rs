//! Puts our binary on the engine, once for each version: in a volume that containers mount read-only.
//! This needs nothing from an image, works with a read-only root and with a remote engine, and costs
//! a session two look-ups.
//!
//! ```text
//! airlock-sandbox-<sha>          the mark: an empty volume whose label names ↓
//! airlock-sandbox-<sha>-<once>   the binary, put there through a container that is never started
//! ```
//!
//! The mark is made last. If a volume exists, making it again returns the existing one. So if two
//! hosts upload at once, one of them makes the mark, and both use the volume that it names. No mark
//! names an upload that was interrupted: it is never used, and a sweep removes it.
//!
//! # Why not a mark in the volume
//! Each session would need a container only to read it. And two hosts could still overwrite each
//! other's file while containers start from it.

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

/// The label of a mark that names the volume with the binary. Early releases used another label, for
/// volumes whose directory was open to commands; those must not be used.
const MARKED_VOLUME: &str = "airlock.closed-volume";

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
    /// Puts our binary on the engine if it is not there yet. The container for the upload, which is
    /// never started, is made from `image`; `spec` says which install may sweep it after a crash.
    ///
    /// # Errors
    /// If the upload fails.
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
        if let Some(complete) = self.marked_volume(&mark).await? {
            return Ok(complete);
        }
        let once: [u8; 8] = rand::random();
        let once: String = once.iter().map(|byte| format!("{byte:02x}")).collect();
        let filling = format!("{mark}-{once}");
        let labels = HashMap::from([
            (label::BINARY.to_owned(), sha256.to_owned()),
            (label::INSTALL.to_owned(), spec.install.clone()),
        ]);

        // A random path, so that the image cannot have anything there.
        let entry = BinaryMount::random();
        let archive = archive(binary, &entry)
            .map_err(|error| EngineError::broke(EngineStep::Inject, &error))?;
        let mut of_session = plan::labels(spec);
        of_session.extend(labels.clone());
        let mount = plan::volume(&filling, entry.directory(), false, Some(labels.clone()));
        let filled = self.fill(&filling, mount, archive, image, of_session).await;
        let complete = match filled {
            // The container still exists, so that no sweep removes the volume as a leftover.
            Ok(()) => self.make_mark(&mark, &filling, labels).await,
            Err(error) => Err(error),
        };
        let removed = self.remove_filler(&filling).await;
        let complete = match complete {
            Ok(complete) => complete,
            // A sweep removes the volume later, because no mark names it.
            Err(error) => return Err(objects::after(error, removed.err())),
        };
        removed?;
        if complete.name != filling {
            self.remove_volume(&filling).await?;
        }
        Ok(complete)
    }

    /// The volume that the mark names, if both exist.
    async fn marked_volume(&self, mark: &str) -> Result<Option<SandboxVolume>, EngineError> {
        let found = match self.client().inspect_volume(mark).await {
            Ok(found) => found,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(self.unusable(&error)),
        };
        if let Some(name) = found.labels.get(MARKED_VOLUME) {
            match self.client().inspect_volume(name).await {
                // Without the label, the engine made it anew and empty, because a container named it.
                Ok(volume) if volume.labels.contains_key(label::BINARY) => {
                    return Ok(Some(SandboxVolume { name: name.clone() }));
                }
                Ok(_) => {}
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(self.unusable(&error)),
            }
        }
        // The volume was removed, and its mark is still there.
        self.remove_volume(mark).await?;
        Ok(None)
    }

    /// Makes a container that is never started, and writes an archive into it. The container stays,
    /// because a sweep does not remove a volume that is in use.
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
            // It never runs, but the engine wants a command, and the image may have none.
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
        // The mark belongs to every install with this binary, so no install sweeps it.
        labels.remove(label::INSTALL);
        labels.insert(MARKED_VOLUME.to_owned(), filled.to_owned());
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
        let name = made.labels.get(MARKED_VOLUME).cloned().unwrap_or_else(|| filled.to_owned());
        Ok(SandboxVolume { name })
    }

    pub(super) async fn remove_filler(&self, name: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.client().remove_container(name, Some(options)).await {
            Err(error) if !is_absent(&error) => Err(EngineError::Leftover {
                what: Remains::Container,
                name: name.to_owned(),
                reason: crate::engine::error::engine_message(&error),
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
                reason: crate::engine::error::engine_message(&error),
            }),
            _ => Ok(()),
        }
    }

    /// Tries to remove each of them; the error is that of the first failure.
    pub(super) async fn remove_volumes(&self, names: &[String]) -> Result<(), EngineError> {
        let mut removed = Ok(());
        for name in names {
            removed = removed.and(self.remove_volume(name).await);
        }
        removed
    }

    /// Whether the mark of this binary names the volume; then a sweep must not remove it.
    pub(super) async fn is_marked(&self, sha256: &str, volume: &str) -> bool {
        match self.client().inspect_volume(&mark_name(sha256)).await {
            Ok(mark) => mark.labels.get(MARKED_VOLUME).is_some_and(|name| name == volume),
            // If the mark cannot be read, the volume is kept.
            Err(error) => !is_absent(&error),
        }
    }
}

pub(super) fn mark_name(sha256: &str) -> String {
    format!("airlock-sandbox-{}", &sha256[..sha256.len().min(24)])
}

/// One executable file, owned by root, in a directory that only root can enter.
///
/// THREAT: all containers share this file. A command that can open it can lock it, or watch others
/// open it, and so signal to another person's sandbox. Tried by
/// escape::beside::the_binary_is_no_way_to_another_sandbox.
fn archive(binary: &[u8], entry: &BinaryMount) -> std::io::Result<Bytes> {
    let mut archive = tar::Builder::new(Vec::with_capacity(binary.len() + 4096));
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_mode(0o700);
    archive.append_data(
        &mut header,
        entry.directory().trim_start_matches('/'),
        std::io::empty(),
    )?;
    let mut header = tar::Header::new_ustar();
    header.set_size(binary.len() as u64);
    header.set_mode(0o755);
    archive.append_data(&mut header, entry.program().trim_start_matches('/'), binary)?;
    Ok(archive.into_inner()?.into())
}
