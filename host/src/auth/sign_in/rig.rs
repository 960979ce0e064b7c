//! A running sign-in and a scripted browser, for the tests of the methods.

use std::collections::HashMap;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::super::issuer::script::{self, Reply, Script};
use super::*;

pub(in crate::auth) const TOKEN: &str = "/oauth/token";
pub(in crate::auth) const USER_CODE: &str = "/api/accounts/deviceauth/usercode";
pub(in crate::auth) const DEVICE_TOKEN: &str = "/api/accounts/deviceauth/token";

pub(in crate::auth) const BROWSER: SignInMethods =
    SignInMethods { browser: true, open: true, device: false, paste: false };
pub(in crate::auth) const PRINTED: SignInMethods =
    SignInMethods { browser: true, open: false, device: false, paste: false };
pub(in crate::auth) const DEVICE: SignInMethods =
    SignInMethods { browser: false, open: false, device: true, paste: false };
pub(in crate::auth) const PASTE: SignInMethods =
    SignInMethods { browser: false, open: false, device: false, paste: true };
pub(in crate::auth) const ALL: SignInMethods =
    SignInMethods { browser: true, open: true, device: true, paste: true };

const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// One running sign-in.
pub(in crate::auth) struct Rig {
    pub(in crate::auth) script: Arc<Script>,
    pub(in crate::auth) pasted: mpsc::Sender<Secret>,
    pub(in crate::auth) task: JoinHandle<Result<(SignInMethod, String), SignInError>>,
    events: mpsc::UnboundedReceiver<SignInEvent>,
    started: mpsc::UnboundedReceiver<String>,
}

pub(in crate::auth) fn tokens() -> Reply {
    script::json(
        "200 OK",
        &json!({
            "access_token": "canary-access", "refresh_token": "canary-refresh",
            "id_token": "canary-id", "expires_in": 864_000,
        }),
    )
}

impl Rig {
    pub(in crate::auth) async fn start(methods: SignInMethods) -> Self {
        Self::at(methods, &[0]).await
    }

    pub(in crate::auth) async fn at(methods: SignInMethods, ports: &[u16]) -> Self {
        let (script, issuer) = Script::start().await;
        script.on(TOKEN, [tokens()]);
        script.on(
            USER_CODE,
            [script::json(
                "200 OK",
                &json!({"device_auth_id": "id-1", "user_code": "KXQF-7M2P", "interval": "0"}),
            )],
        );
        script.on(DEVICE_TOKEN, [script::response("403 Forbidden", "", "")]);
        let (pasted, lines) = mpsc::channel(4);
        let (emit, events) = mpsc::unbounded_channel();
        let (start, started) = mpsc::unbounded_channel();
        let ports = ports.to_vec();
        let task = tokio::spawn(async move {
            let start = move |address: &str| start.send(address.to_owned()).is_ok();
            let machine = Machine { ports: &ports, start: Arc::new(start) };
            let mut emit = |event| drop(emit.send(event));
            let (method, tokens) =
                race(&issuer, methods, "codex_cli_rs", lines, &mut emit, &machine).await?;
            let access = tokens.access.as_ref().map(Secret::reveal).unwrap_or_default();
            Ok((method, access.to_owned()))
        });
        Self { script, pasted, task, events, started }
    }

    pub(in crate::auth) async fn next_event(&mut self) -> SignInEvent {
        let event = tokio::time::timeout(TEST_TIMEOUT, self.events.recv()).await;
        event.expect("in time").expect("an event")
    }

    /// The address that is printed, and the port.
    pub(in crate::auth) async fn printed(&mut self) -> (String, u16) {
        match self.next_event().await {
            SignInEvent::Browser { authorize, port, .. } => (authorize, port),
            other => panic!("{other:?}"),
        }
    }

    /// The address that the browser was started with.
    pub(in crate::auth) async fn started(&mut self) -> String {
        let started = tokio::time::timeout(TEST_TIMEOUT, self.started.recv()).await;
        started.expect("in time").expect("a browser")
    }

    pub(in crate::auth) async fn paste(&self, line: &str) {
        self.pasted.send(Secret::new(line.to_owned())).await.expect("a reader");
    }

    pub(in crate::auth) async fn end(self) -> Result<SignInMethod, SignInError> {
        let ended = tokio::time::timeout(TEST_TIMEOUT, self.task)
            .await
            .expect("in time")
            .expect("no panic");
        ended.map(|(method, access)| {
            assert_eq!(access, "canary-access");
            method
        })
    }
}

/// A parameter of an address.
pub(in crate::auth) fn parameter(address: &str, name: &str) -> String {
    let url = oauth2::url::Url::parse(address).expect("an address");
    let mut pairs = url.query_pairs();
    let found = pairs.find(|(known, _)| known == name);
    found.unwrap_or_else(|| panic!("no {name} in it")).1.into_owned()
}

/// A browser that keeps its cookie.
#[derive(Default)]
pub(in crate::auth) struct Client {
    pub(in crate::auth) cookie: Option<String>,
}

pub(in crate::auth) struct Answer {
    pub(in crate::auth) status: u16,
    pub(in crate::auth) headers: HashMap<String, String>,
    pub(in crate::auth) body: String,
}

impl Answer {
    pub(in crate::auth) fn location(&self) -> &str {
        self.headers.get("location").map(String::as_str).unwrap_or_default()
    }
}

impl Client {
    pub(in crate::auth) async fn get(&mut self, port: u16, path: &str) -> Answer {
        let cookie = self.cookie.as_ref().map(|cookie| format!("cookie: x=y; {cookie}\r\n"));
        let cookie = cookie.unwrap_or_default();
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost:{port}\r\n{cookie}\r\n");
        let answer = raw(port, head.as_bytes()).await;
        if let Some(set) = answer.headers.get("set-cookie") {
            self.cookie = set.split(';').next().map(str::to_owned);
        }
        answer
    }
}

/// The answer of a server to some bytes; status 0 if it sends none.
pub(in crate::auth) async fn raw(port: u16, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
    // The server may close before it has read everything.
    let _written = stream.write_all(request).await;
    let mut read = Vec::new();
    let _read =
        tokio::time::timeout(TEST_TIMEOUT, stream.read_to_end(&mut read)).await.expect("in time");
    let text = String::from_utf8_lossy(&read).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let headers = lines.filter_map(|line| line.split_once(": "));
    Answer {
        status: status.unwrap_or(0),
        headers: headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect(),
        body: body.to_owned(),
    }
}

/// Waits until the port is free; false if it stays in use.
pub(in crate::auth) async fn is_free(port: u16) -> bool {
    for _ in 0..100 {
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}
