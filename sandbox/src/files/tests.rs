//! The workspace in and the changes out, on real directories. The tests need root.

use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use airlock_shared::link::ChangesEnd;
use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::exec::tests::user;
use crate::exec::{ToolUser, UserThread};

mod order; // the order of a set, and what a bound cuts

/// A directory that the tool user owns.
fn workspace(user: ToolUser) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("directory");
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("mode");
    std::os::unix::fs::chown(dir.path(), Some(user.uid()), Some(user.gid()))
        .expect("these tests need root");
    dir
}

fn header(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(1_000_000_000);
    header.set_size(size as u64);
    header
}

/// `path/` is a directory, `path -> target` a link, `path=content` a file of mode 04755.
fn tar_of(entries: &[&str]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in entries {
        if let Some(path) = entry.strip_suffix('/') {
            tar.append_data(
                &mut header(tar::EntryType::Directory, 0o755, 0),
                path,
                std::io::empty(),
            )
        } else if let Some((path, target)) = entry.split_once(" -> ") {
            tar.append_link(&mut header(tar::EntryType::Symlink, 0o777, 0), path, target)
        } else {
            let (path, content) = entry.split_once('=').expect("a file");
            let mut header = header(tar::EntryType::Regular, 0o4755, content.len());
            tar.append_data(&mut header, path, content.as_bytes())
        }
        .expect("tar");
    }
    tar.into_inner().expect("tar")
}

async fn unpacked(root: &Path, user: ToolUser, tar: &[u8]) -> Result<UnpackResult, Fault> {
    unpack(root, user.uid(), user.gid(), tar).await
}

/// All changes, without limits.
fn all() -> ChangesRequest {
    let (stop_scan, stop_stream) = (CancellationToken::new(), CancellationToken::new());
    ChangesRequest {
        last: true,
        paths: u64::MAX,
        bytes: u64::MAX,
        sent: None,
        stop_scan,
        stop_stream,
    }
}

/// The complete entries of a tar, one line each.
fn lines(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let mut lines = Vec::new();
    for entry in archive.entries().expect("tar") {
        let Ok(mut entry) = entry else { break };
        let mut content = Vec::new();
        let whole = entry.header().size().expect("a size");
        if entry.read_to_end(&mut content).is_err() || content.len() as u64 != whole {
            break;
        }
        content.truncate(2000);
        let content = String::from_utf8_lossy(&content).into_owned();
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mode = entry.header().mode().expect("mode");
        let kind = entry.header().entry_type();
        lines.push(match entry.link_name_bytes() {
            Some(target) => format!("{path} -> {}", String::from_utf8_lossy(&target)),
            None if kind.is_dir() => format!("{path}/ {mode:o}"),
            None => format!("{path} {mode:o} {content}"),
        });
    }
    lines
}

struct CollectedTar {
    lines: Vec<String>,
    end: ChangesEnd,
    omitted: Vec<String>,
    digest: u64,
}

/// The set of changes. `None`: nothing is new.
async fn out(
    root: &Path,
    user: ToolUser,
    baseline: &Arc<Baseline>,
    wanted: ChangesRequest,
) -> Option<CollectedTar> {
    let (uid, gid) = (user.uid(), user.gid());
    let changes = changes(root, uid, gid, Arc::clone(baseline), wanted).await.expect("root");
    let (mut stream, summary) = changes?;
    let mut tar = Vec::new();
    while let Some(piece) = stream.next().await {
        tar.extend_from_slice(&piece.expect("a whole stream"));
    }
    let mut lines = lines(&tar);
    let end = lines.pop().expect("an end");
    let end = end.strip_prefix("end 644 ").expect("the end is last");
    let end: ChangesEnd = serde_json::from_str(end).expect("the end says what it is");
    let summary = summary.await.expect("a summary");
    assert_eq!(end.cut, summary.cut);
    Some(CollectedTar { lines, end, omitted: summary.omitted.named, digest: summary.digest })
}

/// The entries of the changes, and what could not be copied out.
async fn changed(root: &Path, user: ToolUser, baseline: Baseline) -> (Vec<String>, Vec<String>) {
    let out = out(root, user, &Arc::new(baseline), all()).await.expect("it is wanted");
    assert_eq!(out.end, ChangesEnd::default());
    (out.lines, out.omitted)
}

/// Changes the workspace as a command would: as the tool user.
async fn acting(user: ToolUser, root: &Path, act: impl FnOnce(&Path) + Send + 'static) {
    let root = root.to_owned();
    let worker = UserThread::start(user).expect("root");
    worker.run(move || act(&root)).await.expect("no panic");
}

#[tokio::test]
async fn the_copy_is_exact_but_for_set_id_bits() {
    let user = user(55);
    let dir = workspace(user);
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(150));
    let tar = tar_of(&[
        "./",
        "a/",
        "a/file=one",
        "a/link -> ../../outside",
        "no/parent=two",
        &format!("{long}=x"),
    ]);
    let result = unpacked(dir.path(), user, &tar).await.expect("a good tar");
    assert_eq!((result.entries, result.bytes), (5, 7));
    let stat = |path: &str| dir.path().join(path).symlink_metadata().expect("there");
    let file = stat("a/file");
    assert_eq!(
        (file.mode() & 0o7777, file.uid(), file.mtime()),
        (0o755, user.uid(), 1_000_000_000)
    );
    assert_eq!((stat("a").mode() & 0o7777, stat("a").mtime()), (0o755, 1_000_000_000));
    assert_eq!(
        std::fs::read_link(dir.path().join("a/link")).expect("link"),
        Path::new("../../outside")
    );
    assert_eq!(stat(&long).len(), 1);
    assert_eq!(
        changed(dir.path(), user, result.baseline).await,
        (
            vec![
                // The directories that the tar did not have are new to the host.
                format!("tree/{}/ 755", "d".repeat(150)),
                "tree/no/ 755".to_owned()
            ],
            vec![]
        )
    );
}

