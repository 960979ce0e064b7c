//! Answers that the sandbox abandons, and answers of an unusual form, over the link.

use airlock_shared::{item, link};
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::rig::*;
use super::*;

/// A backend that sends what it has and keeps the connection open, and says when it was dropped.
async fn unhurried(says: &'static [&'static str]) -> (Base, tokio::sync::mpsc::Receiver<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base = format!("http://{}/v1", listener.local_addr().expect("an address"));
    let (heard, hears) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let heard = heard.clone();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"}") {
                    let mut piece = [0; 4096];
                    let count = stream.read(&mut piece).await.expect("a request");
                    request.extend_from_slice(&piece[..count]);
                }
                for piece in says {
                    stream.write_all(piece.as_bytes()).await.expect("written");
                }
                heard.send(()).await.expect("a test");
                // The end of the connection: the reader is gone.
                while stream.read(&mut [0; 64]).await.is_ok_and(|count| count > 0) {}
                heard.send(()).await.expect("a test");
            });
        }
    });
    (Base::parse(&base).expect("a base"), hears)
}

const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";

#[tokio::test]
async fn what_the_sandbox_abandons_is_spent() {
    // A thousand tokens without an end: each answer is reset.
    let delta = json!({"type": "response.output_text.delta", "delta": "x".repeat(4_000)});
    let delta: &'static str = Box::leak(format!("data: {delta}\n\n").into_boxed_str());
    let says: &'static [&'static str] = Box::leak(Box::new([STREAM, delta]));
    let (base, mut backend) = unhurried(says).await;
    let budget = Budget { steps: 99, tokens: 1_500, seconds: 60 };
    let mut rig = Rig::new(GateConfig { budget, ..config(&base, live(&base)) }).await;
    for _ in 0..2 {
        let mut body = rig.ask(user("hi")).await.into_body();
        let mut seen = 0;
        while seen < delta.len() {
            let frame = body.frame().await.expect("a frame").expect("a piece");
            seen += frame.into_data().expect("data").len();
        }
        drop(body);
        backend.recv().await.expect("it was asked");
        backend.recv().await.expect("the connection was given up");
    }
    let (status, body) = rig.ask_whole(user("hi")).await;
    assert_eq!((status, code(&body).as_str()), (402, "budget"));
    let spent = rig.served.gate.spent();
    assert_eq!((spent.steps, spent.estimated), (2, true));
    assert!((2_000..2_200).contains(&spent.usage.total()), "{spent:?}");

    // The same before the headers, when no stream has begun.
    let (base, mut backend) = unhurried(&[]).await;
    let budget = Budget { steps: 2, tokens: 1_000_000, seconds: 60 };
    let mut rig = Rig::new(GateConfig { budget, ..config(&base, live(&base)) }).await;
    for _ in 0..2 {
        let body = json!({"input": user(&"y".repeat(4_000))}).to_string();
        let asking = rig.client.send_request(request(Method::POST, link::RESPONSES, body.into()));
        tokio::select! {
            _ = asking => panic!("there is no answer"),
            asked = backend.recv() => asked.expect("it was asked"),
        }
        backend.recv().await.expect("the connection was given up");
    }
    let (status, body) = rig.ask_whole(user("hi")).await;
    assert_eq!((status, code(&body).as_str()), (402, "budget"));
    let spent = rig.served.gate.spent();
    assert_eq!((spent.steps, spent.estimated), (2, true));
    assert!((2_000..2_200).contains(&spent.usage.input), "{spent:?}");
}

#[tokio::test]
async fn odd_answers_are_still_answers() {
    let call = json!({"type": "function_call", "call_id": "c1", "name": "bash", "arguments": "{}"});
    let text = |text: &str| item_done(&item::message("assistant", text));
    let (mut rig, _) = Rig::scripted(vec![
        events(&[item_done(&call), completed()]),
        events(&[text("first"), text("second"), text(""), item_done(&call), completed()]),
    ])
    .await;
    let judge = async |rig: &Rig, answer: &str| {
        let claim = Outcome::Finished { answer: answer.into() };
        rig.served.gate.judge(claim.clone(), false).await == claim
    };
    assert_eq!(rig.ask_whole(user("hi")).await.0, 200);
    assert!(!judge(&rig, "").await, "a call is open");
    assert_eq!(rig.ask_whole(user("hi")).await.0, 200);
    assert!(judge(&rig, "second").await, "beside a call that was done already");
    assert!(!judge(&rig, "first").await && !judge(&rig, "").await);
}
