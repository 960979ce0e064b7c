//! Tests that the credential in use does not leave a sandbox: not in a request, an event, an outcome or
//! a last message.

use airlock_shared::link;
use airlock_shared::outcome::FaultKind;
use axum::body::Body;
use http::Method;
use serde_json::json;

use super::rig::*;
use super::*;

/// What a command may print that contains the credential.
fn printed() -> String {
    format!("KEY={TOKEN}\nollama is a word")
}

#[tokio::test]
async fn what_a_command_prints_of_the_credential_is_not_sent_to_the_model() {
    let call = json!({"type": "function_call", "call_id": "c1", "name": "bash", "arguments": "{\"command\":\"cat key\"}"});
    let first = events(&[item_done(&call), completed()]);
    let (mut rig, script) = Rig::scripted(vec![first, says("one"), says("two")]).await;
    rig.ask_whole(user(&format!("use {TOKEN}"))).await;
    let output = json!({"type": "function_call_output", "call_id": "c1", "output": printed()});
    for _ in 0..2 {
        let (status, _) = rig.ask_whole(json!([call, output])).await;
        assert_eq!(status, 200);
    }
    let asked = script.asked();
    assert_eq!(asked[0].body["input"][0]["content"][0]["text"], "use [secret removed]");
    let sent = &asked[1].body["input"];
    assert_eq!(sent[0], call, "what the backend said stays as it was");
    assert_eq!(sent[1]["output"], "KEY=[secret removed]\nollama is a word");
    assert_eq!(sent, &asked[2].body["input"], "the same bytes each time");
}

#[tokio::test]
async fn what_a_cut_leaves_of_the_credential_is_not_sent_nor_shown() {
    let (start, end) = TOKEN.split_at(TOKEN.len() / 2);
    let text = format!("aaaa{start}\n[… 30000 bytes left out …]\n{end}\nollama");
    let clean = "aaaa[secret removed]\n[… 30000 bytes left out …]\n[secret removed]\nollama";
    let (mut rig, script) = Rig::scripted(vec![says("one")]).await;
    rig.ask_whole(user(&text)).await;
    assert_eq!(script.asked()[0].body["input"][0]["content"][0]["text"], clean);
    let ended = json!({"event": "call_ended", "call_id": "c1", "tool": "bash", "ok": true, "exit": 0,
        "ms": 1, "note": "", "title": format!("echo {start}… [+11 bytes]"), "output": text});
    let ending = rig.client.send_request(request(
        Method::POST,
        link::EVENTS,
        Body::from(format!("{ended}\n")),
    ));
    let ending = tokio::spawn(ending);
    // Events of earlier requests come first.
    loop {
        match rig.served.events.recv().await {
            Some(FromSandbox::Event(Event::CallEnded { title, output, .. })) => {
                assert_eq!(title, "echo [secret removed]… [+11 bytes]");
                assert_eq!(output, clean);
                break;
            }
            Some(_) => {}
            None => panic!("no event"),
        }
    }
    ending.abort();
}

#[tokio::test]
async fn a_short_key_is_not_cut_out_of_texts() {
    let (script, base) = Script::start(vec![says("ask ollama")]).await;
    let key = crate::auth::Credential::Key(Secret::new("ollama".to_owned()));
    let deps = crate::auth::Deps { ca: None, clock: Arc::new(|| 0) };
    let signer = crate::auth::open(key, &base, &deps).expect("a signer");
    let upstream = Upstream::Live { client: client(&base, None).expect("a client"), signer };
    let mut rig = Rig::new(config(&base, upstream)).await;
    let (status, said) = rig.ask_whole(user("what is ollama?")).await;
    assert!(status == 200 && said.contains("ask ollama"), "{said}");
    let asked = script.asked();
    assert_eq!(asked[0].header("authorization"), Some("Bearer ollama"));
    assert_eq!(asked[0].body["input"][0]["content"][0]["text"], "what is ollama?");
    assert_eq!(rig.served.gate.message("it sent Bearer ollama"), "it sent Bearer [secret removed]");
}

