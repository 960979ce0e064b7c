//! Large requests, many connections, busy ports, and the headers of answers.

use tokio::io::AsyncReadExt as _;

use super::*;

#[tokio::test]
async fn a_request_that_is_too_large_is_refused() {
    let mut opened = opened().await;
    let port = opened.port;
    let long = "a".repeat(2 * HEAD_BYTES);
    let many = "a: b\r\n".repeat(HEADERS + 1);
    let requests = [
        format!("GET /{long} HTTP/1.1\r\nhost: localhost:{port}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nhost: localhost:{port}\r\nx: {long}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nhost: localhost:{port}\r\n{many}\r\n"),
    ];
    for request in requests {
        let status = raw(port, request.as_bytes()).await.status;
        // The connection may close while we still write; then there is no answer.
        assert!([414, 431, 0].contains(&status), "{status}");
    }
    // Many cookies of other `localhost` servers are accepted.
    opened.client.cookie = opened.client.cookie.map(|own| format!("z={}; {own}", "b".repeat(9000)));
    let state = parameter(&opened.authorize, "state");
    assert_redirect(&opened.client.get(port, &callback(&state, "c")).await, "/done");
    opened.rig.task.abort();
}

#[tokio::test]
async fn silent_connections_do_not_block_the_browser() {
    let mut opened = opened().await;
    let port = opened.port;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS + 20 {
        silent.push(TcpStream::connect(("127.0.0.1", port)).await.expect("a connection"));
    }
    // The browser is served at once. The oldest silent connections are closed, the newest are not.
    assert_eq!(opened.client.get(port, "/").await.status, 404);
    let mut buffer = [0; 16];
    let closed = tokio::time::timeout(Duration::from_secs(60), silent[0].read(&mut buffer)).await;
    assert_eq!(closed.expect("in time").unwrap_or(0), 0);
    let last = silent.last_mut().expect("one").read(&mut buffer);
    assert!(tokio::time::timeout(Duration::from_millis(50), last).await.is_err());
    opened.rig.task.abort();
}

#[tokio::test]
async fn every_answer_has_the_security_headers() {
    let mut opened = opened().await;
    let (port, state) = (opened.port, parameter(&opened.authorize, "state"));
    let start = opened.start.clone();
    let paths = [start, "/".to_owned(), callback("x", "y"), callback(&state, "canary-code")];
    for path in paths.into_iter().chain(["/done".to_owned()]) {
        let answer = opened.client.get(port, &path).await;
        let header = |name: &str| answer.headers.get(name).map(String::as_str);
        assert_eq!(header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(header("referrer-policy"), Some("no-referrer"));
        assert_eq!(header("x-frame-options"), Some("DENY"));
        assert_eq!(header("connection"), Some("close"));
        let policy = header("content-security-policy").unwrap_or_default();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        let text = format!("{} {}", answer.body, answer.location());
        assert!(!text.contains("canary") && !answer.body.contains(&state), "{text}");
        assert!(!answer.body.contains("<script"));
    }
    assert_eq!(opened.rig.end().await, Ok(SignInMethod::Browser));
}

#[tokio::test]
async fn the_cookie_is_named_after_the_port() {
    let mut rig = Rig::start(BROWSER).await;
    let (_, port) = rig.printed().await;
    let start = rig.started().await;
    let start = start.replace(&format!("http://localhost:{port}"), "");
    let answer = Client::default().get(port, &start).await;
    let cookie = answer.headers.get("set-cookie").expect("a cookie");
    let (pair, rest) = cookie.split_once("; ").expect("attributes");
    assert!(pair.starts_with(&format!("airlock_sign_in_{port}=")), "{pair}");
    assert_eq!(rest, "HttpOnly; SameSite=Lax; Path=/");
    rig.task.abort();
}

#[tokio::test]
async fn a_busy_port_is_reported_and_the_next_is_used() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let busy = taken.local_addr().expect("an address").port();
    let mut rig = Rig::at(PRINTED, &[busy, 0]).await;
    let (printed, port) = rig.printed().await;
    assert_ne!(port, busy);
    let redirect = format!("http://localhost:{port}/auth/callback");
    assert_eq!(parameter(&printed, "redirect_uri"), redirect);
    rig.task.abort();

    let mut rig = Rig::at(PRINTED, &[busy]).await;
    let SignInEvent::PortsBusy { holders } = rig.next_event().await else { panic!("not busy") };
    let program = holders[0].program.clone().expect("this process");
    assert!(program.ends_with(&format!("(pid {})", std::process::id())), "{program}");
    let why = format!("port {busy} is held by {program}");
    assert_eq!(rig.end().await, Err(SignInError::NoMethod(why)));
}

#[tokio::test]
async fn the_ipv6_loopback_is_bound_too() {
    let Ok(other) = std::net::TcpListener::bind("[::1]:0") else { return };
    let port = other.local_addr().expect("an address").port();
    assert!(bind(&[port]).await.is_err());
    drop(other);
    let bound = bind(&[0]).await.unwrap_or_else(|_| panic!("a port"));
    assert!(std::net::TcpListener::bind(("::1", bound.port)).is_err());
}
