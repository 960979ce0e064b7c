//! Each rule dropped in turn, and everything that a sandbox could report.

use std::collections::HashMap;

use airlock_shared::defaults;
use bollard::models::{
    ContainerInspectResponse, DeviceMapping, EndpointSettings, HostConfigCgroupnsModeEnum,
    MountPoint, NetworkSettings, RestartPolicy, RestartPolicyNameEnum,
};

use super::*;
use crate::engine::confine::{self, BinaryMount, ContainerSpec, WorkspaceMount};
use crate::engine::docker::inject::SandboxVolume;
use crate::engine::docker::plan::{self, Plan};
use crate::engine::docker::rules::{RuleContext, WrittenRules};
use crate::engine::docker::{ResolvedImage, verify};
use crate::engine::live::LiveDirectory;

mod own_kernel; // what its runtime does not show

fn spec(work: WorkspaceMount) -> ContainerSpec {
    ContainerSpec {
        session: "0".repeat(32),
        install: "1".repeat(32),
        lock: String::new(),
        owner: "tests".to_owned(),
        uid: defaults::TOOL_UID,
        memory: 128 << 20,
        cpus: 0.5,
        pids: 64,
        work,
    }
}

fn image() -> ResolvedImage {
    ResolvedImage {
        name: "image".to_owned(),
        digest: "image@sha256:1".to_owned(),
        id: "sha256:2".to_owned(),
        volumes: vec!["/data".to_owned()],
    }
}

fn plan() -> Plan {
    let sandbox = SandboxVolume { name: "airlock-sandbox-x".to_owned() };
    plan::plan(&spec(WorkspaceMount::EngineDisk), &image(), &sandbox, &BinaryMount::random())
}

/// The description by an engine that enforces everything.
fn answer(plan: &Plan) -> ContainerInspectResponse {
    let host = plan.body.host_config.clone().expect("written");
    let mounts = host.mounts.iter().flatten().map(|asked| MountPoint {
        typ: asked.typ.map(|kind| kind.to_string()),
        name: asked.source.clone(),
        source: Some("/var/lib/docker/volumes/x/_data".to_owned()),
        destination: asked.target.clone(),
        driver: Some("local".to_owned()),
        rw: Some(asked.read_only != Some(true)),
        ..MountPoint::default()
    });
    let networks = HashMap::from([("none".to_owned(), EndpointSettings::default())]);
    let paths = |all: &[&str]| Some(all.iter().map(|&path| path.to_owned()).collect());
    ContainerInspectResponse {
        image: Some("sha256:2".to_owned()),
        path: Some(plan.program.clone()),
        args: Some(vec![]),
        app_armor_profile: Some("docker-default".to_owned()),
        mounts: Some(mounts.collect()),
        network_settings: Some(NetworkSettings {
            networks: Some(networks),
            ..NetworkSettings::default()
        }),
        config: Some(ContainerConfig {
            user: plan.body.user.clone(),
            entrypoint: plan.body.entrypoint.clone(),
            cmd: plan.body.cmd.clone(),
            working_dir: plan.body.working_dir.clone(),
            stdin_once: plan.body.stdin_once,
            tty: plan.body.tty,
            healthcheck: plan.body.healthcheck.clone(),
            ..ContainerConfig::default()
        }),
        host_config: Some(HostConfig {
            masked_paths: paths(&["/proc/kcore", "/proc/keys", "/sys/firmware"]),
            readonly_paths: paths(&["/proc/sys", "/proc/sysrq-trigger"]),
            ..host
        }),
        ..ContainerInspectResponse::default()
    }
}

/// The refusal after a change of a description without violations.
fn lacking(change: impl Fn(&mut ContainerInspectResponse)) -> Vec<String> {
    let plan = plan();
    let mut found = answer(&plan);
    assert_eq!(verify::outside(&plan.checks, &found), []);
    change(&mut found);
    match refuse(verify::outside(&plan.checks, &found)) {
        Ok(()) => vec![],
        Err(EngineError::Weaker { missing }) => missing,
        Err(other) => panic!("{other}"),
    }
}

