//! Sends a model request, and tries again if that may help.
//!
//! A try gives a complete answer or nothing. So a stream that is cut adds no item and starts no
//! call.

use std::time::Duration;

use airlock_shared::base::Base;
use airlock_shared::event::Event;
use airlock_shared::job::Backend;
use airlock_shared::meter::Meter;
use airlock_shared::model::Model;
use airlock_shared::outcome::{Fault, FaultKind};
use airlock_shared::refusal::retry_after;
use airlock_shared::request::{self, Prompt};
use airlock_shared::sse::Decoder;
use airlock_shared::stream::{Refusal, StreamEvent, Usage};
use airlock_shared::{limits, link as routes};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::Instant;

use super::connect::{BackendRequest, Connector, chain};
use super::credentials::Credentials;
use super::retry::{self, GiveUp, RequestFailure, RetryDecision};
use crate::link::{self, Link};
use crate::report::Report;
use crate::scrub::Scrub;

/// How the backend is reached, and who adds the credential.
pub(crate) enum ModelRoute {
    /// Through the host, which makes the headers and adds the credential.
    Relay(Link),
    /// By our own connection. `renewable`: the host may send a fresh token.
    Own { connector: Connector, credentials: Credentials, renewable: bool },
}

/// One complete answer of the model.
pub(crate) struct Answer {
    /// The items, unchanged and in order.
    pub(crate) items: Vec<Value>,
    pub(crate) usage: Usage,
    /// The estimated usage of earlier tries that broke off.
    pub(crate) lost: Usage,
    /// The model wants to be asked again, even if it called nothing.
    pub(crate) more: bool,
}

pub(crate) struct Client {
    model_route: ModelRoute,
    backend: Backend,
    session: String,
    /// The first answer gives it, and every later request of the turn repeats it.
    turn_state: Option<String>,
    report: Report,
    scrub: Scrub,
}

impl Client {
    pub(crate) fn new(
        model_route: ModelRoute,
        backend: Backend,
        session: String,
        report: Report,
        scrub: Scrub,
    ) -> Self {
        Self { model_route, backend, session, turn_state: None, report, scrub }
    }

