//! Builds the sandbox's binary as `airlock` itself is built, so that one ordinary cargo command makes
//! both and the host carries the sandbox in its own file.
//!
//! ```text
//! cargo build ─→ this script ─→ cargo build -p airlock-sandbox   (profile `sandbox`, crt-static)
//!                                    └─→ OUT_DIR/airlock-sandbox ─→ include_bytes! in engine/binary.rs
//! ```
//!
//! # Why not crt-static for everything
//! A static glibc host loads the NSS modules of whatever machine it is copied to and dies in
//! look-ups; only the sandbox, which looks up nothing, may be static. RUSTFLAGS of the user's would
//! also silently replace the flag, hence `CARGO_ENCODED_RUSTFLAGS`, which nothing overrides.
//!
//! # Why a target folder of its own
//! In the same folder the inner cargo waits for ever for the lock that the outer one holds; in
//! `OUT_DIR` clippy and every other set of flags would build it anew.
//!
//! `AIRLOCK_SANDBOX_BINARY` names a binary that was built before, for packagers.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

/// Names a sandbox that was built before.
const PREBUILT: &str = "AIRLOCK_SANDBOX_BINARY";

/// The settings of cargo that reach the inner build: where things come from, not how they are built.
const CARGO_KEPT: [&str; 3] = ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_MAKEFLAGS"];
const CARGO_KEPT_FAMILIES: [&str; 5] =
    ["CARGO_REGISTRIES_", "CARGO_REGISTRY_", "CARGO_SOURCE_", "CARGO_HTTP_", "CARGO_NET_"];
/// What the outer cargo, or clippy through it, says to this script and not to the inner build.
const SCRUBBED: [&str; 14] = [
    "RUSTFLAGS",
    "RUSTDOCFLAGS",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_LINKER",
    "CLIPPY_ARGS",
    "CLIPPY_CONF_DIR",
    "TARGET",
    "HOST",
    "PROFILE",
    "OPT_LEVEL",
    "DEBUG",
    "OUT_DIR",
    "NUM_JOBS",
    "__CARGO_DEFAULT_LIB_METADATA",
];

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(required("OUT_DIR")?);
    let workspace = PathBuf::from(required("CARGO_MANIFEST_DIR")?);
    let workspace = workspace.parent().ok_or("the host's folder has no parent")?;

    tell("rerun-if-changed=build.rs");
    tell(&format!("rerun-if-env-changed={PREBUILT}"));
    let built = match env::var_os(PREBUILT) {
        Some(prebuilt) => {
            tell(&format!("rerun-if-changed={}", PathBuf::from(&prebuilt).display()));
            PathBuf::from(prebuilt)
        }
        None => build(workspace)?,
    };

    let binary = fs::read(&built).map_err(|error| format!("{}: {error}", built.display()))?;
    must_be_static(&binary).map_err(|reason| format!("{}: {reason}", built.display()))?;
    fs::write(out.join("airlock-sandbox"), &binary)?;
    let mut digest = String::new();
    for byte in Sha256::digest(&binary) {
        write!(digest, "{byte:02x}")?;
    }
    tell(&format!("rustc-env=AIRLOCK_SANDBOX_SHA256={digest}"));
    Ok(())
}

/// The inner build. Says where the binary is.
fn build(workspace: &Path) -> Result<PathBuf, Box<dyn Error>> {
    for watched in ["sandbox", "shared", "Cargo.toml", "Cargo.lock"] {
        tell(&format!("rerun-if-changed={}", workspace.join(watched).display()));
    }
    let triple = required("TARGET")?;
    let target = target_folder(&env::current_exe()?)?.join("sandbox");

    #[expect(
        clippy::disallowed_methods,
        reason = "a build script runs cargo, which has no other way in"
    )]
    let mut cargo = Command::new(required("CARGO")?);
    cargo.current_dir(workspace);
    cargo.args([
        "build",
        "--quiet",
        "--locked",
        "--package",
        "airlock-sandbox",
        "--bin",
        "airlock-sandbox",
    ]);
    cargo.args(["--profile", "sandbox", "--target", &triple, "--target-dir"]).arg(&target);
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let kept = CARGO_KEPT.contains(&text)
            || CARGO_KEPT_FAMILIES.iter().any(|family| text.starts_with(family));
        if SCRUBBED.contains(&text)
            || (text.starts_with("CARGO_") && !kept)
            || text.starts_with("DEP_")
        {
            cargo.env_remove(name);
        }
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    let status = cargo.status().map_err(|error| format!("cargo could not be run: {error}"))?;
    if !status.success() {
        return Err("the sandbox's binary could not be built: see cargo's own words above".into());
    }
    Ok(target.join(&triple).join("sandbox").join("airlock-sandbox"))
}

/// The workspace's target folder, wherever the user has put it and whoever has made it. This script is
/// built for the machine that builds, so it lies in `TARGET/PROFILE/build/…`, also below `--target`.
fn target_folder(script: &Path) -> Result<&Path, String> {
    let builds = script.ancestors().find(|folder| folder.ends_with("build"));
    let target = builds.and_then(Path::parent).and_then(Path::parent);
    target.ok_or_else(|| format!("no target folder above {}", script.display()))
}

/// A binary with an interpreter would run whatever loader the image has, and not run at all in one
/// that has none. Parses the program headers of a 64-bit little-endian ELF.
fn must_be_static(binary: &[u8]) -> Result<(), String> {
    const INTERPRETER: u32 = 3;
    if binary.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Err("not a 64-bit little-endian ELF".to_owned());
    }
    let short =
        |at: usize| binary.get(at..at + 2).map(|b| usize::from(u16::from_le_bytes([b[0], b[1]])));
    let word =
        |at: usize| binary.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let cut = || "its headers are cut short".to_owned();
    let start = word(32).ok_or_else(cut)? as usize;
    let (size, count) = (short(54).ok_or_else(cut)?, short(56).ok_or_else(cut)?);
    for header in 0..count {
        let kind = word(start + header * size).ok_or_else(cut)?;
        if kind == INTERPRETER {
            return Err("it came out dynamic: a sandbox must need nothing of the image".to_owned());
        }
    }
    Ok(())
}

fn required(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("cargo did not say {name}"))
}

fn tell(word: &str) {
    println!("cargo::{word}");
}