#[tokio::test]
async fn a_name_that_climbs_out_is_refused() {
    let user = user(56);
    for path in ["../x", "/x", "a/../../x"] {
        let dir = workspace(user);
        // Written by hand: the crate refuses to write such names.
        let mut head = header(tar::EntryType::Regular, 0o644, 0);
        head.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        head.set_cksum();
        let mut tar = head.as_bytes().to_vec();
        tar.extend_from_slice(&[0; 1024]);
        let fault = unpacked(dir.path(), user, &tar).await.err().expect(path);
        assert!(fault.message.contains("a path that is not allowed"), "{}", fault.message);
    }
    let dir = workspace(user);
    let through = tar_of(&["link -> /tmp", "link/x=1"]);
    assert!(unpacked(dir.path(), user, &through).await.is_err(), "written through a link");
    let twice = tar_of(&["x=1", "x=2"]);
    assert!(unpacked(dir.path(), user, &twice).await.is_err());
    let mut cut = tar_of(&["y=1234"]);
    cut.truncate(514);
    assert!(unpacked(dir.path(), user, &cut).await.is_err());
    assert!(unpacked(dir.path(), user, &[7; 2000]).await.is_err());
}

#[tokio::test]
async fn only_changes_are_copied_out() {
    let user = user(57);
    let dir = workspace(user);
    let tar = tar_of(&[
        "a/",
        "a/same=1",
        "a/edited=1",
        "a/mode=1",
        "a/gone=1",
        "b/",
        "b/x=1",
        "c=1",
        "l -> c",
        "m -> c",
        "shut/",
        "shut/in=1",
        "twin=1",
    ]);
    let result = unpacked(dir.path(), user, &tar).await.expect("a good tar");
    acting(user, dir.path(), |root| {
        let mode = |path: &str, mode| {
            std::fs::set_permissions(root.join(path), PermissionsExt::from_mode(mode))
                .expect("mode");
        };
        std::fs::write(root.join("a/edited"), "2").expect("write");
        mode("a/mode", 0o600);
        std::fs::remove_file(root.join("a/gone")).expect("remove");
        // A directory becomes a file, a file becomes a directory, a link gets another target.
        std::fs::remove_dir_all(root.join("b")).expect("remove");
        std::fs::write(root.join("b"), "file").expect("write");
        std::fs::remove_file(root.join("c")).expect("remove");
        std::fs::create_dir(root.join("c")).expect("directory");
        std::fs::write(root.join("c/n.txt"), "new").expect("write");
        std::fs::remove_file(root.join("l")).expect("remove");
        std::os::unix::fs::symlink("a", root.join("l")).expect("link");
        // The same content and times in another file.
        std::fs::copy(root.join("twin"), root.join("twin2")).expect("copy");
        std::fs::rename(root.join("twin2"), root.join("twin")).expect("rename");
        // A file and a directory without permissions.
        std::fs::write(root.join("shut/secret"), "s").expect("write");
        mode("shut/secret", 0);
        mode("shut", 0);
        std::fs::File::create(root.join("holes")).and_then(|f| f.set_len(1 << 40)).expect("holes");
        drop(std::os::unix::net::UnixListener::bind(root.join("socket")));
    })
    .await;
    let (lines, omitted) = changed(dir.path(), user, result.baseline).await;
    let expected = [
        "tree/a/edited 755 2",
        "tree/a/mode 600 1",
        "tree/b 644 file",
        "tree/c/ 755",
        "tree/l -> a",
        "tree/shut/ 0",
        "tree/twin 755 1",
        "tree/c/n.txt 644 new",
        "tree/shut/secret 0 s",
        "gone/a/gone 644 ",
        "gone/b/x 644 ",
    ];
    assert_eq!(lines, expected);
    assert_eq!(omitted, ["holes: it is mostly holes"]);
}

#[tokio::test]
async fn a_large_workspace_is_copied_in() {
    let user = user(58);
    let dir = workspace(user);
    let content = "x".repeat(1 << 20);
    let entries: Vec<String> = (0..100).map(|number| format!("f{number}={content}")).collect();
    let tar = tar_of(&entries.iter().map(String::as_str).collect::<Vec<_>>());
    let result = unpacked(dir.path(), user, &tar).await.expect("a good tar");
    assert_eq!(result.bytes, 100 << 20);
}

#[tokio::test]
async fn project_docs_are_bounded_and_never_read_through_a_link_out() {
    let user = user(59);
    let dir = workspace(user);
    let docs = async || project_docs(dir.path(), user.uid(), user.gid()).await.expect("a worker");
    assert_eq!(docs().await, []);
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("CLAUDE.md")).expect("link");
    std::fs::write(dir.path().join("AGENTS.md"), "é".repeat(20_000)).expect("write");
    let all = docs().await;
    assert_eq!(all.len(), 1);
    assert_eq!(
        (all[0].path.as_str(), all[0].text.len(), all[0].cut),
        ("AGENTS.md", 32 << 10, true)
    );
    std::fs::write(dir.path().join("AGENTS.md"), "be kind").expect("write");
    std::fs::remove_file(dir.path().join("CLAUDE.md")).expect("remove");
    std::os::unix::fs::symlink("AGENTS.md", dir.path().join("CLAUDE.md")).expect("link");
    let expected = DocFile { path: "AGENTS.md".into(), text: "be kind".into(), cut: false };
    assert_eq!(docs().await, [expected]);
}
