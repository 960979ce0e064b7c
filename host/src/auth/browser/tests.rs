//! Real requests to the callback of a sign-in.

mod bounds; // large requests, many connections, busy ports, headers of answers

use http::Method;

use super::super::issuer::script::{Reply, response};
use super::super::sign_in::rig::{
    Answer, BROWSER, Client, PRINTED, Rig, TOKEN, is_free, parameter, raw, tokens,
};
use super::super::sign_in::{SignInError, SignInEvent, SignInMethod};
use super::*;

/// A sign-in whose browser was started and has fetched the start page.
struct Opened {
    rig: Rig,
    client: Client,
    port: u16,
    start: String,
    /// Where the start page redirects to, and the printed address.
    authorize: String,
    printed: String,
}

async fn opened() -> Opened {
    let mut rig = Rig::start(BROWSER).await;
    let (printed, port) = rig.printed().await;
    let start = rig.started().await;
    let start = start.strip_prefix(&format!("http://localhost:{port}")).expect("ours").to_owned();
    let mut client = Client::default();
    let answer = client.get(port, &start).await;
    assert_eq!(answer.status, 302);
    let authorize = answer.location().to_owned();
    Opened { rig, client, port, start, authorize, printed }
}

fn callback(state: &str, code: &str) -> String {
    format!("{}?code={code}&scope=openid&state={state}", authorize::CALLBACK)
}

fn assert_redirect(answer: &Answer, place: &str) {
    assert_eq!((answer.status, answer.location()), (303, place));
    assert_eq!(answer.body, "");
}

#[tokio::test]
async fn a_browser_signs_in() {
    let mut opened = opened().await;
    assert!(opened.client.cookie.is_some());
    assert_ne!(parameter(&opened.authorize, "state"), parameter(&opened.printed, "state"));
    let redirect = format!("http://localhost:{}/auth/callback", opened.port);
    assert_eq!(parameter(&opened.authorize, "redirect_uri"), redirect);
    // Neither state nor challenge is in the address that is in the browser's arguments.
    for name in ["state", "code_challenge"] {
        assert!(!opened.start.contains(&parameter(&opened.authorize, name)));
    }
    let state = parameter(&opened.authorize, "state");
    let port = opened.port;
    assert_redirect(&opened.client.get(port, &callback(&state, "canary-code")).await, "/done");
    let page = opened.client.get(port, "/done").await;
    assert!(page.status == 200 && page.body.contains("Signed in"), "{}", page.body);
    let script = Arc::clone(&opened.rig.script);
    assert_eq!(opened.rig.end().await, Ok(SignInMethod::Browser));
    let requests = script.requests(TOKEN);
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].field("code").as_deref(), Some("canary-code"));
    assert_eq!(requests[0].field("redirect_uri"), Some(redirect));
    let verifier = oauth2::PkceCodeVerifier::new(requests[0].field("code_verifier").expect("one"));
    let challenge = oauth2::PkceCodeChallenge::from_code_verifier_sha256(&verifier);
    assert_eq!(challenge.as_str(), parameter(&opened.authorize, "code_challenge"));
    assert!(is_free(port).await);
}

#[tokio::test]
async fn the_printed_address_needs_its_state_and_no_cookie() {
    let mut rig = Rig::start(PRINTED).await;
    let (printed, port) = rig.printed().await;
    let state = parameter(&printed, "state");
    assert_redirect(&Client::default().get(port, &callback(&state, "c")).await, "/done");
    assert_eq!(Client::default().get(port, "/done").await.status, 200);
    assert_eq!(rig.end().await, Ok(SignInMethod::Browser));
}

#[tokio::test]
async fn both_authorizations_can_finish() {
    let mut opened = opened().await;
    let state = parameter(&opened.printed, "state");
    let script = Arc::clone(&opened.rig.script);
    assert_redirect(&opened.client.get(opened.port, &callback(&state, "c")).await, "/done");
    opened.client.get(opened.port, "/done").await;
    assert_eq!(opened.rig.end().await, Ok(SignInMethod::Browser));
    let verifier = script.requests(TOKEN)[0].field("code_verifier").expect("one");
    let verifier = oauth2::PkceCodeVerifier::new(verifier);
    let challenge = oauth2::PkceCodeChallenge::from_code_verifier_sha256(&verifier);
    assert_eq!(challenge.as_str(), parameter(&opened.printed, "code_challenge"));
}

