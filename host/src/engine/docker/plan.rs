//! The request for a container: its names, its labels, its constraints. Pure.

use std::collections::HashMap;

use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType, MountVolumeOptions};

use super::inject::SandboxVolume;
use super::rules::{RuleCheck, RuleContext, WrittenRules};
use super::{ResolvedImage, label};
use crate::engine::confine::{self, BinaryMount, ContainerSpec};

/// The container's name, which people can recognise as ours.
pub(super) fn container_name(session: &str) -> String {
    format!("airlock-{session}")
}

/// The name of the container, never started, through which the session's volume gets its owner.
pub(super) fn filler_name(session: &str) -> String {
    format!("{}-fill", container_name(session))
}

/// The session's volume, if its copy is on the engine's disk.
pub(super) fn work_volume(session: &str) -> String {
    format!("airlock-work-{session}")
}

/// The volume that becomes its `/dev/pts`.
pub(super) fn terminals_volume(session: &str) -> String {
    format!("{}-pts", work_volume(session))
}

/// The session's own volumes, which are removed with its container.
pub(super) fn own_volumes(spec: &ContainerSpec, body: &ContainerCreateBody) -> Vec<String> {
    let prefix = work_volume(&spec.session);
    let mounts = body.host_config.iter().flat_map(|host| host.mounts.iter().flatten());
    mounts
        .filter(|mount| mount.typ == Some(MountType::VOLUME))
        .filter_map(|mount| mount.source.clone())
        .filter(|name| name.starts_with(&prefix))
        .collect()
}

/// The paths that the image declares as volumes and that we do not mount over.
fn image_volumes(session: &str, image: &ResolvedImage, host: &HostConfig) -> Vec<(String, String)> {
    let taken = |path: &str| {
        host.tmpfs.as_ref().is_some_and(|tmpfs| tmpfs.contains_key(path))
            || host.mounts.iter().flatten().any(|mount| mount.target.as_deref() == Some(path))
    };
    let paths = image.volumes.iter().filter(|path| !taken(path.trim_end_matches('/')));
    paths
        .enumerate()
        .map(|(n, path)| (format!("{}-{n}", work_volume(session)), path.clone()))
        .collect()
}

/// The labels of everything that a session makes.
pub(super) fn labels(spec: &ContainerSpec) -> HashMap<String, String> {
    let uid = spec.tool().0.to_string();
    let labels = [
        (label::INSTALL, &spec.install),
        (label::SESSION, &spec.session),
        (label::OWNER, &spec.owner),
        (label::LOCK, &spec.lock),
        (label::UID, &uid),
    ];
    let set = labels.into_iter().filter(|(_, value)| !value.is_empty());
    set.map(|(name, value)| (name.to_owned(), value.clone())).collect()
}

/// The request for a container, and the checks of what comes of it.
pub(super) struct Plan {
    pub(super) body: ContainerCreateBody,
    pub(super) checks: Vec<RuleCheck>,
    /// The path of our binary in it.
    pub(super) program: String,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan").field("body", &self.body).finish_non_exhaustive()
    }
}

/// Writes the request.
pub(super) fn plan(
    spec: &ContainerSpec,
    image: &ResolvedImage,
    sandbox: &SandboxVolume,
    entry: &BinaryMount,
) -> Plan {
    let mut written = WrittenRules::default();
    let context = RuleContext { spec, image, sandbox, entry };
    for constraint in confine::constraints(spec) {
        written.rule(constraint.rule, &context);
    }
    // THREAT: a VOLUME of the image would be a writable directory without a quota. As a named volume,
    // read-only, it shows the image's files and takes no others. Tried by
    // engine::docker::tests::a_volume_of_the_image_is_read_only.
    for (name, path) in image_volumes(&spec.session, image, &written.host) {
        let mut shown = volume(&name, &path, true, Some(labels(spec)));
        if let Some(options) = &mut shown.volume_options {
            options.no_copy = Some(false);
        }
        written.mount(shown);
    }
    written.nothing_else();
    let WrittenRules { mut body, host, checks } = written;
    body.labels = Some(labels(spec));
    body.host_config = Some(host);
    Plan { body, checks, program: entry.program() }
}

/// A named volume; the image's files at that path are not copied into it.
pub(super) fn volume(
    name: &str,
    at: &str,
    read_only: bool,
    labels: Option<HashMap<String, String>>,
) -> Mount {
    Mount {
        target: Some(at.to_owned()),
        source: Some(name.to_owned()),
        typ: Some(MountType::VOLUME),
        read_only: Some(read_only),
        volume_options: Some(MountVolumeOptions {
            no_copy: Some(true),
            labels,
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    }
}
