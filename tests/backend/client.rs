//! A request, and what came back, byte for byte until the connection ended.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use airlock_tests::backend::Backend;
use airlock_tests::rig::PATIENCE;
use serde_json::{Value, json};

/// How long nothing has to come to be called silence.
const MOMENT: Duration = Duration::from_millis(400);

/// What came, and how the connection ended.
#[derive(Debug)]
pub(crate) struct Came {
    pub(crate) bytes: Vec<u8>,
    pub(crate) end: End,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The answer was whole.
    Whole,
    Closed,
    Reset,
    Silent,
}

impl Came {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub(crate) fn status(&self) -> u16 {
        self.text().split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// The body of a chunked answer.
    pub(crate) fn body(&self) -> Vec<u8> {
        let at = self.bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let mut rest = at.map_or(&[][..], |at| &self.bytes[at + 4..]);
        let mut body = Vec::new();
        while let Some(at) = rest.windows(2).position(|window| window == b"\r\n") {
            let size = String::from_utf8_lossy(&rest[..at]).into_owned();
            let size = usize::from_str_radix(&size, 16).unwrap_or(0);
            rest = &rest[at + 2..];
            if size == 0 || rest.len() < size + 2 {
                break;
            }
            body.extend_from_slice(&rest[..size]);
            rest = &rest[size + 2..];
        }
        body
    }

    /// The events, by the decoder the product uses.
    pub(crate) fn events(&self) -> Vec<Value> {
        let mut decoder = airlock_shared::sse::Decoder::default();
        let events = decoder.feed(&self.body()).expect("no event is too large");
        events.iter().filter_map(|event| serde_json::from_str(event).ok()).collect()
    }
}

/// A body the backend takes.
pub(crate) fn good(input: Value) -> Value {
    json!({"model": "gpt-5.5", "instructions": "x", "input": input, "tools": [], "store": false, "stream": true, "prompt_cache_key": "s"})
}

pub(crate) fn user(text: &str) -> Value {
    airlock_shared::item::message("user", text)
}

/// Posts a body as a client of ours would.
pub(crate) fn post(backend: &Backend, body: &Value) -> Came {
    post_with(backend, body, "sk-1")
}

pub(crate) fn post_with(backend: &Backend, body: &Value, token: &str) -> Came {
    send(backend, &posted(body, token))
}

pub(crate) fn posted(body: &Value, token: &str) -> String {
    let body = body.to_string();
    let length = body.len();
    format!(
        "POST /backend-api/codex/responses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         originator: codex_cli_rs\r\nversion: 1\r\nuser-agent: t\r\nsession-id: s\r\nthread-id: s\r\n\
         x-client-request-id: s\r\naccept: text/event-stream\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
}

pub(crate) fn send(backend: &Backend, request: &str) -> Came {
    send_until(backend, request, |_| false)
}

/// What comes is waited for, until it is enough: then whether more comes is looked at for a moment.
pub(crate) fn send_until(backend: &Backend, request: &str, enough: impl Fn(&Came) -> bool) -> Came {
    let mut socket = TcpStream::connect(("127.0.0.1", backend.port())).expect("it listens");
    socket.write_all(request.as_bytes()).expect("it reads");
    let mut came = Came { bytes: Vec::new(), end: End::Silent };
    let mut piece = [0; 1 << 16];
    loop {
        let patience = if enough(&came) { MOMENT } else { PATIENCE };
        socket.set_read_timeout(Some(patience)).expect("a socket takes its options");
        match socket.read(&mut piece) {
            Ok(0) => came.end = End::Closed,
            Ok(read) => {
                came.bytes.extend_from_slice(&piece[..read]);
                if !whole(&came.bytes) {
                    continue;
                }
                came.end = End::Whole;
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => came.end = End::Reset,
            Err(_) => {}
        }
        return came;
    }
}

fn whole(bytes: &[u8]) -> bool {
    let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&bytes[..at]).to_ascii_lowercase();
    match head.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next()) {
        Some(length) => length.parse().is_ok_and(|length: usize| bytes.len() >= at + 4 + length),
        None => bytes.ends_with(b"\r\n0\r\n\r\n"),
    }
}
