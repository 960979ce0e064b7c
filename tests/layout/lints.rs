//! rustfmt and clippy have nothing to say. They work in a target folder of their own, so that they
//! neither wait for the build that runs these tests nor undo it.

use crate::sources::cargo;

#[test]
fn the_formatter_would_change_nothing() {
    let output = cargo(&["fmt", "--all", "--check"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_linter_has_nothing_to_say() {
    let arguments = "clippy --workspace --all-targets --locked --quiet --target-dir target/lints";
    let mut arguments: Vec<&str> = arguments.split(' ').collect();
    arguments.extend(["--", "-D", "warnings"]);
    let output = cargo(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
