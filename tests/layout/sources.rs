//! The sources of the workspace, read once.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The crates, each a folder.
pub(crate) const CRATES: [&str; 5] = ["host", "sandbox", "shared", "setup", "tests"];

pub(crate) struct Source {
    /// From the root of the workspace.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The path below the crate's `src`, as the names of modules; empty for what is not below one.
    pub(crate) fn modules(&self) -> Vec<String> {
        let mut parts = self.path.iter().skip(1).map(|part| part.to_string_lossy().into_owned());
        if parts.next().as_deref() != Some("src") {
            return Vec::new();
        }
        parts.map(|part| part.trim_end_matches(".rs").to_owned()).collect()
    }

    /// The text without comments, and without what follows `#[cfg(test)] mod`.
    pub(crate) fn code(&self) -> String {
        let product = self.text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let lines = product.lines().filter(|line| !line.trim_start().starts_with("//"));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The comments, each run of lines as one text.
    pub(crate) fn comments(&self) -> Vec<String> {
        let mut comments = Vec::new();
        let mut open = String::new();
        for line in self.text.lines().chain([""]) {
            match line.trim_start().strip_prefix("//") {
                Some(rest) => {
                    open.push_str(rest.trim_start_matches(['/', '!']).trim());
                    open.push(' ');
                }
                None if !open.is_empty() => comments.push(std::mem::take(&mut open)),
                None => {}
            }
        }
        comments
    }
}

pub(crate) fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().expect("the workspace's folder")
}

/// Every `.rs` file of every crate.
pub(crate) fn all() -> Vec<Source> {
    let root = root();
    let mut open: Vec<PathBuf> = CRATES.iter().map(PathBuf::from).collect();
    let mut sources = Vec::new();
    while let Some(folder) = open.pop() {
        let entries = std::fs::read_dir(root.join(&folder)).expect("a folder of the workspace");
        for entry in entries.flatten() {
            let path = folder.join(entry.file_name());
            let kind = entry.file_type().expect("an entry of the workspace");
            if kind.is_dir() && entry.file_name() != "target" {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(entry.path()).expect("a source is text");
                sources.push(Source { path, text });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

/// What cargo says of the workspace.
#[expect(clippy::disallowed_methods, reason = "a test of the workspace asks cargo")]
pub(crate) fn cargo(arguments: &[&str]) -> std::process::Output {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = std::process::Command::new(cargo);
    // What this very run of cargo set for this test would look to build scripts like a change, and
    // much would be built anew.
    for (name, _) in std::env::vars_os() {
        if airlock_tests::rig::is_of_this_package(&name) {
            command.env_remove(&name);
        }
    }
    command.args(arguments).current_dir(root()).output().expect("cargo can be run")
}

/// The packages of the workspace.
pub(crate) fn packages() -> Vec<Value> {
    let output = cargo(&["metadata", "--no-deps", "--format-version", "1", "--locked"]);
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let packages = metadata.get("packages").and_then(Value::as_array).cloned();
    packages.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}
