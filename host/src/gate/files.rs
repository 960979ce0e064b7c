//! `GET /workspace` and `PUT /changes`: the workspace in, once, and the changes out, from time to time
//! and at the end. This module limits the streams; [`super::WorkspaceTransfer`] makes and reads them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use airlock_shared::limits;
use airlock_shared::link::HostRefusal;
use airlock_shared::outcome::FaultKind;
use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Response, StatusCode};
use serde_json::json;

use super::ChangesError;
use super::routes::{self, RefusedRequest};
use super::session::{GateSession, first};

/// How many sets of changes may come at once: an early one, one that was replaced by the last, the last,
/// and some more.
const SETS_AT_ONCE: u64 = 8;

pub(super) fn workspace(session: &Arc<GateSession>) -> Response<Body> {
    if !first(&session.workspace_begun) {
        return RefusedRequest::new(HostRefusal::Policy, "the workspace was sent already")
            .response();
    }
    let shared = Arc::clone(session);
    let tree = session.workspace.stream_in().inspect(move |piece| {
        if let Err(error) = piece {
            shared.end(
                FaultKind::Workspace,
                format!("the directory could not be copied into the sandbox: {error}"),
            );
        }
    });
    Response::new(Body::from_stream(tree))
}

pub(super) async fn changes(session: &GateSession, body: Body) -> Response<Body> {
    if session.is_kept() {
        return RefusedRequest::new(HostRefusal::Policy, "the changes were taken already")
            .response();
    }
    // THREAT: endless sets keep the host's disk busy for ever, each within its own limit.
    // Tried by gate::hostile::more_sets_of_changes_than_there_is_time_for.
    let begun = session.changes_begun.fetch_add(1, Ordering::Relaxed);
    if begun >= sets(session.gate.opened.elapsed()) {
        return RefusedRequest::new(HostRefusal::Policy, "changes are sent too often").response();
    }
    let most = session.gate.config.changes_bytes;
    // THREAT: endless changes fill the host's disk.
    // Tried by gate::hostile::changes_without_an_end.
    let bounded =
        stream::unfold((body.into_data_stream(), 0_u64), move |(mut body, taken)| async move {
            let patience = Duration::from_secs(limits::LINK_STALL_SECONDS);
            let piece = match tokio::time::timeout(patience, body.next()).await {
                Ok(None) => return None,
                Ok(Some(Ok(piece))) => piece,
                Ok(Some(Err(_))) => {
                    return Some((Err(io::Error::other("the stream broke off")), (body, taken)));
                }
                Err(_) => {
                    return Some((
                        Err(io::Error::new(io::ErrorKind::TimedOut, "the stream stalled")),
                        (body, taken),
                    ));
                }
            };
            let taken = taken.saturating_add(piece.len() as u64);
            let piece: io::Result<Bytes> = if taken > most {
                Err(io::Error::other("the changes are larger than the sandbox's disk"))
            } else {
                Ok(piece)
            };
            Some((piece, (body, taken)))
        });
    match session.workspace.take_changes(bounded.boxed()).await {
        Ok(()) => routes::json(StatusCode::OK, &json!({"kept": true})),
        Err(ChangesError::Unkept(fault)) => {
            RefusedRequest::new(HostRefusal::Policy, fault.message).response()
        }
        Err(ChangesError::Malformed(fault)) => {
            let refused = RefusedRequest::new(HostRefusal::Policy, fault.message.clone());
            session.end_with(fault);
            refused.response()
        }
    }
}

/// How many sets of changes may have begun by now: twice as many as an honest sandbox sends.
fn sets(since: Duration) -> u64 {
    SETS_AT_ONCE + since.as_secs() * 2 / limits::SO_FAR_SECONDS
}