#[tokio::test]
async fn the_last_words_of_a_sandbox_hold_no_credential() {
    let (rig, _) = Rig::scripted(vec![]).await;
    let said = rig.served.gate.message(&format!("panic: {TOKEN}; then {NEXT_TOKEN}"));
    assert_eq!(said, "panic: [secret removed]; then [secret removed]");
}

#[tokio::test]
async fn no_event_holds_the_credential() {
    let (mut rig, _) = Rig::scripted(vec![]).await;
    let ended = json!({"event": "call_ended", "call_id": "c1", "tool": "bash", "ok": true, "exit": 0,
        "ms": 1, "note": "", "title": format!("echo {TOKEN}"), "output": printed()});
    // The control: the event as it is sent.
    assert!(ended.to_string().contains(TOKEN));
    let answer = format!("it is {TOKEN}");
    let outcome = json!({"event": "outcome", "outcome": {"outcome": "finished", "answer": answer}});
    let lines = format!("{ended}\n{outcome}\n");
    let ending = rig.client.send_request(request(Method::POST, link::EVENTS, Body::from(lines)));
    let ending = tokio::spawn(ending);
    let Some(FromSandbox::Event(Event::CallEnded { title, output, .. })) =
        rig.served.events.recv().await
    else {
        panic!("no event")
    };
    assert_eq!(title, "echo [secret removed]");
    assert_eq!(output, "KEY=[secret removed]\nollama is a word");
    let Some(FromSandbox::Outcome { outcome, .. }) = rig.served.events.recv().await else {
        panic!("no outcome")
    };
    assert_eq!(outcome, Outcome::Finished { answer: "it is [secret removed]".into() });
    drop(ending.await);
}

/// An answer with a piece of the key beside a cut, or with the key behind an escape, arrives without the
/// key. It still counts as the backend's answer.
#[tokio::test]
async fn an_honest_answer_with_a_piece_of_the_key_is_believed() {
    let piece = format!("the file begins with {}…", &TOKEN[..TOKEN.len() - 2]);
    let item = item_done(&airlock_shared::item::message("assistant", &format!("it is {TOKEN}")));
    let item = item.to_string().replace("canary-t", "\\u0063anary-t");
    let escaped = format!("data: {item}\n\ndata: {}\n\n", completed());
    let escaped = whole("200 OK", "content-type: text/event-stream\r\n", &escaped);
    for (stream, claimed, heard) in [
        (says(&piece), piece.clone(), "the file begins with [secret removed]…"),
        (
            says(&format!("it is {TOKEN}")),
            format!("it is {}", airlock_shared::scrub::MARK),
            "it is [secret removed]",
        ),
        (escaped, format!("it is {TOKEN}"), "it is [secret removed]"),
    ] {
        let (mut rig, _) = Rig::scripted(vec![stream]).await;
        let (status, said) = rig.ask_whole(user("what is in it?")).await;
        assert_eq!(status, 200, "{said}");
        let outcome = Outcome::Finished { answer: claimed };
        let line = format!("{}\n", json!({"event": "outcome", "outcome": outcome}));
        let sent = rig.client.send_request(request(Method::POST, link::EVENTS, line.into()));
        let sending = tokio::spawn(sent);
        let Some(FromSandbox::Outcome { outcome, .. }) = rig.served.events.recv().await else {
            panic!("no outcome")
        };
        assert_eq!(outcome, Outcome::Finished { answer: heard.into() });
        assert_eq!(rig.served.gate.judge(outcome.clone(), false).await, outcome);
        // The control: another answer with the same part removed is still another answer.
        let forged = Outcome::Finished { answer: format!("{heard} ") };
        let judged = rig.served.gate.judge(forged, false).await;
        assert!(matches!(judged, Outcome::Failed { fault } if fault.kind == FaultKind::Forged));
        sending.abort();
    }
}
