//! A backend on `127.0.0.1:0` that speaks HTTP/1.1, with or without TLS, and answers model requests
//! in the order of its script.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use airlock_shared::limits;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

#[derive(Clone)]
pub(crate) enum ScriptedReply {
    /// A stream that ends as it should.
    Events(Vec<Value>),
    /// A stream that breaks off after these.
    Cut(Vec<Value>),
    /// A stream that sends nothing after these.
    Silent(Vec<Value>),
    /// A stream of only comments for longer than a silence may last, and then these.
    Commented(Vec<Value>),
    /// Another answer: status, headers, body.
    Status(u16, &'static str, String),
    /// The connection is closed instead of an answer.
    Close,
}

#[derive(Clone, Debug)]
pub(crate) struct RecordedRequest {
    pub(crate) line: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Value,
}

pub(crate) struct Backend {
    pub(crate) authority: String,
    state: Arc<BackendState>,
}

#[derive(Default)]
struct BackendState {
    script: Mutex<VecDeque<ScriptedReply>>,
    seen: Mutex<Vec<RecordedRequest>>,
    connections: Mutex<usize>,
    models: Option<Value>,
}

impl Backend {
    pub(crate) async fn start(script: impl IntoIterator<Item = ScriptedReply>) -> Self {
        Self::start_with(script, None, None).await
    }

    pub(crate) async fn start_with(
        script: impl IntoIterator<Item = ScriptedReply>,
        models: Option<Value>,
        tls: Option<tokio_rustls::TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let authority = listener.local_addr().expect("an address").to_string();
        let script = Mutex::new(script.into_iter().collect());
        let state = Arc::new(BackendState { script, models, ..BackendState::default() });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A delayed segment would look like silence to a clock that is paused.
                stream.set_nodelay(true).expect("an option");
                *shared.connections.lock().expect("unpoisoned") += 1;
                let (state, tls) = (Arc::clone(&shared), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => serve(tls.accept(stream).await.ok()?, &state).await,
                        None => serve(stream, &state).await,
                    }
                });
            }
        });
        Self { authority, state }
    }

    pub(crate) fn seen(&self) -> Vec<RecordedRequest> {
        self.state.seen.lock().expect("unpoisoned").clone()
    }

    pub(crate) fn connections(&self) -> usize {
        *self.state.connections.lock().expect("unpoisoned")
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    state: &BackendState,
) -> Option<()> {
    let mut held = Vec::new();
    loop {
        let seen = request(&mut stream, &mut held).await?;
        if seen.line.starts_with("GET") {
            let (status, body) = match &state.models {
                Some(models) => (200, models.to_string()),
                None => (404, "{}".to_owned()),
            };
            state.seen.lock().expect("unpoisoned").push(seen);
            stream.write_all(head(status, "", &body).as_bytes()).await.ok()?;
            continue;
        }
        state.seen.lock().expect("unpoisoned").push(seen);
        let reply = state.script.lock().expect("unpoisoned").pop_front();
        let mut comments = 0;
        let (events, end) =
            match reply.unwrap_or(ScriptedReply::Status(400, "", "script over".into())) {
                ScriptedReply::Close => return None,
                ScriptedReply::Status(status, headers, body) => {
                    stream.write_all(head(status, headers, &body).as_bytes()).await.ok()?;
                    continue;
                }
                ScriptedReply::Events(events) => (events, AnswerEnd::Whole),
                ScriptedReply::Cut(events) => (events, AnswerEnd::Cut),
                ScriptedReply::Silent(events) => (events, AnswerEnd::Silent),
                ScriptedReply::Commented(events) => {
                    comments = 3;
                    (events, AnswerEnd::Whole)
                }
            };
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-codex-turn-state: turn-1\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.ok()?;
        for _ in 0..comments {
            tokio::time::sleep(Duration::from_secs(limits::STREAM_IDLE_SECONDS / 2)).await;
            stream.write_all(b"b\r\n: working\n\n\r\n").await.ok()?;
        }
        for event in events {
            let text = format!("data: {event}\n\n");
            let chunk = format!("{:x}\r\n{text}\r\n", text.len());
            stream.write_all(chunk.as_bytes()).await.ok()?;
            stream.flush().await.ok()?;
        }
        match end {
            AnswerEnd::Whole => stream.write_all(b"0\r\n\r\n").await.ok()?,
            AnswerEnd::Cut => return None,
            AnswerEnd::Silent => std::future::pending().await,
        }
    }
}

enum AnswerEnd {
    Whole,
    Cut,
    Silent,
}

fn head(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

async fn request(
    stream: &mut (impl AsyncRead + Unpin),
    held: &mut Vec<u8>,
) -> Option<RecordedRequest> {
    let end = loop {
        if let Some(at) = held.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(held).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8(held[..end].to_vec()).ok()?;
    let mut lines = text.lines();
    let line = lines.next()?.to_owned();
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    while held.len() < end + 4 + length {
        if stream.read_buf(held).await.ok()? == 0 {
            return None;
        }
    }
    let body = serde_json::from_slice(&held[end + 4..end + 4 + length]).unwrap_or(Value::Null);
    held.drain(..end + 4 + length);
    Some(RecordedRequest { line, headers, body })
}

/// The event of a whole item.
pub(crate) fn done(item: Value) -> Value {
    json!({"type": "response.output_item.done", "item": item})
}

pub(crate) fn text(text: &str) -> Value {
    done(
        json!({"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": text}]}),
    )
}

pub(crate) fn call(id: &str, name: &str, arguments: &str) -> Value {
    done(
        json!({"type": "function_call", "id": "fc_1", "call_id": id, "name": name, "arguments": arguments}),
    )
}

/// The end of a good answer with 10 input and 5 output tokens.
pub(crate) fn completed() -> Value {
    json!({"type": "response.completed", "response": {"id": "r", "usage": {"input_tokens": 10, "output_tokens": 5}}})
}

pub(crate) fn answer(content: &str) -> ScriptedReply {
    ScriptedReply::Events(vec![text(content), completed()])
}

pub(crate) fn asks(calls: impl IntoIterator<Item = Value>) -> ScriptedReply {
    ScriptedReply::Events(calls.into_iter().chain([completed()]).collect())
}
