//! One request and its retries. There are no tools and no threads of tools, so time can be paused.

use super::*;

fn client(connector: Connector, report: Report) -> Client {
    let scrub = Scrub::default();
    let credentials = Credentials::new(secrets(), scrub.clone());
    let model_route = ModelRoute::Own { connector, credentials, renewable: false };
    let job: Job = serde_json::from_value(job("", &WorkspaceFixture::new())).expect("a job");
    Client::new(model_route, job.backend, "s-1".into(), report, scrub)
}

/// The result of one request, and its events.
async fn request(backend: &Backend) -> (Result<usize, GiveUp>, Vec<Value>) {
    let base = Base::parse(&format!("http://{}/v1", backend.authority)).expect("a base");
    let (report, lines) = Report::new(Scrub::default());
    let collecting = tokio::spawn(collect(lines));
    let mut client = client(Connector::new(base, Network::Own, None).expect("no TLS"), report);
    let prompt = Prompt { instructions: "be good", tools: &[], input: &[] };
    let answer = client.answer(&Model::default(), prompt).await.map(|answer| answer.items.len());
    drop(client);
    (answer, collecting.await.expect("no panic"))
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_keeps_failing_is_a_fault() {
    let backend = Backend::start(vec![ScriptedReply::Status(503, "", "busy".into()); 9]).await;
    let (answer, events) = request(&backend).await;
    let fault =
        Fault::new(FaultKind::Backend, "the backend failed 6 times, the last time with: 503: busy");
    assert_eq!(answer, Err(GiveUp::Fault(fault)));
    assert_eq!(backend.seen().len(), 6);
    let tries: Vec<_> = events.iter().map(|event| event["attempt"].as_u64()).collect();
    assert_eq!(tries, [1, 2, 3, 4, 5].map(Some));
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_ends() {
    let silent = ScriptedReply::Silent(vec![json!({"type": "response.created", "response": {}})]);
    let backend = Backend::start([silent, answer("done")]).await;
    let began = Instant::now();
    let (answer, events) = request(&backend).await;
    assert_eq!(answer, Ok(1));
    assert_eq!(began.elapsed().as_secs(), limits::STREAM_IDLE_SECONDS);
    assert_eq!(events[0]["why"], "nothing came for 300 s");
}

/// A backend sends comments while it works. The turn's seconds bound that.
#[tokio::test(start_paused = true)]
async fn a_comment_ends_a_silence() {
    let commented = ScriptedReply::Commented(vec![text("done"), completed()]);
    let backend = Backend::start([commented]).await;
    let began = Instant::now();
    let (answer, events) = request(&backend).await;
    assert_eq!((answer, events), (Ok(1), Vec::new()));
    assert_eq!(began.elapsed().as_secs(), limits::STREAM_IDLE_SECONDS * 3 / 2);
    assert_eq!(backend.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_wait_the_backend_asks_for_is_kept() {
    let slow =
        ScriptedReply::Status(429, "retry-after: 7\r\n", r#"{"error":{"message":"slow"}}"#.into());
    let failed = ScriptedReply::Events(vec![
        json!({"type": "response.failed", "response": {"error": {"code": "rate_limit_exceeded", "message": "Please try again in 11s."}}}),
    ]);
    let backend = Backend::start([slow, failed, answer("done")]).await;
    let began = Instant::now();
    assert_eq!(request(&backend).await.0, Ok(1));
    assert_eq!(began.elapsed().as_secs(), 18);
}

#[tokio::test]
async fn http_2_is_used_with_a_backend_that_supports_it() {
    let (pem, tls) = linked::certificate(&["h2"]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let authority = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("one connection");
        let stream = tls.accept(stream).await.expect("TLS");
        let service = hyper::service::service_fn(async |request: http::Request<_>| {
            let _: &hyper::body::Incoming = request.body();
            let line = format!("{} {:?}", request.uri(), request.headers().get("authorization"));
            let body =
                [text(&line), completed()].map(|event| format!("data: {event}\n\n")).concat();
            Ok::<_, std::convert::Infallible>(http::Response::new(body))
        });
        let server = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
        server.serve_connection(hyper_util::rt::TokioIo::new(stream), service).await
    });
    let base = Base::parse(&format!("https://{authority}/v1")).expect("a base");
    let connector = Connector::new(base, Network::Own, Some(&pem)).expect("a certificate");
    let mut client = client(connector, Report::new(Scrub::default()).0);
    for _ in 0..2 {
        let prompt = Prompt { instructions: "be good", tools: &[], input: &[] };
        let Ok(answer) = client.answer(&Model::default(), prompt).await else {
            panic!("an answer")
        };
        let text = airlock_shared::item::assistant_text(&answer.items[0]).expect("text");
        assert_eq!(
            text,
            format!("https://{authority}/v1/responses Some(\"Bearer [secret removed]\")")
        );
    }
}
