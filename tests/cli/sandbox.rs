//! What other programs get: the sandbox binary, and the schema of the line that starts it.

use std::process::Stdio;

use airlock_tests::Rig;
use airlock_tests::backend::{Backend, answer, call, script};
use airlock_tests::engine::Engine;
use airlock_tests::images::{self, BUSYBOX};
use airlock_tests::rig::{PATIENCE, airlock};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use super::run_cli;

#[tokio::test]
async fn the_extracted_sandbox_prints_its_ready_line_before_it_reads() {
    let rig = Rig::new();
    let extracted = run_cli(&rig, &["sandbox", "--extract", "airlock-sandbox"]).await;
    assert_eq!((extracted.exit, extracted.stdout.as_str()), (Some(0), ""), "{extracted:?}");
    let file = rig.workspace().join("airlock-sandbox");
    let size = std::fs::metadata(&file).expect("it is there").len();
    assert_eq!(extracted.stderr, format!("sandbox    {size} bytes in airlock-sandbox\n"));

    let mut command = Command::new(&file);
    command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it needs nothing to run");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    let reading = tokio::time::timeout(PATIENCE, stdout.read_line(&mut line));
    reading.await.expect("it prints the line").expect("a line");
    let mut ready: Value = serde_json::from_str(&line).expect("JSON");
    // What it finds depends on this machine; that it reports it does not.
    let found = ready["confinement"].take();
    assert_eq!(found["mounts"]["/proc"]["kind"], "proc", "{found}");
    let expected = json!({"ready": 1, "version": env!("CARGO_PKG_VERSION"), "confinement": null});
    assert_eq!(ready, expected);
    // A line that is not a handoff ends it with one sentence.
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"{\"protocol\":1}\n").await.expect("it reads");
    let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = ended.expect("it ends").expect("a child of ours");
    assert_ne!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1, "{output:?}");
}

#[tokio::test]
async fn the_schema_of_the_handoff_is_the_one_in_the_repository() {
    let schema = run_cli(&Rig::new(), &["sandbox", "--schema"]).await;
    assert_eq!((schema.exit, schema.stderr.as_str()), (Some(0), ""));
    assert_eq!(
        schema.stdout,
        include_str!("../../shared/handoff.schema.json"),
        "airlock sandbox --schema > shared/handoff.schema.json"
    );
}

/// The README's commands work, with another backend and an image that is present.
#[tokio::test]
async fn the_commands_of_the_readme_work() {
    let engine = Engine::connect().await;
    images::ready(&engine).await;
    let rig = Rig::new();
    let backend = Backend::scripted(script![call("bash", json!({"command": "pwd"})), answer("ok")]);
    let readme = include_str!("../../README.md");
    let from = readme.find("$ airlock sandbox --extract").expect("the README extracts it");
    let block = readme[from..].split("```").next().unwrap_or_default();
    let mut typed = block.replace("\n$ ", "\n").trim_start_matches("$ ").to_owned();
    for (written, used) in [
        ("https://api.openai.com/v1", backend.url().as_str()),
        ("debian:13-slim", BUSYBOX),
        ("docker run -i --rm", "docker run -i --rm --network host --label airlock.tests=rig"),
    ] {
        assert!(typed.contains(written), "{written}: {typed}");
        typed = typed.replace(written, used);
    }
    let directory = airlock().await.parent().expect("a directory").display().to_string();
    let path = format!("{directory}:/usr/local/bin:/usr/bin:/bin");
    let mut shell = Command::new("sh");
    shell.args(["-ec", &typed]).current_dir(rig.workspace()).stdin(Stdio::null());
    shell.env("PATH", path).env("HOME", rig.home()).env("KEY", rig.key());
    let output = tokio::time::timeout(PATIENCE, shell.output()).await;
    let output = output.expect("it ends").expect("there is a shell");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<Value> =
        stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(lines.first().map(|line| &line["ready"]), Some(&json!(1)), "{output:?}");
    let outcome = lines.last().map(|line| &line["outcome"]);
    assert_eq!(outcome, Some(&json!({"outcome": "finished", "answer": "ok"})), "{stdout}");
    assert!(output.status.success() && !stdout.contains(rig.key()), "{output:?}");
}
