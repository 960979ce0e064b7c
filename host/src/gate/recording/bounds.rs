//! Everything that is written can be played, and an honest answer can be written.

use std::io::BufRead as _;
use std::os::fd::AsRawFd as _;

use airlock_shared::item;

use super::tests::{played, read};
use super::*;
use crate::gate::rig::*;
use crate::gate::*;

fn recorder(path: &std::path::Path) -> Recorder {
    let recorder = Recorder::create(path, None, &Model::default()).expect("a recorder");
    recorder.catalogue(&json!({"models": []})).expect("it fits");
    recorder
}

fn put(recorder: &Recorder, answer: Value) {
    let reply = PlayedAnswer::Answer { status: 200, content: AnswerContent::Body(answer) };
    recorder.exchange(Route::Responses, json!({"input": []}), reply, &Needles::default());
}

async fn failed(recorder: &Recorder) -> Option<String> {
    recorder.finish().await.err().map(|fault| fault.message)
}

/// An answer has more deltas than a line may have values; none of them is kept.
#[tokio::test]
async fn an_answer_of_many_pieces_is_recorded() {
    let delta = json!({"type": "response.output_text.delta", "item_id": "m", "output_index": 0,
        "content_index": 0, "delta": "word ", "logprobs": [], "sequence_number": 1});
    let count =
        limits::JSON_STRUCTURE_BYTES / dense::structure_bytes(delta.to_string().as_bytes()) + 1;
    let mut said = vec![delta; count];
    said.push(item_done(&item::message("assistant", "a long answer")));
    said.push(completed());
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("run.recording");
    let (_, base) = Script::start(vec![events(&said)]).await;
    let mut rig = Rig::new(record_to(&path, config(&base, live(&base)))).await;
    assert_eq!(rig.ask_whole(user("hi")).await.0, 200);
    assert_eq!(rig.served.gate.finish().await, Ok(()));
    let written = std::fs::read_to_string(&path).expect("a recording");
    let (status, said, end) = played(&written, user("hi")).await;
    assert_eq!((status, end), (200, Ok(())));
    assert!(said.contains("a long answer") && !said.contains("delta"), "{said}");
}

#[test]
fn an_answer_that_cannot_be_played_is_not_kept() {
    let item = |content: Value| item_done(&json!({"type": "message", "content": content}));
    let many = item(json!(vec![json!({}); limits::JSON_STRUCTURE_BYTES / 1_000])).to_string();
    let mut events = Events::default();
    events.hear(&many);
    assert_eq!(events.kept.len(), 1);
    events.hear(&many);
    assert!(events.kept.is_empty() && events.all().is_none());
    let mut events = Events::default();
    let long = item(json!("x".repeat(15 << 20))).to_string();
    (0..2).for_each(|_| events.hear(&long));
    assert_eq!(events.all(), None);
}

/// What was written before can be played; nothing is written after.
#[tokio::test]
async fn what_cannot_be_played_is_not_written() {
    let dense = json!(vec![json!({}); limits::JSON_STRUCTURE_BYTES / 800 + 1]);
    let long = json!("x".repeat(limits::RECORDING_LINE_BYTES));
    for (answer, why) in [
        (dense, "exchange 3 has too many values to be played"),
        (long, "an exchange is too long to be played"),
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("run.recording");
        let recorder = recorder(&path);
        put(&recorder, json!("one"));
        put(&recorder, answer.clone());
        put(&recorder, json!("three"));
        let why = format!("the recording could not be written: {why}");
        assert_eq!(failed(&recorder).await, Some(why));
        let written = std::fs::read_to_string(&path).expect("a recording");
        assert_eq!(played(&written, json!([])).await, (200, "one".to_owned(), Ok(())));
        // The control: if it is written anyway, it is not played.
        let line = json!({"n": 3, "route": "responses", "request": {"kept": 0, "input": []},
            "status": 200, "body": answer});
        assert!(read(&format!("{written}{line}\n")).is_err());
    }
}

#[tokio::test]
async fn a_recording_that_is_too_large_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("run.recording");
    let recorder = recorder(&path);
    put(&recorder, json!("one"));
    recorder.has_written(limits::RECORDING_BYTES - 10);
    put(&recorder, json!("two"));
    let why = "the recording could not be written: with exchange 3 it is larger than 256 MiB, and cannot be played";
    assert_eq!(failed(&recorder).await.as_deref(), Some(why));
    // A recording that is too large is refused before it is read.
    let file = std::fs::File::options().append(true).open(&path).expect("a file");
    assert!(Replayer::load(&path).is_ok());
    file.set_len(limits::RECORDING_BYTES + 1).expect("a hole");
    let refused = Replayer::load(&path).err().map(|fault| fault.message);
    assert_eq!(refused, Some(format!("{}: it is larger than 256 MiB", path.display())));
}

#[test]
fn a_catalogue_that_is_too_large_is_refused_before_any_request() {
    let nowhere = Base::parse("http://127.0.0.1:1/v1").expect("a base");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("run.recording");
    let opened = |catalogue: Value| {
        let config = record_to(&path, config(&nowhere, live(&nowhere)));
        Gate::new(GateConfig { catalogue, ..config }).err().map(|fault| fault.message)
    };
    let said = |why: &str| Some(format!("the recording could not be written: {why} to be played"));
    let long = |bytes: usize| json!({"models": "m".repeat(bytes)});
    assert_eq!(opened(long(limits::CATALOGUE_BYTES - 100)), None);
    assert_eq!(opened(long(limits::CATALOGUE_BYTES)), said("the catalogue is too long"));
    let dense = json!({"models": vec![json!({}); limits::JSON_STRUCTURE_BYTES / 800 + 1]});
    assert_eq!(opened(dense), said("exchange 1 has too many values"));
}

/// The reader of a recording stalls, and the turn goes on.
#[tokio::test]
async fn a_recording_pipe_that_is_not_read_delays_no_turn() {
    let (reader, pipe) = std::io::pipe().expect("a pipe");
    // As a shell passes it.
    rustix::io::fcntl_setfd(&pipe, rustix::io::FdFlags::empty()).expect("a flag");
    let path = format!("/dev/fd/{}", pipe.as_raw_fd());
    let (_, base) = Script::start(vec![says("one"), says("two")]).await;
    let recording = record_to(std::path::Path::new(&path), config(&base, live(&base)));
    drop(pipe);
    let mut rig = Rig::new(recording).await;
    // Each is larger than a pipe's buffer. If this thread wrote them, it would block here.
    let long = "x".repeat(1 << 20);
    for _ in 0..2 {
        assert_eq!(rig.ask_whole(user(&long)).await.0, 200);
    }
    let reading = tokio::task::spawn_blocking(move || {
        let lines = std::io::BufReader::new(reader).lines();
        lines.take(4).map(|line| line.map(|line| line + "\n")).collect::<io::Result<String>>()
    });
    assert_eq!(rig.served.gate.finish().await, Ok(()));
    let text = reading.await.expect("no panic").expect("text");
    let (status, said, _) = played(&text, user(&long)).await;
    assert!(status == 200 && said.contains("one"), "{said}");
}
