//! A hostile program in place of the sandbox: each attack ends with a typed fault, soon, and in bounded
//! memory.

use std::time::Duration;

use airlock_shared::limits;
use airlock_shared::link;
use airlock_shared::outcome::FaultKind;
use axum::body::Body;
use futures_util::{StreamExt as _, stream};
use http::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::rig::*;
use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

fn nowhere() -> GateConfig {
    let base = Base::parse("http://127.0.0.1:1/v1").expect("a base");
    config(&base, live(&base))
}

/// Sends `bytes`, reads everything that comes, and returns how the gate ended.
async fn end_after(
    mut served: Served,
    mut pipe: DuplexStream,
    pieces: impl Iterator<Item = Vec<u8>>,
) -> Result<(), Fault> {
    let (mut reader, mut writer) = tokio::io::split(&mut pipe);
    let talk = async {
        for piece in pieces {
            if writer.write_all(&piece).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let listen = async {
        let mut sink = vec![0; 64 << 10];
        while reader.read(&mut sink).await.is_ok_and(|count| count > 0) {}
        std::future::pending::<()>().await;
    };
    let hear = async {
        while served.events.recv().await.is_some() {}
        std::future::pending::<()>().await
    };
    tokio::select! {
        end = &mut served.end => end.expect("no panic"),
        () = talk => unreachable!(), () = listen => unreachable!(), () = hear => unreachable!(),
        () = tokio::time::sleep(Duration::from_secs(600)) => panic!("it never ended"),
    }
}

fn kind(end: Result<(), Fault>) -> Option<(FaultKind, String)> {
    end.err().map(|fault| (fault.kind, fault.message))
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// `GET path` with the right key; without the end of the stream if `open`.
fn get(stream: u32, path: &str, open: bool) -> Vec<u8> {
    let literal = |block: &mut Vec<u8>, text: &str| {
        block.push(u8::try_from(text.len()).expect("short"));
        block.extend(text.as_bytes());
    };
    let mut block = vec![0x82, 0x86, 0x04];
    literal(&mut block, path);
    block.extend([0x01]);
    literal(&mut block, link::AUTHORITY);
    block.push(0x00);
    literal(&mut block, link::SESSION_KEY);
    literal(&mut block, KEY);
    frame(1, if open { 4 } else { 5 }, stream, &block)
}

fn hello() -> Vec<u8> {
    [PREFACE, SETTINGS].concat()
}

#[tokio::test(start_paused = true)]
async fn silence() {
    for half in [&b""[..], &PREFACE[..10], b"P"] {
        let (served, pipe) = serve_on(nowhere());
        let began = tokio::time::Instant::now();
        let end = kind(end_after(served, pipe, std::iter::once(half.to_vec())).await);
        assert_eq!(end.as_ref().map(|(kind, _)| *kind), Some(FaultKind::Link));
        assert!(end.is_some_and(|(_, why)| why.contains("did not begin to speak HTTP/2")));
        assert!(began.elapsed() < Duration::from_secs(limits::LINK_HANDSHAKE_SECONDS + 2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_preface_and_then_silence() {
    for begin in [PREFACE.to_vec(), hello()] {
        let (served, pipe) = serve_on(nowhere());
        let began = tokio::time::Instant::now();
        let end = kind(end_after(served, pipe, std::iter::once(begin)).await);
        assert_eq!(end.map(|(kind, _)| kind), Some(FaultKind::Link));
        assert!(
            began.elapsed()
                < Duration::from_secs(limits::LINK_PING_SECONDS + limits::LINK_PONG_SECONDS + 2)
        );
    }
}

/// Under load the sandbox gets little processor time: the host waits for its answer, but not for ever.
#[tokio::test(start_paused = true)]
async fn a_slow_sandbox_is_not_cut_off() {
    const PING: u8 = 6;
    let (soon, late) = (limits::LINK_PONG_SECONDS - 5, limits::LINK_PONG_SECONDS + 5);
    for (seconds, is_served) in [(soon, true), (late, false)] {
        let (mut served, mut pipe) = serve_on(nowhere());
        pipe.write_all(&hello()).await.expect("written");
        let answers = async {
            let mut answered = 0;
            while answered < 3 {
                let mut head = [0; 9];
                let read = pipe.read_exact(&mut head).await;
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                let mut payload = vec![0; length];
                if read.is_err() || pipe.read_exact(&mut payload).await.is_err() {
                    return std::future::pending().await;
                }
                if (head[3], head[4]) == (PING, 0) {
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                    answered += 1;
                    if pipe.write_all(&frame(PING, 1, 0, &payload)).await.is_err() {
                        return std::future::pending().await;
                    }
                }
            }
        };
        let lived = tokio::select! {
            end = &mut served.end => {
                assert!(is_link(&kind(end.expect("no panic")), ""));
                false
            }
            () = answers => true,
        };
        assert_eq!(lived, is_served, "answers after {seconds} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pipe_that_closes() {
    for begin in [Vec::new(), PREFACE.to_vec(), hello()] {
        let (served, mut pipe) = serve_on(nowhere());
        pipe.write_all(&begin).await.expect("written");
        drop(pipe);
        let end = kind(served.end.await.expect("no panic"));
        assert_eq!(end.map(|(kind, _)| kind), Some(FaultKind::Link));
    }
}

#[tokio::test(start_paused = true)]
async fn garbage() {
    let noise: Vec<u8> =
        (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let pieces: Vec<Vec<u8>> = vec![
        noise.clone(),
        b"GET / HTTP/1.1\r\nhost: airlock\r\n\r\n".to_vec(),
        [hello(), noise].concat(),
        [hello(), frame(0, 0, 0, b"data on stream 0")].concat(),
        [hello(), vec![0xff; 9]].concat(),
        [hello(), frame(1, 4, 1, &[0xff; 64])].concat(),
        [hello(), frame(8, 0, 0, &[0, 0, 0, 0])].concat(),
    ];
    for piece in pieces {
        let (served, pipe) = serve_on(nowhere());
        let end = kind(end_after(served, pipe, std::iter::once(piece.clone())).await);
        assert_eq!(
            end.map(|(kind, _)| kind),
            Some(FaultKind::Link),
            "{:?}",
            &piece[..piece.len().min(40)]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_rapid_reset() {
    let (served, pipe) = serve_on(nowhere());
    let storm = (0..100_000_u32)
        .map(|n| [get(2 * n + 1, "/x", true), frame(3, 0, 2 * n + 1, &[0, 0, 0, 8])].concat());
    let end = kind(end_after(served, pipe, std::iter::once(hello()).chain(storm)).await);
    assert_eq!(end.map(|(kind, _)| kind), Some(FaultKind::Link));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_headers() {
    let (served, pipe) = serve_on(nowhere());
    // Never ended, always continued: 64 MB of header fields.
    let begin = frame(1, 0, 1, &[0x82, 0x86, 0x84]);
    let mut field = vec![0x00, 3, b'x', b'-', b'y', 100];
    field.extend([b'z'; 100]);
    let more = frame(9, 0, 1, &field.repeat(100));
    let flood = std::iter::repeat_n(more, 6_000);
    let end = kind(end_after(served, pipe, [hello(), begin].into_iter().chain(flood)).await);
    assert_eq!(end.map(|(kind, _)| kind), Some(FaultKind::Link));
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_streams() {
    let (served, pipe) = serve_on(nowhere());
    let opened = (0..10_000_u32).map(|n| get(2 * n + 1, link::CHANGES, true));
    let end = kind(end_after(served, pipe, std::iter::once(hello()).chain(opened)).await);
    assert_eq!(end.map(|(kind, _)| kind), Some(FaultKind::Link));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads() {
    let catalogue = json!({"models": "m".repeat(4 << 20)});
    let (mut served, mut pipe) = serve_on(GateConfig { catalogue, ..nowhere() });
    let began = tokio::time::Instant::now();
    let asked = (0..60_u32).map(|n| get(2 * n + 1, link::MODELS, false));
    // The largest windows, so that the pipe itself fills.
    let wide = frame(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    let wider = frame(8, 0, 0, &0x7fff_0000_u32.to_be_bytes());
    for piece in [PREFACE.to_vec(), wide, wider].into_iter().chain(asked) {
        pipe.write_all(&piece).await.expect("written");
    }
    let end = kind((&mut served.end).await.expect("no panic"));
    assert!(is_link(&end, "stopped reading"), "{end:?}");
    assert!(
        began.elapsed() <= Duration::from_secs(limits::LINK_STALL_SECONDS + 1),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_and_never_stops_asking() {
    let (mut served, mut pipe) = serve_on(nowhere());
    let talk = async {
        pipe.write_all(&hello()).await.expect("written");
        for n in 0_u32.. {
            let asked = [get(2 * n + 1, link::MODELS, false), frame(6, 0, 0, &[0; 8])].concat();
            if pipe.write_all(&asked).await.is_err() {
                break;
            }
        }
    };
    let (end, ()) = tokio::join!(&mut served.end, talk);
    assert!(is_link(&kind(end.expect("no panic")), ""));
}

/// Sends a body of events and returns how the turn ended; the events are received, none is kept.
async fn end_of_events(body: Body) -> Option<(FaultKind, String)> {
    let mut rig = Rig::new(nowhere()).await;
    let sent = rig.client.send_request(request(Method::POST, link::EVENTS, body));
    let sending = tokio::spawn(sent);
    let mut outcomes = 0;
    while let Some(heard) = rig.served.events.recv().await {
        outcomes += usize::from(matches!(heard, FromSandbox::Outcome { .. }));
    }
    assert_eq!(outcomes, 0, "an outcome was heard");
    sending.abort();
    kind(rig.served.end.await.expect("no panic"))
}

fn outcome() -> String {
    format!("{}\n", json!({"event": "outcome", "outcome": {"outcome": "finished", "answer": "x"}}))
}

fn is_link(end: &Option<(FaultKind, String)>, mark: &str) -> bool {
    end.as_ref().is_some_and(|(kind, why)| *kind == FaultKind::Link && why.contains(mark))
}

#[tokio::test]
async fn a_second_outcome() {
    let note = format!("{}\n", json!({"event": "note", "text": "x"}));
    for after in [outcome(), note.clone(), "x".to_owned(), "\n".to_owned()] {
        let end = end_of_events(Body::from(format!("{note}{}{after}", outcome()))).await;
        assert!(is_link(&end, "sent more after its outcome"), "{end:?}");
    }
    // The same, but in a later piece.
    let later = stream::iter([outcome(), outcome()]).then(async |piece| {
        tokio::time::sleep(Duration::from_millis(30)).await;
        Ok::<_, io::Error>(Bytes::from(piece))
    });
    let end = end_of_events(Body::from_stream(later.boxed())).await;
    assert!(is_link(&end, "sent more after its outcome"), "{end:?}");
}

#[tokio::test]
async fn a_second_stream_of_events() {
    let mut rig = Rig::new(nowhere()).await;
    let open = Body::from_stream(stream::pending::<io::Result<Bytes>>());
    let first = tokio::spawn(rig.client.send_request(request(Method::POST, link::EVENTS, open)));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let second = tokio::spawn(rig.client.send_request(request(
        Method::POST,
        link::EVENTS,
        Body::from(outcome()),
    )));
    let end = kind(rig.served.end.await.expect("no panic"));
    assert!(is_link(&end, "a second stream of events"), "{end:?}");
    first.abort();
    second.abort();
}

#[tokio::test]
async fn events_without_an_outcome_and_lines_that_are_none() {
    let deep = format!("{}{}\n", r#"{"event":"item","item":"#, "[".repeat(10_000));
    let dense = format!(
        "{}{}]}}\n",
        r#"{"event":"item","item":[0"#,
        ",0".repeat(limits::EVENT_STRUCTURE_BYTES / 144)
    );
    for (body, mark) in [
        (String::new(), "ended without an outcome"),
        (format!("{}\n", json!({"event": "note", "text": "x"})), "ended without an outcome"),
        (outcome().trim_end().to_owned(), "broke off"),
        ("\n".into(), "not an event"),
        ("{\"event\":\"root\"}\n".into(), "not an event"),
        ("\u{0}\u{1}\n".into(), "not an event"),
        (deep, "not an event"),
        (dense, "too many values"),
    ] {
        let end = end_of_events(Body::from(body)).await;
        assert!(is_link(&end, mark), "{mark}: {end:?}");
    }
}

#[tokio::test]
async fn an_endless_line() {
    let endless = stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from(vec![b'x'; 64 << 10])));
    let end = end_of_events(Body::from_stream(endless)).await;
    assert!(is_link(&end, "too long"), "{end:?}");
}

#[tokio::test]
async fn changes_without_an_end() {
    let most = 16 << 20;
    let mut rig = Rig::new(GateConfig { changes_bytes: most, ..nowhere() }).await;
    let endless = stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from(vec![0; 64 << 10])));
    let (status, body) =
        text(rig.send(Method::PUT, link::CHANGES, Body::from_stream(endless)).await).await;
    assert_eq!((status, code(&body).as_str()), (403, "policy"));
    assert!(body.contains("the changes are larger than the sandbox's disk"), "{body}");
    let taken = rig.served.tree.taken.load(std::sync::atomic::Ordering::Relaxed) as u64;
    assert_eq!(taken, most);
}

#[tokio::test]
async fn more_sets_of_changes_than_there_is_time_for() {
    let mut rig = Rig::new(nowhere()).await;
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..100 {
        let (status, body) =
            text(rig.send(Method::PUT, link::CHANGES, Body::from("a set")).await).await;
        match status {
            200 => taken += 1,
            _ => refused += usize::from(body.contains("sent too often")),
        }
    }
    // The first sets of an honest sandbox are accepted, and one more every fifteen seconds.
    assert!((8..16).contains(&taken) && taken + refused == 100, "{taken} taken, {refused} refused");
}

#[tokio::test]
async fn a_model_request_without_an_end() {
    let mut rig = Rig::new(nowhere()).await;
    let endless = stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from(vec![b' '; 64 << 10])));
    let (status, body) =
        text(rig.send(Method::POST, link::RESPONSES, Body::from_stream(endless)).await).await;
    assert_eq!((status, code(&body).as_str()), (413, "too_large"));
    let dense = format!("[{}0]", "0,".repeat(limits::JSON_STRUCTURE_BYTES / 144));
    let (status, body) =
        text(rig.send(Method::POST, link::RESPONSES, Body::from(dense)).await).await;
    assert_eq!((status, code(&body).as_str()), (413, "too_large"));
    let deep = "[".repeat(10_000);
    let (status, body) =
        text(rig.send(Method::POST, link::RESPONSES, Body::from(deep)).await).await;
    assert_eq!((status, code(&body).as_str()), (403, "policy"));
}
