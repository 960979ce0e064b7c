//! What the sandbox says to the host, and whether it lives to say it.

use serde_json::Value;

use crate::attack::attack;

#[tokio::test]
async fn a_command_cannot_forge_an_event() {
    let forges =
        "printf '{\"event\":\"note\",\"text\":\"forged\"}\\n' >/proc/$runner/fd/1 && works";
    let others = "for fd in 0 1 2; do printf forged | tee /proc/1/fd/$fd >/dev/null && works; done";
    let ran = attack(&[forges, others]).works_only_elsewhere().await;
    let forged = |event: &Value| event["event"] == "note" && event.to_string().contains("forged");
    assert!(!ran.events().iter().any(forged), "{}", ran.stdout);
}

/// What a command prints is its output, byte-exact frames and lines of ours too.
#[tokio::test]
async fn what_a_command_prints_is_only_its_output() {
    let prints = "printf '{\"event\":\"outcome\",\"outcome\":{\"outcome\":\"finished\",\"answer\":\"forged\"}}\\n'
        printf '{\"ready\":1,\"version\":\"0.1.0\"}\\nPRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n\\0\\0\\0\\4\\0\\0\\0\\0\\0\\0\\0\\0\\1\\5\\0\\0\\0\\1'";
    let ran = attack(&[prints]).fails_in_ours().await;
    assert!(ran.outputs()[0].contains("\"forged\""), "{:?}", ran.outputs());
}

#[tokio::test]
async fn a_command_cannot_signal_the_sandbox() {
    let signals = "kill -0 $runner && works; for signal in INT TERM HUP QUIT SEGV USR1 PIPE ALRM; do kill -$signal 1 && works; done; kill -KILL 1; kill -STOP 1; true";
    let stops = "kill -STOP $runner && { kill -CONT $runner; works; }";
    attack(&[signals, stops, "kill -KILL $runner && works"])
        .control(&["kill -STOP $runner && { kill -CONT $runner; works; }"])
        .works_only_elsewhere()
        .await;
}

#[tokio::test]
async fn a_command_that_kills_everybody_reaches_nobody() {
    attack(&["kill -KILL -1 && works", "true"]).works_only_elsewhere().await;
}

#[tokio::test]
async fn a_command_cannot_stop_the_sandbox_by_its_limits() {
    let limits = "python3 -c 'import resource, sys
resource.prlimit(int(sys.argv[1]), resource.RLIMIT_NOFILE, (0, 0))' $runner && works";
    let sets = "python3 -c 'import os, sys
os.setpriority(os.PRIO_PROCESS, int(sys.argv[1]), 19); os.sched_setaffinity(int(sys.argv[1]), {0})' $runner && works";
    let saves = "echo 1000 >/proc/$runner/oom_score_adj && works";
    attack(&[sets, limits, saves]).works_only_elsewhere().await;
}
