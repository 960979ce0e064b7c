//! Large data in little memory: an untrusted recording, and changes that are shown on a terminal.

use std::io::Read as _;
use std::process::Stdio;

use airlock_tests::backend::{answer, call, script};
use airlock_tests::rig::terminal;
use airlock_tests::{Rig, images, peak};
use serde_json::json;
use tokio::process::Command;

/// The most memory that a command may use.
const MOST_BYTES: u64 = 150 << 20;

/// Exchanges of the largest size: each fits into memory, all together would not.
#[tokio::test]
async fn an_untrusted_recording_is_replayed_in_little_memory() {
    let rig = Rig::new().files(&[("a", "one\n")]);
    let file = rig.home().join("strangers.jsonl");
    let mut text = r#"{"airlock_recording":1,"made_by":"0.1.0","model":"gpt-5.5"}"#.to_owned();
    let item = json!({"type": "message", "role": "user", "content": "x"});
    for n in 1..=20 {
        let exchange = json!({"n": n, "route": "responses", "status": 200,
            "request": {"kept": 0, "input": vec![&item; 14_000]}, "events": []});
        text.push_str(&format!("\n{exchange}"));
    }
    text.push('\n');
    std::fs::write(&file, &text).expect("written");
    let mut weigher = Command::new(env!("CARGO_BIN_EXE_json-weigher"));
    weigher.stdin(std::fs::File::open(&file).expect("a file"));
    let weighed = weigher.output().await.expect("a program of ours");
    let weighed = String::from_utf8_lossy(&weighed.stdout).into_owned();
    let weighed = weighed.split_whitespace().last().and_then(|bytes| bytes.parse::<u64>().ok());
    assert!(weighed > Some(MOST_BYTES), "blind: {weighed:?}");
    let mut command = rig.command("run").await;
    command.args(["x", "--image", images::BUSYBOX, "--json", "--replay"]).arg(&file);
    let airlock = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let watching = peak::watch(airlock.id().expect("it runs"));
    let output = airlock.wait_with_output().await.expect("it ends");
    let result = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{result}");
    assert!(result.contains("departs from its recording at exchange 1"), "{result}");
    let most = watching.await.expect("watched");
    assert!(most < MOST_BYTES, "it had {most} bytes");
}

/// Each character has three bytes and is shown as eight, so the output is larger than the memory
/// limit.
#[tokio::test]
async fn changes_are_shown_in_little_memory() {
    let wide = "i=0; line=$(printf '\\342\\200\\256'); for n in 1 2 3 4 5 6 7; do line=$line$line; done; \
        yes \"$line\" | head -n 4900 > wide0; for n in $(seq 32); do cp wide0 wide$n; done; \
        yes b | head -n 1000000 > short";
    let short = "a\n".repeat(1_000_000);
    let rig = Rig::new().files(&[("short", &short)]);
    let rig = rig.flags(&["--disk", "512m"]);
    let script = script![call("bash", json!({"command": wide})), answer("done")];
    let ran = rig.model(script).prompt("x").run().await.assert_finished("done");
    let mut command = ran.rig.command("diff").await;
    let (mut ours, theirs) = terminal();
    let stdout = theirs.try_clone().expect("a descriptor");
    command.arg(ran.id()).stdout(stdout).stderr(theirs);
    let mut airlock = command.spawn().expect("started");
    drop(command);
    let watching = peak::watch(airlock.id().expect("it runs"));
    let reading = tokio::task::spawn_blocking(move || {
        let (mut shown, mut hidden, mut piece) = (0, 0, vec![0; 1 << 16]);
        // A terminal whose other end is closed gives an error, not an end of file.
        while let Ok(read @ 1..) = ours.read(&mut piece) {
            shown += read as u64;
            hidden += memchr::memmem::find_iter(&piece[..read], "\u{202e}").count();
        }
        (shown, hidden)
    });
    assert!(airlock.wait().await.expect("it ends").success());
    let (shown, hidden) = reading.await.expect("read");
    assert_eq!(hidden, 0, "an unsafe character reached the terminal");
    assert!(shown > MOST_BYTES, "blind: {shown} bytes were shown");
    let most = watching.await.expect("watched");
    assert!(most < MOST_BYTES, "it had {most} bytes");
}
