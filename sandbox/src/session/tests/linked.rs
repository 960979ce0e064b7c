//! Whole sessions with a host on the other end of a pipe.

use super::*;

fn sse(events: &[Value]) -> Relayed {
    Relayed::Backend(200, events.iter().map(|event| format!("data: {event}\n\n")).collect())
}

fn handoff(base_url: &str, workspace: &WorkspaceFixture, bearer: bool) -> Handoff {
    let mut job = job(base_url, workspace);
    job["workspace"]["copied"] = json!(true);
    Handoff {
        protocol: 1,
        session: "session-1".into(),
        session_key: Secret::new(KEY.into()),
        link: LinkKind::H2,
        secrets: if bearer { secrets() } else { Secrets::default() },
        job: serde_json::from_value(job).expect("a job"),
    }
}

/// The tar of a directory with one file.
fn packed() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(2);
    header.set_mode(0o644);
    tar.append_data(&mut header, "a.txt", b"hi".as_slice()).expect("appended");
    tar.into_inner().expect("finished")
}

async fn through(
    handoff: Handoff,
    relayed: Vec<Relayed>,
    during: impl AsyncFnOnce(&Host, tokio::task::JoinHandle<()>),
) -> (Host, ExitCode) {
    let (host, input, output, serving) = Host::start(relayed, packed());
    let deadline = Instant::now() + Duration::from_secs(60);
    let session = linked(handoff, Vec::new(), input, output, deadline, CancellationToken::new());
    let (code, ()) = tokio::join!(session, during(&host, serving));
    (host, code)
}

/// A changes stream as paths and contents, and its end.
fn read_changes(tar: &[u8]) -> (Vec<(String, String)>, routes::ChangesEnd) {
    let mut archive = tar::Archive::new(tar);
    let mut files = Vec::new();
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").display().to_string();
        let mut content = String::new();
        std::io::Read::read_to_string(&mut entry, &mut content).expect("text");
        files.push((path, content));
    }
    let (name, end) = files.pop().expect("an end");
    assert_eq!(name, routes::CHANGES_END);
    (files, serde_json::from_str(&end).expect("the end says what it is"))
}

