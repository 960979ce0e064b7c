//! What stands at the top, and what the workspace depends on.

use std::collections::BTreeSet;

use crate::sources::{CRATES, all, packages, root};

/// What a newcomer sees first: all of it, and nothing else.
const TOP: [&str; 12] = [
    ".ci",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "README.md",
    "clippy.toml",
    "images",
    "rustfmt.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
];

/// The crates that the design names.
const GIVEN: [&str; 12] = [
    "tokio",
    "bollard",
    "reqwest",
    "serde",
    "serde_json",
    "axum",
    "sha2",
    "base64",
    "rand",
    "clap",
    "tracing",
    "oauth2",
];

#[test]
fn the_top_is_what_it_is_meant_to_be() {
    let entries = std::fs::read_dir(root()).expect("the workspace's folder");
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let found: BTreeSet<String> =
        names.filter(|name| !matches!(name.as_str(), ".git" | "target")).collect();
    let meant: BTreeSet<String> = TOP.iter().chain(&CRATES).map(|&name| name.to_owned()).collect();
    assert_eq!(found, meant);
}

#[test]
fn the_given_crates_are_direct_dependencies() {
    let packages = packages();
    let depends = packages.iter().flat_map(|p| p["dependencies"].as_array().into_iter().flatten());
    let names: BTreeSet<&str> = depends.filter_map(|d| d["name"].as_str()).collect();
    let missing: Vec<&&str> = GIVEN.iter().filter(|given| !names.contains(**given)).collect();
    assert!(missing.is_empty(), "not a direct dependency of any crate: {missing:?}");
}

#[test]
fn there_is_one_lockfile_and_one_edition() {
    for folder in CRATES {
        assert!(!root().join(folder).join("Cargo.lock").exists(), "{folder} has a lockfile");
    }
    for package in packages() {
        assert_eq!(package["edition"], "2024", "{}", package["name"]);
        assert_eq!(package["license"], "MIT OR Apache-2.0", "{}", package["name"]);
    }
}

#[test]
fn the_binaries_have_their_names() {
    let mut names = BTreeSet::new();
    for package in packages() {
        for target in package["targets"].as_array().into_iter().flatten() {
            if target["kind"][0] == "bin" && package["name"] != "airlock-tests" {
                names.insert(target["name"].as_str().unwrap_or_default().to_owned());
            }
        }
    }
    assert_eq!(names, ["airlock", "airlock-sandbox", "setup"].map(str::to_owned).into());
}

#[test]
fn the_readme_can_be_read() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap_or_default();
    let lines = readme.lines().count();
    assert!((20..300).contains(&lines), "README.md has {lines} lines");
}

/// The setup binary is a door: all that set-up does lives in the host's library.
#[test]
fn setup_is_a_thin_door() {
    let door = all().into_iter().filter(|source| source.path.starts_with("setup/src"));
    let lines: usize = door.map(|source| source.text.lines().count()).sum();
    assert!(lines < 20, "setup has {lines} lines");
}

/// On a machine that has nothing, before anything is built.
#[test]
#[expect(clippy::disallowed_methods, reason = "what CI runs is no program of the workspace's")]
fn what_the_tests_need_and_the_machine_lacks_is_named_at_once() {
    let mut run = std::process::Command::new("/bin/sh");
    let ended = run.arg(root().join(".ci/run")).env("PATH", "/none").output().expect("a shell");
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    for lacked in ["the program docker", "the program python3", "clippy: rustup", "libc6-dev"] {
        assert!(said.contains(&format!("this machine lacks {lacked}")), "{lacked}: {said}");
    }
}
