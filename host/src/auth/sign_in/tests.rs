//! Several methods at once: the first to finish wins, and the others are closed.

use serde_json::json;

use super::super::issuer::IssuerUrl;
use super::super::issuer::script::{self, Reply, response};
use super::rig::*;
use super::*;

fn granted() -> Reply {
    let body = json!({"authorization_code": "ac-device-1", "code_verifier": "canary-verifier"});
    script::json("200 OK", &body)
}

/// Waits for the events of the methods, in any order. Gives the printed address and the port.
async fn all_open(rig: &mut Rig) -> (String, u16) {
    let mut printed = None;
    for _ in 0..2 {
        match rig.next_event().await {
            SignInEvent::Browser { authorize, port, opened: true } => {
                printed = Some((authorize, port))
            }
            SignInEvent::Device { code, .. } => assert_eq!(code, "KXQF-7M2P"),
            other => panic!("{other:?}"),
        }
    }
    printed.expect("an address")
}

#[tokio::test]
async fn the_device_wins_and_the_port_is_free_again() {
    let mut rig = Rig::start(ALL).await;
    let (_, port) = all_open(&mut rig).await;
    let pasted = rig.pasted.clone();
    rig.script.on(DEVICE_TOKEN, [granted()]);
    assert_eq!(rig.end().await, Ok(SignInMethod::Device));
    assert!(std::net::TcpListener::bind(("127.0.0.1", port)).is_ok());
    assert!(pasted.is_closed());
}

#[tokio::test]
async fn the_paste_wins_and_polling_ends() {
    let mut rig = Rig::start(ALL).await;
    let (printed, port) = all_open(&mut rig).await;
    rig.paste(&format!("?code=canary-pasted&state={}", parameter(&printed, "state"))).await;
    let script = Arc::clone(&rig.script);
    assert_eq!(rig.end().await, Ok(SignInMethod::Paste));
    assert!(std::net::TcpListener::bind(("127.0.0.1", port)).is_ok());
    let polls = script.requests(DEVICE_TOKEN).len();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(script.requests(DEVICE_TOKEN).len(), polls);
}

#[tokio::test]
async fn the_browser_wins_while_the_others_wait() {
    let mut rig = Rig::start(ALL).await;
    let (printed, port) = all_open(&mut rig).await;
    let path = format!("/auth/callback?code=canary-code&state={}", parameter(&printed, "state"));
    let mut client = Client::default();
    assert_eq!(client.get(port, &path).await.location(), "/done");
    assert_eq!(client.get(port, "/done").await.status, 200);
    assert_eq!(rig.end().await, Ok(SignInMethod::Browser));
    assert!(std::net::TcpListener::bind(("127.0.0.1", port)).is_ok());
}

#[tokio::test]
async fn a_method_that_fails_leaves_the_others_open() {
    let mut rig = Rig::start(ALL).await;
    let (printed, port) = all_open(&mut rig).await;
    let state = parameter(&printed, "state");
    let path = format!("/auth/callback?error=access_denied&state={state}");
    assert_eq!(Client::default().get(port, &path).await.location(), "/declined");
    assert!(matches!(rig.next_event().await, SignInEvent::Denied { .. }));
    rig.script.on(DEVICE_TOKEN, [script::json("400 Bad Request", &json!({"error": "gone"}))]);
    let why = "it refused (400): gone".to_owned();
    assert_eq!(rig.next_event().await, SignInEvent::NoDevice { why });
    rig.paste(&format!("canary-pasted#{state}")).await;
    assert_eq!(rig.end().await, Ok(SignInMethod::Paste));
}

#[tokio::test]
async fn dropping_a_sign_in_closes_all_methods() {
    let mut rig = Rig::start(ALL).await;
    let (_, port) = all_open(&mut rig).await;
    rig.task.abort();
    assert!(is_free(port).await);
    assert!(rig.pasted.is_closed());
}

#[tokio::test]
async fn a_code_that_comes_twice_is_exchanged_once() {
    let mut rig = Rig::start(SignInMethods { device: false, ..ALL }).await;
    let (printed, port) = rig.printed().await;
    let Reply::Raw(answer) = tokens() else { panic!("no answer") };
    let go = Arc::new(tokio::sync::Notify::new());
    rig.script.on(TOKEN, [Reply::Held(Arc::clone(&go), answer)]);
    let state = parameter(&printed, "state");
    rig.paste(&format!("canary-code#{state}")).await;
    while rig.script.requests(TOKEN).is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let path = format!("/auth/callback?code=canary-code&state={state}");
    assert_eq!(Client::default().get(port, &path).await.location(), "/failed");
    go.notify_one();
    let script = Arc::clone(&rig.script);
    assert_eq!(rig.end().await, Ok(SignInMethod::Paste));
    assert_eq!(script.requests(TOKEN).len(), 1);
}

