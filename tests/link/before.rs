//! Attacks before the handoff.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use crate::impostor::{READY, against};

async fn says(mut pipe: DuplexStream, words: Vec<u8>) {
    // The host may hang up in the middle of it.
    drop(pipe.write_all(&words).await);
    let mut rest = Vec::new();
    drop(pipe.read_to_end(&mut rest).await);
}

#[tokio::test]
async fn silence_ends_typed() {
    let silent = |pipe: DuplexStream| async move {
        let _open = pipe;
        std::future::pending::<()>().await;
    };
    drop(against(silent).await.assert_fault("sandbox"));
}

#[tokio::test]
async fn garbage_and_lines_without_end_are_no_ready_line() {
    for words in [b"hello\n".to_vec(), vec![b'x'; 1 << 20], vec![0xff, b'\n'], b"{}\n".to_vec()] {
        let play = move |pipe| says(pipe, words.clone());
        drop(against(play).await.assert_fault("sandbox"));
    }
}

#[tokio::test]
async fn another_protocol_is_refused_and_gets_no_handoff() {
    let play = |mut pipe: DuplexStream| async move {
        drop(pipe.write_all(b"{\"ready\":2,\"version\":\"9.0.0\"}\n").await);
        let mut got = Vec::new();
        drop(pipe.read_to_end(&mut got).await);
        assert!(got.is_empty(), "it was handed something");
    };
    let ran = against(play).await.assert_fault("protocol");
    assert!(ran.stderr.contains("9.0.0"), "{}", ran.stderr);
}

#[tokio::test]
async fn a_pipe_that_closes_is_a_fault_with_a_name() {
    let at_once = |pipe: DuplexStream| async move { drop(pipe) };
    let ended = against(at_once).await;
    assert_eq!(ended.ran.outcome()["outcome"], "failed", "{}", ended.ran.stdout);
    let when_ready = |mut pipe: DuplexStream| async move { drop(pipe.write_all(READY).await) };
    let ended = against(when_ready).await;
    assert_eq!(ended.ran.outcome()["outcome"], "failed", "{}", ended.ran.stdout);
}
