//! Serving: which step a request gets, and how it is put on the wire.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::State;
use super::fault::Fault;
use super::lint::fingerprint;
use super::script::{Item, Reply, Step, Wire};
use super::stream::{self, Answer};
use crate::wire::Service;
use crate::wire::http::{self, Buffer, Connection};
use crate::wire::plain::Plain;
use crate::wire::record::Recorded;

type Shared = Arc<Mutex<State>>;

/// What answers on each connection.
#[derive(Clone)]
pub(super) struct Answering(pub(super) Shared);

impl Service for Answering {
    async fn serve(self, connection: impl Connection) -> io::Result<()> {
        answered(connection, &self.0).await
    }
}

/// What becomes of a connection after an answer.
enum Next {
    KeepOpen,
    Close,
    Reset,
}

async fn answered(mut connection: impl Connection, state: &Shared) -> io::Result<()> {
    let mut buffer = Buffer::default();
    while let Some(request) = http::read(&mut connection, &mut buffer).await? {
        match answer(&mut connection, state, request).await? {
            Next::KeepOpen => {}
            Next::Close => break,
            Next::Reset => return connection.tcp().set_zero_linger(),
        }
    }
    connection.shutdown().await
}

fn lock(state: &Shared) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is decided about a request under the lock, before a byte is sent.
enum Decision {
    Plain(Plain),
    Break(Fault),
    Stream { reply: Reply, answer: Answer, fault: Option<Fault> },
}

async fn answer(
    connection: &mut impl Connection,
    state: &Shared,
    request: Recorded,
) -> io::Result<Next> {
    let (decision, delay_ms, number) = {
        let mut state = lock(state);
        let (decision, delay_ms) = state.decide(&request);
        let status = match &decision {
            Decision::Plain(plain) => plain.status,
            Decision::Break(_) => 0,
            Decision::Stream { .. } => 200,
        };
        state.requests.push(Recorded { status, ..request });
        (decision, delay_ms, state.requests.len() - 1)
    };
    if delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
    }
    match decision {
        Decision::Plain(plain) => {
            http::plain(connection, &plain).await?;
            Ok(Next::KeepOpen)
        }
        Decision::Break(Fault::Reset) => Ok(Next::Reset),
        Decision::Break(Fault::Silence) => {
            http::gone(connection).await;
            Ok(Next::Close)
        }
        Decision::Break(_) => Ok(Next::Close),
        Decision::Stream { reply, answer, fault } => {
            stream_out(connection, state, number, &reply, answer, fault).await
        }
    }
}

impl State {
    fn decide(&mut self, request: &Recorded) -> (Decision, u64) {
        let plain = |plain: Plain| (Decision::Plain(plain), 0);
        let upgrade = request.header("upgrade").is_some();
        let path = request.path();
        let known = (request.method == "POST"
            && (path.ends_with("/responses") || path.ends_with("/responses/compact")))
            || (request.method == "GET"
                && (path.ends_with("/models") || is_usage(path) || upgrade));
        if !known {
            self.note(format!("a route that is none: {} {path}", request.method));
            return plain(Plain::detail("Not Found"));
        }
        if upgrade {
            return plain(Plain::error(426, "invalid_request_error", "", "Upgrade Required"));
        }
        let bearer = request.bearer().unwrap_or_default();
        let named = self.tokens.is_empty() || self.tokens.contains(bearer);
        let taken = named && self.taken.as_ref().is_none_or(|taken| (taken.0)(bearer));
        if bearer.is_empty() || !taken || self.refused.contains(bearer) {
            return plain(Fault::Unauthorized.plain("").unwrap_or_else(|| Plain::detail("401")));
        }
        if is_usage(path) {
            if self.usage.is_null() {
                return plain(Plain::json(404, &json!({"detail": "Not Found"})));
            }
            return plain(Plain::json(200, &self.usage));
        }
        if request.method == "GET" {
            if !request.target.contains("client_version=") {
                self.note("models were asked for without client_version".to_owned());
            }
            if self.catalogue.is_null() {
                return (Decision::Break(Fault::Silence), 0);
            }
            let mut answer = Plain::json(200, &self.catalogue);
            answer.headers.push(("etag".to_owned(), "\"scripted\"".to_owned()));
            return plain(answer);
        }
        if path.ends_with("/compact") {
            return plain(compacted(request));
        }
        if let Some(refused) = self.ledger.check(request, &self.catalogue) {
            return plain(refused);
        }
        self.next_step(request)
    }

