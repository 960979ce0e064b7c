//! Cancelled, terminated, killed: nothing is left behind, and other people's things are left alone.

use std::time::Duration;

use airlock_tests::backend::{answer, call, script};
use airlock_tests::engine::Engine;
use airlock_tests::images::{self, BUSYBOX};
use airlock_tests::rig::Live;
use airlock_tests::{Rig, clock};
use rustix::process::Signal;
use serde_json::json;

/// Writes a file, then blocks in a child that has a session of its own and ignores SIGTERM.
const STUBBORN: &str = "echo kept > made; setsid sh -c 'trap \"\" TERM INT HUP; sleep 600' & trap \"\" TERM; sleep 600";

async fn blocked(rig: Rig) -> Live {
    let script = script![call("bash", json!({"command": STUBBORN})), answer("never said")];
    let mut live = rig.model(script).prompt("x").start().await;
    live.event("call_started").await;
    // The command has written its file by then.
    tokio::time::sleep(Duration::from_millis(300)).await;
    live
}

async fn ended_by(signal: Signal, exit: i32, rig: Rig) {
    let live = blocked(rig).await;
    let start = clock::now();
    live.signal(signal);
    let ran = live.end().await;
    let took = clock::now() - start;
    assert!(took < Duration::from_secs(3), "it took {took:?}: {}", ran.stderr);
    let ran = ran.assert_exit(exit, "").assert_nothing_left_behind().await;
    let diff = ran.rig.command("diff").await.arg(ran.id()).output().await.expect("airlock");
    let diff = String::from_utf8_lossy(&diff.stdout).into_owned();
    assert!(diff.contains("made") && diff.contains("kept"), "{diff}");
}

in_both_custodies! {
    #[tokio::test]
    async fn ctrl_c_ends_in_three_seconds_and_keeps_the_changes(rig: Rig) {
        ended_by(Signal::INT, 130, rig).await;
    }

    #[tokio::test]
    async fn sigterm_ends_in_three_seconds_and_keeps_the_changes(rig: Rig) {
        ended_by(Signal::TERM, 143, rig).await;
    }
}

/// A second run of the same home starts, and sweeps, while the first one works.
#[tokio::test]
async fn a_sibling_of_the_same_install_is_not_swept() {
    let first = blocked(Rig::new()).await;
    let second = first.rig().beside().model(script![answer("quick")]).prompt("y").run().await;
    drop(second.assert_finished("quick"));
    assert_eq!(first.containers().await.len(), 1, "the second start took the first one's box");
    first.signal(Signal::INT);
    drop(first.end().await.assert_exit(130, "").assert_nothing_left_behind().await);
}

#[tokio::test]
async fn a_killed_host_leaves_nothing_a_sibling_lives_and_strangers_are_left_alone() {
    let engine = Engine::connect().await;
    images::ready(&engine).await;
    let stranger = engine.start(BUSYBOX, &["/bin/sleep", "600"], json!({})).await;
    let live = blocked(Rig::new()).await;
    let containers = live.containers().await;
    assert_eq!(containers.len(), 1);
    live.signal(Signal::KILL);
    let ran = live.end().await;
    assert_eq!(ran.exit, None);
    drop(ran.assert_nothing_left_behind().await);
    let running = engine.get(&format!("/containers/{}/json", stranger.id)).await.json();
    stranger.remove().await;
    assert_eq!(running["State"]["Running"], true, "somebody else's container was touched");
}