/// A change of the host configuration.
fn dropped(change: impl Fn(&mut HostConfig)) -> Vec<String> {
    lacking(|found| change(found.host_config.as_mut().expect("there")))
}

/// A directory of a person, with a repository in it.
fn live() -> (tempfile::TempDir, WorkspaceMount) {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir_all(directory.path().join("sub/.git")).expect("a directory");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(directory.path(), Some(12_345), Some(12_345)).expect("root may");
    }
    let work = WorkspaceMount::Live(LiveDirectory::look(directory.path()).expect("a tree"));
    (directory, work)
}

#[test]
fn every_rule_has_a_check() {
    let sandbox = SandboxVolume { name: "airlock-sandbox-x".to_owned() };
    let (_folder, live) = live();
    for work in [WorkspaceMount::EngineDisk, WorkspaceMount::Memory { bytes: 1 << 20 }, live] {
        let (spec, image, entry) = (spec(work), image(), BinaryMount::random());
        let meant = RuleContext { spec: &spec, image: &image, sandbox: &sandbox, entry: &entry };
        for constraint in confine::constraints(&spec) {
            let mut written = WrittenRules::default();
            written.rule(constraint.rule.clone(), &meant);
            assert!(
                !written.checks.is_empty(),
                "{:?} is requested and not checked",
                constraint.rule
            );
        }
    }
}

#[test]
fn each_rule_that_is_dropped_is_named() {
    let some = || Some(vec!["x".to_owned()]);
    let cases: [(Vec<String>, &str); 38] = [
        (dropped(|it| it.memory = Some(0)), "no memory limit"),
        (dropped(|it| it.memory_swap = Some(-1)), "swap is not limited"),
        (dropped(|it| it.oom_kill_disable = Some(true)), "the memory limit does not kill"),
        (dropped(|it| it.pids_limit = None), "no limit of processes"),
        (dropped(|it| it.cpu_quota = Some(0)), "no processor limit"),
        (dropped(|it| it.shm_size = None), "shared memory is not limited"),
        (dropped(|it| it.network_mode = Some("host".into())), "a network was given to it"),
        (
            dropped(|it| it.cap_add = Some(vec!["CAP_SYS_ADMIN".into()])),
            "other capabilities than were asked for",
        ),
        (dropped(|it| it.cap_drop = None), "capabilities are not dropped"),
        (dropped(|it| it.readonly_rootfs = None), "the root can be written"),
        (dropped(|it| it.security_opt = None), "new privileges can be gained"),
        (
            dropped(|it| {
                it.security_opt.get_or_insert_default().push("seccomp=unconfined".into());
            }),
            "a security profile is switched off",
        ),
        (
            lacking(|it| it.app_armor_profile = Some("unconfined".into())),
            "a security profile is switched off",
        ),
        (dropped(|it| it.masked_paths = Some(vec![])), "files of the kernel are not hidden"),
        (dropped(|it| it.readonly_paths = Some(vec![])), "settings of the kernel can be written"),
        (dropped(|it| it.privileged = Some(true)), "it is privileged"),
        (dropped(|it| it.pid_mode = Some("host".into())), "it sees processes outside of it"),
        (dropped(|it| it.uts_mode = Some("host".into())), "it can rename the host machine"),
        (dropped(|it| it.userns_mode = Some("host".into())), "it shares the host's user ids"),
        (
            dropped(|it| it.devices = Some(vec![DeviceMapping::default()])),
            "it has devices of the host",
        ),
        (
            dropped(|it| it.device_cgroup_rules = Some(vec!["a *:* rwm".into()])),
            "it has devices of the host",
        ),
        (dropped(|it| it.binds = some()), "it has bind mounts not asked for"),
        (dropped(|it| it.volumes_from = some()), "it has foreign volumes"),
        (dropped(|it| it.links = some()), "it is linked with another container"),
        (dropped(|it| it.group_add = some()), "it is in groups that were not asked for"),
        (
            dropped(|it| it.sysctls = Some(HashMap::from([("a".into(), "b".into())]))),
            "other settings of the kernel",
        ),
        (dropped(|it| it.sysctls = None), "other settings of the kernel"),
        (dropped(|it| it.log_config = None), "the engine keeps a log of the pipe"),
        (
            dropped(|it| it.ipc_mode = Some("shareable".into())),
            "memory is shared with other containers",
        ),
        (
            dropped(|it| it.cgroupns_mode = Some(HostConfigCgroupnsModeEnum::HOST)),
            "the host's cgroup names are shown",
        ),
        (dropped(|it| it.ulimits = None), "other limits of descriptors and core files"),
        (
            dropped(|it| {
                it.tmpfs.get_or_insert_default().insert("/x".into(), String::new());
            }),
            "other file systems in memory",
        ),
        (dropped(|it| it.init = Some(true)), "another program"),
        (
            dropped(|it| {
                let name = Some(RestartPolicyNameEnum::ALWAYS);
                it.restart_policy = Some(RestartPolicy { name, ..RestartPolicy::default() });
            }),
            "it would outlive its host",
        ),
        (
            lacking(|it| {
                let networks = HashMap::from([("bridge".into(), EndpointSettings::default())]);
                it.network_settings = Some(NetworkSettings {
                    networks: Some(networks),
                    ..NetworkSettings::default()
                });
            }),
            "a network was given to it",
        ),
        (
            lacking(|it| it.image = Some("sha256:3".into())),
            "it has another image than was asked for",
        ),
        (lacking(|it| it.path = Some("/evil".into())), "another program"),
        (lacking(|it| it.config.as_mut().expect("there").user = None), "another user"),
    ];
    for (found, expected) in cases {
        assert_eq!(found, [expected]);
    }
}

