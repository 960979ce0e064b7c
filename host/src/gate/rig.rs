//! Both ends of a gate for tests: a scripted backend on 127.0.0.1, a gate on a pipe, and an honest
//! HTTP/2 client in place of the sandbox.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use airlock_shared::handoff::Secrets;
use airlock_shared::link;
use axum::body::Body;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::auth::{Account, AccountKind, AuthError, HandedOver, Signed};

pub(super) const KEY: &str = "run-key-0123456789";
pub(super) const TOKEN: &str = "canary-token-0123456789";
pub(super) const NEXT_TOKEN: &str = "canary-renewed-0123456789";

/// One request that the backend got.
#[derive(Clone, Debug)]
pub(super) struct BackendRequest {
    pub(super) line: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Value,
}

impl BackendRequest {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Answers with raw bytes, in order, each in the given pieces.
#[derive(Default)]
pub(super) struct Script {
    replies: Mutex<VecDeque<Vec<String>>>,
    pub(super) asked: Mutex<Vec<BackendRequest>>,
    pub(super) connections: AtomicUsize,
}

pub(super) fn whole(status: &str, headers: &str, body: &str) -> Vec<String> {
    vec![format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())]
}

/// A stream with each event in a separate piece.
pub(super) fn events(events: &[Value]) -> Vec<String> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-codex-turn-state: state-1\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut pieces = vec![head.to_owned()];
    for event in events {
        let data = format!("event: x\ndata: {event}\n\n");
        pieces.push(format!("{:x}\r\n{data}\r\n", data.len()));
    }
    pieces.push("0\r\n\r\n".to_owned());
    pieces
}

pub(super) fn item_done(item: &Value) -> Value {
    json!({"type": "response.output_item.done", "item": item})
}

pub(super) fn completed() -> Value {
    json!({"type": "response.completed", "response": {"id": "resp_1", "usage": {"input_tokens": 10, "output_tokens": 5}}})
}

pub(super) fn says(text: &str) -> Vec<String> {
    events(&[item_done(&airlock_shared::item::message("assistant", text)), completed()])
}

impl Script {
    pub(super) async fn start(replies: Vec<Vec<String>>) -> (Arc<Self>, Base) {
        let script = Arc::new(Self { replies: Mutex::new(replies.into()), ..Self::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let served = Arc::clone(&script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                served.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(Arc::clone(&served).serve(stream));
            }
        });
        (script, Base::parse(&base).expect("a base"))
    }

    /// The same over TLS, for `localhost`; the third is the certificate to trust.
    pub(super) async fn start_tls(replies: Vec<Vec<String>>) -> (Arc<Self>, Base, String) {
        let made =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der())
            .expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a server");
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let script = Arc::new(Self { replies: Mutex::new(replies.into()), ..Self::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base =
            format!("https://localhost:{}/v1", listener.local_addr().expect("an address").port());
        let served = Arc::clone(&script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (served, acceptor) = (Arc::clone(&served), acceptor.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        served.serve(stream).await;
                    }
                });
            }
        });
        (script, Base::parse(&base).expect("a base"), made.cert.pem())
    }

    async fn serve(self: Arc<Self>, mut stream: impl AsyncRead + AsyncWrite + Unpin + Send) {
        let mut buffer = Vec::new();
        loop {
            let head = loop {
                if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                    break end + 4;
                }
                if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                    return;
                }
            };
            let text = String::from_utf8_lossy(&buffer[..head]).into_owned();
            let mut lines = text.trim_end().lines();
            let line = lines.next().unwrap_or_default().to_owned();
            let headers: Vec<(String, String)> = lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect();
            let length = headers.iter().find(|(name, _)| name == "content-length");
            let length: usize = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
            while buffer.len() < head + length {
                if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            let body = serde_json::from_slice(&buffer[head..head + length]).unwrap_or_default();
            buffer.drain(..head + length);
            self.asked.lock().expect("a lock").push(BackendRequest { line, headers, body });
            let reply = self.replies.lock().expect("a lock").pop_front();
            let reply = reply.unwrap_or_else(|| whole("500 Unscripted", "", "{}"));
            for piece in reply {
                if stream.write_all(piece.as_bytes()).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        }
    }

    pub(super) fn asked(&self) -> Vec<BackendRequest> {
        self.asked.lock().expect("a lock").clone()
    }
}

/// Has two tokens: the second is used after the first was refused.
pub(super) struct TwoTokens {
    pub(super) base: Base,
    pub(super) generation: AtomicUsize,
}

impl Signer for TwoTokens {
    fn account(&self) -> Account {
        Account {
            name: "two".into(),
            kind: AccountKind::ChatGpt,
            plan: None,
            base: self.base.clone(),
        }
    }

    fn sign(&self) -> BoxFuture<'_, Result<Signed, AuthError>> {
        let generation = self.generation.load(Ordering::Relaxed);
        let token = [TOKEN, NEXT_TOKEN][generation.min(1)];
        let mut headers = HeaderMap::new();
        headers.insert(
            "authorization",
            HeaderValue::from_str(&format!("Bearer {token}")).expect("a header"),
        );
        headers.insert("chatgpt-account-id", HeaderValue::from_static("acct"));
        Box::pin(async move { Ok(Signed { headers, generation: generation as u64 }) })
    }

    fn renew(&self, refused: u64) -> BoxFuture<'_, Result<bool, AuthError>> {
        let renewed = refused == 0;
        self.generation.store(1, Ordering::Relaxed);
        Box::pin(async move { Ok(renewed) })
    }

    fn hand_over(&self) -> BoxFuture<'_, Result<HandedOver, AuthError>> {
        Box::pin(async { Ok(HandedOver { secrets: Secrets::default(), generation: 0 }) })
    }

    fn secrets_to_scrub(&self) -> Vec<Secret> {
        [TOKEN, NEXT_TOKEN].map(|token| Secret::new(token.to_owned())).into()
    }
}

