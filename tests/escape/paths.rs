//! The file tools, led astray. The control is what a runner does that opens what it is told.

use airlock_tests::Rig;
use airlock_tests::backend::{Script, answer, call};
use serde_json::{Value, json};

use crate::attack::attack;
use crate::hostile;

/// The links and files that lead astray, made by a command in the workspace.
const PLANTS: &str = "ln -s /proc/self/environ environ; ln -s /proc/1/root root; ln -s /etc etc; ln -s /dev/zero zero
    ln -s /proc/self/fd/0 stdin; ln -s ../../etc/passwd up; mkfifo fifo; truncate -s 1T huge; ln -s loop loop; ln -s /proc/self/mem mem
    python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")'; mkdir folder; ln -s / folder/top; true";

async fn said(calls: &[(&str, Value)]) -> Vec<String> {
    let mut steps = vec![call("bash", json!({"command": PLANTS}))];
    steps.extend(calls.iter().map(|(name, arguments)| call(name, arguments.clone())));
    steps.push(answer("done"));
    let rig = Rig::new().image(hostile::image().await).model(Script(steps)).prompt("x");
    let ran = rig.run().await.assert_finished("done").assert_nothing_left_behind().await;
    let mut outputs = ran.outputs();
    assert_eq!(outputs.len(), calls.len() + 1, "{outputs:#?}");
    outputs.remove(0);
    outputs
}

#[tokio::test]
async fn read_file_leaves_the_workspace_by_no_path() {
    let opens = "ln -s /proc/self/environ /tmp/environ; grep -qa PATH /tmp/environ && works";
    let control = attack(&[opens]);
    control.works_everywhere().await;
    let paths = [
        "environ",
        "root/etc/passwd",
        "etc/passwd",
        "up",
        "mem",
        "stdin",
        "zero",
        "loop",
        "../etc/passwd",
        "/etc/passwd",
        "/proc/1/environ",
        "folder/top/etc/passwd",
        "folder/../../etc/passwd",
        "./.././etc/passwd",
        "/workspace/../etc/passwd",
        "~/../etc/passwd",
        "//etc/passwd",
        "a\u{0}b",
        "fifo",
        "socket",
        "folder",
    ];
    let calls: Vec<(&str, Value)> =
        paths.iter().map(|path| ("read_file", json!({"path": path}))).collect();
    for (path, output) in paths.iter().zip(said(&calls).await) {
        assert!(!output.contains("root:") && !output.contains("PATH="), "{path}: {output}");
        assert!(output.len() < 500 && !output.contains('\0'), "{path}: {output}");
    }
}

#[tokio::test]
async fn write_file_and_patches_leave_the_workspace_by_no_path() {
    let paths = [
        "etc/left",
        "root/tmp/left",
        "../tmp/left",
        "/tmp/left",
        "folder/top/tmp/left",
        "zero",
        "fifo",
        "socket",
    ];
    let mut calls: Vec<(&str, Value)> =
        paths.iter().map(|path| ("write_file", json!({"path": path, "content": "left"}))).collect();
    for path in paths {
        let patch = format!("*** Begin Patch\n*** Add File: {path}\n+left\n*** End Patch\n");
        calls.push(("apply_patch", json!({"input": patch, "patch": patch})));
    }
    calls.push(("bash", json!({"command": "find /tmp /etc -name left; ls -l zero; echo end"})));
    let outputs = said(&calls).await;
    let last = outputs.last().cloned().unwrap_or_default();
    assert!(last.contains("end") && !last.contains("/left"), "{outputs:#?}");
}

#[tokio::test]
async fn a_huge_sparse_file_costs_what_is_shown_of_it() {
    let outputs = said(&[
        ("read_file", json!({"path": "huge"})),
        ("list_files", json!({"path": "."})),
        ("list_files", json!({"path": "root"})),
        ("list_files", json!({"path": "folder/top"})),
    ])
    .await;
    for output in &outputs {
        assert!(output.len() < 20_000, "{} bytes", output.len());
    }
    assert!(outputs[1].contains("huge"), "{outputs:#?}");
    assert!(!outputs[2..].concat().contains("passwd"), "{outputs:#?}");
}
