//! The host's requests to the backend: one client, signed requests, one renewal of a refused
//! credential, no redirects.

use std::time::Duration;

use airlock_shared::base::Base;
use airlock_shared::job::Backend;
use airlock_shared::limits;
use airlock_shared::link::HostRefusal;
use airlock_shared::outcome::{Fault, FaultKind};
use airlock_shared::scrub::Needles;
use airlock_shared::{dense, request, stream};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::Value;

use super::Gate;
use super::policy::Route;
use super::routes::RefusedRequest;
use crate::auth::reach::{self, Reach, cause};
use crate::auth::{AuthError, Signer};

/// A client for one base: no redirects, no cookies, the system's proxy and certificates, and one more
/// certificate authority (PEM) if the configuration names one.
///
/// # Errors
/// If the certificate cannot be read, or TLS cannot be set up.
pub fn client(base: &Base, ca: Option<&str>) -> Result<reqwest::Client, Fault> {
    let reach = Reach {
        origin: &base.origin(),
        is_loopback: base.is_loopback(),
        ca,
        connect: Duration::from_secs(limits::CONNECT_SECONDS),
    };
    reach::client(reach).map_err(|why| Fault::new(FaultKind::Backend, why))
}

/// Asks the backend for its models. A base may have no catalogue; then the model must be named.
///
/// # Errors
/// `SignIn` if the credential is refused, else `Backend` with the reason.
pub async fn catalogue(
    client: &reqwest::Client,
    signer: &dyn Signer,
    base: &Base,
    backend: &Backend,
    patience: Duration,
) -> Result<Value, Fault> {
    get(client, signer, base, backend, models(base, backend), patience).await
}

/// Asks the backend for its models only to see whether it accepts the credential. Returns the generation
/// that it refuses; `None` if it accepts it, or did not answer. Nothing is renewed.
pub async fn refused(
    client: &reqwest::Client,
    signer: &dyn Signer,
    base: &Base,
    backend: &Backend,
    patience: Duration,
) -> Option<u64> {
    let asking = async {
        let signed = signer.sign().await.ok()?;
        let asked = document(backend, models(base, backend));
        let mut headers = asked.headers.clone();
        headers.extend(signed.headers);
        let answer = send(client, headers, &asked).await.ok()?;
        (answer.status() == StatusCode::UNAUTHORIZED).then_some(signed.generation)
    };
    tokio::time::timeout(patience, asking).await.ok().flatten()
}

fn models(base: &Base, backend: &Backend) -> String {
    format!("{}{}", base.origin(), base.models_path(&backend.version))
}

/// Asks for a JSON document of the base's origin, bounded.
///
/// # Errors
/// As [`catalogue`].
pub(super) async fn get(
    client: &reqwest::Client,
    signer: &dyn Signer,
    base: &Base,
    backend: &Backend,
    url: String,
    patience: Duration,
) -> Result<Value, Fault> {
    let asking = async {
        let answer = send_signed(client, signer, &document(backend, url)).await?;
        let status = answer.status();
        let body = read(answer, limits::CATALOGUE_BYTES).await;
        let body = body.map_err(unreachable)?;
        if !status.is_success() {
            let reason = refusal_message(signer, &body);
            return Err(unreachable(format!("it answered {}: {reason}", status.as_u16())));
        }
        if dense::structure_bytes(&body) > limits::JSON_STRUCTURE_BYTES {
            return Err(unreachable("its answer has too many values".to_owned()));
        }
        let body = Needles::for_texts(&signer.secrets_to_scrub()).bytes(body);
        serde_json::from_slice(&body).map_err(|_| unreachable("its answer is not JSON".to_owned()))
    };
    let answer = tokio::time::timeout(patience, asking).await;
    let answer = answer
        .unwrap_or_else(|_| Err(unreachable(format!("no answer within {} s", patience.as_secs()))));
    answer.map_err(|refused| match refused.refusal {
        HostRefusal::SignIn => Fault::new(FaultKind::SignIn, refused.message),
        _ => Fault::new(FaultKind::Backend, format!("{}: {}", base.origin(), refused.message)),
    })
}

/// Sends a body that the policy made to the route's endpoint.
pub(super) async fn ask(
    gate: &Gate,
    client: &reqwest::Client,
    signer: &dyn Signer,
    route: Route,
    body: Bytes,
) -> Result<reqwest::Response, RefusedRequest> {
    let config = &gate.config;
    let path = match route {
        Route::Responses => config.base.responses_path(),
        Route::Compact => config.base.compact_path(),
    };
    // THREAT: a header of the sandbox (authorization, account, host) acts in our name. So none is
    // copied. Tried by gate::flow::every_header_is_the_hosts.
    let turn_state = gate.ledger().turn_state().map(str::to_owned);
    let headers =
        request::headers(&config.backend, gate.session(), config.model.lite, turn_state.as_deref());
    let asked = UpstreamRequest {
        method: Method::POST,
        url: format!("{}{path}", config.base.origin()),
        headers: header_map(headers).0,
        body,
    };
    // A credential is bound to its base, and the signer knows which.
    if signer.account().base != config.base {
        return Err(RefusedRequest::new(HostRefusal::SignIn, "the credential is for another base"));
    }
    let answer = send_signed(client, signer, &asked).await?;
    let encoding = answer.headers().get(CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != "identity") {
        // A compressed body cannot be scrubbed.
        return Err(unreachable("it answered in an encoding that was not asked for".to_owned()));
    }
    Ok(answer)
}

