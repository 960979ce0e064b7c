//! Whole exchanges over the link: an honest client, a gate, and a scripted backend on the wire.

use std::sync::atomic::Ordering;
use std::time::Duration;

use airlock_shared::outcome::FaultKind;
use airlock_shared::{item, link};
use axum::body::Body;
use futures_util::stream;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::rig::*;
use super::*;

fn outcome_line(answer: &str) -> String {
    format!(
        "{}\n",
        json!({"event": "outcome", "outcome": {"outcome": "finished", "answer": answer}})
    )
}

#[tokio::test]
async fn a_wrong_session_key_is_refused_before_anything_else() {
    let (mut rig, script) = Rig::scripted(vec![]).await;
    for path in [
        link::EVENTS,
        link::COMMANDS,
        link::RESPONSES,
        link::COMPACT,
        link::MODELS,
        link::WORKSPACE,
        link::CHANGES,
        "/x",
    ] {
        for keys in [&[][..], &["wrong"], &["run-key-012345678"], &[KEY, KEY], &["wrong", KEY]] {
            let mut request = request(Method::POST, path, Body::from("{}"));
            request.headers_mut().remove(link::SESSION_KEY);
            for key in keys {
                request.headers_mut().append(link::SESSION_KEY, key.parse().expect("a header"));
            }
            let (status, body) =
                text(rig.client.send_request(request).await.expect("an answer")).await;
            assert_eq!((status, code(&body).as_str()), (401, "session_key"), "{path} {keys:?}");
        }
    }
    let tunnel = Request::connect("127.0.0.1:1").body(Body::empty()).expect("a request");
    assert_eq!(rig.client.send_request(tunnel).await.expect("an answer").status(), 401);
    assert!(script.asked().is_empty() && rig.served.events.try_recv().is_err());
}

#[tokio::test]
async fn a_turn_from_its_first_request_to_its_kept_outcome() {
    let call = json!({"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "bash", "arguments": "{\"command\":\"ls\"}", "new": 1});
    let first = events(&[item_done(&call), completed()]);
    let (mut rig, script) = Rig::scripted(vec![first, says("three files")]).await;
    let (_, tree) = text(rig.send(Method::GET, link::WORKSPACE, Body::empty()).await).await;
    assert_eq!(tree, "a tar stream");
    let (status, answer) = rig.ask_whole(user("what is here?")).await;
    assert_eq!(status, 200);
    assert!(answer.contains("fc_1") && answer.contains("response.completed"));
    let back = item::resent(call);
    let output = json!({"type": "function_call_output", "call_id": "c1", "output": "a b c"});
    let (status, _) =
        rig.ask_whole(json!([item::message("user", "what is here?"), back, output])).await;
    assert_eq!(status, 200);
    let asked = script.asked();
    assert_eq!(asked[1].body["input"][1], back, "what the backend sent came back as it was");
    assert_eq!(asked[0].header("x-codex-turn-state"), None);
    assert_eq!(asked[1].header("x-codex-turn-state"), Some("state-1"));
    assert_eq!(script.connections.load(Ordering::Relaxed), 1, "the connection was used again");
    let usage = airlock_shared::stream::Usage { input: 20, output: 10, ..Default::default() };
    assert_eq!(rig.served.gate.spent(), Spending { steps: 2, usage, estimated: false });
    assert_eq!(rig.served.gate.last_answer().as_deref(), Some("three files"));

    let (status, _) = text(rig.send(Method::PUT, link::CHANGES, Body::from("changes")).await).await;
    assert_eq!((status, rig.served.tree.taken.load(Ordering::Relaxed)), (200, 7));
    let lines =
        format!("{}\n{}", json!({"event": "note", "text": "almost"}), outcome_line("three files"));
    let ending = rig.client.send_request(request(Method::POST, link::EVENTS, Body::from(lines)));
    let ending = tokio::spawn(async move { text(ending.await.expect("an answer")).await });
    let note = rig.served.events.recv().await;
    assert!(matches!(note, Some(FromSandbox::Event(Event::Note { .. }))));
    let Some(FromSandbox::Outcome { outcome, kept }) = rig.served.events.recv().await else {
        panic!("no outcome")
    };
    assert_eq!(rig.served.gate.judge(outcome.clone(), false).await, outcome);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!ending.is_finished(), "it was answered before the outcome was kept");
    kept.send(()).expect("listened to");
    assert_eq!(ending.await.expect("ended").0, 200);
    assert_eq!(rig.served.end.await.expect("served"), Ok(()));
    assert_eq!(rig.served.gate.finish().await, Ok(()));
}

