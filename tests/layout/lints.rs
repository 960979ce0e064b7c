//! rustfmt and clippy have nothing to say. Clippy works in the target folder of the build that runs
//! these tests: build scripts, macros and the sandbox's binary are there by now.

use crate::sources::cargo;

#[test]
fn the_formatter_would_change_nothing() {
    let output = cargo(&["fmt", "--all", "--check"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_linter_has_nothing_to_say() {
    let arguments = "clippy --workspace --all-targets --locked --quiet";
    let mut arguments: Vec<&str> = arguments.split(' ').collect();
    arguments.extend(["--", "-D", "warnings"]);
    let output = cargo(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
