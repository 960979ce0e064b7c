//! The rig tried on itself: a scanner that finds nothing is worth only what it finds when there is
//! something, and a tree that never differs is no tree.

use airlock_tests::engine::Engine;
use airlock_tests::images::{self, BUSYBOX, EMPTY};
use airlock_tests::proxy::Proxy;
use airlock_tests::registry::Registry;
use airlock_tests::scan::Scan;
use airlock_tests::tree;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The canary that must always be found: `docker run -e`, which is how everybody hands over keys.
#[tokio::test]
async fn the_scanner_finds_what_docker_run_e_planted() {
    let engine = Engine::connect().await;
    images::ready(&engine).await;
    let canary = format!("sk-planted-{:032x}", rand::random::<u128>());
    let script = "echo $CANARY > /tmp/a; exec 3<>/tmp/b; rm /tmp/b; echo $CANARY >&3; echo planted; sleep 600";
    let differences = json!({
        "Env": [format!("CANARY={canary}")],
        "HostConfig": {"NetworkMode": "none", "Tmpfs": {"/tmp": ""}},
        "Labels": {"airlock.tests": "rig"},
    });
    let container = engine.start(BUSYBOX, &["/bin/sh", "-c", script], differences).await;
    container.until_said("planted").await;
    let mut scan = Scan::for_values([("canary", canary.as_str())]);
    scan.container(&engine, &container.id).await;
    container.remove().await;
    let everything = scan.found.join("\n");
    for place in ["docker inspect", "environ", "the sandbox/tmp/a", "(deleted)"] {
        assert!(everything.contains(place), "not found in {place}: {everything}");
    }
}

#[tokio::test]
async fn the_scanner_finds_nothing_where_nothing_is() {
    let engine = Engine::connect().await;
    images::ready(&engine).await;
    let container = engine.start(BUSYBOX, &["/bin/sleep", "600"], json!({})).await;
    // Never spelled out in this process's own memory map of files, arguments or environment.
    let absent = format!("sk-absent-{:032x}", rand::random::<u128>());
    let mut scan = Scan::for_values([("absent", absent.as_str())]);
    scan.container(&engine, &container.id).await;
    scan.all_processes();
    container.remove().await;
    scan.assert_clean();
    assert!(scan.looked_at > 300, "a sandbox of busybox and its links: {}", scan.looked_at);
}

#[test]
fn the_scanner_finds_base64_and_what_stands_on_a_border() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let secret = "sk-0123456789abcdef0123456789";
    let mut scan = Scan::for_values([("secret", secret)]);
    use base64::Engine as _;
    let encoded = base64::prelude::BASE64_STANDARD.encode(format!("Bearer {secret}\n"));
    scan.text("a header", &encoded);
    assert_eq!(scan.found, ["secret in base64 in a header"]);
    let border = [vec![b'x'; (8 << 20) - 7], secret.as_bytes().to_vec()].concat();
    std::fs::write(folder.path().join("f"), border).expect("a file");
    scan.folder("a folder", folder.path());
    assert_eq!(scan.found[1..], ["secret in a folder/f"]);
}

#[tokio::test]
async fn the_empty_image_is_empty() {
    let engine = Engine::connect().await;
    images::ready(&engine).await;
    let image = engine.get(&format!("/images/{EMPTY}/json")).await.json();
    assert_eq!(image["Size"], 0);
}

/// What a pull is tried against: the pulled image has a digest of the registry, the imported none.
#[tokio::test]
async fn a_pushed_image_can_be_pulled_and_has_a_digest() {
    let engine = Engine::connect().await;
    images::ready(&engine).await;
    let registry = Registry::start().await;
    let name = registry.push(&engine, BUSYBOX, "pulled").await;
    assert!(!engine.has_image(&name).await);
    let (repository, tag) = name.rsplit_once(':').unwrap_or_default();
    let path = format!("/images/create?fromImage={repository}&tag={tag}");
    drop(engine.post(&path, &serde_json::Value::Null).await.done("pull"));
    let pulled = engine.get(&format!("/images/{name}/json")).await.json();
    drop(engine.delete(&format!("/images/{name}")).await);
    assert!(pulled["RepoDigests"].to_string().contains("@sha256:"), "{}", pulled["RepoDigests"]);
}

#[tokio::test]
async fn the_door_notes_what_passes() {
    let engine = Engine::connect().await;
    let proxy = Proxy::start(&engine);
    let socket = proxy.docker_host();
    let through = Engine::at(socket.trim_start_matches("unix://"));
    let body = json!({"Image": "nobody-has-this-image"});
    assert_eq!(through.post("/containers/create", &body).await.status, 404);
    let noted = proxy.last("/containers/create").expect("it passed");
    assert_eq!((noted.line().as_str(), noted.json()), ("POST /containers/create", body));
    assert!(noted.answered.is_some());
}

/// What the target `link` stands on: the container is real, and the pipe is the impostor's.
#[tokio::test]
async fn an_impostor_gets_the_pipe_and_the_container_runs() {
    let engine = Engine::connect().await;
    images::ready(&engine).await;
    let proxy = Proxy::with_impostor(&engine, |mut pipe| async move {
        let mut byte = [0];
        while pipe.read_exact(&mut byte).await.is_ok() {
            pipe.write_all(&[byte[0].to_ascii_uppercase()]).await.expect("the host reads");
        }
    });
    let socket = proxy.docker_host().trim_start_matches("unix://").to_owned();
    let through = Engine::at(&socket);
    let container = through.start(BUSYBOX, &["/bin/sleep", "600"], json!({})).await;
    let inspected = engine.get(&format!("/containers/{}/json", container.id)).await.json();
    let mut attached = tokio::net::UnixStream::connect(&socket).await.expect("the door is open");
    let head = format!("POST /containers/{}/attach?stream=1 HTTP/1.1\r\n\r\n", container.id);
    attached.write_all(head.as_bytes()).await.expect("the door reads");
    let mut answer = vec![0; 1024];
    let read = attached.read(&mut answer).await.expect("an answer");
    assert!(answer[..read].starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    attached.write_all(b"a").await.expect("the impostor reads");
    let mut frame = [0; 9];
    attached.read_exact(&mut frame).await.expect("the impostor answers");
    container.remove().await;
    assert_eq!(&frame, b"\x01\0\0\0\0\0\0\x01A");
    assert_eq!(inspected["State"]["Running"], true);
}

#[test]
fn a_tree_knows_content_mode_and_links() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    tree::write(folder.path(), &[("a/b", "one"), ("c", "two")]);
    let before = tree::read(folder.path());
    assert_eq!(
        before.keys().map(|path| path.display().to_string()).collect::<Vec<_>>(),
        ["a", "a/b", "c"]
    );
    tree::write(folder.path(), &[("c", "other")]);
    assert_ne!(tree::read(folder.path()), before);
}
