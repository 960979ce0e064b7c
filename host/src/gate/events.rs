//! `POST /events`: the sandbox's events, line by line, until its one outcome.

use airlock_shared::event::Event;
use airlock_shared::link::HostRefusal;
use airlock_shared::outcome::FaultKind;
use airlock_shared::{dense, limits};
use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::json;
use tokio::sync::oneshot;

use super::lines::{LineEnd, LineReader};
use super::routes::{self, RefusedRequest};
use super::session::{GateSession, first};
use super::{FromSandbox, scrub};

/// Why the stream of events ends the turn with a fault.
enum BadEvents {
    Invalid(&'static str),
    /// The session is gone, or could not keep the outcome.
    NotKept,
}

/// How much was received so far.
#[derive(Default)]
struct Received {
    events: u64,
    bytes: u64,
}

impl Received {
    // THREAT: endless events fill the host's disk, each within its own limit. Tried by
    // gate::events::events_are_bounded_in_number_and_bytes.
    fn add(&mut self, bytes: usize) -> Result<(), &'static str> {
        self.events += 1;
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if self.events > limits::EVENTS || self.bytes > limits::EVENTS_BYTES {
            return Err("the sandbox sent too many events");
        }
        Ok(())
    }
}

pub(super) async fn take(session: &GateSession, body: Body) -> Response<Body> {
    match listen(session, body).await {
        Ok(()) => {
            session.keep();
            // The shutdown of the pipe waits for answers that are under way, so this one is sent.
            session.over.cancel();
            routes::json(StatusCode::OK, &json!({"kept": true}))
        }
        Err(bad) => {
            let message = match bad {
                BadEvents::Invalid(message) => message,
                BadEvents::NotKept => "the outcome could not be kept",
            };
            session.end(FaultKind::Link, message);
            RefusedRequest::new(HostRefusal::Policy, message).response()
        }
    }
}

async fn listen(session: &GateSession, body: Body) -> Result<(), BadEvents> {
    // THREAT: a second stream would bring a second outcome. Tried by gate::hostile::a_second_outcome.
    if !first(&session.events_begun) {
        return Err(BadEvents::Invalid("the sandbox opened a second stream of events"));
    }
    let mut lines = LineReader::new(body);
    let mut received = Received::default();
    loop {
        let line = lines.next().await.map_err(|why| {
            BadEvents::Invalid(match why {
                LineEnd::End => "the sandbox's events ended without an outcome",
                LineEnd::Cut => "the sandbox's events broke off",
                LineEnd::TooLong => "the sandbox sent an event that is too long",
            })
        })?;
        received.add(line.len()).map_err(BadEvents::Invalid)?;
        // THREAT: eight megabytes of `[{},{},…]` become a gigabyte of objects in memory. Tried by
        // link::memory::a_line_of_many_small_values.
        if dense::structure_bytes(&line) > limits::EVENT_STRUCTURE_BYTES {
            return Err(BadEvents::Invalid("the sandbox sent an event with too many values"));
        }
        let event = serde_json::from_slice(&line)
            .map_err(|_| BadEvents::Invalid("the sandbox sent a line that is not an event"))?;
        drop(line);
        let event = scrub::event(&session.gate.texts(), event);
        let Event::Outcome { outcome } = event else {
            session.events.send(FromSandbox::Event(event)).await.map_err(|_| BadEvents::NotKept)?;
            continue;
        };
        // An outcome counts only if the stream ends with it.
        if !lines.ends().await {
            return Err(BadEvents::Invalid("the sandbox sent more after its outcome"));
        }
        let (kept, is_kept) = oneshot::channel();
        let last = FromSandbox::Outcome { outcome, kept };
        session.events.send(last).await.map_err(|_| BadEvents::NotKept)?;
        return is_kept.await.map_err(|_| BadEvents::NotKept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_bounded_in_number_and_bytes() {
        let taken = |bytes: usize| {
            let mut received = Received::default();
            std::iter::repeat_with(|| received.add(bytes)).take_while(Result::is_ok).count() as u64
        };
        assert_eq!(taken(1), limits::EVENTS);
        assert_eq!(taken(limits::LINE_BYTES), limits::EVENTS_BYTES / limits::LINE_BYTES as u64);
    }
}
