//! The program `airlock` as a person at a terminal or a program at a pipe has it: what it says word
//! for word, what it prints where, how it ends.

mod recording; // recorded, played back, departed from
mod doctor; // the backend, tried
mod face; // stdout, stderr, files, a terminal
mod kept; // runs, show, diff, apply, discard
mod memory; // what is large is never held whole
mod refused; // what is refused, with what to do instead
mod sandbox; // the binary and the schema for hosts that are not ours

use airlock_tests::Rig;
use airlock_tests::backend::Backend;
use airlock_tests::images::BUSYBOX;
use airlock_tests::rig::Ran;

/// How one command ended.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    exit: Option<i32>,
    stdout: String,
    /// With `~` for the temporary home.
    stderr: String,
}

/// One command in a rig's home, with an empty stdin.
async fn said(rig: &Rig, line: &[&str]) -> Said {
    let (name, rest) = line.split_first().expect("a command");
    let output = rig.command(name).await.args(rest).output().await.expect("airlock can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let home = rig.home().display().to_string();
    Said {
        exit: output.status.code(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr).replace(&home, "~"),
    }
}

/// The same for a run that is over, which must do it.
async fn done(ran: &Ran, line: &[&str]) -> String {
    let said = said(&ran.rig, line).await;
    assert_eq!(said.exit, Some(0), "{line:?}: {said:#?}");
    said.stdout + &said.stderr
}

/// A file with a key that pays, the owner's alone.
fn key_file(rig: &Rig) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let file = rig.home().join("key");
    std::fs::write(&file, rig.key()).expect("the temporary folder can be written");
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&file, private).expect("a file of ours");
    file.display().to_string()
}

/// The flags of a run against a backend that is there already.
fn flags(rig: &Rig, backend: &Backend) -> Vec<String> {
    let (url, key) = (backend.url(), key_file(rig));
    let flags = ["--image", BUSYBOX, "--base-url", &url, "--api-key-file", &key];
    flags.map(str::to_owned).to_vec()
}

/// The words alone: where lines break depends on how long a temporary folder is called.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
