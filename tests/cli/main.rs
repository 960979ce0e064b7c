//! The program `airlock` as people and programs use it: its messages word for word, its output
//! streams, and its exit codes.

mod recording; // record and replay
mod doctor; // the check of the backend
mod face; // stdout, stderr, files, a terminal
mod sessions; // sessions, show, diff, apply, discard
mod memory; // large input and output in little memory
mod refused; // error messages
mod sandbox; // the binary and the schema for other programs

use airlock_tests::Rig;
use airlock_tests::backend::Backend;
use airlock_tests::images::BUSYBOX;
use airlock_tests::rig::Ran;

/// The result of one command.
#[derive(Debug, PartialEq, Eq)]
struct CommandResult {
    exit: Option<i32>,
    stdout: String,
    /// With `~` for the temporary home.
    stderr: String,
}

/// Runs one command in a rig's home, with an empty stdin.
async fn run_cli(rig: &Rig, line: &[&str]) -> CommandResult {
    let (name, rest) = line.split_first().expect("a command");
    let output = rig.command(name).await.args(rest).output().await.expect("airlock can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let home = rig.home().display().to_string();
    CommandResult {
        exit: output.status.code(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr).replace(&home, "~"),
    }
}

/// The same for a session that is over; the command must succeed.
async fn succeed(ran: &Ran, line: &[&str]) -> String {
    let result = run_cli(&ran.rig, line).await;
    assert_eq!(result.exit, Some(0), "{line:?}: {result:#?}");
    result.stdout + &result.stderr
}

/// A file with a valid key that only its owner can read.
fn key_file(rig: &Rig) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let file = rig.home().join("key");
    std::fs::write(&file, rig.key()).expect("the temporary directory can be written");
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&file, private).expect("a file of ours");
    file.display().to_string()
}

/// The flags of `airlock run` for a given backend.
fn flags(rig: &Rig, backend: &Backend) -> Vec<String> {
    let (url, key) = (backend.url(), key_file(rig));
    let flags = ["--image", BUSYBOX, "--base-url", &url, "--api-key-file", &key];
    flags.map(str::to_owned).to_vec()
}

/// The text on one line: where lines break depends on the length of the temporary directory's path.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