#[tokio::test]
async fn every_header_is_the_hosts() {
    let (mut rig, script) = Rig::scripted(vec![says("hi")]).await;
    let body = json!({"model": "gpt-6-dear", "store": false, "input": user("hi")});
    let mut request = request(Method::POST, link::RESPONSES, Body::from(body.to_string()));
    for (name, value) in [
        ("authorization", "Bearer stolen"),
        ("chatgpt-account-id", "another"),
        ("openai-organization", "org"),
        ("cookie", "a=b"),
        ("x-evil", "1"),
        ("originator", "evil"),
        ("x-codex-turn-state", "another"),
        ("host", "evil.example"),
        ("user-agent", "evil"),
        ("session-id", "another"),
    ] {
        request.headers_mut().insert(name, value.parse().expect("a header"));
    }
    let (status, _) = text(rig.client.send_request(request).await.expect("an answer")).await;
    assert_eq!(status, 200);
    let asked = script.asked();
    assert_eq!(asked[0].line, "POST /v1/responses HTTP/1.1");
    assert_eq!(asked[0].body["model"], "gpt-5.5");
    let mut names: Vec<&str> = asked[0].headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let expected = [
        "accept",
        "authorization",
        "chatgpt-account-id",
        "content-length",
        "content-type",
        "host",
        "originator",
        "session-id",
        "thread-id",
        "user-agent",
        "version",
        "x-client-request-id",
    ];
    assert_eq!(names, expected);
    assert_eq!(asked[0].header("authorization"), Some(&*format!("Bearer {TOKEN}")));
    assert_eq!(asked[0].header("chatgpt-account-id"), Some("acct"));
    assert_eq!(asked[0].header("session-id"), Some("session-1"));
    let shown = format!("{:?}", asked[0].headers);
    assert!(!shown.contains("evil") && !shown.contains(KEY), "{shown}");
}

#[tokio::test]
async fn the_host_counts_the_budgets() {
    let (script, base) =
        Script::start(vec![says("one"), whole("500 Oops", "", "{}"), says("two")]).await;
    let budget = Budget { steps: 2, tokens: 1_000, seconds: 60 };
    let mut rig = Rig::new(GateConfig { budget, ..config(&base, live(&base)) }).await;
    for expected in [200, 500, 200, 402, 402] {
        let (status, body) = rig.ask_whole(user("hi")).await;
        assert_eq!(status, expected, "{body}");
        if status == 402 {
            assert_eq!(code(&body), "budget");
        }
    }
    assert_eq!(script.asked().len(), 3);

    let (script, base) = Script::start(vec![says("one"), says("two")]).await;
    let budget = Budget { steps: 9, tokens: 15, seconds: 60 };
    let mut rig = Rig::new(GateConfig { budget, ..config(&base, live(&base)) }).await;
    assert_eq!(rig.ask_whole(user("hi")).await.0, 200);
    assert_eq!(rig.ask_whole(user("hi")).await.0, 402);
    assert_eq!(script.asked().len(), 1);
}

#[tokio::test]
async fn a_request_that_the_budget_has_no_room_for_is_not_sent() {
    let large = user(&"x".repeat(1 << 20));
    let budget = |tokens| Budget { steps: 9, tokens, seconds: 60 };
    // The control: it is sent if the budget has four times the tokens that it surely costs.
    for (tokens, expected) in [(1 << 17, 200), (100, 402)] {
        let (script, base) = Script::start(vec![says("one")]).await;
        let config = GateConfig { budget: budget(tokens), ..config(&base, live(&base)) };
        let mut rig = Rig::new(config).await;
        let (status, body) = rig.ask_whole(large.clone()).await;
        assert_eq!(status, expected, "{body}");
        assert_eq!(script.asked().len(), usize::from(expected == 200));
        if expected == 402 {
            assert_eq!(code(&body), "budget");
            assert_eq!(rig.served.gate.spent(), Spending::default());
        }
    }
}