    fn note(&mut self, complaint: String) {
        if self.ledger.ours {
            self.ledger.complaints.push(complaint);
        }
    }

    fn next_step(&mut self, request: &Recorded) -> (Decision, u64) {
        let Some(first) = self.steps.front_mut() else {
            self.note("a request after the end of the script".to_owned());
            return (Decision::Plain(Plain::detail("the script has ended")), 0);
        };
        let step: Step = first.clone();
        first.times = first.times.saturating_sub(1);
        if first.times == 0 {
            self.steps.pop_front();
        }
        let mut reply = match &step.made {
            Some(made) => {
                let reply = (made.0)(request);
                Reply { end_turn: step.reply.end_turn.or(reply.end_turn), ..reply }
            }
            None => step.reply,
        };
        let delay_ms = reply.delay_ms;
        if let Some(fault) = &step.fault {
            if *fault == Fault::Unauthorized {
                self.refused.extend(request.bearer().map(str::to_owned));
            }
            if let Some(plain) = fault.plain(&request.headers_as_text()) {
                return (Decision::Plain(plain), delay_ms);
            }
            if matches!(fault, Fault::Reset | Fault::Close | Fault::Silence) {
                return (Decision::Break(fault.clone()), delay_ms);
            }
            if reply.items.is_empty() {
                let text = "an answer that goes wrong on its way, long enough for several events";
                reply.items.push(Item::Text(text.to_owned()));
            }
        }
        let model = request.json().get("model").and_then(Value::as_str).unwrap_or("").to_owned();
        let answer = stream::answer(&reply, &model, request.body.len(), &mut self.serial);
        if let Some((_, turn_state)) =
            reply.headers.iter().find(|(name, _)| name == airlock_shared::request::TURN_STATE)
            && self.ledger.turn_state.is_none()
        {
            self.ledger.turn_state = Some(turn_state.clone());
        }
        (Decision::Stream { reply, answer, fault: step.fault }, delay_ms)
    }

    /// An event went out: what it says has been said.
    fn sent(&mut self, event: &Value, items: &[Value]) {
        match event.get("type").and_then(Value::as_str) {
            Some("response.output_item.done") => {
                let item = event.get("item").unwrap_or(&Value::Null);
                if let Some(call) = airlock_shared::item::call(item) {
                    self.ledger.calls.insert(call.call_id);
                }
                if let Some(encrypted) = item.get("encrypted_content").and_then(Value::as_str) {
                    self.ledger.reasoning.insert(encrypted.to_owned());
                }
            }
            Some("response.completed") => {
                let known = |item: &&Value| {
                    matches!(
                        airlock_shared::item::kind(item),
                        "message" | "reasoning" | "function_call" | "custom_tool_call"
                    )
                };
                self.ledger.said.extend(items.iter().filter(known).map(fingerprint));
            }
            _ => {}
        }
    }
}

/// Where the plan's windows are told: beside the base of a ChatGPT account, or below another's origin.
fn is_usage(path: &str) -> bool {
    path.ends_with("/backend-api/wham/usage") || path.ends_with("/api/codex/usage")
}

/// What `POST …/responses/compact` answers: the user's words, and a summary nobody can read.
fn compacted(request: &Recorded) -> Plain {
    let is_user = |item: &Value| {
        airlock_shared::item::kind(item) == "message"
            && item.get("role").and_then(Value::as_str) == Some("user")
    };
    let mut output: Vec<Value> = request.input().into_iter().filter(is_user).collect();
    output.push(json!({"type": "compaction", "encrypted_content": "gAAAAcompacted"}));
    Plain::json(200, &json!({"output": output}))
}

