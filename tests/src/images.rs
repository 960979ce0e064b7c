//! Images of the rig's own making: one with nothing in it but busybox, and one with nothing in it.
//!
//! They are made once and kept under a stable name, so that a second run of the tests is quick;
//! `docker rmi airlock-test-busybox:1 airlock-test-empty:1` throws them away. busybox comes from
//! Debian's package where there is `apt-get`, else from the public image of that name.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::engine::Engine;

/// A shell and its tools, no bash, no libc.
pub const BUSYBOX: &str = "airlock-test-busybox:1";
/// Not one file.
pub const EMPTY: &str = "airlock-test-empty:1";

/// Where the rig keeps what it fetched.
#[must_use]
pub fn cache() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/rig");
    std::fs::create_dir_all(&folder).expect("the target folder can be written");
    folder.canonicalize().expect("it was just made")
}

/// Makes both images unless they are there.
pub async fn ready(engine: &Engine) {
    static READY: OnceCell<()> = OnceCell::const_new();
    READY
        .get_or_init(|| async {
            if !engine.has_image(EMPTY).await {
                engine
                    .import(EMPTY, tar::Builder::new(Vec::new()).into_inner().expect("no file"))
                    .await;
            }
            if !engine.has_image(BUSYBOX).await {
                match busybox().await {
                    Ok(tar) => engine.import(BUSYBOX, tar).await,
                    Err(why) => pulled(engine, &why).await,
                }
            }
        })
        .await;
}

/// The file system of an image with busybox alone, as a tar.
async fn busybox() -> Result<Vec<u8>, String> {
    let program = package("busybox-static").await?.join("bin/busybox");
    let applets = output(Command::new(&program).arg("--list")).await?;
    let mut tar = tar::Builder::new(Vec::new());
    let folder = |tar: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(mode);
        header.set_size(0);
        tar.append_data(&mut header, path, std::io::empty()).map_err(|error| error.to_string())
    };
    for (path, mode) in [("bin/", 0o755), ("etc/", 0o755), ("tmp/", 0o1777)] {
        folder(&mut tar, path, mode)?;
    }
    let bytes = std::fs::read(&program).map_err(|error| error.to_string())?;
    let mut file = |path: &str, mode: u32, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, path, bytes).map_err(|error| error.to_string())
    };
    file("bin/busybox", 0o755, &bytes)?;
    file("etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/sh\n")?;
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        let path = format!("bin/{applet}");
        tar.append_link(&mut header, path, "busybox").map_err(|error| error.to_string())?;
    }
    tar.into_inner().map_err(|error| error.to_string())
}

async fn pulled(engine: &Engine, why: &str) {
    let pulled =
        engine.post("/images/create?fromImage=busybox&tag=stable-musl", &Value::Null).await;
    let path = "/images/busybox:stable-musl/tag?repo=airlock-test-busybox&tag=1";
    let tagged = engine.post(path, &Value::Null).await;
    let said = String::from_utf8_lossy(&pulled.body);
    assert!(tagged.status == 201, "no busybox: from a package: {why}; from a registry: {said}");
}

/// A Debian package, fetched and extracted, not installed: the folder with its files.
///
/// # Errors
/// Why it cannot be had here, in one line.
pub async fn package(name: &str) -> Result<PathBuf, String> {
    let folder = cache().join(name);
    if folder.exists() {
        return Ok(folder);
    }
    // Made aside and put in place whole: several tests, and several processes, may want it at once.
    let made = tempfile::Builder::new().prefix("fetch-").tempdir_in(cache());
    let made = made.map_err(|error| error.to_string())?;
    let (fetched, extracted) = (made.path().join("fetched"), made.path().join("extracted"));
    std::fs::create_dir(&fetched).map_err(|error| error.to_string())?;
    let download = || async {
        output(Command::new("apt-get").args(["download", name]).current_dir(&fetched)).await
    };
    if download().await.is_err() {
        output(Command::new("apt-get").arg("update")).await?;
        download().await?;
    }
    let file = std::fs::read_dir(&fetched).map_err(|error| error.to_string())?.next();
    let file = file.ok_or("nothing was fetched")?.map_err(|error| error.to_string())?.path();
    output(Command::new("dpkg-deb").arg("-x").arg(file).arg(&extracted)).await?;
    match std::fs::rename(&extracted, &folder) {
        Ok(()) => Ok(folder),
        // Somebody else was quicker.
        Err(_) if folder.exists() => Ok(folder),
        Err(error) => Err(error.to_string()),
    }
}

/// What a program says, or in one line why it failed.
async fn output(command: &mut Command) -> Result<String, String> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let ended = command.output().await.map_err(|error| format!("{name}: {error}"))?;
    if !ended.status.success() {
        let said = String::from_utf8_lossy(&ended.stderr);
        return Err(format!("{name}: {}", said.lines().next_back().unwrap_or("failed")));
    }
    Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
}
