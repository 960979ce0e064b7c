//! Plain mode: the sandbox by itself, with no host of ours on the pipe: `echo '{…}' | docker run -i`.

use std::process::Stdio;

use airlock_tests::backend::{Backend, CLASSIC, Fault, answer, call, fault, script};
use airlock_tests::engine::Engine;
use airlock_tests::images::{self, BUSYBOX};
use airlock_tests::rig::{PATIENCE, extracted_sandbox};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Runs one handoff through the `docker` program, as a host that is not ours would.
async fn plain(backend: &Backend, prompt: &str) -> Vec<Value> {
    let engine = Engine::connect().await;
    images::ready(&engine).await;
    let binary = extracted_sandbox().await.display().to_string();
    let mut child = Command::new("docker")
        .args(["run", "--rm", "-i", "--network", "host", "--label", "airlock.tests=rig"])
        .args(["--mount", &format!("type=bind,src={binary},dst=/sandbox,ro")])
        .args(["--tmpfs", "/workspace:rw,exec,uid=64200,gid=64200", "--entrypoint", "/sandbox"])
        .arg(BUSYBOX)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the docker program is there where the engine is");
    let handoff = json!({
        "protocol": 1, "session": "plain-1", "link": "none",
        "secrets": {"bearer": "sk-plain-0123456789abcdef"},
        "job": {"prompt": prompt, "model": {"slug": CLASSIC}, "backend": {"base_url": backend.url()}},
    });
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(format!("{handoff}\n").as_bytes()).await.expect("the sandbox reads");
    let ended = tokio::time::timeout(PATIENCE, child.wait_with_output());
    let ended = ended.await.expect("it ends by itself").expect("a child of ours");
    drop(stdin);
    let lines = String::from_utf8_lossy(&ended.stdout).into_owned();
    lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[tokio::test]
async fn a_run_without_a_host_of_ours() {
    let backend = Backend::scripted(script![
        call("bash", json!({"command": "echo hi > f; cat f"})),
        fault(Fault::Status { status: 502 }),
        call("read_file", json!({"path": "f"})),
        answer("done"),
    ]);
    let events = plain(&backend, "x").await;
    assert_eq!(events[0]["ready"], 1, "{events:#?}");
    let last = events.last().cloned().unwrap_or_default();
    assert_eq!(last["outcome"], json!({"outcome": "finished", "answer": "done"}), "{events:#?}");
    let none: [String; 0] = [];
    assert_eq!((backend.complaints(), backend.left_over()), (none.to_vec(), 0));
}

#[tokio::test]
async fn a_fault_without_a_host_of_ours() {
    let backend = Backend::scripted(script![fault(Fault::Unauthorized).times(9)]);
    let events = plain(&backend, "x").await;
    let last = events.last().cloned().unwrap_or_default();
    assert_eq!(last.pointer("/outcome/fault/kind"), Some(&json!("sign_in")), "{events:#?}");
    assert!(!events.iter().any(|event| event.to_string().contains("sk-plain")), "{events:#?}");
}
