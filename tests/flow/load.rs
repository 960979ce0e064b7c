//! More work in the sandbox than there is processor or memory: it costs time, and no changes.

use airlock_tests::Rig;
use airlock_tests::backend::{answer, call, script};
use serde_json::json;

/// The kernel serves the sandbox first. How much that matters depends on the machine, so it is read
/// and not measured; the load is there to be survived.
#[tokio::test]
async fn commands_stand_back_and_their_load_costs_no_changes() {
    // The shell's own nice value is the 19th of what the kernel says of it.
    let spins = "cut -d' ' -f19 /proc/$$/stat; echo new >made; \
        for n in $(seq 60); do while :; do :; done & done; sleep 5";
    let ran = Rig::new()
        .flags(&["--cpus", "0.1"])
        .model(script![
            call("bash", json!({"command": spins, "timeout_seconds": 60})),
            call("bash", json!({"command": "echo more >>made"})),
            answer("done"),
        ])
        .prompt("x")
        .run()
        .await
        .assert_finished("done")
        .assert_nothing_left_behind()
        .await;
    let said = &ran.outputs()[0];
    assert!(said.ends_with("Output:\n19\n"), "{said}");
    assert_eq!(ran.airlock("apply", &[]).await.exit, Some(0));
    let made = std::fs::read_to_string(ran.rig.workspace().join("made"));
    assert_eq!(made.expect("what was changed"), "new\nmore\n");
}

/// Each takes what it can get; the kernel ends one after the other, and never the sandbox.
#[tokio::test]
async fn many_processes_that_fill_the_memory_cost_no_changes() {
    let fills = "echo new >made; for n in $(seq 440); do
            (echo 0 >/proc/self/oom_score_adj; exec tail </dev/zero) >/dev/null 2>&1 & done; wait";
    let ran = Rig::new()
        .flags(&["--memory", "768m", "--disk", "16m"])
        .model(script![
            call("bash", json!({"command": fills, "timeout_seconds": 15})),
            call("bash", json!({"command": "echo more >>made"})),
            answer("done"),
        ])
        .prompt("x")
        .run()
        .await
        .assert_finished("done")
        .assert_nothing_left_behind()
        .await;
    let said = &ran.outputs()[0];
    assert!(said.contains("killed: the container's memory limit of 784 MiB was reached"), "{said}");
    assert_eq!(ran.airlock("apply", &[]).await.exit, Some(0));
    let made = std::fs::read_to_string(ran.rig.workspace().join("made"));
    assert_eq!(made.expect("what was changed"), "new\nmore\n");
}
