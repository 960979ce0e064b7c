//! Looks for canaries in every place a secret could have been left: what the engine says of a
//! container and its image, every file a sandbox has, every process, a folder, a text.
//!
//! It reads `/proc/<pid>/root` and other people's `environ`, so it has to be root; where it is not
//! it says so, and never that it found nothing.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde_json::Value;

use crate::engine::Engine;

/// The canaries, and what was looked at.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    needles: Vec<(String, Vec<u8>)>,
    /// `name in place`.
    pub found: Vec<String>,
    /// How many files, texts and processes were read.
    pub looked_at: usize,
}

impl Scan {
    /// Looks for these values, plain and in base64.
    #[must_use]
    pub fn for_values<'a>(values: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut needles = Vec::new();
        for (name, value) in values {
            assert!(value.len() >= 16, "{name}: too short to be sure of");
            needles.push((name.to_owned(), value.as_bytes().to_vec()));
            // Whatever stands before it shifts base64 by 0, 1 or 2 bytes; the middle is certain.
            for shift in 0..3 {
                let shifted = [&b"\0\0"[..shift], value.as_bytes()].concat();
                let encoded = base64::prelude::BASE64_STANDARD_NO_PAD.encode(shifted);
                let middle = encoded.as_bytes()[4..encoded.len() - 4].to_vec();
                needles.push((format!("{name} in base64"), middle));
            }
        }
        Self { needles, ..Self::default() }
    }

    /// # Panics
    /// When something was found, or nothing was looked at.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.looked_at > 0, "the scanner looked at nothing: it is blind");
        assert!(self.found.is_empty(), "secrets were found: {:#?}", self.found);
    }

    pub fn bytes(&mut self, place: &str, bytes: &[u8]) {
        self.looked_at += 1;
        for (name, needle) in &self.needles {
            if memchr::memmem::find(bytes, needle).is_some() {
                self.found.push(format!("{name} in {place}"));
            }
        }
    }

    pub fn text(&mut self, place: &str, text: &str) {
        self.bytes(place, text.as_bytes());
    }

    /// Every regular file below a folder, whole. Links are not followed, `/proc` and `/sys` are
    /// other people's.
    pub fn folder(&mut self, place: &str, root: &Path) {
        let mut open = vec![PathBuf::new()];
        while let Some(folder) = open.pop() {
            let Ok(entries) = std::fs::read_dir(root.join(&folder)) else { continue };
            for entry in entries.flatten() {
                let path = folder.join(entry.file_name());
                self.text(&format!("a name in {place}"), &path.to_string_lossy());
                let Ok(kind) = entry.file_type() else { continue };
                if kind.is_dir() && !matches!(path.to_str(), Some("proc" | "sys")) {
                    open.push(path);
                } else if kind.is_file() {
                    let whole = format!("{place}/{}", path.display());
                    self.file(&whole, &entry.path());
                } else if kind.is_symlink() {
                    let target = std::fs::read_link(entry.path()).unwrap_or_default();
                    self.text(&format!("a link in {place}"), &target.to_string_lossy());
                }
            }
        }
    }

    fn file(&mut self, place: &str, path: &Path) {
        let Ok(mut file) = File::open(path) else { return };
        let keep = self.needles.iter().map(|(_, needle)| needle.len()).max().unwrap_or(0);
        let mut window = Vec::new();
        loop {
            // The tail of the last piece stays, so that nothing hides on a border.
            let from = window.len().saturating_sub(keep);
            window.drain(..from);
            match file.by_ref().take(8 << 20).read_to_end(&mut window) {
                Ok(read) if read > 0 => self.bytes(place, &window),
                _ => return,
            }
        }
    }

    /// A container: what the engine says of it and of its image, its files, its processes.
    pub async fn container(&mut self, engine: &Engine, id: &str) {
        let inspected = engine.get(&format!("/containers/{id}/json")).await.done("inspect");
        self.bytes("docker inspect", &inspected.body);
        let inspected = inspected.json();
        let image = inspected["Image"].as_str().unwrap_or_default().to_owned();
        for (place, path) in [
            ("docker logs", format!("/containers/{id}/logs?stdout=1&stderr=1")),
            ("docker top", format!("/containers/{id}/top?ps_args=auxe")),
            ("docker diff", format!("/containers/{id}/changes")),
            ("the container's layer", format!("/containers/{id}/export")),
            ("the image's record", format!("/images/{image}/json")),
            ("the image's history", format!("/images/{image}/history")),
            ("the image", format!("/images/{image}/get")),
        ] {
            let answer = engine.get(&path).await;
            self.bytes(place, &answer.body);
        }
        let first = inspected.pointer("/State/Pid").and_then(Value::as_u64).unwrap_or(0);
        assert!(first > 0, "the container does not run: its files and processes cannot be read");
        self.folder("the sandbox", &PathBuf::from(format!("/proc/{first}/root")));
        let namespace = std::fs::read_link(format!("/proc/{first}/ns/pid"));
        let namespace =
            namespace.expect("the scanner has to be root to read a sandbox's processes");
        for process in processes() {
            let same = std::fs::read_link(process.join("ns/pid")).is_ok_and(|ns| ns == namespace);
            if same {
                self.process(&process);
            }
        }
    }

    /// `environ` and `cmdline` of every process of this machine.
    pub fn all_processes(&mut self) {
        for process in processes() {
            self.process(&process);
        }
    }

    fn process(&mut self, process: &Path) {
        for name in ["environ", "cmdline"] {
            let path = process.join(name);
            if let Ok(bytes) = std::fs::read(&path) {
                self.bytes(&path.display().to_string(), &bytes);
            }
        }
        // What a process holds open, deleted files and memory files too.
        for entry in std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
            let is_file = std::fs::metadata(entry.path()).is_ok_and(|file| file.is_file());
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            if is_file && target.to_string_lossy().contains("(deleted)") {
                self.file(&format!("{} of {}", target.display(), process.display()), &entry.path());
            }
        }
    }
}

fn processes() -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.join("environ").exists())
}
