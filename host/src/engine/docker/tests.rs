//! Tests against the real engine of this machine. They make everything under their own install, and
//! remove it.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, ContainerInspectResponse, ExecConfig, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveImageOptionsBuilder,
};
use futures_util::{StreamExt, TryStreamExt};

use super::*;
use crate::engine::base;
use crate::engine::confine::{BinaryMount, ContainerSpec, WorkspaceMount};
use crate::engine::error::{EngineError, EngineStep};
use crate::engine::live::LiveDirectory;

mod images; // the base image, and images that cannot be had
mod refused; // containers that are not what was asked for

async fn engine() -> Docker {
    match Docker::connect(&EngineChoice::from_environment()).await {
        Ok(docker) => docker,
        Err(error) => panic!("these tests need a Docker engine. {error}"),
    }
}

fn id() -> String {
    let bytes: [u8; 16] = rand::random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn spec(work: WorkspaceMount) -> ContainerSpec {
    ContainerSpec {
        session: id(),
        install: id(),
        lock: String::new(),
        owner: "tests".to_owned(),
        uid: 64_200,
        memory: 128 << 20,
        cpus: 0.5,
        pids: 64,
        work,
    }
}

const IN_MEMORY: WorkspaceMount = WorkspaceMount::Memory { bytes: 8 << 20 };

async fn base(docker: &Docker) -> ResolvedImage {
    // Otherwise two tests that find no image would both make it.
    static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _one = ONE.lock().await;
    base::ensure(docker, &mut |_| {}).await.unwrap().0
}

/// An image with nothing in it but the change.
async fn empty(docker: &Docker, change: &str) -> ResolvedImage {
    let name = format!("airlock-trial-{}", id());
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(0);
    header.set_mode(0o644);
    archive.append_data(&mut header, "empty", std::io::empty()).unwrap();
    let options = CreateImageOptionsBuilder::new().from_src("-").repo(&name).tag("1");
    let options = options.changes(vec![change.to_owned()]).build();
    let body = bollard::body_full(archive.into_inner().unwrap().into());
    let lines = docker.client().create_image(Some(options), Some(body), None);
    lines.try_collect::<Vec<_>>().await.unwrap();
    docker.find_image(&format!("{name}:1")).await.unwrap().unwrap()
}

async fn remove_image(docker: &Docker, image: &ResolvedImage) {
    let options = RemoveImageOptionsBuilder::new().force(true).build();
    docker.client().remove_image(&image.name, Some(options), None).await.unwrap();
}

/// The output of a command that runs as `user` in a started container.
async fn output_of(docker: &Docker, name: &str, user: &str, script: &str) -> String {
    let config = ExecConfig {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        user: Some(user.to_owned()),
        cmd: Some(["sh", "-c", script].map(str::to_owned).to_vec()),
        ..ExecConfig::default()
    };
    let exec = docker.client().create_exec(name, config).await.unwrap();
    let started = docker.client().start_exec(&exec.id, None).await.unwrap();
    let bollard::exec::StartExecResults::Attached { output, .. } = started else {
        panic!("detached")
    };
    let parts: Vec<_> = output.try_collect().await.unwrap();
    parts.iter().map(ToString::to_string).collect::<String>().trim().to_owned()
}

async fn is_there(docker: &Docker, name: &str) -> bool {
    docker.client().inspect_container(name, None).await.is_ok()
}

#[tokio::test]
async fn an_empty_image_becomes_a_sandbox_and_nothing_is_left_of_it() {
    let docker = engine().await;
    let image = empty(&docker, "LABEL airlock.trial=tests").await;
    assert!(image.digest.starts_with("sha256:"), "it never was in a registry: {}", image.digest);
    let spec = spec(IN_MEMORY);
    let sandbox = docker.prepare(&image, &spec).await.unwrap();
    let created = docker.plan(spec, &image, &sandbox).create().await.unwrap();
    let ready = created.start().await.unwrap();
    let name = ready.name().to_owned();
    let running = ready.hand_over(b"exit 3\n").await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), running.ended()).await;
    let ended = ended.unwrap().unwrap();
    assert!(!ended.out_of_memory && ended.code != 0, "{ended:?}");
    running.remove().await.unwrap();
    assert!(!is_there(&docker, &name).await);
    remove_image(&docker, &image).await;
}