#[tokio::test]
async fn a_callback_with_another_state_is_rejected() {
    let mut opened = opened().await;
    let (port, state) = (opened.port, parameter(&opened.authorize, "state"));
    let wrong = [
        callback("another", "stolen"),
        callback(&state[1..], "stolen"),
        callback(&format!("{state}&state={state}"), "stolen"),
        "/auth/callback?code=stolen".to_owned(),
        "/auth/callback?error=access_denied".to_owned(),
        "/auth/callback".to_owned(),
        // The right state without a valid code.
        format!("/auth/callback?state={state}"),
        format!("/auth/callback?state={state}&code="),
        format!("/auth/callback?state={state}&code=a&code=b"),
        format!("/auth/callback?state={state}&code=a%20b"),
        callback(&state, &"a".repeat(5000)),
    ];
    for path in wrong {
        let answer = opened.client.get(port, &path).await;
        assert_eq!(answer.status, 400, "{path}");
        assert!(!answer.body.contains("stolen") && !answer.body.contains(&state));
    }
    assert!(matches!(opened.rig.next_event().await, SignInEvent::Rejected { .. }));
    assert!(opened.rig.script.requests(TOKEN).is_empty());
    assert_redirect(&opened.client.get(port, &callback(&state, "c")).await, "/done");
    opened.client.get(port, "/done").await;
    assert_eq!(opened.rig.end().await, Ok(SignInMethod::Browser));
}

#[tokio::test]
async fn a_callback_from_another_browser_is_rejected() {
    let mut opened = opened().await;
    let (port, state) = (opened.port, parameter(&opened.authorize, "state"));
    let mut cookie = opened.client.cookie.clone().expect("a cookie");
    cookie.pop();
    for cookie in [None, Some(cookie), Some("airlock_sign_in=x".to_owned())] {
        let answer = Client { cookie }.get(port, &callback(&state, "stolen")).await;
        assert_eq!(answer.status, 400);
    }
    let why = "the callback came from another browser than the one that was opened";
    assert_eq!(opened.rig.next_event().await, SignInEvent::Rejected { why });
    assert!(opened.rig.script.requests(TOKEN).is_empty());
    assert_redirect(&opened.client.get(port, &callback(&state, "c")).await, "/done");
    opened.client.get(port, "/done").await;
    assert_eq!(opened.rig.end().await, Ok(SignInMethod::Browser));
}

#[tokio::test]
async fn a_second_tab_of_the_same_browser_gets_the_same_redirect() {
    let mut opened = opened().await;
    let before = opened.client.cookie.clone();
    let again = opened.client.get(opened.port, &opened.start).await;
    assert_eq!((again.status, again.location()), (302, opened.authorize.as_str()));
    assert_eq!(opened.client.cookie, before);
    let state = parameter(&opened.authorize, "state");
    assert_redirect(&opened.client.get(opened.port, &callback(&state, "c")).await, "/done");
    // After the sign-in the start page is gone.
    assert_eq!(opened.client.get(opened.port, &opened.start).await.status, 410);
    opened.client.get(opened.port, "/done").await;
    assert_eq!(opened.rig.end().await, Ok(SignInMethod::Browser));
}

#[tokio::test]
async fn a_second_browser_gets_no_start_page() {
    let mut opened = opened().await;
    let answer = Client::default().get(opened.port, &opened.start).await;
    assert_eq!((answer.status, answer.location()), (410, ""));
    assert!(!answer.headers.contains_key("set-cookie"));
    let why = "a second browser opened the start page";
    assert_eq!(opened.rig.next_event().await, SignInEvent::Rejected { why });
    opened.rig.task.abort();
}

#[tokio::test]
async fn a_connection_of_another_user_gets_no_start_page() {
    let issuer = super::super::issuer::IssuerUrl::default();
    let begin = || Attempt::begin(&issuer, "x", 1455).expect("an attempt");
    let mut callback_handler = CallbackHandler::new(1455, begin(), begin());
    let address = callback_handler.start_address();
    let path = address.strip_prefix("http://localhost:1455").expect("ours");
    let request = Request::get(path).header("host", "localhost:1455").body(()).expect("a request");
    assert!(matches!(callback_handler.handle(&request, true), CallbackAction::Reject(_)));
    // The person's own browser still gets it.
    let CallbackAction::Answer(answer) = callback_handler.handle(&request, false) else {
        panic!("no answer")
    };
    assert_eq!(answer.status(), 302);
}

#[tokio::test]
async fn only_the_start_page_looks_up_the_user_of_a_connection() {
    let issuer = super::super::issuer::IssuerUrl::default();
    let begin = || Attempt::begin(&issuer, "x", 1455).expect("an attempt");
    let callback_handler = CallbackHandler::new(1455, begin(), begin());
    let address = callback_handler.start_address();
    let start = address.strip_prefix("http://localhost:1455").expect("ours");
    let is_start = |method: Method, host: &str, path: &str| {
        let request = Request::builder().method(method).uri(path).header("host", host);
        callback_handler.is_start(&request.body(()).expect("a request"))
    };
    assert!(is_start(Method::GET, "localhost:1455", start));
    assert!(!is_start(Method::POST, "localhost:1455", start));
    assert!(!is_start(Method::GET, "attacker.example:1455", start));
    for other in ["/start/", "/start/wrong", "/", &format!("{start}x")] {
        assert!(!is_start(Method::GET, "localhost:1455", other), "{other}");
    }
}