/// While the model thinks, the edits so far are sent. All changes are sent at the end.
#[tokio::test]
async fn edits_so_far_are_sent_between_calls() {
    let workspace = WorkspaceFixture::new();
    let relayed = vec![
        sse(&[bash("c1", "printf 1 > one"), completed()]),
        sse(&[call("c2", "read_file", r#"{"path":"one"}"#), completed()]),
        sse(&[bash("c3", "printf 2 > two; rm a.txt"), completed()]),
        sse(&[text("done"), completed()]),
    ];
    let mut handoff = handoff("https://backend.invalid", &workspace, false);
    handoff.job.workspace.edits_every_ms = 0;
    let (host, code) = through(handoff, relayed, async |_, _| {}).await;
    assert!(is_code(code, 0));
    let sets: Vec<_> = host.sent(routes::CHANGES).iter().map(|set| read_changes(set)).collect();
    let file = |path: &str, content: &str| (path.to_owned(), content.to_owned());
    let (one, two) = (file("tree/one", "1"), file("tree/two", "2"));
    let all = vec![one.clone(), two, file("gone/a.txt", "")];
    let so_far = routes::ChangesEnd { so_far: true, cut: None };
    // Nothing was written between the second request and the third.
    let last = routes::ChangesEnd::default();
    assert_eq!(sets, [(vec![one], so_far.clone()), (all.clone(), so_far), (all, last)]);
}

#[tokio::test]
async fn a_relayed_session_from_workspace_to_changes() {
    let workspace = WorkspaceFixture::new();
    let relayed = vec![
        sse(&[bash("c1", "printf x >> written"), completed()]),
        sse(&[text("done"), completed()]),
    ];
    let handoff = handoff("https://backend.invalid", &workspace, false);
    let (host, code) = through(handoff, relayed, async |_, _| {}).await;
    assert!(is_code(code, 0));
    let events = host.events();
    assert_eq!(
        events.last(),
        Some(&json!({"event": "outcome", "outcome": {"outcome": "finished", "answer": "done"}}))
    );
    let changes = host.sent(routes::CHANGES).concat();
    let mut tar = tar::Archive::new(changes.as_slice());
    let names: Vec<_> = tar
        .entries()
        .expect("a tar")
        .map(|e| e.expect("an entry").path().expect("a path").display().to_string())
        .collect();
    assert!(names.contains(&"tree/written".to_owned()), "{names:?}");
    // The changes come before the outcome.
    let paths = host.paths();
    let at = |path: &str| paths.iter().position(|p| p == path);
    assert!(at(routes::CHANGES) < at(routes::EVENTS), "{paths:?}");
}

#[tokio::test]
async fn each_refusal_of_the_host_has_its_outcome() {
    let cases = [
        (
            routes::HostRefusal::Budget,
            json!({"outcome": "stopped", "reason": {"reason": "budget", "spent": "steps"}, "answer": null}),
        ),
        (
            routes::HostRefusal::Policy,
            json!({"outcome": "failed", "fault": {"kind": "policy", "message": "no"}}),
        ),
        (
            routes::HostRefusal::Recording,
            json!({"outcome": "failed", "fault": {"kind": "recording", "message": "no"}}),
        ),
        (
            routes::HostRefusal::SignIn,
            json!({"outcome": "failed", "fault": {"kind": "sign_in", "message": "no"}}),
        ),
    ];
    for (refusal, expected) in cases {
        let workspace = WorkspaceFixture::new();
        let relayed = vec![Relayed::Host(refusal, "no")];
        let handoff = handoff("https://backend.invalid", &workspace, false);
        let (host, _) = through(handoff, relayed, async |_, _| {}).await;
        assert_eq!(host.events().last().expect("one")["outcome"], expected);
        assert_eq!(host.sent(routes::CHANGES).len(), 1);
    }
}

/// The same bodies from the backend are refusals of the backend.
#[tokio::test]
async fn a_backend_does_not_speak_in_the_hosts_name() {
    use routes::HostRefusal as R;
    let message = |kind: &str, message: String| json!({"outcome": "failed", "fault": {"kind": kind, "message": message}});
    let refused = "the backend refused the request: ";
    for (refusal, expected) in [
        (R::Budget, message("refused", format!("{refused}402: no"))),
        (R::Policy, message("refused", format!("{refused}403: no"))),
        (R::Recording, message("refused", format!("{refused}409: no"))),
        (R::SignIn, message("refused", format!("{refused}460: no"))),
        (R::Key, message("sign_in", "the backend refused the login: 401: no".to_owned())),
    ] {
        let workspace = WorkspaceFixture::new();
        let relayed = vec![Relayed::Backend(refusal.status(), refusal.body("no").to_string())];
        let handoff = handoff("https://backend.invalid", &workspace, false);
        let (host, _) = through(handoff, relayed, async |_, _| {}).await;
        assert_eq!(host.events().last().expect("one")["outcome"], expected);
    }
}

#[tokio::test]
async fn an_interrupt_ends_the_turn_and_keeps_the_changes() {
    let workspace = WorkspaceFixture::new();
    let relayed =
        vec![sse(&[bash("c1", "printf x >> written"), bash("c2", "sleep 60"), completed()])];
    let handoff = handoff("https://backend.invalid", &workspace, false);
    let (host, code) = through(handoff, relayed, async |host, _| {
        workspace.wait_for("written").await;
        host.commands
            .send("{\"command\":\"unheard of\"}\n{\"command\":\"interr".into())
            .await
            .expect("received");
        host.commands.send("upt\"}\n".into()).await.expect("received");
    })
    .await;
    assert!(is_code(code, 130));
    assert_eq!(host.sent(routes::CHANGES).len(), 1);
    assert_eq!(host.events().last().expect("one")["outcome"]["reason"]["reason"], "cancelled");
}

#[tokio::test]
async fn the_end_of_the_pipe_ends_the_session() {
    let workspace = WorkspaceFixture::new();
    let relayed = vec![sse(&[bash("c1", ": >begun; sleep 600"), completed()])];
    let handoff = handoff("https://backend.invalid", &workspace, false);
    let began = Instant::now();
    let (_, code) = through(handoff, relayed, async |_, serving| {
        workspace.wait_for("begun").await;
        serving.abort();
    })
    .await;
    assert!(is_code(code, 1));
    // Neither the command nor the budget ended it.
    assert!(began.elapsed() < Duration::from_secs(50), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_host_that_takes_no_events_ends_the_session() {
    let workspace = WorkspaceFixture::new();
    let mut handoff = handoff("https://backend.invalid", &workspace, false);
    handoff.session_key = Secret::new("another key".into());
    let relayed = vec![sse(&[bash("c1", "sleep 60"), completed()])];
    let (host, code) = through(handoff, relayed, async |_, _| {}).await;
    assert!(is_code(code, 1));
    assert!(host.sent(routes::RESPONSES).is_empty());
}

#[tokio::test]
async fn an_endless_command_of_the_host_ends_the_session() {
    let workspace = WorkspaceFixture::new();
    let handoff = handoff("https://backend.invalid", &workspace, false);
    let relayed = vec![sse(&[bash("c1", "sleep 60"), completed()])];
    let (_, code) = through(handoff, relayed, async |host, _| {
        let piece = "x".repeat(1 << 20);
        while host.commands.send(piece.clone()).await.is_ok() {}
    })
    .await;
    assert!(is_code(code, 1));
}

#[tokio::test]
async fn a_copy_that_breaks_off_is_a_workspace_fault() {
    let workspace = WorkspaceFixture::new();
    let handoff = handoff("https://backend.invalid", &workspace, false);
    let (host, input, output, _serving) = Host::start([], packed()[..700].to_vec());
    let deadline = Instant::now() + Duration::from_secs(60);
    let code = linked(handoff, Vec::new(), input, output, deadline, CancellationToken::new()).await;
    assert!(is_code(code, 1));
    assert_eq!(host.events().last().expect("one")["outcome"]["fault"]["kind"], "workspace");
}

#[tokio::test]
async fn garbage_instead_of_http_ends_the_session() {
    let workspace = WorkspaceFixture::new();
    let handoff = handoff("https://backend.invalid", &workspace, false);
    let (input, output) = (tokio::io::repeat(b'x'), tokio::io::sink());
    let deadline = Instant::now() + Duration::from_secs(60);
    let session = linked(
        handoff,
        Vec::new(),
        Box::new(input),
        Box::new(output),
        deadline,
        CancellationToken::new(),
    );
    let code = timeout(Duration::from_secs(50), session).await.expect("in time");
    assert!(is_code(code, 1));
}

/// A certificate for 127.0.0.1 and a server that shows it, for these protocols.
pub(super) fn certificate(protocols: &[&str]) -> (String, tokio_rustls::TlsAcceptor) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("made");
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .expect("a certificate");
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    (made.cert.pem(), tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config)))
}

#[tokio::test]
async fn a_tunnelled_session_gets_a_fresh_token_after_a_401() {
    let (pem, tls) = certificate(&[]);
    let expired = ScriptedReply::Status(401, "", r#"{"error":{"message":"expired"}}"#.into());
    let script = [asks([bash("c1", "echo x")]), expired, answer("done")];
    let backend = Backend::start_with(script, None, Some(tls)).await;
    let workspace = WorkspaceFixture::new();
    let mut handoff = handoff(&format!("https://{}/v1", backend.authority), &workspace, true);
    handoff.job.backend.ca = Some(pem);
    let (host, code) = through(handoff, vec![], async |host, _| {
        // Wait for the refused second request: a fresh token before that would be used for it.
        while backend.seen().len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let line = Command::Secrets { bearer: Some(Secret::new("fresh-token-1".into())) }.line();
        host.commands
            .send(String::from_utf8(line.to_vec()).expect("text"))
            .await
            .expect("received");
    })
    .await;
    assert!(is_code(code, 0), "{:?}", host.events());
    let signed: Vec<_> =
        backend.seen().iter().map(|seen| seen.headers["authorization"].clone()).collect();
    assert_eq!(
        signed,
        [format!("Bearer {TOKEN}"), format!("Bearer {TOKEN}"), "Bearer fresh-token-1".to_owned()]
    );
    assert!(host.events().iter().any(|event| event["event"] == "unauthorized"));
    assert!(host.sent(routes::RESPONSES).is_empty());
    assert_eq!(host.sent(&backend.authority).len(), 1);
}

#[tokio::test]
async fn a_tunnel_trusts_no_unknown_certificate() {
    let (_, tls) = certificate(&[]);
    let backend = Backend::start_with([answer("done")], None, Some(tls)).await;
    let workspace = WorkspaceFixture::new();
    let handoff = handoff(&format!("https://{}/v1", backend.authority), &workspace, true);
    let (host, code) = through(handoff, vec![], async |_, _| {}).await;
    assert!(is_code(code, 1));
    let outcome = host.events().pop().expect("one");
    assert_eq!(outcome["outcome"]["fault"]["kind"], "backend", "{outcome}");
    assert!(backend.seen().is_empty());
}
