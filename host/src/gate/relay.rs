//! A model request, from the sandbox's body to the backend's answer.

use std::sync::Arc;
use std::time::Duration;

use airlock_shared::link::HostRefusal;
use airlock_shared::meter::Meter;
use airlock_shared::refusal::{Meaning, retry_after};
use airlock_shared::{dense, limits, stream};
use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::answer::AnswerStream;
use super::chunks::Chunks;
use super::policy::{self, PinnedSettings, Route};
use super::recording::{AnswerContent, PlayedAnswer, Replayer};
use super::routes::RefusedRequest;
use super::session::GateSession;
use super::{CredentialsMode, Gate, Upstream, upstream};

/// The longest header value that is passed to the sandbox.
const HEADER_VALUE_BYTES: usize = 128;

pub(super) async fn relay(session: &GateSession, route: Route, body: Body) -> Response<Body> {
    match forward(&session.gate, route, body).await {
        Ok(response) => response,
        Err(refused) => {
            if refused.refusal == HostRefusal::Policy {
                session.tell_refused(refused.message.clone()).await;
            }
            refused.response()
        }
    }
}

async fn forward(
    gate: &Arc<Gate>,
    route: Route,
    body: Body,
) -> Result<Response<Body>, RefusedRequest> {
    let config = &gate.config;
    if config.credentials != CredentialsMode::Relay {
        return Err(RefusedRequest::new(
            HostRefusal::Policy,
            "with handoff credentials the sandbox asks the backend itself",
        ));
    }
    // One request at a time, and the permit before its body is read, because bodies cost memory.
    let permit = Arc::clone(&gate.model).acquire_owned().await;
    let permit =
        permit.map_err(|_| RefusedRequest::new(HostRefusal::Policy, "the turn is over"))?;
    let pause = gate.ledger().pause(Instant::now());
    tokio::time::sleep(pause).await;
    let asked = ask(gate, route, body, permit).await;
    if let Err(refused) = &asked
        && let Some(meaning) = Meaning::of_host(refused.refusal, &refused.message)
    {
        gate.ledger().failed(meaning);
    }
    asked
}

/// Reads the body, applies the policy, and asks the backend or the recording.
async fn ask(
    gate: &Arc<Gate>,
    route: Route,
    body: Body,
    permit: OwnedSemaphorePermit,
) -> Result<Response<Body>, RefusedRequest> {
    let body = admitted(gate, route, read(body).await?)?;
    match &gate.config.upstream {
        Upstream::Live { client, signer } => {
            let sent = Bytes::from(body.to_string());
            // The parsed body is only needed for a recording.
            let asked = KeptRequest { route, body: gate.config.recorder.is_some().then_some(body) };
            match upstream::ask(gate, client, signer.as_ref(), route, sent).await {
                Ok(answer) => answered(gate, asked, answer, permit).await,
                Err(refused) => Err(unanswered(gate, asked, refused)),
            }
        }
        Upstream::Replay(recording) => replayed(gate, recording, route, body, permit).await,
    }
}

/// The request, kept for the recording.
struct KeptRequest {
    route: Route,
    body: Option<Value>,
}

/// The outgoing body, if the policy and the budget allow it.
fn admitted(gate: &Gate, route: Route, mut given: Value) -> Result<Value, RefusedRequest> {
    let config = &gate.config;
    let cost = Meter::of_request(&given);
    let pinned = PinnedSettings {
        model: &config.model,
        session: gate.session(),
        service_tier: config.backend.service_tier.as_deref(),
    };
    let mut body = {
        let mut ledger = gate.ledger();
        let body = policy::outgoing(route, &mut given, pinned, &ledger.seen)
            .map_err(|denied| RefusedRequest::new(HostRefusal::Policy, denied.0))?;
        ledger
            .ask(&config.budget, gate.opened.elapsed(), cost)
            .map_err(|why| RefusedRequest::new(HostRefusal::Budget, why))?;
        body
    };
    drop(given);
    gate.scrub().request(gate.secrets_to_scrub(), &mut body);
    Ok(body)
}

