//! A host on the other end of an in-memory pipe: real HTTP/2, and a list of all requests.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use airlock_shared::link as routes;
use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use crate::stdio::{Input, Output};

type HostBody = UnsyncBoxBody<Bytes, Infallible>;

/// What the host answers to a model request.
pub(crate) enum Relayed {
    /// A status and a body of the backend.
    Backend(u16, String),
    /// A refusal of the host itself.
    Host(routes::HostRefusal, &'static str),
}

pub(crate) struct Host {
    pub(crate) commands: mpsc::Sender<String>,
    state: Arc<HostState>,
}

struct HostState {
    /// Path and body of each request. Of a `CONNECT`, the authority.
    requests: Mutex<Vec<(String, Vec<u8>)>>,
    relayed: Mutex<VecDeque<Relayed>>,
    commands: Mutex<Option<mpsc::Receiver<String>>>,
    workspace: Vec<u8>,
}

pub(crate) const KEY: &str = "session-key-0123456789";

impl Host {
    /// A host, and the sandbox's two ends of the pipe.
    pub(crate) fn start(
        relayed: impl IntoIterator<Item = Relayed>,
        workspace: Vec<u8>,
    ) -> (Self, Input, Output, tokio::task::JoinHandle<()>) {
        let (ours, theirs): (DuplexStream, DuplexStream) = tokio::io::duplex(64 << 10);
        let (commands, receiver) = mpsc::channel(4);
        let state = Arc::new(HostState {
            requests: Mutex::default(),
            relayed: Mutex::new(relayed.into_iter().collect()),
            commands: Mutex::new(Some(receiver)),
            workspace,
        });
        let shared = Arc::clone(&state);
        let serving = tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let state = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(serve(&state, request).await) }
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _how = server.serve_connection(TokioIo::new(ours), service).await;
        });
        let (input, output) = tokio::io::split(theirs);
        (Self { commands, state }, Box::new(input), Box::new(output), serving)
    }

    /// The bodies of the requests to a path.
    pub(crate) fn sent(&self, path: &str) -> Vec<Vec<u8>> {
        let requests = self.state.requests.lock().expect("unpoisoned");
        requests.iter().filter(|(to, _)| to == path).map(|(_, body)| body.clone()).collect()
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        let requests = self.state.requests.lock().expect("unpoisoned");
        requests.iter().map(|(to, _)| to.clone()).collect()
    }

    /// The events that the host received.
    pub(crate) fn events(&self) -> Vec<Value> {
        let body = self.sent(routes::EVENTS).concat();
        let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).expect("a JSON line")).collect()
    }
}

async fn serve(state: &HostState, mut request: Request<Incoming>) -> Response<HostBody> {
    if request.headers().get(routes::SESSION_KEY).is_none_or(|key| key != KEY) {
        return refused(routes::HostRefusal::Key, "no");
    }
    if request.method() == Method::CONNECT {
        let authority = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        state.requests.lock().expect("unpoisoned").push((authority.clone(), Vec::new()));
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut ours = TokioIo::new(upgrade.await.ok()?);
            let mut theirs = tokio::net::TcpStream::connect(authority).await.ok()?;
            tokio::io::copy_bidirectional(&mut ours, &mut theirs).await.ok()
        });
        return answer(200, String::new());
    }
    let path = request.uri().path().to_owned();
    if path == routes::COMMANDS {
        let receiver = state.commands.lock().expect("unpoisoned").take().expect("requested once");
        let frames = stream::unfold(receiver, |mut receiver| async move {
            let line = receiver.recv().await?;
            Some((Ok(Frame::data(Bytes::from(line))), receiver))
        });
        return Response::new(StreamBody::new(frames).boxed_unsync());
    }
    let body = request.into_body().collect().await.map(|all| all.to_bytes().to_vec());
    state.requests.lock().expect("unpoisoned").push((path.clone(), body.unwrap_or_default()));
    match path.as_str() {
        routes::WORKSPACE => {
            Response::new(Full::new(Bytes::from(state.workspace.clone())).boxed_unsync())
        }
        routes::RESPONSES => match state.relayed.lock().expect("unpoisoned").pop_front() {
            Some(Relayed::Backend(status, body)) => answer(status, body),
            Some(Relayed::Host(refusal, why)) => refused(refusal, why),
            None => answer(400, "script over".to_owned()),
        },
        routes::MODELS => answer(404, "{}".to_owned()),
        _ => answer(200, String::new()),
    }
}

fn refused(refusal: routes::HostRefusal, why: &str) -> Response<HostBody> {
    let mut answer = answer(refusal.status(), refusal.body(why).to_string());
    let code = http::HeaderValue::from_static(refusal.code());
    answer.headers_mut().insert(routes::REFUSAL, code);
    answer
}

fn answer(status: u16, body: String) -> Response<HostBody> {
    let mut answer = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    *answer.status_mut() = http::StatusCode::from_u16(status).expect("a status");
    answer
}
