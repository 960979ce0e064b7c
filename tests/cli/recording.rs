//! Recordings through the command line: recorded with a backend, replayed without one; every
//! difference is an error that names its place.

use std::path::{Path, PathBuf};

use airlock_tests::Rig;
use airlock_tests::backend::{Backend, answer, call, script};
use airlock_tests::engine::Engine;
use airlock_tests::images;
use airlock_tests::rig::Ran;
use serde_json::{Value, json};

use super::{CommandResult, flags, run_cli, unwrapped};

/// A recorded session, and the path of its recording.
async fn recorded() -> (Ran, PathBuf) {
    let rig = Rig::new().files(&[("a", "one\n")]);
    let file = rig.home().join("session.recording.jsonl");
    let path = file.display().to_string();
    let rig = rig.flags(&["--record", &path]).model(script![
        call("bash", json!({"command": "cat a; echo two > a"})),
        call("read_file", json!({"path": "a"})),
        answer("it result one"),
    ]);
    (rig.prompt("what is in a?").run().await.assert_finished("it result one"), file)
}

/// A replay in a home without a key, with a proxy that does not exist.
async fn replay(recording: &str, more: &[&str]) -> CommandResult {
    let rig = Rig::new().files(&[("a", "one\n")]).variable("HTTPS_PROXY", "http://127.0.0.1:1");
    let file = rig.home().join("replayed.jsonl");
    std::fs::write(&file, recording).expect("written");
    let path = file.display().to_string();
    let line = ["run", "what is in a?", "--image", images::BUSYBOX, "--json", "--replay", &path];
    run_cli(&rig, &[&line[..], more].concat()).await
}

fn outcome(result: &CommandResult) -> Value {
    let last = result.stdout.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|_| panic!("no outcome: {result:#?}"))
}

/// Checks for exit code 1 and a recording fault with this text.
#[track_caller]
fn assert_departs(result: &CommandResult, says: &str) {
    assert_eq!(result.exit, Some(1), "{result:#?}");
    let outcome = outcome(result);
    assert_eq!((&outcome["outcome"], &outcome["fault"]), (&json!("failed"), &json!("recording")));
    assert!(outcome["message"].to_string().contains(says), "{says}: {outcome}");
    assert!(result.stderr.starts_with("recording: "), "{result:#?}");
}

#[tokio::test]
async fn a_recording_is_replayed_and_a_difference_names_its_place() {
    use std::os::unix::fs::PermissionsExt as _;
    let (ran, file) = recorded().await;
    let mode = std::fs::metadata(&file).expect("a recording").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let recording = std::fs::read_to_string(&file).expect("text");
    assert!(!recording.contains(ran.rig.key()) && !recording.contains("uthorization"));
    let asked = ran.backend.model_requests().len();
    let first = ran.outcome();

    // A replay, without the backend.
    let again = replay(&recording, &[]).await;
    assert_eq!((again.exit, again.stderr.as_str()), (Some(0), ""), "{again:#?}");
    let second = outcome(&again);
    for field in ["outcome", "answer", "exit", "requests", "usage", "changes"] {
        assert_eq!(first[field], second[field], "{field}");
    }
    assert_eq!(ran.backend.model_requests().len(), asked);

    // A change in what the model asked for.
    let at = recording.find("cat a; echo two").expect("the call's arguments");
    let mut changed = recording.clone();
    changed.replace_range(at..at + 3, "cut");
    assert_departs(&replay(&changed, &[]).await, "departs from its recording at exchange ");

    // One exchange too few, one too many, and one missing in the middle.
    let lines: Vec<&str> = recording.lines().collect();
    let shorter = lines[..lines.len() - 1].join("\n") + "\n";
    assert_departs(&replay(&shorter, &[]).await, "one more request of responses than it has");
    let mut last: Value = serde_json::from_str(lines[lines.len() - 1]).expect("an exchange");
    last["n"] = json!(last["n"].as_u64().unwrap_or_default() + 1);
    let longer = format!("{recording}{last}\n");
    assert_departs(&replay(&longer, &[]).await, "ended before its recording: 1 left");
    let with_gap: Vec<&str> =
        lines.iter().enumerate().filter(|(n, _)| *n != lines.len() - 2).map(|(_, l)| *l).collect();
    assert_departs(&replay(&(with_gap.join("\n") + "\n"), &[]).await, "is missing: line ");
    assert_departs(&replay("{\"airlock_recording\":99}\n", &[]).await, "of version 99");
    assert_departs(&replay("not a recording\n", &[]).await, "it is not a recording");
}

/// Another file is not overwritten.
#[tokio::test]
async fn a_recording_overwrites_only_recordings() {
    let engine = Engine::connect().await;
    images::ready(&engine).await;
    let rig = Rig::new();
    let file = rig.home().join("thesis.txt");
    std::fs::write(&file, "years of work\n").expect("written");
    let backend = Backend::scripted(script![answer("ok")]);
    let mut line = vec!["run".to_owned(), "p".to_owned(), "--record".to_owned()];
    line.push(file.display().to_string());
    line.extend(flags(&rig, &backend));
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    let refused = run_cli(&rig, &line).await;
    assert_eq!(refused.exit, Some(1), "{refused:?}");
    assert!(unwrapped(&refused.stderr).contains("nothing was overwritten"), "{refused:?}");
    assert_eq!(read(&file), "years of work\n");
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}