/// Passes the backend's answer on: a stream as it comes, anything else whole.
async fn answered(
    gate: &Arc<Gate>,
    asked: KeptRequest,
    answer: reqwest::Response,
    permit: OwnedSemaphorePermit,
) -> Result<Response<Body>, RefusedRequest> {
    let status = answer.status();
    let mut headers = passed_headers(answer.headers(), gate);
    gate.ledger().hear_headers(answer.headers());
    if !status.is_success() {
        gate.ledger().give_back();
        let wait = retry_after(answer.headers());
        // The status is an answer, even if its body cannot be read.
        let whole = upstream::read(answer, limits::ERROR_BODY_BYTES).await.unwrap_or_default();
        let whole = gate.texts().bytes(whole);
        hear_refusal(gate, status, wait, &whole);
        return Ok(kept_whole(gate, asked, status, headers, whole));
    }
    if asked.route == Route::Responses {
        let stream = HeaderValue::from_static("text/event-stream");
        headers.entry(header::CONTENT_TYPE).or_insert(stream);
        let chunks = (status.as_u16(), Chunks::of(answer).await);
        let answer = AnswerStream::live(gate, chunks, asked.route, asked.body, permit);
        return Ok(response(status, headers, answer.into_body()));
    }
    let whole = match upstream::read(answer, limits::COMPACTION_BYTES + 1).await {
        Ok(whole) => gate.texts().bytes(whole),
        Err(why) => return Err(unanswered(gate, asked, upstream::unreachable(why))),
    };
    if whole.len() > limits::COMPACTION_BYTES {
        let refused = RefusedRequest::new(HostRefusal::TooLarge, "the answer is too large");
        keep_refusal(gate, asked, &refused);
        return Err(refused);
    }
    hear_compaction(gate, &whole);
    Ok(kept_whole(gate, asked, status, headers, whole))
}

/// The backend could not be asked, or did not answer completely: that costs nothing.
fn unanswered(gate: &Gate, asked: KeptRequest, refused: RefusedRequest) -> RefusedRequest {
    gate.ledger().give_back();
    keep_refusal(gate, asked, &refused);
    refused
}

