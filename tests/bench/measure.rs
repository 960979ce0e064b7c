//! One round of everything.

use std::time::Duration;

use airlock_tests::backend::{Script, Step, answer, call};
use airlock_tests::engine::Engine;
use airlock_tests::images::BUSYBOX;
use airlock_tests::proxy::Proxy;
use airlock_tests::{Rig, clock};
use serde_json::{Value, json};

use crate::table::Table;

/// Bare spawns in one measurement of them.
const SPAWNS: u32 = 200;

/// One run of so many rounds with so many bytes in its workspace: what it took, and what it told.
pub(crate) struct Run {
    pub(crate) took: Duration,
    pub(crate) to_first_request: Option<Duration>,
    /// What the engine was asked for.
    pub(crate) container: Value,
}

pub(crate) async fn run(engine: &Engine, rounds: u32, bytes: usize) -> Run {
    let proxy = Proxy::start(engine);
    let round = |_| call("bash", json!({"command": "true"}));
    let mut steps: Vec<Step> = (0..rounds).map(round).collect();
    steps.push(answer("done"));
    let rig = Rig::new()
        .model(Script(steps))
        .prompt("measure")
        .variable("DOCKER_HOST", &proxy.docker_host());
    // Ten files, and the bytes in one of them.
    for number in 0..9 {
        std::fs::write(rig.workspace().join(format!("{number}")), "a small file").expect("room");
    }
    std::fs::write(rig.workspace().join("large"), vec![b'x'; bytes]).expect("room");
    // Built and warmed before the clock starts.
    drop(rig.command("run").await);
    let start = clock::now();
    let ran = rig.run().await;
    let took = clock::now() - start;
    let ran = ran.assert_finished("done");
    let first = ran.backend.model_requests().first().map(|request| request.at);
    let started = proxy.last("/start").and_then(|exchange| exchange.answered);
    let container = proxy.last("/containers/create").map(|exchange| exchange.json());
    Run {
        took,
        to_first_request: first.zip(started).map(|(first, started)| first - started),
        container: container.unwrap_or_default(),
    }
}

pub(crate) async fn round(engine: &Engine, table: &mut Table) {
    let cold = run(engine, 0, 0).await;
    table.time("a run of no round", cold.took);
    if let Some(time) = cold.to_first_request {
        table.time("start response to first request", time);
    }
    let start = clock::now();
    the_same_but_true(engine, &cold.container).await;
    table.time("floor: the same container, /bin/true", clock::now() - start);
    table.time("floor: one bare spawn of `sh -c true`", bare_spawn(engine).await);
    table.time("a run of 1 round", run(engine, 1, 0).await.took);
    table.time("a run of 20 rounds", run(engine, 20, 0).await.took);
    table.time("a run with 1 MB in its workspace", run(engine, 0, 1_000_000).await.took);
    table.time("a run with 100 MB in its workspace", run(engine, 0, 100_000_000).await.took);
    resident(table).await;
}

/// Creates, starts, waits for and removes the container that a run asked for, running /bin/true.
async fn the_same_but_true(engine: &Engine, asked: &Value) {
    let mut differences = asked.clone();
    differences["Entrypoint"] = json!(["/bin/true"]);
    differences["Cmd"] = json!([]);
    differences["Labels"] = json!({"airlock.tests": "rig"});
    for stream in ["OpenStdin", "StdinOnce", "AttachStdin", "AttachStdout", "AttachStderr"] {
        differences[stream] = json!(false);
    }
    let container = engine.start(BUSYBOX, &[], differences).await;
    assert_eq!(container.wait().await, 0, "/bin/true");
    container.remove().await;
}

/// What one `sh -c true` costs in a container of the same image that does nothing else.
async fn bare_spawn(engine: &Engine) -> Duration {
    let spawns = |count: u32| async move {
        let script = format!("i=0; while [ $i -lt {count} ]; do /bin/sh -c true; i=$((i+1)); done");
        let container = engine.start(BUSYBOX, &["/bin/sh", "-c", &script], json!({})).await;
        let start = clock::now();
        container.wait().await;
        let took = clock::now() - start;
        container.remove().await;
        took
    };
    spawns(SPAWNS).await.saturating_sub(spawns(0).await) / SPAWNS
}

/// The memory of both while a tool works.
async fn resident(table: &mut Table) {
    let mut live = Rig::new()
        .model(Script(vec![call("bash", json!({"command": "sleep 1"})), answer("done")]))
        .prompt("measure")
        .start()
        .await;
    live.event("call_started").await;
    let container = live.container().await;
    let inspected = live.engine.get(&format!("/containers/{container}/json")).await.json();
    let sandbox = inspected.pointer("/State/Pid").and_then(Value::as_u64).unwrap_or(0);
    table.size("airlock resident", resident_bytes(u64::from(live.pid())));
    table.size("sandbox resident", resident_bytes(sandbox));
    drop(live.end().await.assert_finished("done"));
}

fn resident_bytes(pid: u64) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