struct UpstreamRequest {
    method: Method,
    url: String,
    headers: HeaderMap,
    body: Bytes,
}

/// A request for a JSON document, outside of any session.
fn document(backend: &Backend, url: String) -> UpstreamRequest {
    let mut headers = header_map(request::headers(backend, "", false, None));
    headers.retain_named(&["originator", "version", "user-agent"]);
    headers.0.insert(ACCEPT, HeaderValue::from_static("application/json"));
    UpstreamRequest { method: Method::GET, url, headers: headers.0, body: Bytes::new() }
}

/// Signs and sends. If the credential is refused and there is a newer one, sends once more.
async fn send_signed(
    client: &reqwest::Client,
    signer: &dyn Signer,
    asked: &UpstreamRequest,
) -> Result<reqwest::Response, RefusedRequest> {
    // What may work later is not a reason to sign in again.
    let sign_in = |error: AuthError| {
        let refusal = match error {
            AuthError::Unreachable { .. } | AuthError::Store { .. } => HostRefusal::Unreachable,
            _ => HostRefusal::SignIn,
        };
        RefusedRequest::new(refusal, error.to_string())
    };
    let mut is_again = false;
    loop {
        let signed = signer.sign().await.map_err(sign_in)?;
        let mut headers = asked.headers.clone();
        headers.extend(signed.headers);
        let answer = send(client, headers, asked).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        if !is_again && signer.renew(signed.generation).await.map_err(sign_in)? {
            is_again = true;
            continue;
        }
        let body = read(answer, limits::ERROR_BODY_BYTES).await.unwrap_or_default();
        let reason = refusal_message(signer, &body);
        return Err(RefusedRequest::new(
            HostRefusal::SignIn,
            format!("the backend refused the credential: {reason}"),
        ));
    }
}

/// Why the backend refuses, for a message of ours.
fn refusal_message(signer: &dyn Signer, body: &[u8]) -> String {
    let message = stream::Refusal::of_body(body).message;
    Needles::for_messages(&signer.secrets_to_scrub()).text(&message).into_owned()
}

/// Sends it once. Every status is an answer, except a redirect.
async fn send(
    client: &reqwest::Client,
    headers: HeaderMap,
    asked: &UpstreamRequest,
) -> Result<reqwest::Response, RefusedRequest> {
    // The credential's header is marked as sensitive and prints as `Sensitive`.
    tracing::debug!(method = %asked.method, url = asked.url, ?headers, "asking the backend");
    let request =
        client.request(asked.method.clone(), &asked.url).headers(headers).body(asked.body.clone());
    let patience = Duration::from_secs(limits::RELAY_IDLE_SECONDS);
    let answer = match tokio::time::timeout(patience, request.send()).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(unreachable(cause(&error.without_url()))),
        Err(_) => return Err(unreachable("it did not answer".to_owned())),
    };
    tracing::debug!(status = answer.status().as_u16(), "the backend answered");
    // THREAT: the backend, or a proxy before it, sends us and our credential elsewhere.
    // Tried by gate::backend::a_redirect_is_not_followed.
    if answer.status().is_redirection() {
        // `Policy`, because another attempt would get the same answer.
        let status = answer.status().as_u16();
        let why = format!("the backend redirects ({status}), and redirects are not followed");
        return Err(RefusedRequest::new(HostRefusal::Policy, why));
    }
    Ok(answer)
}

/// A whole body, up to `most` bytes; the rest is not read.
pub(super) async fn read(mut answer: reqwest::Response, most: usize) -> Result<Vec<u8>, String> {
    let patience = Duration::from_secs(limits::RELAY_IDLE_SECONDS);
    let mut body = Vec::new();
    loop {
        let piece = match tokio::time::timeout(patience, answer.chunk()).await {
            Ok(Ok(piece)) => piece,
            Ok(Err(error)) => return Err(cause(&error.without_url())),
            Err(_) => return Err("it stopped answering".to_owned()),
        };
        let Some(piece) = piece else { return Ok(body) };
        let room = most - body.len();
        body.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() >= room {
            return Ok(body);
        }
    }
}

pub(super) fn unreachable(why: String) -> RefusedRequest {
    RefusedRequest::new(HostRefusal::Unreachable, why)
}

struct Headers(HeaderMap);

impl Headers {
    fn retain_named(&mut self, names: &[&str]) {
        let all: Vec<HeaderName> = self.0.keys().cloned().collect();
        for name in all.iter().filter(|name| !names.contains(&name.as_str())) {
            self.0.remove(name);
        }
    }
}

/// Values that are not valid in a header, which come from the configuration, are left out.
fn header_map(pairs: Vec<(&'static str, String)>) -> Headers {
    let pairs = pairs.into_iter().filter_map(|(name, value)| {
        Some((HeaderName::from_static(name), HeaderValue::from_str(&value).ok()?))
    });
    Headers(pairs.collect())
}