#[tokio::test]
async fn what_the_policy_refuses_never_goes_out_and_people_are_told() {
    let (mut rig, script) = Rig::scripted(vec![]).await;
    let body = json!({"input": [], "previous_response_id": "resp_1"});
    for path in [link::RESPONSES, link::COMPACT] {
        let (status, text) =
            text(rig.send(Method::POST, path, Body::from(body.to_string())).await).await;
        assert_eq!((status, code(&text).as_str()), (403, "policy"));
        let Some(FromSandbox::Refused { what }) = rig.served.events.recv().await else {
            panic!("not told")
        };
        let why = "the body has a field that a sandbox may not send; ";
        assert_eq!(what, format!("{why}sandbox says: “previous_response_id”"));
    }
    for path in [
        "/v1/files",
        "/model/responses/",
        "/model/me",
        "/backend-api/me",
        "/model/responses/../files",
    ] {
        let (status, text) = text(rig.send(Method::POST, path, Body::from("{}")).await).await;
        assert_eq!((status, code(&text).as_str()), (404, "route"), "{path}");
    }
    assert!(script.asked().is_empty());
}

#[tokio::test]
async fn a_forged_answer_is_found() {
    let (mut rig, _) = Rig::scripted(vec![says("three files")]).await;
    assert_eq!(rig.ask_whole(user("hi")).await.0, 200);
    let forged = Outcome::Finished { answer: "all 31 tests pass".into() };
    let judged = rig.served.gate.judge(forged, false).await;
    assert!(matches!(judged, Outcome::Failed { fault } if fault.kind == FaultKind::Forged));
    let honest = Outcome::Finished { answer: "three files".into() };
    assert_eq!(rig.served.gate.judge(honest.clone(), false).await, honest);
}

#[tokio::test]
async fn commands_go_down_and_stop_ends_it() {
    let (mut rig, _) = Rig::scripted(vec![]).await;
    let answer = rig.send(Method::GET, link::COMMANDS, Body::empty()).await;
    let (status, body) = text(rig.send(Method::GET, link::COMMANDS, Body::empty()).await).await;
    assert_eq!((status, code(&body).as_str()), (403, "policy"));
    let fresh =
        airlock_shared::command::Command::Secrets { bearer: Some(Secret::new("fresh".into())) };
    rig.served.commands.send(fresh).await.expect("sent");
    let mut body = answer.into_body();
    let line = body.frame().await.expect("a frame").expect("a line").into_data().expect("data");
    assert_eq!(&line[..], b"{\"bearer\":\"fresh\",\"command\":\"secrets\"}\n");
    rig.served.stop.cancel();
    assert_eq!(rig.served.end.await.expect("served"), Ok(()));
}

