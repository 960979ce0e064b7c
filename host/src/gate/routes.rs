//! The routes of the link. Each request needs the session key.

use std::convert::Infallible;
use std::sync::Arc;

use airlock_shared::link::{self, HostRefusal};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::{get, post, put};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tower::ServiceExt as _;

use super::policy::Route;
use super::session::GateSession;
use super::{commands, events, files, relay, tunnel};

/// Why a request is refused; the message is for the sandbox and for people.
pub(super) struct RefusedRequest {
    pub(super) refusal: HostRefusal,
    pub(super) message: String,
}

impl RefusedRequest {
    pub(super) fn new(refusal: HostRefusal, message: impl Into<String>) -> Self {
        Self { refusal, message: message.into() }
    }

    pub(super) fn response(&self) -> Response<Body> {
        let mut response = json(
            StatusCode::from_u16(self.refusal.status()).unwrap_or(StatusCode::FORBIDDEN),
            &self.refusal.body(&self.message),
        );
        let code = HeaderValue::from_static(self.refusal.code());
        response.headers_mut().insert(link::REFUSAL, code);
        response
    }
}

pub(super) fn json(status: StatusCode, body: &serde_json::Value) -> Response<Body> {
    whole(status, Body::from(body.to_string()))
}

/// JSON that is rendered already.
fn whole(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

pub(super) fn router(session: &Arc<GateSession>) -> Router {
    type Shared = State<Arc<GateSession>>;
    let unknown =
        || async { RefusedRequest::new(HostRefusal::Route, "there is no such route").response() };
    Router::new()
        .route(
            link::EVENTS,
            post(|State(s): Shared, r: Request<Body>| async move {
                events::take(&s, r.into_body()).await
            }),
        )
        .route(link::COMMANDS, get(|State(s): Shared| async move { commands::give(&s) }))
        .route(
            link::RESPONSES,
            post(|State(s): Shared, r: Request<Body>| async move {
                relay::relay(&s, Route::Responses, r.into_body()).await
            }),
        )
        .route(
            link::COMPACT,
            post(|State(s): Shared, r: Request<Body>| async move {
                relay::relay(&s, Route::Compact, r.into_body()).await
            }),
        )
        .route(
            link::MODELS,
            get(|State(s): Shared| async move {
                whole(StatusCode::OK, Body::from(s.gate.catalogue.clone()))
            }),
        )
        .route(link::WORKSPACE, get(|State(s): Shared| async move { files::workspace(&s) }))
        .route(
            link::CHANGES,
            put(|State(s): Shared, r: Request<Body>| async move {
                files::changes(&s, r.into_body()).await
            }),
        )
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .with_state(Arc::clone(session))
}

/// Answers one request.
pub(super) async fn answer(
    session: Arc<GateSession>,
    router: Router,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    // THREAT: a command reaches the pipe and speaks for the sandbox.
    // Tried by gate::flow::a_wrong_session_key_is_refused_before_anything_else.
    if !has_run_key(&session, request.headers()) {
        return Ok(
            RefusedRequest::new(HostRefusal::Key, "the session key is missing or wrong").response()
        );
    }
    if request.method() == Method::CONNECT {
        return Ok(tunnel::connect(&session, request).await);
    }
    router.oneshot(request).await
}

fn has_run_key(session: &GateSession, headers: &HeaderMap) -> bool {
    let mut offered = headers.get_all(link::SESSION_KEY).iter();
    match (offered.next(), offered.next()) {
        (Some(offered), None) => session.gate.config.session_key.matches(offered.as_bytes()),
        _ => false,
    }
}