#[tokio::test]
async fn without_a_port_the_address_is_pasted() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let busy = taken.local_addr().expect("an address").port();
    let mut rig = Rig::at(SignInMethods { device: false, ..ALL }, &[busy]).await;
    assert!(matches!(rig.next_event().await, SignInEvent::PortsBusy { .. }));
    let SignInEvent::Address { authorize } = rig.next_event().await else { panic!("no address") };
    let redirect = parameter(&authorize, "redirect_uri");
    assert_eq!(redirect, "http://localhost:1455/auth/callback");
    rig.paste(&format!("{redirect}?code=canary-c&state={}", parameter(&authorize, "state"))).await;
    let script = Arc::clone(&rig.script);
    assert_eq!(rig.end().await, Ok(SignInMethod::Paste));
    assert_eq!(script.requests(TOKEN)[0].field("redirect_uri"), Some(redirect));
}

#[tokio::test]
async fn a_browser_that_does_not_start_is_reported() {
    let (_, issuer) = script::Script::start().await;
    let (_pasted, lines) = mpsc::channel(1);
    let (sender, mut events) = mpsc::unbounded_channel();
    let task = tokio::spawn(async move {
        let machine = Machine { ports: &[0], start: Arc::new(|_| false) };
        let mut emit = |event| drop(sender.send(event));
        race(&issuer, BROWSER, "x", lines, &mut emit, &machine).await.map(|(method, _)| method)
    });
    let event = events.recv().await;
    assert!(matches!(event, Some(SignInEvent::Browser { opened: false, .. })), "{event:?}");
    task.abort();
}

#[tokio::test]
async fn no_method_at_all_is_an_error_at_once() {
    let none = SignInMethods { browser: false, open: false, device: false, paste: false };
    let why = "no method of signing in is open".to_owned();
    assert_eq!(Rig::start(none).await.end().await, Err(SignInError::NoMethod(why)));
}

#[tokio::test(start_paused = true)]
async fn a_sign_in_ends_after_15_minutes() {
    let issuer = Issuer::open(IssuerUrl::default(), None).expect("an issuer");
    let (_pasted, lines) = mpsc::channel(1);
    let before = tokio::time::Instant::now();
    let got = sign_in(&issuer, PASTE, "x", lines, &mut |_| {}).await.err();
    assert_eq!(got, Some(SignInError::TimedOut));
    assert_eq!(before.elapsed().as_secs(), 900);
}

#[tokio::test]
async fn an_exchange_that_was_not_sent_is_tried_again() {
    // A port that is bound, with no listener yet.
    let port = tokio::net::TcpSocket::new_v4().expect("a socket");
    port.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let address = port.local_addr().expect("an address");
    let url = IssuerUrl::parse(&format!("http://{address}")).expect("a url");
    let issuer = Issuer::open(url, None).expect("an issuer");
    let code_exchange = CodeExchange::new(&issuer);
    let secret = |text: &str| Secret::new(text.to_owned());
    let (code, verifier) = (secret("canary-code"), secret("canary-verifier"));
    let exchanging =
        code_exchange.exchange(&code, &verifier, "http://localhost:1455/auth/callback");
    let late = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let listener = port.listen(1).expect("the port");
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let Reply::Raw(answer) = tokens() else { panic!("no answer") };
        tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 4096]).await.expect("a request");
        tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.expect("sent");
    };
    let (got, ()) = tokio::join!(exchanging, late);
    assert!(got.is_ok());
}

#[tokio::test]
async fn an_exchange_that_may_have_succeeded_is_not_tried_again() {
    let (script, issuer) = script::Script::start().await;
    script.on(TOKEN, [Reply::Raw(String::new()), tokens()]);
    let code_exchange = CodeExchange::new(&issuer);
    let secret = |text: &str| Secret::new(text.to_owned());
    let redirect = "http://localhost:1455/auth/callback";
    let got = code_exchange.exchange(&secret("canary-code"), &secret("canary-v"), redirect).await;
    assert!(matches!(got, Err(IssuerError::Lost(_))));
    assert_eq!(script.requests(TOKEN).len(), 1);
}