    /// Sends a request until there is an answer, or until another try cannot help.
    pub(crate) async fn answer(
        &mut self,
        model: &Model,
        prompt: Prompt<'_>,
    ) -> Result<Answer, GiveUp> {
        let tier = self.backend.service_tier.as_deref();
        let body = request::body(model, &self.session, tier, prompt);
        let request = Meter::of_request(&body);
        let body = Bytes::from(body.to_string());
        let (mut retries, mut lost) = (0, Usage::default());
        loop {
            let mut meter = request;
            let failure = match self.try_once(&body, model.lite, &mut meter).await {
                Ok(answer) => return Ok(Answer { lost, ..answer }),
                Err(failure) => failure,
            };
            if meter.saw_answer() {
                lost += meter.usage();
                self.report.send(Event::Usage { usage: meter.usage() }).await;
            }
            match retry::decide(&failure, retries, random_fraction()) {
                RetryDecision::End(end) => return Err(end),
                RetryDecision::Again { wait, why } => {
                    retries += 1;
                    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                    let of = limits::RETRIES;
                    self.report.send(Event::Retry { attempt: retries, of, wait_ms, why }).await;
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// The model catalogue, without retries.
    pub(crate) async fn models(&mut self) -> Result<Value, RequestFailure> {
        let path = |base: &Base, backend: &Backend| base.models_path(&backend.version);
        let answer = self.send(Method::GET, path, routes::MODELS, Bytes::new(), false).await?;
        if !answer.status().is_success() {
            return Err(self.refusal(answer).await);
        }
        let limited = http_body_util::Limited::new(answer.into_body(), limits::SSE_EVENT_BYTES);
        let body = limited.collect().await.map_err(|error| RequestFailure::Cut(chain(&*error)))?;
        serde_json::from_slice(&body.to_bytes())
            .map_err(|_| RequestFailure::Cut("the catalogue is not JSON".to_owned()))
    }

    /// Connects before the first request.
    pub(crate) async fn warm(&mut self) {
        if let ModelRoute::Own { connector, .. } = &mut self.model_route {
            connector.warm().await;
        }
    }

    async fn try_once(
        &mut self,
        body: &Bytes,
        lite: bool,
        meter: &mut Meter,
    ) -> Result<Answer, RequestFailure> {
        if body.len() > limits::REQUEST_BYTES {
            return Err(RequestFailure::TooLarge("the request"));
        }
        let idle = Duration::from_secs(limits::STREAM_IDLE_SECONDS);
        let path = |base: &Base, _: &Backend| base.responses_path();
        let sent = self.send(Method::POST, path, routes::RESPONSES, body.clone(), lite);
        let answer = tokio::time::timeout(idle, sent).await.map_err(|_| RequestFailure::Idle)??;
        if !answer.status().is_success() {
            return Err(self.refusal(answer).await);
        }
        if let Some(state) = answer.headers().get(request::TURN_STATE) {
            self.keep_turn_state(state.to_str().unwrap_or_default());
        }
        self.read(answer.into_body(), idle, meter).await
    }

    /// Reads the stream up to `response.completed`, and no further.
    async fn read(
        &mut self,
        mut body: Incoming,
        idle: Duration,
        meter: &mut Meter,
    ) -> Result<Answer, RequestFailure> {
        let mut decoder = Decoder::default();
        let mut items = Vec::new();
        let mut bytes: u64 = 0;
        let mut deadline = Instant::now() + idle;
        loop {
            let frame = tokio::time::timeout_at(deadline, body.frame());
            let frame = match frame.await.map_err(|_| RequestFailure::Idle)? {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Err(RequestFailure::Cut(self.scrubbed(chain(&error)))),
                None => {
                    let why = "the stream ended before response.completed";
                    return Err(RequestFailure::Cut(why.to_owned()));
                }
            };
            let Ok(data) = frame.into_data() else { continue };
            bytes += data.len() as u64;
            let events = decoder.feed(&data).map_err(|_| RequestFailure::TooLarge("one event"))?;
            if bytes > limits::RESPONSE_BYTES || items.len() > limits::INPUT_ITEMS {
                return Err(RequestFailure::TooLarge("the answer"));
            }
            // A comment counts too: a backend sends comments while it works. A stream of only
            // comments is bounded by the turn's seconds.
            deadline = Instant::now() + idle;
            for event in events {
                let event = StreamEvent::parse(&self.scrub.clean(event));
                meter.count(&event);
                match event {
                    StreamEvent::Item(item) => items.push(item),
                    StreamEvent::TurnState(state) => self.keep_turn_state(&state),
                    StreamEvent::Failed(refusal) => {
                        return Err(RequestFailure::InStream(self.scrubbed_refusal(refusal)));
                    }
                    StreamEvent::Completed { usage, more } => {
                        tokio::spawn(drain(body));
                        let usage = usage.unwrap_or_else(|| meter.usage());
                        return Ok(Answer { items, usage, lost: Usage::default(), more });
                    }
                    StreamEvent::Text(_) | StreamEvent::Piece(_) | StreamEvent::Other => {}
                }
            }
        }
    }

    async fn send(
        &mut self,
        method: Method,
        path: impl Fn(&Base, &Backend) -> String,
        route: &str,
        body: Bytes,
        lite: bool,
    ) -> Result<Response<Incoming>, RequestFailure> {
        match &mut self.model_route {
            ModelRoute::Relay(link) => {
                let mut headers = HeaderMap::new();
                if method == Method::POST {
                    let json = HeaderValue::from_static("application/json");
                    headers.insert(header::CONTENT_TYPE, json);
                }
                let sent = link.request(method, route, headers, link::full_body(body)).await;
                sent.map_err(|fault| RequestFailure::Connection(fault.message))
            }
            ModelRoute::Own { connector, credentials, renewable } => {
                let path = path(connector.base(), &self.backend);
                let state = self.turn_state.as_deref();
                let pairs = request::headers(&self.backend, &self.session, lite, state);
                let mut call = BackendRequest { method, path, headers: header_map(pairs)?, body };
                let number = credentials.sign(&mut call.headers);
                let answer = connector.send(&call).await?;
                if answer.status() != StatusCode::UNAUTHORIZED || !*renewable {
                    return Ok(answer);
                }
                self.report.send(Event::Unauthorized).await;
                let limit = Duration::from_secs(limits::FRESH_TOKEN_SECONDS);
                if !credentials.renewed(number, limit).await {
                    return Ok(answer);
                }
                credentials.sign(&mut call.headers);
                connector.send(&call).await
            }
        }
    }

    async fn refusal(&self, answer: Response<Incoming>) -> RequestFailure {
        let status = answer.status();
        let after = retry_after(answer.headers());
        if status.is_redirection() {
            let location = answer.headers().get(header::LOCATION);
            let location = location.and_then(|value| value.to_str().ok()).unwrap_or("nowhere");
            return RequestFailure::Redirect {
                status: status.as_u16(),
                location: self.scrubbed(location.to_owned()),
            };
        }
        let (head, body) = answer.into_parts();
        let body = link::read_start(body).await;
        let host_refusal = link::refusal(&head.headers, &body);
        if let (ModelRoute::Relay(_), Some((refusal, why))) = (&self.model_route, host_refusal) {
            return RequestFailure::Host { refusal, why: self.scrubbed(why) };
        }
        let refusal = self.scrubbed_refusal(Refusal::of_body(&body));
        RequestFailure::Status { status: status.as_u16(), refusal, retry_after: after }
    }

    fn scrubbed_refusal(&self, refusal: Refusal) -> Refusal {
        let plan = refusal.plan.map(|plan| self.scrubbed(plan));
        Refusal {
            message: self.scrubbed(refusal.message),
            plan,
            code: self.scrubbed(refusal.code),
            ..refusal
        }
    }

    fn scrubbed(&self, text: String) -> String {
        self.scrub.message(&text)
    }

    fn keep_turn_state(&mut self, state: &str) {
        if self.turn_state.is_none() && !state.is_empty() && HeaderValue::from_str(state).is_ok() {
            self.turn_state = Some(state.to_owned());
        }
    }
}

fn header_map(pairs: Vec<(&'static str, String)>) -> Result<HeaderMap, RequestFailure> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let value = HeaderValue::from_str(&value).map_err(|_| {
            let message = format!("the configured {name} cannot be a header");
            RequestFailure::Fault(Fault::new(FaultKind::Refused, message))
        })?;
        headers.insert(name, value);
    }
    Ok(headers)
}

/// Reads what follows `response.completed`, so that the connection can be used again. It stops
/// after a second, or 64 KiB.
async fn drain(mut body: Incoming) {
    let rest = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > 64 << 10 {
                return;
            }
        }
    };
    let _enough = tokio::time::timeout(Duration::from_secs(1), rest).await;
}

/// A random number between 0 and 1.
fn random_fraction() -> f64 {
    let low =
        u32::from_le_bytes(uuid::Uuid::now_v7().into_bytes()[12..].try_into().unwrap_or([0; 4]));
    f64::from(low) / f64::from(u32::MAX)
}
