//! Killed: the host with -9, the sandbox from outside, a command by its memory. What is left ends by
//! itself or is swept by the next start, and nobody else's is touched.

use airlock_tests::Rig;
use airlock_tests::backend::{Fault, answer, call, fault, script};
use airlock_tests::engine::Engine;
use airlock_tests::images::{self, BUSYBOX};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::blocked::blocked;

async fn is_there(engine: &Engine, id: &str) -> bool {
    engine.get(&format!("/containers/{id}/json")).await.status == 200
}

in_both_custodies! {
    /// The sandbox sees that its host is gone, whatever its children ignore; the next start removes
    /// what stands there ended.
    #[tokio::test]
    async fn a_sandbox_ends_with_its_host(rig: Rig) {
        let mut live = blocked(rig).await;
        let (id, engine) = (live.container().await, live.engine.clone());
        live.signal(Signal::KILL);
        let ran = live.end().await;
        engine.ended(&id).await;
        assert_eq!(ran.exit, None);
        let record = ran.record().await;
        assert_eq!((&record["outcome"], &record["changes_are"]), (&json!("lost"), &json!("lost")));
        let applied = ran.airlock("apply", &[]).await;
        assert_eq!(applied.exit, Some(1), "{applied:#?}");
        assert!(!ran.rig.workspace().join("made").exists());
        let next = ran.rig.beside().model(script![answer("swept")]).prompt("y").run().await;
        drop(next.assert_finished("swept").assert_nothing_left_behind().await);
    }

    #[tokio::test]
    async fn a_sandbox_killed_from_outside_is_a_fault_and_its_changes_are_lost(rig: Rig) {
        let mut live = blocked(rig).await;
        let (id, engine) = (live.container().await, live.engine.clone());
        let killed = engine.post(&format!("/containers/{id}/kill"), &Value::Null).await;
        drop(killed.done("kill a container"));
        let ran = live.end().await.assert_exit(1, "the sandbox ended early");
        let ran = ran.assert_nothing_left_behind().await;
        let outcome = ran.outcome();
        let told = ["outcome", "fault", "changes"].map(|name| outcome[name].clone());
        assert_eq!(told, ["failed", "sandbox_died", "lost"], "{outcome}");
        assert_eq!(ran.record().await["changes_are"], "lost");
        let applied = ran.airlock("apply", &[]).await;
        assert_eq!(applied.exit, Some(1), "{applied:#?}");
    }
}

/// A sandbox that cannot end by itself, because it is frozen, is taken by the next start; that start
/// leaves alone a run of the same install that goes on, another install's, and a stranger's.
#[tokio::test]
async fn the_next_start_sweeps_what_is_dead_and_nothing_else() {
    let engine = Engine::connect().await;
    images::ready(&engine).await;
    let stranger = engine.start(BUSYBOX, &["/bin/sleep", "600"], json!({"Labels": {}})).await;
    let mut dead = blocked(Rig::new()).await;
    let frozen = dead.container().await;
    let sibling = blocked(dead.rig().beside()).await;
    let of_sibling: Vec<String> =
        sibling.containers().await.into_iter().filter(|id| *id != frozen).collect();
    let mut other = blocked(Rig::new()).await;
    let of_other = other.container().await;

    let paused = engine.post(&format!("/containers/{frozen}/pause"), &Value::Null).await;
    drop(paused.done("pause a container"));
    dead.signal(Signal::KILL);
    let dead = dead.end().await;
    assert!(is_there(&engine, &frozen).await, "a frozen sandbox cannot have ended by itself");

    let next = dead.rig.beside().model(script![answer("swept")]).prompt("y").run().await;
    drop(next.assert_finished("swept"));
    assert!(!is_there(&engine, &frozen).await, "a dead run's sandbox was not swept");
    let stranger_lives = engine.is_running(&stranger.id).await;
    stranger.remove().await;
    assert!(stranger_lives, "somebody else's container was touched");
    assert!(engine.is_running(&of_sibling[0]).await, "a sibling at work was swept");
    assert!(engine.is_running(&of_other).await, "another install's sandbox was swept");

    for live in [sibling, other] {
        live.signal(Signal::INT);
        let ran = live.end().await.assert_exit(130, "");
        let diff = ran.airlock("diff", &[]).await;
        assert!(diff.stdout.contains("+kept"), "{diff:#?}");
    }
    drop(dead.assert_nothing_left_behind().await);
}