#[tokio::test]
async fn polling_goes_on_until_the_code_is_typed() {
    let mut rig = Rig::start(DEVICE).await;
    let challenge = "cf-mitigated: challenge\r\n";
    rig.script.on(
        DEVICE_TOKEN,
        [
            response("403 Forbidden", "", ""),
            response("404 Not Found", "", ""),
            response("503 Busy", "", ""),
            response("403 Forbidden", challenge, ""),
            Reply::Raw(String::new()),
            granted(),
        ],
    );
    let SignInEvent::Device { page, code, expires_in } = rig.next_event().await else {
        panic!("no code")
    };
    assert!(page.ends_with("/codex/device"), "{page}");
    assert_eq!((code.as_str(), expires_in), ("KXQF-7M2P", 900));
    let script = Arc::clone(&rig.script);
    assert_eq!(rig.end().await, Ok(SignInMethod::Device));
    assert_eq!(script.requests(DEVICE_TOKEN).len(), 6);
    let request = &script.requests(TOKEN)[0];
    assert_eq!(request.field("code").as_deref(), Some("ac-device-1"));
    assert_eq!(request.field("code_verifier").as_deref(), Some("canary-verifier"));
    let redirect = request.field("redirect_uri").expect("one");
    assert!(redirect.ends_with("/deviceauth/callback"), "{redirect}");
}

#[tokio::test]
async fn an_issuer_without_device_codes_is_reported() {
    let (script, issuer) = script::Script::start().await;
    let events = Mutex::new(Vec::new());
    let emit = |event| events.lock().expect("a lock").push(event);
    let code_exchange = CodeExchange::new(&issuer);
    let got = device::wait(&issuer, &code_exchange, &emit).await.err();
    let why = "127.0.0.1 has no sign-in by device code".to_owned();
    assert_eq!(got, Some(SignInError::NoMethod(why.clone())));
    assert_eq!(*events.lock().expect("a lock"), [SignInEvent::NoDevice { why }]);
    script.on(USER_CODE, [response("503 Busy", "", "")]);
    let got = device::wait(&issuer, &code_exchange, &emit).await.err();
    assert_eq!(got, Some(SignInError::Issuer(IssuerError::Busy { status: 503 })));
}

#[tokio::test]
async fn after_a_wrong_paste_another_is_read() {
    let mut rig = Rig::start(PASTE).await;
    let SignInEvent::Address { authorize } = rig.next_event().await else { panic!("no address") };
    let state = parameter(&authorize, "state");
    let refusal = json!({"error": "invalid_grant", "error_description": "unknown code"});
    rig.script.on(TOKEN, [script::json("400 Bad Request", &refusal), tokens()]);
    rig.paste("hello").await;
    let why = "it is too short for a code".to_owned();
    assert_eq!(rig.next_event().await, SignInEvent::NotPasted { why });
    rig.paste("a-code-of-another-time").await;
    let why = "it refused (400): invalid_grant: unknown code".to_owned();
    assert_eq!(rig.next_event().await, SignInEvent::NotPasted { why });
    rig.paste("a-code-of-another-time").await;
    let why = "it refused (400): this code was already used".to_owned();
    assert_eq!(rig.next_event().await, SignInEvent::NotPasted { why });
    rig.paste(&format!("http://localhost:1455/auth/callback?code=canary-c&state={state}")).await;
    assert_eq!(rig.end().await, Ok(SignInMethod::Paste));
}

#[tokio::test]
async fn the_state_of_the_started_browser_cannot_be_pasted() {
    let mut rig = Rig::start(SignInMethods { device: false, ..ALL }).await;
    let (_, port) = rig.printed().await;
    let start = rig.started().await.replace(&format!("http://localhost:{port}"), "");
    let authorize = Client::default().get(port, &start).await.location().to_owned();
    rig.paste(&format!("?code=canary-code&state={}", parameter(&authorize, "state"))).await;
    assert!(matches!(rig.next_event().await, SignInEvent::NotPasted { .. }));
    assert!(rig.script.requests(TOKEN).is_empty());
    rig.task.abort();
}

#[tokio::test]
async fn the_end_of_the_input_ends_a_sign_in_without_another_method() {
    let Rig { pasted, task, .. } = Rig::start(PASTE).await;
    drop(pasted);
    let why = "nothing was pasted that could be used".to_owned();
    assert_eq!(task.await.expect("no panic"), Err(SignInError::NoMethod(why)));
}