/// Sends an answer as a stream, as far as the fault lets it come.
async fn stream_out(
    connection: &mut impl Connection,
    state: &Shared,
    number: usize,
    reply: &Reply,
    answer: Answer,
    fault: Option<Fault>,
) -> io::Result<Next> {
    let Answer { mut events, items } = answer;
    let content_type =
        if fault == Some(Fault::WrongType) { "text/html" } else { "text/event-stream" };
    let mut out = http::stream_head(content_type, &reply.headers);
    if reply.wire == Wire::Bom {
        out.extend(http::chunk(b"\xEF\xBB\xBF"));
    }
    change_events(&mut events, fault.as_ref());
    let breaks_after = match &fault {
        Some(
            Fault::Cut { events, .. }
            | Fault::CutInside { events }
            | Fault::ResetAfter { events }
            | Fault::Stall { events }
            | Fault::StallWithComments { events },
        ) => *events,
        _ => usize::MAX,
    };
    for event in events.iter().take(breaks_after) {
        let frame = if event.get("malformed").is_some() {
            b"data: {\"type\":\"response.completed\",\"response\":{\n\n".to_vec()
        } else {
            stream::frame(reply.wire, event)
        };
        if reply.wire == Wire::Bytewise {
            connection.write_all(&std::mem::take(&mut out)).await?;
            for byte in frame {
                connection.write_all(&http::chunk(&[byte])).await?;
                connection.flush().await?;
            }
        } else {
            out.extend(http::chunk(&frame));
        }
        lock(state).sent(event, &items);
        if reply.pause_ms > 0 || out.len() > 1 << 18 {
            connection.write_all(&std::mem::take(&mut out)).await?;
            connection.flush().await?;
            tokio::time::sleep(Duration::from_millis(reply.pause_ms)).await;
        }
    }
    lock(state).requests[number].answered = Some(crate::clock::now());
    finish(connection, out, &events, fault).await
}

/// Puts a fault's own events where they belong.
fn change_events(events: &mut Vec<Value>, fault: Option<&Fault>) {
    let error = |code: &str, message: &str| json!({"code": code, "message": message});
    let delta = |text: String| json!({"type": "response.output_text.delta", "item_id": "msg_0", "output_index": 0, "delta": text});
    let last = events.len() - 1;
    match fault {
        Some(Fault::Failed { code, message }) => {
            let response =
                json!({"id": "resp_0", "status": "failed", "error": error(code, message)});
            events.truncate(2);
            events.push(json!({"type": "response.failed", "response": response}));
        }
        Some(Fault::Incomplete { reason }) => {
            let details = json!({"reason": reason});
            let response =
                json!({"id": "resp_0", "status": "incomplete", "incomplete_details": details});
            events[last] = json!({"type": "response.incomplete", "response": response});
        }
        Some(Fault::ErrorEvent { code, message }) => {
            events.truncate(2);
            events.push(json!({"type": "error", "error": error(code, message)}));
        }
        Some(Fault::MalformedEnd) => events[last] = json!({"malformed": true}),
        Some(Fault::HugeEvent { bytes }) => events.insert(2, delta("x".repeat(*bytes))),
        Some(Fault::Endless) => events.truncate(last),
        _ => {}
    }
}

async fn finish(
    connection: &mut impl Connection,
    mut out: Vec<u8>,
    events: &[Value],
    fault: Option<Fault>,
) -> io::Result<Next> {
    let next = match fault {
        Some(Fault::Cut { clean: false, .. }) => {
            out.extend_from_slice(b"40\r\nevent: resp");
            Next::Close
        }
        Some(Fault::CutInside { events: sent }) => {
            let frame = events.get(sent).map(|event| stream::frame(Wire::Lf, event));
            let frame = frame.unwrap_or_else(|| b"data: {\"type\"\n\n".to_vec());
            out.extend(http::chunk(&frame[..frame.len() / 2]));
            out.extend_from_slice(http::LAST_CHUNK);
            Next::Close
        }
        Some(Fault::ResetAfter { .. }) => Next::Reset,
        Some(Fault::Stall { .. }) => {
            connection.write_all(&out).await?;
            connection.flush().await?;
            http::gone(connection).await;
            return Ok(Next::Close);
        }
        Some(Fault::StallWithComments { .. }) => loop {
            out.extend(http::chunk(b": still here\n\n"));
            connection.write_all(&std::mem::take(&mut out)).await?;
            connection.flush().await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        },
        Some(Fault::Endless) => loop {
            let delta = json!({"type": "response.output_text.delta", "item_id": "msg_0", "delta": "on and on ".repeat(400)});
            out.extend(http::chunk(&stream::frame(Wire::Lf, &delta)));
            connection.write_all(&std::mem::take(&mut out)).await?;
        },
        _ => {
            out.extend_from_slice(http::LAST_CHUNK);
            Next::KeepOpen
        }
    };
    connection.write_all(&out).await?;
    connection.flush().await?;
    if matches!(next, Next::Reset) {
        // What was written should arrive before the reset throws it away.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(next)
}
