//! What is small on the pipe and large in memory: JSON of many small values, and events that nobody
//! reads. [`against`] holds the host's memory below its bound in each.

use std::convert::Infallible;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use airlock_tests::backend::{Backend, Options};
use airlock_tests::engine::Engine;
use airlock_tests::proxy::Proxy;
use airlock_tests::rig::PATIENCE;
use airlock_tests::{Rig, clock, images, peak};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde_json::json;
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio::process::Command;

use crate::after::{Body, full, link, request};
use crate::impostor::{Ended, MOST_BYTES, against, against_within};

/// The memory of a program that parses such lines as they come: were the input harmless, nothing
/// would be proved.
async fn weighed(lines: &str) -> u64 {
    let mut weigher = Command::new(env!("CARGO_BIN_EXE_json-weigher"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a program of ours");
    let mut stdin = weigher.stdin.take().expect("piped");
    let feeding = async {
        stdin.write_all(lines.as_bytes()).await.expect("it reads");
        drop(stdin);
    };
    let (said, ()) = tokio::join!(weigher.wait_with_output(), feeding);
    let said = String::from_utf8(said.expect("it ends").stdout).expect("text");
    let (count, bytes) = said.trim().split_once(' ').expect("two numbers");
    assert_eq!(count.parse::<usize>().expect("a number"), lines.lines().count());
    bytes.parse().expect("a number")
}

/// A JSON list of this many objects that hold one number each.
fn objects(count: usize) -> String {
    format!("[{}{{\"\":0}}]", "{\"\":0},".repeat(count - 1))
}

#[tokio::test]
async fn a_line_of_many_small_values() {
    // Two megabytes.
    let line = format!("{{\"event\":\"item\",\"item\":{}}}\n", objects(290_000));
    assert!(weighed(&line).await > MOST_BYTES, "blind");
    let play = move |pipe| {
        let line = line.clone();
        async move {
            let (mut sender, key) = link(pipe).await;
            drop(sender.send_request(request("POST", "/events", &key, full(line))).await);
        }
    };
    let ran = against(play).await.assert_fault("link");
    assert!(ran.outcome().to_string().contains("too many values"), "{}", ran.outcome());
}

#[tokio::test]
async fn a_request_of_many_small_values() {
    // Refused, and as much as is let through: 30 MB of text, and as many items as there may be.
    let dense = format!("{{\"input\":{}}}", objects(4_000_000));
    assert!(weighed(&dense).await > MOST_BYTES, "blind");
    let item = json!({"type": "message", "role": "user", "content": [
        {"type": "input_text", "text": "x".repeat(4_000)}]});
    let large = json!({"input": vec![item; 7_500]}).to_string();
    let play = move |pipe| {
        let (dense, large) = (dense.clone(), large.clone());
        async move {
            let (mut sender, key) = link(pipe).await;
            // What the backend says of the second is its own business.
            for (body, is_refused) in [(dense, true), (large, false)] {
                let asked = request("POST", "/model/responses", &key, full(body));
                let answer = sender.send_request(asked).await.expect("an answer");
                assert_eq!(answer.status() == 413, is_refused, "{}", answer.status());
                drop(answer.into_body().collect().await);
            }
        }
    };
    let ran = against(play).await.ran;
    let asked = ran.backend.model_requests();
    assert_eq!(asked.len(), 1, "one was refused, one came through");
}

/// A tar stream of empty files, by their paths.
fn set_of(paths: impl Iterator<Item = String>) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for path in paths {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("tree/{path}"), std::io::empty()).expect("written");
    }
    tar.into_inner().expect("written")
}

/// How a run ends whose sandbox puts this set, twice, and goes.
async fn puts(set: Vec<u8>, limit: u64) -> Ended {
    let set = Bytes::from(set);
    let play = move |pipe| {
        let set = set.clone();
        async move {
            let (mut sender, key) = link(pipe).await;
            for _ in 0..2 {
                let body = stream::iter([set.clone()]).map(|piece| Ok(Frame::data(piece)));
                let body = http_body_util::BodyExt::boxed(StreamBody::new(body));
                let answer = sender.send_request(request("PUT", "/changes", &key, body)).await;
                let Ok(answer) = answer else { return };
                drop(answer.into_body().collect().await);
            }
        }
    };
    against_within(limit, play).await
}

