//! The base image from Debian packages: `apt-get` fetches them into a temporary directory, `dpkg-deb`
//! unpacks them, and the engine imports the result as one archive. No registry, no root, nothing is
//! installed.
//!
//! ```text
//! apt-get --download-only ─→ *.deb ─→ dpkg-deb --fsys-tarfile ─→ merged tar ─→ engine's import
//! ```
//!
//! No script of a package runs. What the image needs of their work (users, the links of the
//! alternatives, the certificate bundle) is written here. This is the only module of the host that
//! starts programs.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use airlock_shared::defaults;
use bollard::query_parameters::CreateImageOptionsBuilder;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::{PACKAGES, ProgressSink};
use crate::engine::docker::Docker;
use crate::engine::error::engine_message;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Directories that are links into `/usr`.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];
/// Documentation, which is not used in a container.
const LEFT_OUT: [&str; 6] = [
    "usr/share/doc/",
    "usr/share/info/",
    "usr/share/lintian/",
    "usr/share/locale/",
    "usr/share/man/",
    "usr/share/bug/",
];
const CERTIFICATES: &str = "usr/share/ca-certificates/";
/// How much of the archive is sent at once.
const CHUNK: usize = 256 << 10;

/// Makes the image and names it. The error is a reason to show to people.
pub(super) async fn import(
    docker: &Docker,
    name: &str,
    progress: ProgressSink<'_>,
) -> Result<(), String> {
    let directory = tempfile::Builder::new()
        .prefix("airlock-packages-")
        .tempdir()
        .map_err(|error| format!("no temporary directory: {error}"))?;
    let packages = fetch(directory.path(), progress).await?;
    progress(format!("unpacking {} packages into the engine", packages.len()));

    let (repository, tag) = name.split_once(':').unwrap_or((name, "latest"));
    let options = CreateImageOptionsBuilder::new()
        .from_src("-")
        .repo(repository)
        .tag(tag)
        .changes(vec![format!("ENV PATH={PATH}")])
        .build();
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(8);
    let merging = tokio::task::spawn_blocking(move || {
        let mut pieces = ArchiveChunks { sender, filled: Vec::with_capacity(CHUNK) };
        let merged = merge(&packages, &mut pieces);
        pieces.end(merged)
    });
    let archive = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    let mut lines =
        docker.client().create_image(Some(options), Some(bollard::body_try_stream(archive)), None);
    let mut imported = Ok(());
    while let Some(line) = lines.next().await {
        if let Err(error) = line {
            imported = Err(format!("the engine cannot import it: {}", engine_message(&error)));
        }
    }
    // If both failed, the archive's error caused the engine's.
    merging.await.map_err(|error| error.to_string())??;
    imported
}

/// Fetches the packages and their dependencies; returns their files.
async fn fetch(directory: &Path, progress: ProgressSink<'_>) -> Result<Vec<PathBuf>, String> {
    let system = apt(directory, false, &["install", "--download-only"]).await;
    if let Err(first) = system {
        // The machine's own lists are absent or old: fetch new ones into our directory.
        progress("the machine's package lists are missing or old; fetching new ones".to_owned());
        apt(directory, true, &["update"]).await.map_err(|error| format!("{first}; {error}"))?;
        apt(directory, true, &["install", "--download-only"]).await?;
    }
    let archives = directory.join("cache/archives");
    let entries = fs::read_dir(&archives).map_err(|error| error.to_string())?;
    let mut packages: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect();
    packages.sort();
    if packages.is_empty() { Err("apt-get fetched nothing".to_owned()) } else { Ok(packages) }
}

