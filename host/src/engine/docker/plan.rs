//! The terms of a box in the engine's words. Pure: one match, in which a term that is new must be
//! said before anything compiles.

use std::collections::HashMap;

use airlock_shared::defaults;
use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig,
    Mount, MountBindOptions, MountBindOptionsPropagationEnum, MountType, MountVolumeOptions,
    ResourcesUlimits,
};

use super::inject::SandboxVolume;
use super::{ResolvedImage, label};
use crate::engine::confine::{self, BoxSpec, Term};

/// The container's name: ours can be told from others' by people too.
pub(super) fn container_name(run: &str) -> String {
    format!("airlock-{run}")
}

/// The container, never started, through which a run's volume gets its owner.
pub(super) fn filler_name(run: &str) -> String {
    format!("{}-fill", container_name(run))
}

/// The volume of a run whose copy is on the engine's disk.
pub(super) fn work_volume(run: &str) -> String {
    format!("airlock-work-{run}")
}

/// The volumes that this run's container brings with it: what goes when the container goes.
pub(super) fn own_volumes(spec: &BoxSpec, body: &ContainerCreateBody) -> Vec<String> {
    let prefix = work_volume(&spec.run);
    let mounts = body.host_config.iter().flat_map(|host| host.mounts.iter().flatten());
    mounts
        .filter(|mount| mount.typ == Some(MountType::VOLUME))
        .filter_map(|mount| mount.source.clone())
        .filter(|name| name.starts_with(&prefix))
        .collect()
}

/// The paths that the image wants to be volumes, where nothing of ours is mounted.
fn image_volumes(run: &str, image: &ResolvedImage, host: &HostConfig) -> Vec<(String, String)> {
    let taken = |path: &str| {
        host.tmpfs.as_ref().is_some_and(|tmpfs| tmpfs.contains_key(path))
            || host.mounts.iter().flatten().any(|mount| mount.target.as_deref() == Some(path))
    };
    let paths = image.volumes.iter().filter(|path| !taken(path.trim_end_matches('/')));
    paths.enumerate().map(|(n, path)| (format!("{}-{n}", work_volume(run)), path.clone())).collect()
}

/// The labels of everything a run makes.
pub(super) fn labels(spec: &BoxSpec) -> HashMap<String, String> {
    HashMap::from([
        (label::INSTALL.to_owned(), spec.install.clone()),
        (label::RUN.to_owned(), spec.run.clone()),
        (label::OWNER.to_owned(), spec.owner.clone()),
    ])
}

/// What is sent to make the container.
pub(super) fn body(
    spec: &BoxSpec,
    image: &ResolvedImage,
    sandbox: &SandboxVolume,
) -> ContainerCreateBody {
    let mut body = ContainerCreateBody {
        image: Some(image.digest.clone()),
        entrypoint: Some(vec![confine::BINARY_PATH.to_owned()]),
        cmd: Some(vec![]),
        working_dir: Some("/".to_owned()),
        tty: Some(false),
        labels: Some(labels(spec)),
        ..ContainerCreateBody::default()
    };
    let mut host = HostConfig { init: Some(false), ..HostConfig::default() };
    for clause in confine::clauses(spec) {
        write(clause.term, spec, sandbox, &mut body, &mut host);
    }
    // THREAT: a VOLUME of the image would be a writable folder without a quota. As a named volume,
    // read-only, it shows the image's files and takes none. Tried by
    // engine::docker::tests::a_volume_of_the_image_is_read_only.
    for (name, path) in image_volumes(&spec.run, image, &host) {
        let mut shown = volume(&name, &path, true, Some(labels(spec)));
        if let Some(options) = &mut shown.volume_options {
            options.no_copy = Some(false);
        }
        mount(&mut host, shown);
    }
    body.host_config = Some(host);
    body
}

fn write(
    term: Term,
    spec: &BoxSpec,
    sandbox: &SandboxVolume,
    body: &mut ContainerCreateBody,
    host: &mut HostConfig,
) {
    match term {
        Term::NoNetwork => host.network_mode = Some("none".to_owned()),
        Term::NoCapabilitiesBut(few) => {
            host.cap_drop = Some(vec!["ALL".to_owned()]);
            host.cap_add = Some(few.iter().map(|&name| name.to_owned()).collect());
        }
        Term::NoNewPrivileges => host.security_opt = Some(vec!["no-new-privileges".to_owned()]),
        Term::ReadOnlyRoot => host.readonly_rootfs = Some(true),
        Term::NoLog => {
            host.log_config =
                Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None });
        }
        Term::OwnIpc => host.ipc_mode = Some("private".to_owned()),
        Term::OwnCgroups => host.cgroupns_mode = Some(HostConfigCgroupnsModeEnum::PRIVATE),
        Term::NoHealthCheck => {
            body.healthcheck = Some(HealthConfig {
                test: Some(vec!["NONE".to_owned()]),
                ..HealthConfig::default()
            });
        }
        Term::User(user) => body.user = Some(user.to_owned()),
        Term::Memory(bytes) => {
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            host.memory = Some(bytes);
            host.memory_swap = Some(bytes);
        }
        Term::Cpus(quota) => {
            host.cpu_period = Some(confine::CPU_PERIOD);
            host.cpu_quota = Some(quota);
        }
        Term::Pids(count) => host.pids_limit = Some(count),
        Term::OpenFiles(count) => limit(host, "nofile", count),
        Term::NoCore => limit(host, "core", 0),
        Term::Shared(bytes) => host.shm_size = Some(bytes),
        Term::Scratch { at, bytes, inodes, owner: (uid, gid), mode, exec } => {
            // Without `exec` the engine adds `noexec`.
            let exec = if exec { "exec" } else { "noexec" };
            let options = format!(
                "rw,{exec},nosuid,nodev,size={bytes},nr_inodes={inodes},mode={mode:o},uid={uid},gid={gid}"
            );
            host.tmpfs.get_or_insert_default().insert(at.to_owned(), options);
        }
        Term::Binary => mount(host, volume(&sandbox.name, confine::BINARY_FOLDER, true, None)),
        Term::WorkVolume => {
            let name = work_volume(&spec.run);
            mount(host, volume(&name, defaults::WORKSPACE_PATH, false, Some(labels(spec))));
        }
        // Never `Binds`: of a path that is missing on the engine's machine they silently make a
        // folder there, where a mount fails.
        Term::Bind { from, at, writable } => mount(
            host,
            Mount {
                target: Some(at),
                source: Some(from),
                typ: Some(MountType::BIND),
                read_only: Some(!writable),
                bind_options: Some(MountBindOptions {
                    propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
                    ..MountBindOptions::default()
                }),
                ..Mount::default()
            },
        ),
        Term::Pipe => {
            body.open_stdin = Some(true);
            body.stdin_once = Some(true);
            body.attach_stdin = Some(true);
            body.attach_stdout = Some(true);
            body.attach_stderr = Some(true);
        }
    }
}

/// A named volume; never filled from what the image has in its place.
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

fn mount(host: &mut HostConfig, mount: Mount) {
    host.mounts.get_or_insert_default().push(mount);
}

fn limit(host: &mut HostConfig, name: &str, count: i64) {
    host.ulimits.get_or_insert_default().push(ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: Some(count),
        hard: Some(count),
    });
}