#[test]
fn mounts_are_exactly_the_requested_ones() {
    let changes: [fn(&mut Vec<MountPoint>); 6] = [
        |all| all.push(MountPoint { destination: Some("/x".into()), ..Default::default() }),
        |all| all[0].name = Some("airlock-sandbox-other".into()),
        |all| all[0].rw = Some(true),
        |all| all[0].driver = Some("nfs".into()),
        |all| all[0].typ = Some("bind".into()),
        |all| drop(all.remove(0)),
    ];
    for change in changes {
        let found = lacking(|it| change(it.mounts.as_mut().expect("there")));
        assert_eq!(found, ["other mounts than were asked for"]);
    }
}

/// What a sandbox reports if everything is in place.
fn held() -> Confinement {
    let mounted = |at: &str, kind: &str, options: &str| {
        let mounted =
            Mounted { at: at.to_owned(), kind: kind.to_owned(), options: options.to_owned() };
        (at.to_owned(), Some(mounted))
    };
    let open = "rw,nosuid,nodev,relatime";
    Confinement {
        seccomp: 2,
        no_new_privs: 1,
        capabilities: "00000000000000c0".to_owned(),
        mounts: [
            mounted(defaults::WORKSPACE_PATH, "tmpfs", open),
            mounted("/tmp", "tmpfs", open),
            mounted("/run", "tmpfs", "rw,nosuid,nodev,noexec,relatime"),
            mounted(defaults::HOME_PATH, "tmpfs", open),
            mounted("/proc", "proc", "rw,nosuid,nodev,noexec,relatime"),
            mounted("/proc/sys", "proc", "ro,nosuid,nodev,noexec,relatime"),
            mounted("/sys", "sysfs", "ro,nosuid,nodev,noexec,relatime"),
            mounted("/dev", "tmpfs", "rw,nosuid"),
            mounted("/dev/pts", "devpts", "rw,relatime"),
        ]
        .into(),
        settings: [
            ("kernel.shm_rmid_forced", "1"),
            ("kernel.sem", "250 32000 100 128"),
            ("kernel.msgmni", "128"),
        ]
        .map(|(name, value)| (name.to_owned(), Some(value.to_owned())))
        .into(),
    }
}