/// One call of apt-get. It reads the machine's sources and keys, ignores what is installed, and writes
/// only into our directory.
async fn apt(directory: &Path, own_lists: bool, words: &[&str]) -> Result<(), String> {
    for made in ["cache/archives/partial", "state/lists/partial"] {
        fs::create_dir_all(directory.join(made)).map_err(|error| error.to_string())?;
    }
    let mut options = vec![
        "Dir::State::status=/dev/null".to_owned(),
        format!("Dir::Cache={}", directory.join("cache").display()),
        "Debug::NoLocking=true".to_owned(),
        "APT::Install-Recommends=false".to_owned(),
        "APT::Sandbox::User=".to_owned(),
        "Acquire::Languages=none".to_owned(),
        "Acquire::Retries=2".to_owned(),
        // apt checks signatures; the machine's own settings must not switch that off.
        "APT::Get::AllowUnauthenticated=false".to_owned(),
        "Acquire::AllowInsecureRepositories=false".to_owned(),
    ];
    if own_lists {
        options.push(format!("Dir::State::lists={}", directory.join("state/lists").display()));
    }
    let mut command = program("apt-get");
    command.args(["--quiet", "--yes"]);
    for option in &options {
        command.args(["-o", option]);
    }
    command.args(words);
    if words.contains(&"install") {
        command.args(PACKAGES.lines().filter(|line| !line.is_empty()));
    }
    let mut command = tokio::process::Command::from(command);
    let output = command
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| format!("apt-get cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| line.starts_with("E:")).unwrap_or("it failed");
    Err(format!("apt-get: {}", last.trim_start_matches("E: ")))
}

/// Merges all packages into one tree, and adds what their scripts would have made.
fn merge(packages: &[PathBuf], out: &mut ArchiveChunks) -> Result<(), String> {
    let mut tree = ImageTree { archive: tar::Builder::new(out), seen: HashSet::new() };
    let mut bundle = Vec::new();
    let failed = |error: io::Error| error.to_string();
    for directory in MERGED {
        tree.link(directory, &format!("usr/{directory}")).map_err(failed)?;
    }
    for package in packages {
        let name = package.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut unpacking = program("dpkg-deb")
            .arg("--fsys-tarfile")
            .arg(package)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("dpkg-deb cannot be run: {error}"))?;
        let copied = match unpacking.stdout.take() {
            Some(files) => tree.copy(files, &mut bundle),
            None => Ok(()),
        };
        let status = unpacking.wait().map_err(failed)?;
        copied.map_err(|error| format!("{name}: {error}"))?;
        if !status.success() {
            return Err(format!("dpkg-deb cannot unpack {name}"));
        }
    }
    tree.finish(&bundle).map_err(failed)
}

/// The image's tree as it is written.
struct ImageTree<'a> {
    archive: tar::Builder<&'a mut ArchiveChunks>,
    seen: HashSet<String>,
}

impl ImageTree<'_> {
    /// Copies a package's files; the certificates among them also into `bundle`.
    fn copy(&mut self, files: impl Read, bundle: &mut Vec<u8>) -> io::Result<()> {
        let mut package = tar::Archive::new(files);
        for entry in package.entries()? {
            let mut entry = entry?;
            let path = image_path(&entry.path()?);
            if path.is_empty() || MERGED.contains(&path.as_str()) || is_left_out(&path) {
                continue;
            }
            if !self.seen.insert(path.clone()) {
                continue;
            }
            let mut header = entry.header().clone();
            let kind = header.entry_type();
            // No program of the list needs set-uid, and no container of ours honours it.
            header.set_mode(header.mode()? & 0o1777);
            match kind {
                tar::EntryType::Symlink => {
                    let target = entry.link_name()?.unwrap_or_default().into_owned();
                    self.archive.append_link(&mut header, &path, target)?;
                }
                tar::EntryType::Link => {
                    let target = image_path(&entry.link_name()?.unwrap_or_default());
                    self.archive.append_link(&mut header, &path, target)?;
                }
                tar::EntryType::Regular if path.starts_with(CERTIFICATES) => {
                    let mut text = Vec::new();
                    entry.read_to_end(&mut text)?;
                    if path.ends_with(".crt") {
                        bundle.extend_from_slice(&text);
                    }
                    self.archive.append_data(&mut header, &path, &text[..])?;
                }
                tar::EntryType::Regular | tar::EntryType::Directory => {
                    self.archive.append_data(&mut header, &path, &mut entry)?;
                }
                // Devices and fifos: the engine makes those that a container needs.
                _ => {}
            }
        }
        Ok(())
    }

    /// What the packages' scripts would have made.
    fn finish(mut self, bundle: &[u8]) -> io::Result<()> {
        let home = defaults::HOME_PATH;
        let mut passwd = "root:x:0:0:root:/root:/bin/bash\n\
             nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
            .to_owned();
        let mut group = "root:x:0:\nnogroup:x:65534:\n".to_owned();
        for uid in std::iter::once(defaults::TOOL_UID).chain(defaults::TOOL_UIDS) {
            passwd.push_str(&format!("agent:x:{uid}:{uid}:agent:{home}:/bin/bash\n"));
            group.push_str(&format!("agent:x:{uid}:\n"));
        }
        self.file("etc/passwd", passwd.as_bytes())?;
        self.file("etc/group", group.as_bytes())?;
        self.file("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n")?;
        self.file("etc/ssl/certs/ca-certificates.crt", bundle)?;
        self.link("usr/bin/awk", "mawk")?;
        self.link("usr/bin/which", "which.debianutils")?;
        self.link("usr/bin/sh", "dash")?;
        for (directory, mode) in
            [("tmp", 0o1777), ("run", 0o755), ("proc", 0o755), ("sys", 0o755), ("dev", 0o755)]
        {
            self.directory(directory, mode)?;
        }
        self.directory(home.trim_start_matches('/'), 0o755)?;
        self.directory(defaults::WORKSPACE_PATH.trim_start_matches('/'), 0o755)?;
        self.archive.finish()
    }

    fn file(&mut self, path: &str, text: &[u8]) -> io::Result<()> {
        if !self.seen.insert(path.to_owned()) {
            return Ok(());
        }
        let mut header = header(0o644);
        header.set_size(text.len() as u64);
        self.archive.append_data(&mut header, path, text)
    }

    fn directory(&mut self, path: &str, mode: u32) -> io::Result<()> {
        if !self.seen.insert(path.to_owned()) {
            return Ok(());
        }
        let mut header = header(mode);
        header.set_entry_type(tar::EntryType::Directory);
        self.archive.append_data(&mut header, path, io::empty())
    }

    fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        if !self.seen.insert(path.to_owned()) {
            return Ok(());
        }
        let mut header = header(0o777);
        header.set_entry_type(tar::EntryType::Symlink);
        self.archive.append_link(&mut header, path, target)
    }
}