/// The next answer of a recording.
async fn replayed(
    gate: &Arc<Gate>,
    recording: &Arc<Replayer>,
    route: Route,
    body: Value,
    permit: OwnedSemaphorePermit,
) -> Result<Response<Body>, RefusedRequest> {
    let recording = Arc::clone(recording);
    // It is read from a disk, which may be slow, so it must not block the runtime's threads.
    let playing = tokio::task::spawn_blocking(move || recording.answer(route, &body));
    let played = playing.await.unwrap_or_else(|stopped| Err(stopped.to_string()));
    let reply = played.map_err(|why| {
        gate.ledger().give_back();
        RefusedRequest::new(HostRefusal::Recording, why)
    })?;
    let (status, content) = match reply {
        PlayedAnswer::Answer { status, content } => (status, content),
        PlayedAnswer::Refused { refusal, why } => {
            gate.ledger().give_back();
            return Err(RefusedRequest::new(refusal, why));
        }
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    if !status.is_success() {
        gate.ledger().give_back();
    }
    let mut headers = HeaderMap::new();
    let kind = match &content {
        AnswerContent::Events(_) => "text/event-stream",
        AnswerContent::Body(_) => "application/json",
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let whole = match content {
        AnswerContent::Events(events) => {
            let answer = AnswerStream::replayed(gate, events, permit);
            return Ok(response(status, headers, answer.into_body()));
        }
        AnswerContent::Body(Value::String(text)) => text.into_bytes(),
        AnswerContent::Body(value) => value.to_string().into_bytes(),
    };
    if status.is_success() {
        hear_compaction(gate, &whole);
    } else {
        hear_refusal(gate, status, None, &whole);
    }
    Ok(response(status, headers, Body::from(whole)))
}

/// Reads the body, with limits on its bytes, its time and its size in memory.
///
/// THREAT: a body is endless, or small as text and large in memory.
/// Tried by `gate::hostile::a_model_request_without_an_end` and `link::memory::a_request_of_many_small_values`.
async fn read(body: Body) -> Result<Value, RefusedRequest> {
    let too_large = || RefusedRequest::new(HostRefusal::TooLarge, "the request is too large");
    let patience = Duration::from_secs(limits::LINK_STALL_SECONDS);
    let (mut body, mut whole) = (body.into_data_stream(), Vec::new());
    loop {
        match tokio::time::timeout(patience, body.next()).await {
            Ok(None) => break,
            Ok(Some(Ok(piece))) if whole.len() + piece.len() <= limits::REQUEST_BYTES => {
                whole.extend_from_slice(&piece)
            }
            Ok(Some(Ok(_))) => return Err(too_large()),
            Ok(Some(Err(_))) | Err(_) => {
                return Err(RefusedRequest::new(HostRefusal::Policy, "the request broke off"));
            }
        }
    }
    if dense::structure_bytes(&whole) > limits::JSON_STRUCTURE_BYTES {
        return Err(too_large());
    }
    serde_json::from_slice(&whole)
        .map_err(|_| RefusedRequest::new(HostRefusal::Policy, "the request is not JSON"))
}

/// A whole answer as JSON; `None` if it is not JSON, or has too many values.
fn parsed(whole: &[u8]) -> Option<Value> {
    let is_dense = dense::structure_bytes(whole) > limits::JSON_STRUCTURE_BYTES;
    if is_dense { None } else { serde_json::from_slice(whole).ok() }
}

/// Tells the ledger the answer to a compaction.
fn hear_compaction(gate: &Gate, whole: &[u8]) {
    if let Some(value) = parsed(whole) {
        gate.ledger().hear_compaction(&value);
    }
}

/// Tells the ledger why the backend refuses.
///
/// THREAT: a backend answers with a body like the host's own, and its words look like the host's.
/// Tried by `gate::backend::a_backend_does_not_speak_in_the_hosts_name`.
fn hear_refusal(gate: &Gate, status: StatusCode, wait: Option<Duration>, whole: &[u8]) {
    let refusal = stream::Refusal::of_body(whole);
    gate.ledger().failed(Meaning::of_status(status.as_u16(), &refusal, wait));
}

/// The only headers of the backend that are passed to the sandbox.
fn passed_headers(from: &HeaderMap, gate: &Gate) -> HeaderMap {
    let passed =
        [header::CONTENT_TYPE, header::RETRY_AFTER].into_iter().filter_map(|name: HeaderName| {
            let value = from.get(&name)?;
            let clean = gate.messages().bytes(value.as_bytes().to_vec());
            (clean.len() <= HEADER_VALUE_BYTES)
                .then_some((name, HeaderValue::from_bytes(&clean).ok()?))
        });
    passed.collect()
}

/// A whole answer, recorded if the session is recorded.
fn kept_whole(
    gate: &Gate,
    asked: KeptRequest,
    status: StatusCode,
    headers: HeaderMap,
    whole: Vec<u8>,
) -> Response<Body> {
    if asked.body.is_some() {
        let text = || Value::String(String::from_utf8_lossy(&whole).into_owned());
        let content = AnswerContent::Body(parsed(&whole).unwrap_or_else(text));
        keep(gate, asked, PlayedAnswer::Answer { status: status.as_u16(), content });
    }
    response(status, headers, Body::from(whole))
}

fn keep_refusal(gate: &Gate, asked: KeptRequest, refused: &RefusedRequest) {
    let (refusal, why) = (refused.refusal, refused.message.clone());
    keep(gate, asked, PlayedAnswer::Refused { refusal, why });
}

fn keep(gate: &Gate, asked: KeptRequest, reply: PlayedAnswer) {
    if let (Some(recorder), Some(body)) = (&gate.config.recorder, asked.body) {
        recorder.exchange(asked.route, body, reply, &gate.texts());
    }
}

fn response(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
