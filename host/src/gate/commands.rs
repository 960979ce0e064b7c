//! `GET /commands`: the host's commands to the working sandbox; one stream for each session.

use std::convert::Infallible;
use std::sync::PoisonError;

use airlock_shared::link::HostRefusal;
use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::Response;

use super::routes::RefusedRequest;
use super::session::GateSession;

pub(super) fn give(session: &GateSession) -> Response<Body> {
    let commands = session.commands.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(commands) = commands else {
        return RefusedRequest::new(HostRefusal::Policy, "the stream of commands is open already")
            .response();
    };
    // A line may contain a token: its bytes are wiped once HTTP/2 has sent them.
    let lines = stream::unfold(commands, |mut commands| async {
        let line = commands.recv().await?.line();
        Some((Ok::<_, Infallible>(Bytes::from_owner(line)), commands))
    });
    let lines = lines.take_until(session.over.clone().cancelled_owned());
    Response::new(Body::from_stream(lines))
}
