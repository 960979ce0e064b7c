//! What the engine made of the terms. An engine may take a limit and drop it with a warning (no
//! cgroup for it), or not know a field at all; so the container is read back before it is started.
//!
//! Pure: what was asked beside what is there gives the list of what is missing.

use std::collections::{BTreeMap, BTreeSet};

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, HostConfig, HostConfigCgroupnsModeEnum,
};

/// Each term that does not hold, in a person's words; empty when all do.
pub(super) fn missing(
    asked: &ContainerCreateBody,
    found: &ContainerInspectResponse,
) -> Vec<String> {
    let mut missing = Vec::new();
    let mut must = |holds: bool, what: &str| {
        if !holds {
            missing.push(what.to_owned());
        }
    };
    let none = HostConfig::default();
    let wanted = asked.host_config.as_ref().unwrap_or(&none);
    let host = found.host_config.as_ref().unwrap_or(&none);

    must(host.network_mode.as_deref() == Some("none"), "a network was given to the box");
    must(host.privileged != Some(true), "the box is privileged");
    must(capabilities(host.cap_drop.as_ref()).contains("ALL"), "capabilities are not dropped");
    must(
        capabilities(host.cap_add.as_ref()) == capabilities(wanted.cap_add.as_ref()),
        "other capabilities than were asked for",
    );
    must(
        host.security_opt.iter().flatten().any(|o| {
            matches!(
                o.as_str(),
                "no-new-privileges" | "no-new-privileges:true" | "no-new-privileges=true"
            )
        }),
        "new privileges can be gained",
    );
    must(
        !host.security_opt.iter().flatten().any(|option| option.contains("unconfined")),
        "a security profile is switched off",
    );
    must(host.readonly_rootfs == Some(true), "the root can be written");
    must(
        host.log_config.as_ref().and_then(|log| log.typ.as_deref()) == Some("none"),
        "the engine keeps a log of the pipe",
    );
    must(
        matches!(host.ipc_mode.as_deref(), Some("private" | "none")),
        "memory is shared with other containers",
    );
    must(
        !matches!(host.cgroupns_mode, Some(HostConfigCgroupnsModeEnum::HOST)),
        "the host's cgroup names are shown",
    );
    must(is_own(host.pid_mode.as_deref()), "processes of others are seen");
    must(is_own(host.uts_mode.as_deref()), "the host's name can be changed");
    must(host.memory == wanted.memory, "no memory limit");
    must(host.memory_swap == wanted.memory_swap, "swap is not limited");
    must(
        (host.cpu_quota, host.cpu_period) == (wanted.cpu_quota, wanted.cpu_period),
        "no processor limit",
    );
    must(host.pids_limit == wanted.pids_limit, "no limit of processes");
    must(host.ulimits == wanted.ulimits, "other limits of descriptors and core files");
    must(host.tmpfs == wanted.tmpfs, "other file systems in memory");
    must(host.oom_kill_disable != Some(true), "the memory limit does not kill");
    must(host.devices.iter().flatten().next().is_none(), "devices of the host are in the box");
    must(host.binds.iter().flatten().next().is_none(), "paths that nobody asked for are bound");
    must(host.volumes_from.iter().flatten().next().is_none(), "another container's volumes");

    // What is mounted is read from the container, not from what we sent: the image may add to it.
    let asked_mounts: BTreeMap<&str, bool> = wanted
        .mounts
        .iter()
        .flatten()
        .filter_map(|mount| Some((mount.target.as_deref()?, mount.read_only != Some(true))))
        .collect();
    let found_mounts: BTreeMap<&str, bool> = found
        .mounts
        .iter()
        .flatten()
        .filter_map(|mount| Some((mount.destination.as_deref()?, mount.rw != Some(false))))
        .filter(|(at, _)| !wanted.tmpfs.as_ref().is_some_and(|tmpfs| tmpfs.contains_key(*at)))
        .collect();
    must(asked_mounts == found_mounts, "other mounts than were asked for");

    let config = found.config.as_ref();
    let same = |ours: Option<&Vec<String>>, theirs: Option<&Vec<String>>| {
        ours.map_or(&[][..], Vec::as_slice) == theirs.map_or(&[][..], Vec::as_slice)
    };
    must(config.and_then(|c| c.user.as_deref()) == asked.user.as_deref(), "another user");
    must(
        same(asked.entrypoint.as_ref(), config.and_then(|c| c.entrypoint.as_ref()))
            && same(asked.cmd.as_ref(), config.and_then(|c| c.cmd.as_ref())),
        "another program",
    );
    must(
        config.and_then(|c| c.stdin_once) == Some(true) && config.and_then(|c| c.tty) != Some(true),
        "the box would outlive its host",
    );
    must(
        config
            .and_then(|c| c.healthcheck.as_ref())
            .is_none_or(|check| matches!(check.test.as_deref(), Some([only]) if only == "NONE")),
        "the image's health check",
    );
    missing
}

/// Names as the engines write them: with or without `CAP_`.
fn capabilities(names: Option<&Vec<String>>) -> BTreeSet<String> {
    names
        .into_iter()
        .flatten()
        .map(|name| name.to_ascii_uppercase())
        .map(|name| name.strip_prefix("CAP_").map_or(name.clone(), str::to_owned))
        .collect()
}

/// A namespace that is not the host's nor another container's.
fn is_own(mode: Option<&str>) -> bool {
    matches!(mode, None | Some("" | "private"))
}