#[tokio::test]
async fn the_constraints_hold_in_the_sandbox() {
    let docker = engine().await;
    let image = base(&docker).await;
    let spec = spec(IN_MEMORY);
    let sandbox = docker.prepare(&image, &spec).await.unwrap();
    let ready = docker.plan(spec, &image, &sandbox).create().await.unwrap().start().await.unwrap();
    let name = ready.name().to_owned();
    let status =
        output_of(&docker, &name, "0", "grep -E 'CapEff|NoNewPrivs' /proc/self/status").await;
    let tool = |script: &'static str| output_of(&docker, &name, "64200:64200", script);
    let interfaces = tool("ls /sys/class/net").await;
    let root = tool("touch /x 2>&1; ls /.airlock-* 2>&1; touch /etc/x 2>&1").await;
    let work =
        tool("cd /workspace && stat -c '%u %g %a' . && touch a && mkdir b && echo fine").await;
    let filled = tool("dd if=/dev/zero of=/workspace/big bs=1M count=20 2>&1 | tail -1").await;
    let limits = tool("ulimit -c; ulimit -n; cat /proc/1/cmdline | tr '\\0' ' '").await;
    ready.remove().await.unwrap();

    assert_eq!(status.replace('\t', ""), "CapEff:00000000000000c0\nNoNewPrivs:1");
    assert_eq!(interfaces, "lo");
    assert_eq!(root.matches("Read-only file system").count(), 2, "{root}");
    assert_eq!(root.matches("Permission denied").count(), 1, "{root}");
    assert_eq!(work, "64200 64200 755\nfine");
    assert!(filled.contains("8.4 MB"), "{filled}");
    let program = limits.strip_prefix("0\n8192\n/.airlock-").expect(&limits);
    let (random, binary) = program.split_once('/').expect(program);
    assert_eq!((random.len(), binary), (32, "airlock-sandbox"));
}

#[tokio::test]
async fn a_copy_on_the_engines_disk_is_removed_with_its_container() {
    let docker = engine().await;
    let image = base(&docker).await;
    let spec = spec(WorkspaceMount::EngineDisk);
    assert_eq!(spec.waivers(), [crate::engine::Waiver::DiskQuota]);
    let volume = plan::work_volume(&spec.session);
    let sandbox = docker.prepare(&image, &spec).await.unwrap();
    let ready = docker.plan(spec, &image, &sandbox).create().await.unwrap().start().await.unwrap();
    let owner = output_of(
        &docker,
        ready.name(),
        "64200:64200",
        "stat -c '%u %g' /workspace && touch /workspace/a && echo fine",
    )
    .await;
    assert!(docker.client().inspect_volume(&volume).await.is_ok());
    ready.remove().await.unwrap();
    assert_eq!(owner, "64200 64200\nfine");
    assert!(docker.client().inspect_volume(&volume).await.is_err());
}

#[tokio::test]
async fn a_live_git_cannot_be_written() {
    let docker = engine().await;
    let image = base(&docker).await;
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::create_dir_all(at(".git/hooks")).unwrap();
    std::fs::create_dir_all(at("sub")).unwrap();
    std::fs::write(at("sub/.git"), "gitdir: x").unwrap();
    for name in ["", ".git", ".git/hooks", "sub", "sub/.git"] {
        std::os::unix::fs::chown(at(name), Some(1234), Some(1234)).expect("these tests need root");
    }
    let tree = LiveDirectory::look(directory.path()).unwrap();
    let spec = spec(WorkspaceMount::Live(tree));
    let sandbox = docker.prepare(&image, &spec).await.unwrap();
    let ready = docker.plan(spec, &image, &sandbox).create().await.unwrap().start().await.unwrap();
    let script = "cd /workspace; touch new; touch .git/hooks/post-checkout; echo x > sub/.git; \
                  mv .git away; rm -rf .git; mv sub/.git away; ls -a";
    let tried = output_of(&docker, ready.name(), "1234:1234", &format!("({script}) 2>&1")).await;
    ready.remove().await.unwrap();
    assert!(at("new").exists(), "{tried}");
    assert!(at(".git/hooks").is_dir() && !at(".git/hooks/post-checkout").exists(), "{tried}");
    assert_eq!(std::fs::read_to_string(at("sub/.git")).unwrap(), "gitdir: x", "{tried}");
    assert!(!at("away").exists(), "{tried}");
}

