//! Requests to a real server on loopback.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::script::{self, Reply, Script, response};
use super::*;

const TOKEN: &str = "/oauth/token";
const CANARY: &str = "rt_c4nary-Refresh-0123";

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

fn all_three() -> Value {
    json!({
        "access_token": "at-1", "refresh_token": "rt-1", "id_token": "it-1",
        "expires_in": 864_000, "token_type": "Bearer", "scope": "openid",
    })
}

fn revealed(secret: Option<&Secret>) -> Option<&str> {
    secret.map(Secret::reveal)
}

async fn refresh(reply: Reply) -> Result<Tokens, IssuerError> {
    let (script, issuer) = Script::start().await;
    script.on(TOKEN, [reply]);
    issuer.refresh(&secret(CANARY)).await
}

#[tokio::test]
async fn a_code_is_exchanged_as_a_form() {
    let (script, issuer) = Script::start().await;
    let head = "content-type: application/json\r\ndate: Sat, 21 Nov 2026 09:14:00 GMT\r\n";
    script.on(TOKEN, [response("200 OK", head, &all_three().to_string())]);
    let verifier = "v".repeat(86);
    let redirect = "http://localhost:1455/auth/callback";
    let tokens = issuer.exchange(&secret("ac/1+x"), &secret(&verifier), redirect).await;
    let tokens = tokens.expect("tokens");
    assert_eq!(revealed(tokens.access.as_ref()), Some("at-1"));
    assert_eq!(revealed(tokens.refresh.as_ref()), Some("rt-1"));
    assert_eq!(revealed(tokens.id.as_ref()), Some("it-1"));
    assert_eq!((tokens.expires_in, tokens.date), (Some(864_000), Some(1_795_252_440)));
    let request = script.requests(TOKEN).remove(0);
    let fields = ["grant_type", "code", "redirect_uri", "client_id", "code_verifier"];
    let sent: Vec<_> = fields.iter().filter_map(|name| request.field(name)).collect();
    assert_eq!(sent, ["authorization_code", "ac/1+x", redirect, CLIENT_ID, &verifier]);
    let head = request.head.to_ascii_lowercase();
    assert!(head.contains("content-type: application/x-www-form-urlencoded"), "{head}");
    assert!(head.contains("originator: codex_cli_rs"), "{head}");
    assert!(!head.contains("authorization:") && !head.contains("cookie:"), "{head}");
}

#[tokio::test]
async fn an_exchange_without_all_three_tokens_is_an_error() {
    for missing in ["access_token", "refresh_token", "id_token"] {
        let (script, issuer) = Script::start().await;
        let mut body = all_three();
        body[missing] = Value::Null;
        script.on(TOKEN, [script::json("200 OK", &body)]);
        let got = issuer.exchange(&secret("c"), &secret("v"), "http://localhost:1/x").await;
        assert!(matches!(got, Err(IssuerError::Malformed(_))), "{missing}");
    }
}