/// The refusal after a change of what a sandbox reports.
fn refusal(change: impl Fn(&mut Confinement)) -> Result<(), EngineError> {
    let mut found = held();
    change(&mut found);
    let sandbox = SandboxVolume { name: "airlock-sandbox-x".to_owned() };
    let spec = spec(WorkspaceMount::Memory { bytes: 1 << 20 });
    let plan = plan::plan(&spec, &image(), &sandbox, &BinaryMount::random());
    refuse(verify::inside(&plan.checks, Some(&found), &[]))
}

#[test]
fn what_the_sandbox_reports_is_checked() {
    assert_eq!(refusal(|_| {}), Ok(()));
    assert_eq!(refusal(|it| it.seccomp = 0), Err(EngineError::NoFilter));
    let weaker = |rule: &str| Err(EngineError::Weaker { missing: vec![rule.to_owned()] });
    assert_eq!(refusal(|it| it.no_new_privs = 0), weaker("new privileges can be gained"));
    assert_eq!(
        refusal(|it| it.capabilities = "000001ffffffffff".to_owned()),
        weaker("it has other capabilities than were asked for")
    );
    let writable = |path: &'static str| {
        move |it: &mut Confinement| {
            let found = it.mounts.get_mut(path).and_then(Option::as_mut).expect("there");
            found.options = found.options.replace("ro,", "rw,");
        }
    };
    for value in [Some("0".to_owned()), None] {
        let name = "kernel.shm_rmid_forced";
        let other = refusal(|it| drop(it.settings.insert(name.into(), value.clone())));
        assert_eq!(other, weaker("other settings of the kernel"));
    }
    let settings = || weaker("settings of the kernel can be written");
    assert_eq!(refusal(writable("/proc/sys")), settings());
    assert_eq!(refusal(writable("/sys")), settings());
    assert_eq!(refusal(|it| drop(it.mounts.insert("/proc/sys".into(), None))), settings());
    assert_eq!(
        refuse(verify::inside(&plan().checks, None, &[])),
        weaker("the sandbox does not report its confinement")
    );
}

#[test]
fn a_path_that_the_image_redirects_is_refused() {
    let moved = |path: &'static str, at: &'static str| {
        refusal(move |it| {
            it.mounts.get_mut(path).and_then(Option::as_mut).expect("there").at = at.to_owned();
        })
    };
    let elsewhere = |paths: &[&str]| {
        let paths = paths.iter().map(|&path| path.to_owned()).collect();
        Err(EngineError::ImagePaths { paths })
    };
    // Where ordinary images have such directories.
    for (path, at) in
        [("/run", "/var/run"), ("/home/agent", "/var/home/agent"), ("/tmp", "/var/tmp")]
    {
        assert_eq!(moved(path, at), Ok(()), "{path} {at}");
    }
    for at in ["/etc", "/proc/1/tmp", "/dev/tmp", "/workspace/tmp", "/run/tmp", "/"] {
        assert_eq!(moved("/tmp", at), elsewhere(&["/tmp"]), "{at}");
    }
    // Two mounts that are one.
    assert_eq!(moved("/tmp", "/run"), elsewhere(&["/tmp", "/run"]));
    // Covered by a volume of the image, or not mounted at all.
    let covered = refusal(|it| {
        it.mounts.get_mut("/tmp").and_then(Option::as_mut).expect("there").kind = "ext4".into();
    });
    assert_eq!(covered, elsewhere(&["/tmp"]));
    let none = refusal(|it| drop(it.mounts.insert("/workspace".into(), None)));
    assert_eq!(none, elsewhere(&["/workspace"]));
    let sticky = refusal(|it| {
        let found = it.mounts.get_mut("/workspace").and_then(Option::as_mut).expect("there");
        found.options = "ro,nosuid,nodev".into();
    });
    assert_eq!(sticky, elsewhere(&["/workspace"]));
}
