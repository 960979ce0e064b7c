//! A model request, from the sandbox's body to the backend's answer.

use std::sync::Arc;
use std::time::Duration;

use airlock_shared::link::Refusal;
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

use super::answer::Answer;
use super::cassette::{Kept, Reply};
use super::pieces::Pieces;
use super::policy::{self, Pinned, Route};
use super::routes::Refused;
use super::session::Session;
use super::{Custody, Gate, Upstream, upstream};

/// The longest value of a header that goes down.
const HEADER_VALUE_BYTES: usize = 128;

pub(super) async fn relay(session: &Session, route: Route, body: Body) -> Response<Body> {
    match forward(&session.gate, route, body).await {
        Ok(response) => response,
        Err(refused) => {
            if refused.refusal == Refusal::Policy {
                session.tell_refused(refused.message.clone()).await;
            }
            refused.response()
        }
    }
}

async fn forward(gate: &Arc<Gate>, route: Route, body: Body) -> Result<Response<Body>, Refused> {
    let config = &gate.config;
    if config.custody != Custody::Relay {
        return Err(Refused::new(
            Refusal::Policy,
            "in handoff custody the sandbox asks the backend itself",
        ));
    }
    // One request at a time, taken before its body is read: bodies are what costs memory.
    let permit = Arc::clone(&gate.model).acquire_owned().await;
    let permit = permit.map_err(|_| Refused::new(Refusal::Policy, "the run is over"))?;
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

/// Asks, in the one place there is for it.
async fn ask(
    gate: &Arc<Gate>,
    route: Route,
    body: Body,
    permit: OwnedSemaphorePermit,
) -> Result<Response<Body>, Refused> {
    let config = &gate.config;
    let mut given = read(body).await?;
    let cost = Meter::of_request(&given);
    let pinned = Pinned {
        model: &config.model,
        session: gate.session(),
        service_tier: config.backend.service_tier.as_deref(),
    };
    let mut body = {
        let mut ledger = gate.ledger();
        let body = policy::outgoing(route, &mut given, pinned, &ledger.seen)
            .map_err(|denied| Refused::new(Refusal::Policy, denied.0))?;
        ledger
            .ask(&config.budget, gate.opened.elapsed(), cost)
            .map_err(|why| Refused::new(Refusal::Budget, why))?;
        body
    };
    drop(given);
    gate.scrub().request(gate.canaries(), &mut body);
    match &config.upstream {
        Upstream::Live { client, signer } => {
            let sent = Bytes::from(body.to_string());
            // A text of it is enough, but for who writes it down.
            let body = config.recorder.is_some().then_some(body);
            let answer = match upstream::ask(gate, client, signer.as_ref(), route, sent).await {
                Ok(answer) => answer,
                Err(refused) => {
                    gate.ledger().give_back();
                    keep(
                        gate,
                        route,
                        body,
                        refused.refusal.status(),
                        Kept::Body(refused.refusal.body(&refused.message)),
                    );
                    return Err(refused);
                }
            };
            let status = answer.status();
            let retry_after = retry_after(answer.headers());
            let mut headers = passed_headers(answer.headers(), gate);
            gate.ledger().hear_headers(answer.headers());
            if !status.is_success() {
                gate.ledger().give_back();
            }
            if status.is_success() && route == Route::Responses {
                headers
                    .entry(header::CONTENT_TYPE)
                    .or_insert(HeaderValue::from_static("text/event-stream"));
                let pieces = (status.as_u16(), Pieces::of(answer).await);
                let answer = Answer::live(gate, pieces, route, body, permit);
                return Ok(response(status, headers, answer.into_body()));
            }
            let most = if status.is_success() {
                limits::COMPACTION_BYTES
            } else {
                limits::ERROR_BODY_BYTES
            };
            let whole = upstream::read(answer, most).await.map_err(upstream::unreachable)?;
            let whole = gate.texts().bytes(whole);
            hear_whole(gate, status, retry_after, &whole);
            if body.is_some() {
                let value = parsed(&whole)
                    .unwrap_or_else(|| Value::String(String::from_utf8_lossy(&whole).into_owned()));
                keep(gate, route, body, status.as_u16(), Kept::Body(value));
            }
            Ok(response(status, headers, Body::from(whole)))
        }
        Upstream::Replay(cassette) => {
            let reply = cassette.answer(route, &body).map_err(|why| {
                gate.ledger().give_back();
                Refused::new(Refusal::Cassette, why)
            })?;
            let status = StatusCode::from_u16(reply.status()).unwrap_or(StatusCode::BAD_GATEWAY);
            if !status.is_success() {
                gate.ledger().give_back();
            }
            let mut headers = HeaderMap::new();
            match reply {
                Reply::Events { events, .. } => {
                    headers.insert(
                        header::CONTENT_TYPE,
                        HeaderValue::from_static("text/event-stream"),
                    );
                    Ok(response(
                        status,
                        headers,
                        Answer::replayed(gate, events, permit).into_body(),
                    ))
                }
                Reply::Body { body, .. } => {
                    let whole = match body {
                        Value::String(text) => text.into_bytes(),
                        value => value.to_string().into_bytes(),
                    };
                    hear_whole(gate, status, None, &whole);
                    headers
                        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                    Ok(response(status, headers, Body::from(whole)))
                }
            }
        }
    }
}

/// Reads the body, bounded in bytes, in time and in what it becomes in memory.
///
/// THREAT: a body without an end, or a small one that is large in memory.
/// Tried by `gate::hostile::a_model_request_without_an_end` and `link::memory::a_request_of_many_small_values`.
async fn read(body: Body) -> Result<Value, Refused> {
    let too_large = || Refused::new(Refusal::TooLarge, "the request is too large");
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
                return Err(Refused::new(Refusal::Policy, "the request broke off"));
            }
        }
    }
    if dense::structure_bytes(&whole) > limits::JSON_STRUCTURE_BYTES {
        return Err(too_large());
    }
    serde_json::from_slice(&whole)
        .map_err(|_| Refused::new(Refusal::Policy, "the request is not JSON"))
}

/// An answer that came whole; none where it is no JSON, or too much of it.
fn parsed(whole: &[u8]) -> Option<Value> {
    let is_dense = dense::structure_bytes(whole) > limits::JSON_STRUCTURE_BYTES;
    if is_dense { None } else { serde_json::from_slice(whole).ok() }
}

/// What an answer that came whole says beside its status.
fn hear_whole(gate: &Gate, status: StatusCode, retry_after: Option<Duration>, whole: &[u8]) {
    let mut ledger = gate.ledger();
    if status.is_success() {
        if let Some(value) = parsed(whole) {
            ledger.hear_compaction(&value);
        }
        return;
    }
    // THREAT: a backend answers with a body like the host's own, and what it says stands where the
    // host's words do. Tried by `gate::backend::a_backend_does_not_speak_in_the_hosts_name`.
    let refusal = stream::Refusal::of_body(whole);
    ledger.failed(Meaning::of_status(status.as_u16(), &refusal, retry_after));
}

/// The only headers of the backend's that go down.
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

fn keep(gate: &Gate, route: Route, body: Option<Value>, status: u16, kept: Kept) {
    if let (Some(recorder), Some(body)) = (&gate.config.recorder, body) {
        recorder.exchange(route, body, status, kept, &gate.texts());
    }
}

fn response(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