/// As many paths as there may be, each in eleven folders that the set does not name.
#[tokio::test]
async fn a_set_of_many_folders() {
    const FOLDERS: u64 = 11;
    let count = airlock_shared::limits::CHANGES_ENTRIES - 1_000;
    // The least that each of them takes: its name, and one word for what is there.
    assert!(count * FOLDERS * 4 * 24 > MOST_BYTES, "blind");
    let deep = "/b".repeat(usize::try_from(FOLDERS).expect("small") - 1);
    let ran = puts(set_of((0..count).map(|n| format!("{n}{deep}/c"))), MOST_BYTES).await;
    let ran = ran.assert_fault("workspace");
    assert!(ran.outcome().to_string().contains("more than 200000 paths"), "{}", ran.outcome());
}

/// As many paths as there may be, as long as they may be: all of it is taken, and kept.
#[tokio::test]
async fn a_set_of_as_many_paths_as_there_may_be() {
    let count = airlock_shared::limits::CHANGES_ENTRIES - 1_000;
    let most = airlock_shared::limits::PATHS_BYTES as u64 / count;
    let name = "n".repeat(usize::try_from(most).expect("small") - "tree/f/000000".len() - 1);
    // Each name stands in the set, in the tree that is judged and on its way to the disk.
    let limit = MOST_BYTES + 3 * airlock_shared::limits::PATHS_BYTES as u64;
    let ran = puts(set_of((0..count).map(|n| format!("f/{n:06}{name}"))), limit).await;
    let ran = ran.assert_fault("link");
    let told: Vec<_> =
        ran.events_named("changes").into_iter().map(|it| it["files"].clone()).collect();
    assert_eq!(told, [json!(count + 1)], "with the folder that they are in");
}

/// Whoever reads the output has stopped, and the sandbox goes on talking: each of its events is as
/// heavy as one may be.
#[tokio::test]
async fn events_that_wait_are_few() {
    let note = format!("{}\n", json!({"event": "note", "text": "n".repeat(4_000)}));
    let heavy = json!({"type": "message", "role": "assistant", "text": "t".repeat(1_000_000)});
    let heavy =
        format!("{}\n", json!({"event": "item", "item": [heavy, vec![json!({"": 0}); 9_000]]}));
    assert!(weighed(&heavy.repeat(24)).await > MOST_BYTES, "blind");
    let taken = Arc::new(AtomicU64::new(0));
    let play = {
        let taken = Arc::clone(&taken);
        move |pipe: DuplexStream| {
            let lines = [vec![note.clone(); 100], vec![heavy.clone(); 240]].concat();
            let taken = Arc::clone(&taken);
            async move {
                let (mut sender, key) = link(pipe).await;
                let lines = stream::iter(lines).map_piece(move |line: String| {
                    taken.fetch_add(1, Ordering::Release);
                    Bytes::from(line)
                });
                drop(sender.send_request(request("POST", "/events", &key, lines)).await);
                std::future::pending::<()>().await;
            }
        }
    };
    let engine = Engine::connect().await;
    images::ready(&engine).await;
    let proxy = Proxy::with_impostor(&engine, play);
    let backend = Backend::start(Options::default());
    let rig = Rig::new().variable("DOCKER_HOST", &proxy.docker_host());
    let key = rig.home().join("key");
    std::fs::write(&key, rig.key()).expect("written");
    let mut command = rig.command("run").await;
    command.args(["--json", "--image", images::BUSYBOX, "--base-url", &backend.url()]);
    command.arg("--api-key-file").arg(&key).arg("x");
    // Nobody reads this pipe.
    let mut airlock =
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started");
    let watching = peak::watch(airlock.id().expect("it runs"));
    // Until nothing more is taken, after something: then all is in memory that ever will be.
    let (mut before, mut same) = (0, 0);
    let deadline = clock::now() + PATIENCE;
    while same < 30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = taken.load(Ordering::Acquire);
        same = if now == before && now > 20 { same + 1 } else { 0 };
        before = now;
        assert!(airlock.try_wait().expect("a child").is_none(), "it ended after {now} lines");
        assert!(clock::now() < deadline, "it took {now} lines");
    }
    airlock.kill().await.expect("a child");
    let most = watching.await.expect("watched");
    assert!(most < MOST_BYTES, "the host had {most} bytes after {before} lines");
}

trait Pieces: Sized {
    fn map_piece(self, map: impl FnMut(String) -> Bytes + Send + Sync + 'static) -> Body;
}

impl<S: futures_util::Stream<Item = String> + Send + Sync + 'static> Pieces for S {
    fn map_piece(self, mut map: impl FnMut(String) -> Bytes + Send + Sync + 'static) -> Body {
        let frames = self.map(move |line| Ok::<_, Infallible>(Frame::data(map(line))));
        http_body_util::BodyExt::boxed(StreamBody::new(frames))
    }
}
