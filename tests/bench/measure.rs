//! One round of everything: each line of the table once, one after another.

use std::sync::Arc;
use std::time::Duration;

use airlock_tests::backend::{Backend, Options, Recorded, Script, Step, answer, call};
use airlock_tests::engine::Engine;
use airlock_tests::images::BUSYBOX;
use airlock_tests::proxy::Proxy;
use airlock_tests::{Rig, clock};
use serde_json::{Value, json};

use crate::credentials::Login;
use crate::table::{Table, median};

/// Bare spawns in one measurement of them.
const SPAWNS: u32 = 200;

/// Names of lines that others are reckoned from.
pub(crate) const COLD: &str = "a run of no round";
pub(crate) const FLOOR: &str = "floor: the same container, /bin/true";
pub(crate) const FIRST: &str = "start response to first request";
pub(crate) const SPAWN: &str = "floor: one bare spawn of `sh -c true`";
pub(crate) const ROUND: &str = "one round, answer to request";
pub(crate) const ONE: &str = "a run of 1 round";
pub(crate) const TWENTY: &str = "a run of 20 rounds";
pub(crate) const ONE_MB: &str = "a run with 1 MB in its workspace";
pub(crate) const HUNDRED_MB: &str = "a run with 100 MB in its workspace";
pub(crate) const HOST_MEMORY: &str = "airlock resident";
pub(crate) const SANDBOX_MEMORY: &str = "sandbox resident";
pub(crate) const CREDENTIALS: &str = "a good login, opened and signing";

/// What a run took, from the start of the process to its end.
pub(crate) struct Run {
    took: Duration,
    /// From each answer that the backend had ready to the next request that came.
    rounds: Vec<Duration>,
    first: std::time::Instant,
}

/// One run of so many rounds with so many bytes in its workspace. What is not the run's own (the
/// backend, the files) is made before the clock starts; the home is `house`'s, which has seen runs
/// before, as a person's has.
async fn run(house: &Rig, engine: &Engine, rounds: u32, bytes: usize, socket: &str) -> Run {
    let round = |_| call("bash", json!({"command": "true"}));
    let mut steps: Vec<Step> = (0..rounds).map(round).collect();
    steps.push(answer("done"));
    let rig = house.beside().prompt("measure").variable("DOCKER_HOST", socket);
    // Ten files, and the bytes in one of them.
    for number in 0..9 {
        std::fs::write(rig.workspace().join(format!("{number}")), "a small file").expect("room");
    }
    std::fs::write(rig.workspace().join("large"), vec![b'x'; bytes]).expect("room");
    let backend = Arc::new(Backend::start(Options { script: Script(steps), ..Options::default() }));
    let start = clock::now();
    let ran = rig.start_beside(engine.clone(), backend).await.end().await;
    let took = clock::now() - start;
    let ran = ran.assert_finished("done");
    let asked = ran.backend.model_requests();
    let round = |pair: &[Recorded]| pair[1].at - pair[0].answered.expect("a run that finished");
    let rounds = asked.windows(2).map(round).collect();
    std::fs::remove_dir_all(ran.rig.workspace()).expect("a folder of ours");
    Run { took, rounds, first: asked[0].at }
}

/// What is the same in every round: a home, a door to the engine, and what is asked of it.
pub(crate) struct Bench {
    engine: Engine,
    house: Rig,
    direct: String,
    container: Value,
    login: Login,
}

impl Bench {
    /// A first run, which fills caches and the sandbox's volume and which nobody counts, says what
    /// container is asked for.
    pub(crate) async fn new(engine: Engine) -> Self {
        let house = Rig::new();
        let direct = format!("unix://{}", engine.socket().display());
        let proxy = Proxy::start(&engine);
        drop(run(&house, &engine, 0, 0, &proxy.docker_host()).await);
        let created = proxy.last("/containers/create").expect("a run creates a container");
        Self { container: created.json(), engine, house, direct, login: Login::kept() }
    }

    pub(crate) async fn round(&self, table: &mut Table) {
        table.time(CREDENTIALS, self.login.opened_and_signing().await);
        table.time(COLD, self.run(0, 0).await.took);
        let start = clock::now();
        self.the_same_but_true().await;
        table.time(FLOOR, clock::now() - start);
        table.time(FIRST, self.to_first_request().await);
        table.time(ONE, self.run(1, 0).await.took);
        table.time(SPAWN, self.bare_spawn().await);
        let twenty = self.run(20, 0).await;
        table.time(TWENTY, twenty.took);
        let rounds: Vec<f64> = twenty.rounds.iter().map(Duration::as_secs_f64).collect();
        table.time(ROUND, Duration::from_secs_f64(median(&rounds)));
        table.time(ONE_MB, self.run(0, 1_000_000).await.took);
        table.time(HUNDRED_MB, self.run(0, 100_000_000).await.took);
        self.resident(table).await;
    }

    async fn run(&self, rounds: u32, bytes: usize) -> Run {
        run(&self.house, &self.engine, rounds, bytes, &self.direct).await
    }

    /// Through a door that notes when the engine said that the container started; the door is on
    /// the way of every byte, so that what it costs is in the figure.
    async fn to_first_request(&self) -> Duration {
        let proxy = Proxy::start(&self.engine);
        let ran = run(&self.house, &self.engine, 0, 0, &proxy.docker_host()).await;
        let started = proxy.last("/start").and_then(|exchange| exchange.answered);
        ran.first - started.expect("the engine answered the start")
    }

    /// Creates, starts, waits for and removes the container that a run asks for, with /bin/true.
    async fn the_same_but_true(&self) {
        let mut differences = self.container.clone();
        differences["Entrypoint"] = json!(["/bin/true"]);
        differences["Cmd"] = json!([]);
        differences["Labels"] = json!({"airlock.tests": "rig"});
        for stream in ["OpenStdin", "StdinOnce", "AttachStdin", "AttachStdout", "AttachStderr"] {
            differences[stream] = json!(false);
        }
        let container = self.engine.start(BUSYBOX, &[], differences).await;
        assert_eq!(container.wait().await, 0, "/bin/true");
        container.remove().await;
    }

    /// What one `sh -c true` costs in a container of the same image that does nothing else.
    async fn bare_spawn(&self) -> Duration {
        let spawns = |count: u32| async move {
            let script =
                format!("i=0; while [ $i -lt {count} ]; do /bin/sh -c true; i=$((i+1)); done");
            let command = ["/bin/sh", "-c", &script];
            let container = self.engine.start(BUSYBOX, &command, json!({})).await;
            let start = clock::now();
            container.wait().await;
            let took = clock::now() - start;
            container.remove().await;
            took
        };
        spawns(SPAWNS).await.saturating_sub(spawns(0).await) / SPAWNS
    }

    /// The most that both held, seen while a tool works.
    async fn resident(&self, table: &mut Table) {
        let script = Script(vec![call("bash", json!({"command": "sleep 1"})), answer("done")]);
        let mut live = self.house.beside().model(script).prompt("measure").start().await;
        live.event("call_started").await;
        let container = live.container().await;
        let inspected = live.engine.get(&format!("/containers/{container}/json")).await.json();
        let sandbox = inspected.pointer("/State/Pid").and_then(Value::as_u64).unwrap_or(0);
        table.size(HOST_MEMORY, resident_bytes(u64::from(live.pid())));
        table.size(SANDBOX_MEMORY, resident_bytes(sandbox));
        drop(live.end().await.assert_finished("done"));
    }
}

fn resident_bytes(pid: u64) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let status = status.expect("a process of this machine, which takes root to look at");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.expect("the kernel tells a process's memory") * 1024
}
