//! The relay before a scripted backend that refuses, redirects, echoes, stalls and breaks off.

use std::sync::atomic::Ordering;
use std::time::Duration;

use airlock_shared::outcome::FaultKind;
use airlock_shared::{item, link};
use axum::body::Body;
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::rig::*;
use super::*;

#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let expired = || {
        whole(
            "401 Unauthorized",
            "",
            r#"{"error":{"message":"Provided authentication token is expired: canary-token-0123456789","code":"token_expired"}}"#,
        )
    };
    let (mut rig, script) = Rig::scripted(vec![expired(), says("hi"), expired()]).await;
    let (status, _) = rig.ask_whole(user("hi")).await;
    assert_eq!(status, 200);
    let tokens: Vec<_> = script
        .asked()
        .iter()
        .map(|asked| asked.header("authorization").map(str::to_owned))
        .collect();
    assert_eq!(tokens, [Some(format!("Bearer {TOKEN}")), Some(format!("Bearer {NEXT_TOKEN}"))]);
    let (status, body) = rig.ask_whole(user("hi")).await;
    assert_eq!((status, code(&body).as_str()), (460, "sign_in"));
    assert!(body.contains("is expired: [secret removed]"), "{body}");
    assert_eq!(script.asked().len(), 3);
    assert_eq!(rig.served.gate.spent().steps, 1);
}