/// A copy on the engine's disk goes with its dead run.
#[tokio::test]
async fn the_next_start_sweeps_the_engines_disk_too() {
    let live = blocked(Rig::new().flags(&["--disk-on", "engine"])).await;
    live.signal(Signal::KILL);
    let dead = live.end().await;
    let next = dead.rig.beside().model(script![answer("swept")]).prompt("y").run().await;
    drop(next.assert_finished("swept").assert_nothing_left_behind().await);
}

/// Removed altogether, as `docker rm -f` does: the same fault, and nothing left to remove.
#[tokio::test]
async fn a_sandbox_removed_from_outside_is_a_fault() {
    let mut live = blocked(Rig::new()).await;
    let (id, engine) = (live.container().await, live.engine.clone());
    drop(engine.delete(&format!("/containers/{id}?force=1&v=1")).await.done("remove a container"));
    let ran = live.end().await.assert_exit(1, "");
    let ran = ran.assert_nothing_left_behind().await;
    assert_eq!(ran.outcome()["changes"], "lost", "{}", ran.outcome());
    assert_eq!(ran.outcome()["outcome"], "failed", "{}", ran.outcome());
}

/// A sandbox without memory left: the kernel takes the command that ate it, the run goes on.
#[tokio::test]
async fn a_command_that_eats_all_memory_dies_alone() {
    let eat = "echo before > made; tail /dev/zero; echo code $?";
    let ran = Rig::new()
        .flags(&["--memory", "64MiB", "--disk", "16MiB", "--pids", "64"])
        .model(script![call("bash", json!({"command": eat})), answer("still here")])
        .prompt("x")
        .run()
        .await
        .assert_finished("still here")
        .assert_nothing_left_behind()
        .await;
    assert!(ran.outputs()[0].contains("code 137"), "{:#?}", ran.outputs());
    assert_eq!(ran.record().await["changes_are"], "kept");
}

/// Memory that belongs to no command: files in shared memory, until nothing is left for anybody.
/// The kernel takes the commands first, and where that frees too little the sandbox: either end
/// says what happened, and neither is a hang or a broken pipe.
#[tokio::test]
async fn a_sandbox_full_of_files_ends_typed() {
    let fill = "echo before > made; cat /dev/zero > /dev/shm/full; echo code $?";
    let ran = Rig::new()
        .flags(&["--memory", "32MiB", "--disk", "1MiB", "--pids", "64", "--seconds", "60"])
        .model(script![
            call("bash", json!({"command": fill})),
            call("bash", json!({"command": "echo after"})),
            answer("still here"),
        ])
        .prompt("x")
        .run()
        .await
        .assert_nothing_left_behind()
        .await;
    let outcome = ran.outcome();
    let told = ["outcome", "fault", "changes"].map(|name| outcome[name].clone());
    if told[0] == "finished" {
        assert_eq!(told[2], "kept", "{}", ran.stdout);
        let [filled, after] = &ran.outputs()[..] else { panic!("{}", ran.stdout) };
        assert!(filled.contains("137"), "{}", ran.stdout);
        // Whether the next command fits depends on what the kernel could reclaim meanwhile.
        let fits = after.contains("137") || after.ends_with("after\n");
        assert!(fits || after.contains("Cannot allocate memory"), "{}", ran.stdout);
    } else if told[0] == "stopped" {
        // Where it takes the kernel that long to find a page.
        assert_eq!((&outcome["spent"], ran.exit), (&json!("seconds"), Some(5)), "{}", ran.stdout);
    } else {
        assert_eq!(told, [json!("failed"), json!("sandbox_died"), json!("lost")], "{}", ran.stdout);
        let ran = ran.assert_exit(1, "the kernel killed the sandbox because memory ran out");
        assert_eq!(ran.record().await["changes_are"], "lost");
    }
}

/// Ctrl-C and SIGTERM while nothing but the backend is waited for.
#[tokio::test]
async fn a_silent_backend_does_not_hold_up_a_signal() {
    for (signal, exit) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let silent = fault(Fault::Stall { events: 3 });
        let script = script![call("bash", json!({"command": "echo kept > made"})), silent];
        let mut live = Rig::new().model(script).prompt("x").start().await;
        live.until("a second request", |live| {
            (live.backend.model_requests().len() == 2).then_some(())
        })
        .await;
        live.signal(signal);
        let ran = live.end().await;
        let ran = ran.assert_exit(exit, "").assert_nothing_left_behind().await;
        assert_eq!(ran.record().await["changes_are"], "kept");
    }
}