/// Reads any changes to their end.
#[derive(Default)]
pub(super) struct AnyChanges {
    pub(super) taken: AtomicUsize,
}

impl WorkspaceTransfer for AnyChanges {
    fn stream_in(&self) -> BoxStream<'static, io::Result<Bytes>> {
        stream::iter([Ok(Bytes::from_static(b"a tar")), Ok(Bytes::from_static(b" stream"))]).boxed()
    }

    fn take_changes(
        &self,
        mut body: BoxStream<'static, io::Result<Bytes>>,
    ) -> BoxFuture<'_, Result<(), ChangesError>> {
        Box::pin(async move {
            while let Some(piece) = body.next().await {
                let piece = piece.map_err(|error| {
                    ChangesError::Unkept(Fault::new(
                        airlock_shared::outcome::FaultKind::Workspace,
                        format!("the changes: {error}"),
                    ))
                })?;
                self.taken.fetch_add(piece.len(), Ordering::Relaxed);
            }
            Ok(())
        })
    }
}

pub(super) fn config(base: &Base, upstream: Upstream) -> GateConfig {
    let backend = json!({"base_url": base.to_string(), "session": "session-1"});
    GateConfig {
        session: "run-1".into(),
        session_key: Secret::new(KEY.to_owned()),
        model: Model { slug: "gpt-5.5".into(), effort: Some("low".into()), ..Model::default() },
        backend: serde_json::from_value(backend).expect("a backend"),
        base: base.clone(),
        budget: Budget::default(),
        credentials: CredentialsMode::Relay,
        upstream,
        recorder: None,
        catalogue: json!({"models": []}),
        changes_bytes: 1 << 20,
    }
}

pub(super) fn live(base: &Base) -> Upstream {
    let signer = TwoTokens { base: base.clone(), generation: AtomicUsize::new(0) };
    Upstream::Live { client: client(base, None).expect("a client"), signer: Arc::new(signer) }
}

/// A gate on one end of a pipe.
pub(super) struct Served {
    pub(super) gate: Arc<Gate>,
    pub(super) tree: Arc<AnyChanges>,
    pub(super) events: mpsc::Receiver<FromSandbox>,
    pub(super) commands: mpsc::Sender<airlock_shared::command::Command>,
    pub(super) stop: CancellationToken,
    pub(super) end: JoinHandle<Result<(), Fault>>,
}

pub(super) fn serve_on(config: GateConfig) -> (Served, DuplexStream) {
    let (near, far) = tokio::io::duplex(64 << 10);
    let gate = Gate::new(config).expect("a gate");
    let tree = Arc::new(AnyChanges::default());
    let (to_run, events) = mpsc::channel(8);
    let (commands, from_run) = mpsc::channel(8);
    let stop = CancellationToken::new();
    let end = tokio::spawn(serve(
        Arc::clone(&gate),
        far,
        Arc::clone(&tree) as Arc<dyn WorkspaceTransfer>,
        to_run,
        from_run,
        stop.clone(),
    ));
    (Served { gate, tree, events, commands, stop, end }, near)
}

/// A served gate and an honest client on the other end.
pub(super) struct Rig {
    pub(super) served: Served,
    pub(super) client: SendRequest<Body>,
}

impl Rig {
    pub(super) async fn new(config: GateConfig) -> Self {
        let (served, near) = serve_on(config);
        let (client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(near))
                .await
                .expect("HTTP/2");
        tokio::spawn(connection);
        Self { served, client }
    }

    /// With a backend that gives these answers.
    pub(super) async fn scripted(replies: Vec<Vec<String>>) -> (Self, Arc<Script>) {
        let (script, base) = Script::start(replies).await;
        (Self::new(config(&base, live(&base))).await, script)
    }

    pub(super) async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Response<Incoming> {
        self.client.send_request(request(method, path, body)).await.expect("an answer")
    }

    /// A model request with these items.
    pub(super) async fn ask(&mut self, input: Value) -> Response<Incoming> {
        let body = json!({"instructions": "i", "input": input, "tools": []});
        self.send(Method::POST, link::RESPONSES, Body::from(body.to_string())).await
    }

    /// The same, read to its end: status and text.
    pub(super) async fn ask_whole(&mut self, input: Value) -> (u16, String) {
        text(self.ask(input).await).await
    }
}

pub(super) fn request(method: Method, path: &str, body: Body) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(format!("http://{}{path}", link::AUTHORITY))
        .header(link::SESSION_KEY, KEY)
        .body(body)
        .expect("a request")
}

pub(super) async fn text(response: Response<Incoming>) -> (u16, String) {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a whole answer").to_bytes();
    (status, String::from_utf8(body.to_vec()).expect("text"))
}

/// The code of a refusal of the host.
pub(super) fn code(text: &str) -> String {
    let value: Value = serde_json::from_str(text).expect("JSON");
    assert_eq!(value["error"]["type"], "airlock", "{text}");
    value["error"]["code"].as_str().expect("a code").to_owned()
}

pub(super) fn user(text: &str) -> Value {
    json!([airlock_shared::item::message("user", text)])
}

pub(super) fn record_to(path: &Path, config: GateConfig) -> GateConfig {
    let recorder = Recorder::create(path, None, &config.model).expect("a recorder");
    GateConfig { recorder: Some(recorder), ..config }
}