#[tokio::test]
async fn a_container_that_does_not_become_ready_is_removed() {
    let docker = engine().await;
    let image = base(&docker).await;
    let spec = spec(IN_MEMORY);
    let name = plan::container_name(&spec.session);
    // A volume with another program in place of our binary.
    let other: &'static [u8] = b"#!/bin/sh\necho hello\necho why >&2\nexit 7\n";
    let sha = id();
    let sandbox = docker.put_binary(other, &sha, &image, &spec).await.unwrap();
    let created = docker.plan(spec, &image, &sandbox).create().await.unwrap();
    let error = created.start().await.unwrap_err();
    assert!(
        matches!(&error, EngineError::Failed { step: EngineStep::Ready, reason } if reason.starts_with("its first line is not a ready line")),
        "{error}"
    );
    assert!(!is_there(&docker, &name).await);

    let other: &'static [u8] = b"#!/bin/sh\necho '{\"ready\":99,\"version\":\"9.0\"}'\nsleep 9\n";
    let newer = id();
    let spec_newer = self::spec(IN_MEMORY);
    let sandbox_newer = docker.put_binary(other, &newer, &image, &spec_newer).await.unwrap();
    let created = docker.plan(spec_newer, &image, &sandbox_newer).create().await.unwrap();
    let error = created.start().await.unwrap_err();
    assert_eq!(error, EngineError::Protocol { theirs: 99, version: "9.0".into() });
    for (sha, volume) in [(sha, sandbox), (newer, sandbox_newer)] {
        docker.remove_volume(&format!("airlock-sandbox-{}", &sha[..24])).await.unwrap();
        docker.remove_volume(volume.name()).await.unwrap();
    }
}

#[tokio::test]
async fn the_binary_is_uploaded_once_and_again_after_an_interrupted_upload() {
    let docker = engine().await;
    let image = empty(&docker, "LABEL airlock.trial=tests").await;
    let (sha, spec) = (id(), spec(IN_MEMORY));
    let install = spec.install.clone();
    let mark = format!("airlock-sandbox-{}", &sha[..24]);
    let put = || docker.put_binary(b"a binary", &sha, &image, &spec);

    // Two hosts at once: one volume, and both use it.
    let (one, two) = tokio::join!(put(), put());
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one, two);
    assert_eq!(put().await.unwrap(), one);

    // An interrupted upload is a volume that no mark names. It is not used, and a sweep removes it. The
    // same is true of the binary of another release.
    let once = &sha[..16];
    let cut = format!("airlock-sandbox-{}-{once}", &crate::engine::binary::SANDBOX_SHA256[..24]);
    let labels = HashMap::from([
        (label::BINARY.to_owned(), crate::engine::binary::SANDBOX_SHA256.to_owned()),
        (label::INSTALL.to_owned(), install.clone()),
    ]);
    let request = bollard::models::VolumeCreateRequest {
        name: Some(cut.clone()),
        labels: Some(labels),
        ..Default::default()
    };
    docker.client().create_volume(request).await.unwrap();
    let mut swept = docker.sweep(&install, 0, |_, _| Owner::Alive).await.unwrap();
    swept.volumes.sort();
    let mut expected = vec![cut, one.name().to_owned()];
    expected.sort();
    assert_eq!(swept, SweepReport { volumes: expected, ..SweepReport::default() });
    let one_more = put().await.unwrap();
    assert_ne!(one_more, one);
    let one = one_more;

    // The volume was removed: its mark is ignored.
    docker.remove_volume(one.name()).await.unwrap();
    let again = put().await.unwrap();
    assert_ne!(again, one);
    docker.remove_volume(&mark).await.unwrap();
    docker.remove_volume(again.name()).await.unwrap();
    remove_image(&docker, &image).await;
}