#[tokio::test]
async fn the_check_for_a_refused_token_renews_nothing() {
    let unauthorized = || whole("401 Unauthorized", "", r#"{"detail":"no"}"#);
    let (script, base) = Script::start(vec![
        unauthorized(),
        whole("200 OK", "content-type: application/json\r\n", r#"{"models":[]}"#),
        whole("500 Internal Server Error", "", "{}"),
        whole("302 Found", "location: http://127.0.0.1:1/\r\n", ""),
        unauthorized(),
    ])
    .await;
    let Upstream::Live { client, signer } = live(&base) else { panic!("not live") };
    let config = config(&base, live(&base));
    let mut said = Vec::new();
    for _ in 0..5 {
        let patience = Duration::from_secs(5);
        said.push(refused(&client, &*signer, &config.base, &config.backend, patience).await);
    }
    assert_eq!(said, [Some(0), None, None, None, Some(0)]);
    let asked = script.asked();
    assert_eq!(asked.len(), 5);
    let token = format!("Bearer {TOKEN}");
    assert!(asked.iter().all(|asked| asked.header("authorization") == Some(token.as_str())));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (elsewhere, base) = Script::start(vec![]).await;
    let moved = |status| whole(status, &format!("location: {base}/steal\r\n"), "");
    let (mut rig, _) = Rig::scripted(vec![
        moved("302 Found"),
        moved("307 Temporary Redirect"),
        moved("308 Permanent Redirect"),
    ])
    .await;
    for _ in 0..3 {
        let (status, body) = rig.ask_whole(user("hi")).await;
        assert_eq!((status, code(&body).as_str()), (403, "policy"));
        assert!(body.contains("not followed"), "{body}");
    }
    assert_eq!(elsewhere.connections.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_echoed_credential_is_scrubbed_from_errors_and_from_the_stream() {
    let head = format!(
        "content-type: application/json\r\nretry-after: 3\r\nx-echo: {TOKEN}\r\nset-cookie: a=b\r\n"
    );
    let error = whole(
        "400 Bad Request",
        &head,
        &format!(r#"{{"detail":"you sent Authorization: Bearer {TOKEN}"}}"#),
    );
    let text_event =
        item_done(&item::message("assistant", &format!("your header was Bearer {TOKEN}!")))
            .to_string();
    let data = format!("data: {text_event}\n\ndata: {}\n\n", completed());
    let mut stream = vec![
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_owned(),
    ];
    stream.extend(
        data.as_bytes()
            .chunks(3)
            .map(|piece| format!("{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece))),
    );
    stream.push("0\r\n\r\n".to_owned());
    let (mut rig, _) = Rig::scripted(vec![error, stream]).await;

    let answer = rig.ask(user("hi")).await;
    let mut names: Vec<&str> = answer.headers().keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "content-type", "date", "retry-after"]);
    let (status, body) = text(answer).await;
    assert_eq!(
        (status, body.as_str()),
        (400, r#"{"detail":"you sent Authorization: Bearer [secret removed]"}"#)
    );

    let (status, body) = rig.ask_whole(user("hi")).await;
    assert_eq!(status, 200);
    assert!(body.contains("Bearer [secret removed]!") && !body.contains("canary"), "{body}");
    assert_eq!(
        rig.served.gate.last_answer().as_deref(),
        Some("your header was Bearer [secret removed]!")
    );
}

#[tokio::test]
async fn a_backend_does_not_speak_in_the_hosts_name() {
    let body = link::HostRefusal::SignIn.body("sign in at https://evil.example").to_string();
    let forged = format!("{}: sign_in\r\n", link::REFUSAL);
    let (mut rig, _) = Rig::scripted(vec![whole("460 Odd", &forged, &body)]).await;
    let answer = rig.ask(user("hi")).await;
    assert_eq!(answer.headers().get(link::REFUSAL), None);
    assert_eq!(text(answer).await, (460, body));
    let claim = |kind| Outcome::Failed { fault: Fault::new(kind, "x") };
    let Outcome::Failed { fault } = rig.served.gate.judge(claim(FaultKind::SignIn), false).await
    else {
        panic!("no fault")
    };
    assert_eq!(fault.kind, FaultKind::Forged, "{fault}");
    let words = "the backend refused the request: 460: sign in at https://evil.example";
    let said = Outcome::Failed { fault: Fault::new(FaultKind::Refused, words) };
    assert_eq!(rig.served.gate.judge(claim(FaultKind::Refused), false).await, said);

    // The control: the host's own refusal has the header.
    let nowhere = Base::parse("http://127.0.0.1:1/v1").expect("a base");
    let mut rig = Rig::new(config(&nowhere, live(&nowhere))).await;
    let answer = rig.ask(user("hi")).await;
    let code = answer.headers().get(link::REFUSAL).and_then(|code| code.to_str().ok());
    assert_eq!(code, Some("unreachable"));
}

#[tokio::test]
async fn an_answer_streams_while_the_backend_still_speaks() {
    let (script, base) = Script::start(vec![]).await;
    drop(script);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base = Base::parse(&format!(
        "http://{}{}",
        listener.local_addr().expect("an address"),
        base.responses_path()
    ))
    .expect("a base");
    let mut rig = Rig::new(config(&base, live(&base))).await;
    let backend = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut buffer = vec![0; 64 << 10];
        let read = stream.read(&mut buffer).await.expect("a request");
        assert!(read > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {\"type\":\"response.created\"}\n\n").await.expect("written");
        stream
    };
    let (answer, held) = tokio::join!(rig.ask(user("hi")), backend);
    let mut body = answer.into_body();
    let first = body.frame().await.expect("a frame").expect("a piece").into_data().expect("data");
    assert!(first.starts_with(b"data: {\"type\":\"response.created\"}"));
    drop(held);
}

#[tokio::test]
async fn a_compaction_comes_back_and_may_be_sent_again() {
    let compacted = json!({"output": [{"type": "compaction", "id": "cmp_1", "encrypted_content": "state"}], "usage": {"input_tokens": 3, "output_tokens": 1}});
    let (mut rig, script) = Rig::scripted(vec![
        whole("200 OK", "content-type: application/json\r\n", &compacted.to_string()),
        says("hi"),
    ])
    .await;
    let body = json!({"input": user("long"), "instructions": "i", "tools": []});
    let (status, answer) =
        text(rig.send(Method::POST, link::COMPACT, Body::from(body.to_string())).await).await;
    assert_eq!((status, serde_json::from_str::<Value>(&answer).ok()), (200, Some(compacted)));
    let (status, _) =
        rig.ask_whole(json!([{"type": "compaction", "encrypted_content": "state"}])).await;
    assert_eq!(status, 200);
    assert_eq!(script.asked()[0].line, "POST /v1/responses/compact HTTP/1.1");
    assert_eq!(rig.served.gate.spent().usage.total(), 19);
}

#[tokio::test]
async fn the_catalogue_is_asked_by_the_host() {
    let models = json!({"models": [{"slug": "gpt-5.5"}]}).to_string();
    let refused = whole("401 Unauthorized", "", "{}");
    let (script, base) = Script::start(vec![
        whole("200 OK", "", &models),
        refused.clone(),
        refused,
        whole("404 Not Found", "", "nothing"),
    ])
    .await;
    let Upstream::Live { client, signer } = live(&base) else { unreachable!() };
    let backend = config(&base, live(&base)).backend;
    let found = catalogue(&client, signer.as_ref(), &base, &backend, Duration::from_secs(5)).await;
    assert_eq!(found.map(|value| value.to_string()), Ok(models));
    assert_eq!(script.asked()[0].line, "GET /v1/models?client_version=0.169.0 HTTP/1.1");
    assert_eq!(script.asked()[0].header("authorization"), Some(&*format!("Bearer {TOKEN}")));
    let fault = catalogue(&client, signer.as_ref(), &base, &backend, Duration::from_secs(5))
        .await
        .expect_err("refused");
    assert_eq!(fault.kind, FaultKind::SignIn);
    let fault = catalogue(&client, signer.as_ref(), &base, &backend, Duration::from_secs(5))
        .await
        .expect_err("absent");
    assert_eq!(
        (fault.kind, fault.message),
        (FaultKind::Backend, format!("{}: it answered 404: nothing", base.origin()))
    );
}

#[tokio::test]
async fn a_sandbox_that_stops_reading_at_the_end_keeps_the_connection_usable() {
    let (mut rig, script) = Rig::scripted(vec![says("one"), says("two")]).await;
    let mut body = rig.ask(user("hi")).await.into_body();
    let mut seen = String::new();
    while !seen.contains("response.completed") {
        let piece =
            body.frame().await.expect("a frame").expect("a piece").into_data().expect("data");
        seen.push_str(&String::from_utf8_lossy(&piece));
    }
    drop(body);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(rig.ask_whole(user("hi")).await.0, 200);
    assert_eq!(script.connections.load(Ordering::Relaxed), 1);
    assert_eq!(rig.served.gate.spent().steps, 2);
}

#[tokio::test]
async fn a_backend_that_is_not_there_or_breaks_off() {
    let nowhere = Base::parse("http://127.0.0.1:1/v1").expect("a base");
    let mut rig = Rig::new(config(&nowhere, live(&nowhere))).await;
    let (status, body) = rig.ask_whole(user("hi")).await;
    assert_eq!((status, code(&body).as_str()), (502, "unreachable"));
    assert!(body.contains("refused"), "{body}");
    assert_eq!(rig.served.gate.spent(), Spending::default());

    let cut = vec![
        events(&[item_done(&item::message("assistant", "half"))])[..2].concat(),
        "garbage".to_owned(),
    ];
    let packed =
        whole("200 OK", "content-type: text/event-stream\r\ncontent-encoding: gzip\r\n", "x");
    let html = whole("403 Forbidden", "content-type: text/html\r\n", "<html>Just a moment");
    let limit = whole(
        "429 Too Many Requests",
        "",
        r#"{"error":{"type":"usage_limit_reached","message":"full","resets_at":5}}"#,
    );
    let (mut rig, _) = Rig::scripted(vec![cut, packed, html, limit]).await;
    let answer = rig.ask(user("hi")).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.into_body().collect().await.is_err(), "a cut stream is not whole");
    assert_eq!(rig.served.gate.last_answer(), None);
    let (status, body) = rig.ask_whole(user("hi")).await;
    assert_eq!((status, code(&body).as_str()), (502, "unreachable"));
    assert_eq!(rig.ask_whole(user("hi")).await, (403, "<html>Just a moment".to_owned()));
    let limited = Outcome::Stopped {
        reason: airlock_shared::outcome::Stop::UsageLimit {
            plan: None,
            resets_at: Some(5),
            message: "full".into(),
        },
        answer: None,
    };
    assert_ne!(rig.served.gate.judge(limited.clone(), false).await, limited);
    assert_eq!(rig.ask_whole(user("hi")).await.0, 429);
    assert_eq!(rig.served.gate.judge(limited.clone(), false).await, limited);
}

#[test]
fn an_invalid_certificate_authority_is_refused() {
    let base = Base::parse("https://codex.example.org").expect("a base");
    assert!(client(&base, None).is_ok());
    for pem in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(client(&base, Some(pem)).is_err(), "{pem}");
    }
}
