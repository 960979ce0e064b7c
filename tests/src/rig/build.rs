//! The binaries that are run, built once by the cargo that runs the tests.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;
use tokio::sync::OnceCell;

/// The built `airlock`: a release build where the rig is one, as in benches.
pub async fn airlock() -> &'static Path {
    host_program("airlock-host", "airlock").await
}

/// A binary of the workspace.
///
/// # Panics
/// When it does not build.
pub async fn host_program(package: &str, name: &str) -> &'static Path {
    static AIRLOCK: OnceCell<PathBuf> = OnceCell::const_new();
    static SETUP: OnceCell<PathBuf> = OnceCell::const_new();
    let cell = if name == "airlock" { &AIRLOCK } else { &SETUP };
    cell.get_or_init(|| build(package, name)).await
}

async fn build(package: &str, name: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--locked", "--quiet", "-p", package, "--bin", name]);
    command.args(["--message-format", "json-render-diagnostics"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    // What the outer cargo told these tests about their own package would look to build scripts like
    // a change, and both would build the same things anew each time.
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_of_this_package(name)) {
        command.env_remove(name);
    }
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    let built = command.output().await.expect("cargo runs the tests, so it can be run");
    assert!(built.status.success(), "{name} does not build");
    let messages = String::from_utf8_lossy(&built.stdout).into_owned();
    let executable = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let target = message.pointer("/target/name")?.as_str()?;
        if target != name {
            return None;
        }
        Some(PathBuf::from(message.get("executable")?.as_str()?))
    });
    executable.expect("cargo says where it put a binary")
}

/// Whether a variable is what cargo tells a test of its own package.
#[must_use]
pub fn is_of_this_package(variable: &std::ffi::OsStr) -> bool {
    let told = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_PRIMARY_"];
    told.iter().any(|family| variable.to_string_lossy().starts_with(family))
}

/// The sandbox binary that `airlock` carries, written out once.
///
/// # Panics
/// When `airlock sandbox --extract` fails.
pub async fn extracted_sandbox() -> &'static Path {
    static SANDBOX: OnceCell<PathBuf> = OnceCell::const_new();
    SANDBOX
        .get_or_init(|| async {
            let airlock = airlock().await;
            let file = airlock.with_file_name("airlock-sandbox.extracted");
            let process = std::process::id();
            let fresh = airlock.with_file_name(format!("airlock-sandbox.{process}"));
            let extracting =
                Command::new(airlock).args(["sandbox", "--extract"]).arg(&fresh).output();
            let extracted = extracting.await.expect("airlock can be started");
            let said = String::from_utf8_lossy(&extracted.stderr).into_owned();
            assert!(extracted.status.success(), "airlock sandbox --extract: {said}");
            std::fs::rename(&fresh, &file).expect("the target folder can be written");
            file
        })
        .await
}