#[tokio::test]
async fn a_replayed_callback_exchanges_nothing() {
    let mut opened = opened().await;
    let (port, state) = (opened.port, parameter(&opened.authorize, "state"));
    let Reply::Raw(answer) = tokens() else { panic!("no answer") };
    let go = Arc::new(Notify::new());
    opened.rig.script.on(TOKEN, [Reply::Held(Arc::clone(&go), answer)]);
    let path = callback(&state, "c");
    let cookie = opened.client.cookie.clone();
    let (first, second, third) = (path.clone(), path.clone(), callback(&state, "another"));
    let one = |path: String| {
        let mut client = Client { cookie: cookie.clone() };
        tokio::spawn(async move { client.get(port, &path).await })
    };
    let waiting = [one(first), one(second), one(third)];
    while opened.rig.script.requests(TOKEN).is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    go.notify_one();
    for answer in waiting {
        assert_redirect(&answer.await.expect("an answer"), "/done");
    }
    assert_redirect(&opened.client.get(port, &path).await, "/done");
    let script = Arc::clone(&opened.rig.script);
    opened.client.get(port, "/done").await;
    assert_eq!(opened.rig.end().await, Ok(SignInMethod::Browser));
    assert_eq!(script.requests(TOKEN).len(), 1);
}

#[tokio::test]
async fn a_refusal_of_the_issuer_ends_the_browser_method() {
    let mut opened = opened().await;
    let state = parameter(&opened.authorize, "state");
    let path = format!(
        "/auth/callback?error=access_denied&error_description=%3Cb%3Eno%3C%2Fb%3E&state={state}"
    );
    assert_redirect(&opened.client.get(opened.port, &path).await, "/declined");
    let page = opened.client.get(opened.port, "/declined").await;
    assert!(page.status == 200 && !page.body.contains("<b>no"), "{}", page.body);
    let why = "the sign-in was declined: access_denied <b>no</b>".to_owned();
    assert_eq!(opened.rig.next_event().await, SignInEvent::Denied { why: why.clone() });
    assert_eq!(opened.rig.end().await, Err(SignInError::NoMethod(why)));
}

#[tokio::test]
async fn a_code_that_the_issuer_refuses_ends_the_browser_method() {
    let mut opened = opened().await;
    let state = parameter(&opened.authorize, "state");
    let body = r#"{"error":"invalid_grant","error_description":"canary-code was used"}"#;
    opened.rig.script.on(TOKEN, [response("400 Bad Request", "", body)]);
    let path = callback(&state, "canary-code");
    assert_redirect(&opened.client.get(opened.port, &path).await, "/failed");
    assert_eq!(opened.client.get(opened.port, "/failed").await.status, 200);
    let event = opened.rig.next_event().await;
    let why = "it refused (400): invalid_grant: [removed] was used".to_owned();
    assert_eq!(event, SignInEvent::Denied { why });
    assert!(matches!(opened.rig.end().await, Err(SignInError::Issuer(_))));
}

#[tokio::test]
async fn a_request_for_another_host_gets_nothing() {
    let opened = opened().await;
    let port = opened.port;
    let hosts = [
        format!("host: attacker.example:{port}\r\n"),
        format!("host: localhost.attacker.example:{port}\r\n"),
        format!("host: localhost:{}\r\n", port ^ 1),
        "host: localhost\r\n".to_owned(),
        format!("host: localhost:{port}\r\nhost: localhost:{port}\r\n"),
        String::new(),
    ];
    for host in hosts {
        for path in ["/done", "/", opened.start.as_str()] {
            let answer = raw(port, format!("GET {path} HTTP/1.1\r\n{host}\r\n").as_bytes()).await;
            assert_eq!((answer.status, answer.location()), (400, ""), "{host}{path}");
        }
    }
    let request = format!("GET / HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n");
    assert_eq!(raw(port, request.as_bytes()).await.status, 404);
    opened.rig.task.abort();
}

#[tokio::test]
async fn other_paths_give_404_and_the_sign_in_goes_on() {
    let mut opened = opened().await;
    let port = opened.port;
    let paths = ["/", "/cancel", "/success", "/done", "/declined", "/failed", "/start", "/start/"];
    for path in paths.iter().chain(&["/start/wrong", "/auth/callback/", "/favicon.ico", "/%2e"]) {
        let answer = opened.client.get(port, path).await;
        assert_eq!(answer.status, 404, "{path}");
    }
    for method in ["POST", "HEAD", "DELETE", "OPTIONS"] {
        let state = parameter(&opened.authorize, "state");
        let path = callback(&state, "c");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost:{port}\r\ncontent-length: 0\r\n\r\n"
        );
        assert_eq!(raw(port, request.as_bytes()).await.status, 404, "{method}");
    }
    for junk in ["", "\r\n\r\n", "GET\r\n\r\n", "\u{16}\u{3}\u{1}\u{2}hello"] {
        let answer = tokio::time::timeout(Duration::from_secs(1), raw(port, junk.as_bytes())).await;
        assert!(!answer.is_ok_and(|answer| (200..400).contains(&answer.status)), "{junk}");
    }
    let state = parameter(&opened.authorize, "state");
    assert_redirect(&opened.client.get(port, &callback(&state, "c")).await, "/done");
    opened.client.get(port, "/done").await;
    assert_eq!(opened.rig.end().await, Ok(SignInMethod::Browser));
}