#[tokio::test]
async fn a_refresh_is_json_and_may_leave_parts_out() {
    let (script, issuer) = Script::start().await;
    script.on(TOKEN, [script::json("200 OK", &json!({"access_token": "at-2"}))]);
    let tokens = issuer.refresh(&secret(CANARY)).await.expect("tokens");
    assert_eq!(revealed(tokens.access.as_ref()), Some("at-2"));
    assert!(tokens.refresh.is_none() && tokens.id.is_none() && tokens.expires_in.is_none());
    let request = script.requests(TOKEN).remove(0);
    let body: Value = serde_json::from_str(&request.body).expect("json");
    let expected =
        json!({"client_id": CLIENT_ID, "grant_type": "refresh_token", "refresh_token": CANARY});
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_revocation_names_the_kind_of_token() {
    let (script, issuer) = Script::start().await;
    script.on("/oauth/revoke", [response("200 OK", "", "")]);
    issuer.revoke(&secret("rt"), true).await.expect("revoked");
    issuer.revoke(&secret("at"), false).await.expect("revoked");
    let bodies = script.requests("/oauth/revoke").into_iter();
    let bodies: Vec<Value> =
        bodies.map(|request| serde_json::from_str(&request.body).expect("json")).collect();
    let expected = [
        json!({"token": "rt", "token_type_hint": "refresh_token", "client_id": CLIENT_ID}),
        json!({"token": "at", "token_type_hint": "access_token"}),
    ];
    assert_eq!(bodies, expected);
}

#[tokio::test]
async fn a_silent_issuer_causes_a_timeout() {
    let (script, mut issuer) = Script::start().await;
    issuer.timeout = Duration::from_millis(150);
    script.on(TOKEN, [Reply::Silence]);
    let error = issuer.refresh(&secret(CANARY)).await.err();
    assert!(matches!(error, Some(IssuerError::Lost(_))), "{error:?}");
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    let error = refresh(Reply::Endless).await.err();
    assert_eq!(error, Some(IssuerError::Malformed("is too long")));
}

#[tokio::test]
async fn after_a_broken_answer_the_request_may_have_been_carried_out() {
    for cut in ["", "HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\n{\"access_token\":"] {
        let error = refresh(Reply::Raw(cut.to_owned())).await.err();
        let expected = "the connection broke before the whole answer came".to_owned();
        assert_eq!(error, Some(IssuerError::Lost(expected)), "{cut}");
    }
}

#[tokio::test]
async fn a_refused_connection_means_that_nothing_was_sent() {
    // A port that is bound, without a listener.
    let port = tokio::net::TcpSocket::new_v4().expect("a socket");
    port.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let url = format!("http://{}", port.local_addr().expect("an address"));
    let issuer = Issuer::open(IssuerUrl::parse(&url).expect("a url"), None).expect("an issuer");
    let error = issuer.refresh(&secret(CANARY)).await.err();
    let expected = "the connection was refused".to_owned();
    assert_eq!(error, Some(IssuerError::Unreachable(expected)));
}

#[tokio::test]
async fn an_unknown_host_name_is_reported() {
    // `.invalid` never exists (RFC 6761).
    let url = IssuerUrl::parse("https://issuer.invalid").expect("a url");
    let reach =
        Reach { origin: url.origin(), is_loopback: true, ca: None, connect: CONNECT_TIMEOUT };
    let client = client(reach).expect("a client");
    let issuer = Issuer { url, client, timeout: REQUEST_TIMEOUT };
    let error = issuer.refresh(&secret(CANARY)).await.err().expect("an error");
    assert!(error.to_string().starts_with("its name is not found"), "{error}");
    assert!(matches!(error, IssuerError::Unreachable(_)), "{error:?}");
}

#[tokio::test]
async fn a_proxy_that_needs_a_password_is_reported() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let proxy = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let _read = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 4096]).await;
        let answer = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
        let _sent = stream.write_all(answer).await;
    });
    let mut issuer = Issuer::open(IssuerUrl::default(), None).expect("an issuer");
    let proxy = reqwest::Proxy::all(proxy).expect("a proxy");
    issuer.client = reqwest::Client::builder().proxy(proxy).build().expect("a client");
    let error = issuer.refresh(&secret(CANARY)).await.err();
    assert_eq!(error, Some(IssuerError::Intercepted(answer::proxy_password())));
}

/// A TLS server for `localhost` whose certificate is valid between the two years.
async fn over_tls(from: i32, until: i32, trusted: bool) -> String {
    let mut params =
        rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let key = rcgen::KeyPair::generate().expect("a key");
    let made = params.self_signed(&key).expect("a certificate");
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.der().clone()], private)
        .expect("a server");
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(tls));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.write_all(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").await;
                let _ = stream.shutdown().await;
            }
        }
    });
    let url = IssuerUrl::parse(&format!("https://localhost:{port}")).expect("a url");
    let issuer = Issuer::open(url, trusted.then(|| made.pem()).as_deref()).expect("an issuer");
    issuer.refresh(&secret(CANARY)).await.err().expect("an error").to_string()
}

