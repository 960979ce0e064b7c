//! The key that pays, looked for in every place it could have been left, while a tool blocks and
//! the backend says our own headers back. That the scanner sees is tried in the target `rig`.

use airlock_tests::backend::{
    Fault, answer, answer_echoing_headers, call, call_echoing_headers, fault, script,
};
use airlock_tests::scan::Scan;
use airlock_tests::{CredentialsMode, Rig};
use serde_json::json;

async fn no_secret_is_left(credentials: CredentialsMode) {
    let rig = Rig::new().credentials(credentials).variable("RUST_LOG", "trace");
    let key = rig.key().to_owned();
    let mut live = rig
        .model(script![
            call_echoing_headers(),
            answer_echoing_headers().and_goes_on(),
            call(
                "bash",
                json!({"command": "env; cat /proc/*/environ; until [ -e go ]; do sleep 0.1; done"})
            ),
            fault(Fault::EchoHeaders),
            answer("never said"),
        ])
        .prompt("x")
        .start()
        .await;
    live.until("the third call", |live| {
        let started = live.events().into_iter().filter(|event| event["event"] == "call_started");
        (started.count() >= 2).then_some(())
    })
    .await;
    let container = live.container().await;
    let mut scan = Scan::for_values([("key", key.as_str())]);
    scan.container(&live.engine, &container).await;
    scan.all_processes();
    // All was looked at while the tool blocked: now it may end.
    let inspected = live.engine.get(&format!("/containers/{container}/json")).await.json();
    let go = format!("/proc/{}/root/workspace/go", inspected["State"]["Pid"]);
    std::fs::write(go, "").expect("these tests need root");
    let ran = live.end().await;
    scan.text("stdout", &ran.stdout);
    scan.text("stderr", &ran.stderr);
    assert!(ran.stderr.contains("asking the backend"), "nothing was logged: {}", ran.stderr);
    scan.folder("the state", &ran.rig.home().join("state"));
    scan.folder("the workspace", ran.rig.workspace());
    scan.assert_clean();
    drop(ran.assert_nothing_left_behind().await);
}

#[tokio::test]
async fn no_secret_is_left_in_relay() {
    no_secret_is_left(CredentialsMode::Relay).await;
}

#[tokio::test]
async fn no_secret_is_left_in_handoff() {
    no_secret_is_left(CredentialsMode::Handoff).await;
}