fn header(mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(0);
    header
}

/// Where a package's file goes: relative to the root, without a slash at either end, and under `usr`
/// if its directory is a link there.
fn image_path(path: &Path) -> String {
    let text = path.to_string_lossy();
    let text = text.trim_start_matches("./").trim_matches('/');
    let text = if text == "." { "" } else { text };
    match text.split_once('/') {
        Some((first, _)) if MERGED.contains(&first) => format!("usr/{text}"),
        _ => text.to_owned(),
    }
}

fn is_left_out(path: &str) -> bool {
    LEFT_OUT.iter().any(|directory| path.starts_with(directory)) && !path.ends_with("/copyright")
}

/// Sends the archive to the engine in pieces.
struct ArchiveChunks {
    sender: mpsc::Sender<io::Result<Bytes>>,
    filled: Vec<u8>,
}

impl ArchiveChunks {
    fn send(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.filled, Vec::with_capacity(CHUNK));
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the engine stopped reading");
        self.sender.blocking_send(Ok(piece.into())).map_err(gone)
    }

    /// Sends the rest. After a failure it sends an error instead, so that the engine does not import half
    /// a tree.
    fn end(mut self, merged: Result<(), String>) -> Result<(), String> {
        let ended = merged.and_then(|()| self.send().map_err(|error| error.to_string()));
        if let Err(reason) = &ended {
            let cut = io::Error::other(reason.clone());
            // If the receiver is gone, the engine's error is reported instead.
            let _ = self.sender.blocking_send(Err(cut));
        }
        ended
    }
}

impl Write for ArchiveChunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.filled.extend_from_slice(bytes);
        if self.filled.len() >= CHUNK {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A program of the machine, with English messages and an empty stdin.
fn program(name: &str) -> Command {
    #[expect(clippy::disallowed_methods, reason = "set-up drives the machine's own package tools")]
    let mut command = Command::new(name);
    command.env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_go_where_the_links_of_a_merged_usr_point() {
        let at = |path: &str| image_path(Path::new(path));
        assert_eq!(at("./bin/bash"), "usr/bin/bash");
        assert_eq!(at("./lib/x86_64-linux-gnu/libc.so.6"), "usr/lib/x86_64-linux-gnu/libc.so.6");
        assert_eq!(at("./lib64/"), "lib64");
        assert_eq!(at("./usr/bin/git"), "usr/bin/git");
        assert_eq!(at("./"), "");
        assert_eq!(at("./libexec/x"), "libexec/x");
    }

    #[test]
    fn documentation_is_left_out_and_licences_are_kept() {
        assert!(is_left_out("usr/share/man/man1/ls.1.gz"));
        assert!(is_left_out("usr/share/doc/bash/README"));
        assert!(!is_left_out("usr/share/doc/bash/copyright"));
        assert!(!is_left_out("usr/share/git-core/templates/description"));
    }
}