#[tokio::test]
async fn each_certificate_error_has_its_message() {
    assert_eq!(over_tls(2020, 4000, true).await, "it is busy or broken (it answered 503)");
    let untrusted = over_tls(2020, 4000, false).await;
    assert!(untrusted.contains("--ca FILE"), "{untrusted}");
    let early = over_tls(3000, 4000, true).await;
    assert!(early.starts_with("its certificate is not valid before 1 Jan 3000"), "{early}");
    assert!(early.contains("this machine's clock says"), "{early}");
    let late = over_tls(1990, 2000, true).await;
    assert!(late.starts_with("its certificate was valid until 1 Jan 2000"), "{late}");
    assert!(late.contains("this machine's clock"), "{late}");
}

#[tokio::test]
async fn a_user_code_is_letters_and_digits() {
    let path = "/api/accounts/deviceauth/usercode";
    let answer = |code: &str, interval: Value| json!({"device_auth_id": "id-1", "user_code": code, "interval": interval});
    // The answer, and the code and the interval in milliseconds if it is accepted.
    let cases = [
        (answer("KXQF-7M2P", json!("5")), Some(("KXQF-7M2P", 5_000))),
        (answer("A", json!(7)), Some(("A", 7_000))),
        (answer("A", json!("0")), Some(("A", 200))),
        (answer("A", json!("999999")), Some(("A", 60_000))),
        (answer("A", json!("soon")), Some(("A", 5_000))),
        (json!({"device_auth_id": "id", "usercode": "B"}), Some(("B", 5_000))),
        (answer("A\u{1b}[2J", json!("5")), None),
        (answer("A B", json!("5")), None),
        (answer("", json!("5")), None),
        (answer(&"A".repeat(33), json!("5")), None),
        (json!({"user_code": "A"}), None),
        (json!([]), None),
    ];
    for (body, expected) in cases {
        let (script, issuer) = Script::start().await;
        script.on(path, [script::json("200 OK", &body)]);
        let code = issuer.device_code().await.ok();
        let got = code.as_ref().map(|code| (code.user_code.as_str(), code.interval.as_millis()));
        assert_eq!(got, expected, "{body}");
        if let Some(code) = code {
            assert_eq!(code.page, format!("{}/codex/device", issuer.url));
        }
    }
    let (_, issuer) = Script::start().await;
    let error = issuer.device_code().await.err();
    assert!(matches!(error, Some(IssuerError::Refused { status: 404, .. })), "{error:?}");
}

#[tokio::test]
async fn a_poll_is_pending_granted_or_an_error() {
    let (script, issuer) = Script::start().await;
    let challenge = "cf-mitigated: challenge\r\n";
    let granted = json!({
        "authorization_code": "ac-1", "code_challenge": "cc", "code_verifier": "cv-1",
    });
    script.on(
        "/api/accounts/deviceauth/token",
        [
            response("403 Forbidden", "", ""),
            response("404 Not Found", "content-type: text/html\r\n", "<html>"),
            response("403 Forbidden", challenge, ""),
            response("429 Slow", "", ""),
            script::json(
                "400 Bad Request",
                &json!({"error": "id canary-Device-0123456 is unknown"}),
            ),
            script::json("200 OK", &granted),
        ],
    );
    let code = DeviceCode {
        id: secret("canary-Device-0123456"),
        user_code: "A".to_owned(),
        interval: SHORT,
        page: String::new(),
    };
    assert!(matches!(issuer.device_poll(&code).await, Ok(None)));
    assert!(matches!(issuer.device_poll(&code).await, Ok(None)));
    assert!(matches!(issuer.device_poll(&code).await, Err(IssuerError::Intercepted(_))));
    assert!(matches!(issuer.device_poll(&code).await, Err(IssuerError::Busy { status: 429 })));
    let error = issuer.device_poll(&code).await.err();
    let message = "id [removed] is unknown".to_owned();
    assert_eq!(error, Some(IssuerError::Refused { status: 400, message }));
    let granted = issuer.device_poll(&code).await.ok().flatten().expect("a grant");
    assert!(granted.code.matches(b"ac-1") && granted.verifier.matches(b"cv-1"));
}

const SHORT: Duration = Duration::from_millis(10);