#[tokio::test]
async fn nothing_is_reached_in_relay() {
    let (mut rig, script) = Rig::scripted(vec![]).await;
    let target = rig.served.gate.config.base.authority().to_owned();
    let tunnel = Request::connect(&target)
        .header(link::SESSION_KEY, KEY)
        .body(Body::empty())
        .expect("a request");
    let (status, body) = text(rig.client.send_request(tunnel).await.expect("an answer")).await;
    assert_eq!((status, code(&body).as_str()), (403, "policy"));
    let Some(FromSandbox::Refused { what }) = rig.served.events.recv().await else {
        panic!("not told")
    };
    assert_eq!(what, format!("commands are offline in this session ({target})"));
    assert_eq!(script.connections.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn in_handoff_a_tunnel_reaches_the_backend_and_nothing_else() {
    let (script, base) = Script::start(vec![whole("200 OK", "", "hello")]).await;
    let (other, elsewhere) = Script::start(vec![]).await;
    let mut rig = Rig::new(GateConfig {
        credentials: CredentialsMode::Handoff,
        ..config(&base, live(&base))
    })
    .await;
    for target in [elsewhere.authority(), "169.254.169.254:80", "localhost:1"] {
        let tunnel = Request::connect(target)
            .header(link::SESSION_KEY, KEY)
            .body(Body::empty())
            .expect("a request");
        assert_eq!(
            rig.client.send_request(tunnel).await.expect("an answer").status(),
            403,
            "{target}"
        );
    }
    let (status, body) = rig.ask_whole(user("hi")).await;
    assert_eq!(
        (status, code(&body).as_str()),
        (403, "policy"),
        "the relay does not sign for a sandbox that signs itself"
    );
    let tunnel = Request::connect(base.authority())
        .header(link::SESSION_KEY, KEY)
        .body(Body::empty())
        .expect("a request");
    let mut answer = rig.client.send_request(tunnel).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let upgraded = hyper::upgrade::on(&mut answer).await.expect("a tunnel");
    let mut upgraded = hyper_util::rt::TokioIo::new(upgraded);
    upgraded.write_all(b"GET /x HTTP/1.1\r\n\r\n").await.expect("written");
    let mut read = vec![0; 1024];
    let mut got = String::new();
    while !got.ends_with("hello") {
        let count = upgraded.read(&mut read).await.expect("read");
        assert!(count > 0, "{got}");
        got.push_str(&String::from_utf8_lossy(&read[..count]));
    }
    assert_eq!(script.asked()[0].line, "GET /x HTTP/1.1");
    assert_eq!(other.connections.load(Ordering::Relaxed), 0);
    rig.served.stop.cancel();
    assert_eq!(rig.served.end.await.expect("served"), Ok(()));
}

#[tokio::test]
async fn a_tunnel_to_a_private_backend_is_refused() {
    let base = Base::parse("https://10.1.2.3").expect("a base");
    let mut rig = Rig::new(GateConfig {
        credentials: CredentialsMode::Handoff,
        ..config(&base, live(&base))
    })
    .await;
    let tunnel = Request::connect("10.1.2.3:443")
        .header(link::SESSION_KEY, KEY)
        .body(Body::empty())
        .expect("a request");
    let (status, body) = text(rig.client.send_request(tunnel).await.expect("an answer")).await;
    assert_eq!((status, code(&body).as_str()), (403, "policy"));
}

#[tokio::test]
async fn the_work_tree_is_given_once_and_changes_are_taken_as_they_come() {
    let (mut rig, _) = Rig::scripted(vec![]).await;
    let body = || Body::from_stream(stream::iter([Ok::<_, io::Error>(Bytes::from_static(b"x"))]));
    for (method, path, again) in
        [(Method::GET, link::WORKSPACE, 403), (Method::PUT, link::CHANGES, 200)]
    {
        assert_eq!(rig.send(method.clone(), path, body()).await.status(), 200);
        assert_eq!(rig.send(method, path, body()).await.status(), again, "{path}");
    }
    assert_eq!(rig.served.tree.taken.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn over_tls_the_relay_trusts_what_it_was_told_to_and_a_tunnel_reaches_one_name() {
    let (script, base, ca) =
        Script::start_tls(vec![says("hi"), whole("200 OK", "", "hello")]).await;
    let relayed = async |ca: Option<&str>| {
        let Upstream::Live { signer, .. } = live(&base) else { unreachable!() };
        let client = client(&base, ca).expect("a client");
        Rig::new(config(&base, Upstream::Live { client, signer }))
            .await
            .ask_whole(user("hi"))
            .await
            .0
    };
    assert_eq!(relayed(None).await, 502, "its certificate is not trusted");
    assert_eq!(relayed(Some(&ca)).await, 200);

    let mut rig = Rig::new(GateConfig {
        credentials: CredentialsMode::Handoff,
        ..config(&base, live(&base))
    })
    .await;
    let mut roots = rustls::RootCertStore::empty();
    let der =
        rustls::pki_types::pem::PemObject::from_pem_slice(ca.as_bytes()).expect("a certificate");
    roots.add(der).expect("added");
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .expect("versions")
    .with_root_certificates(roots)
    .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    let mut tunnelled = async |name: &'static str| {
        let tunnel = Request::connect(base.authority())
            .header(link::SESSION_KEY, KEY)
            .body(Body::empty())
            .expect("a request");
        let mut answer = rig.client.send_request(tunnel).await.expect("an answer");
        let upgraded = hyper::upgrade::on(&mut answer).await.expect("a tunnel");
        let name = name.try_into().expect("a name");
        let mut stream = connector.connect(name, hyper_util::rt::TokioIo::new(upgraded)).await?;
        stream.write_all(b"GET /x HTTP/1.1\r\n\r\n").await?;
        let mut read = vec![0; 1024];
        let count = stream.read(&mut read).await?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&read[..count]).into_owned())
    };
    assert!(tunnelled("other.example").await.is_err());
    assert!(tunnelled("localhost").await.is_ok_and(|read| read.starts_with("HTTP/1.1 200 OK")));
    let Some(FromSandbox::Refused { what }) = rig.served.events.recv().await else {
        panic!("not told")
    };
    assert_eq!(what, "a tunnel's TLS named another server than the backend");
    assert_eq!(script.asked().len(), 2);
}