#[tokio::test]
async fn a_sweep_removes_only_our_ended_containers() {
    let docker = engine().await;
    let image = empty(&docker, "LABEL airlock.trial=tests").await;
    let mine = id();
    let make = async |install: &str| {
        let lock = "7-1.000000002".to_owned();
        let spec = ContainerSpec { install: install.to_owned(), lock, ..spec(IN_MEMORY) };
        let session = spec.session.clone();
        let sandbox = docker.prepare(&image, &spec).await.unwrap();
        (session, docker.plan(spec, &image, &sandbox).create().await.unwrap())
    };
    let (alive, alive_sandbox) = make(&mine).await;
    let (over, over_sandbox) = make(&mine).await;
    let (other, other_sandbox) = make(&id()).await;
    // Another person's container, with an image that has our labels.
    let foreign = format!("foreign-{}", id());
    let labels = [(label::INSTALL, mine.clone()), (label::SESSION, id())];
    let body = ContainerCreateBody {
        image: Some(image.id.clone()),
        entrypoint: Some(vec!["/none".to_owned()]),
        labels: Some(labels.map(|(name, value)| (name.to_owned(), value)).into()),
        host_config: Some(HostConfig::default()),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::new().name(&foreign).build();
    docker.client().create_container(Some(options), body).await.unwrap();

    // A copy of the state directory has the install's id, and none of the locks.
    let copied = docker.sweep(&mine, 0, |_, _| Owner::Unknown).await.unwrap();
    assert_eq!(copied, SweepReport::default());
    let mut unclaimed = docker.unclaimed(&mine, |_, _| Owner::Unknown).await.unwrap();
    unclaimed.containers.sort();
    unclaimed.volumes.sort();
    let mut both = [&alive, &over];
    both.sort();
    let of_both = |name: fn(&str) -> String| both.map(|session| name(session)).to_vec();
    let (containers, volumes) = (of_both(plan::container_name), of_both(plan::terminals_volume));
    assert_eq!(unclaimed, Unclaimed { containers, volumes });

    let claim = |session: &str, lock: &str| match lock {
        "7-1.000000002" if session == alive => Owner::Alive,
        "7-1.000000002" => Owner::Over,
        _ => Owner::Unknown,
    };
    let swept = docker.sweep(&mine, 0, claim).await.unwrap();
    assert_eq!(swept.containers, [plan::container_name(&over)]);
    assert_eq!(docker.unclaimed(&mine, claim).await.unwrap(), Unclaimed::default());
    assert!(swept.left.is_empty());
    assert!(is_there(&docker, &plan::container_name(&alive)).await);
    assert!(is_there(&docker, &plan::container_name(&other)).await);
    assert!(is_there(&docker, &foreign).await);
    // Removing what does not exist is no error.
    for each in [alive_sandbox, over_sandbox, other_sandbox] {
        each.remove().await.unwrap();
    }
    let options = RemoveContainerOptionsBuilder::new().force(true).build();
    docker.client().remove_container(&foreign, Some(options)).await.unwrap();
    remove_image(&docker, &image).await;
}

/// A ready line that reports everything as it should be.
fn held() -> String {
    let mounted = |at: &str, kind: &str, options: &str| {
        format!(r#""{at}":{{"at":"{at}","kind":"{kind}","options":"{options}"}}"#)
    };
    let open = "rw,nosuid,nodev,relatime";
    let mounts = [
        mounted("/workspace", "tmpfs", open),
        mounted("/tmp", "tmpfs", open),
        mounted("/run", "tmpfs", "rw,nosuid,nodev,noexec,relatime"),
        mounted("/home/agent", "tmpfs", open),
        mounted("/proc", "proc", "rw,nosuid,nodev,noexec,relatime"),
        mounted("/proc/sys", "proc", "ro,nosuid,nodev,noexec,relatime"),
        mounted("/sys", "sysfs", "ro,nosuid,nodev,noexec,relatime"),
        mounted("/dev", "tmpfs", "rw,nosuid"),
        mounted("/dev/pts", "devpts", "rw,relatime"),
    ];
    format!(
        r#"{{"ready":1,"version":"0.1.0","confinement":{{"seccomp":2,"no_new_privs":1,"capabilities":"00000000000000c0","mounts":{{{}}},"settings":{{"kernel.shm_rmid_forced":"1","kernel.sem":"250 32000 100 128","kernel.msgmni":"128"}}}}}}"#,
        mounts.join(",")
    )
}

#[tokio::test]
async fn a_sandbox_whose_host_is_gone_ends_by_itself() {
    let docker = engine().await;
    let image = empty(&docker, "LABEL airlock.trial=tests").await;
    let spec = spec(IN_MEMORY);
    let terminals = plan::terminals_volume(&spec.session);
    let sandbox = docker.prepare(&image, &spec).await.unwrap();
    let ready = docker.plan(spec, &image, &sandbox).create().await.unwrap().start().await.unwrap();
    let name = ready.name().to_owned();
    drop(ready); // As kill -9 would: the pipe closes and nothing is removed.
    let options =
        bollard::query_parameters::WaitContainerOptionsBuilder::new().condition("not-running");
    let mut waiting = Box::pin(docker.client().wait_container(&name, Some(options.build())));
    let ended = tokio::time::timeout(Duration::from_secs(60), waiting.next()).await;
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    docker.client().remove_container(&name, Some(options)).await.unwrap();
    docker.remove_volume(&terminals).await.unwrap();
    remove_image(&docker, &image).await;
    assert!(ended.is_ok(), "it still runs");
}
