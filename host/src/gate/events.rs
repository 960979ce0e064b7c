//! `POST /events`: what the sandbox says of itself, line by line, until its one outcome.

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

/// Why the events ended a run.
enum BadEvents {
    Said(&'static str),
    /// The run itself is gone, or could not keep the outcome.
    Unheard,
}

/// How much was heard so far.
#[derive(Default)]
struct Heard {
    events: u64,
    bytes: u64,
}

impl Heard {
    // THREAT: events without an end fill the host's disk, each within its bound. Tried by
    // gate::events::events_end_at_their_number_and_at_their_bytes.
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
            // The answer must be on its way before the pipe shuts down, which waits for it.
            session.over.cancel();
            routes::json(StatusCode::OK, &json!({"kept": true}))
        }
        Err(bad) => {
            let message = match bad {
                BadEvents::Said(message) => message,
                BadEvents::Unheard => "the outcome could not be kept",
            };
            session.end(FaultKind::Link, message);
            RefusedRequest::new(HostRefusal::Policy, message).response()
        }
    }
}

async fn listen(session: &GateSession, body: Body) -> Result<(), BadEvents> {
    // THREAT: a second stream brings a second outcome. Tried by gate::hostile::a_second_outcome.
    if !first(&session.events_begun) {
        return Err(BadEvents::Said("the sandbox opened a second stream of events"));
    }
    let mut lines = LineReader::new(body);
    let mut heard = Heard::default();
    loop {
        let line = lines.next().await.map_err(|why| {
            BadEvents::Said(match why {
                LineEnd::End => "the sandbox's events ended without an outcome",
                LineEnd::Cut => "the sandbox's events broke off",
                LineEnd::TooLong => "the sandbox sent an event that is too long",
            })
        })?;
        heard.add(line.len()).map_err(BadEvents::Said)?;
        // THREAT: eight megabytes of `[{},{},…]` are a gigabyte of objects. Tried by
        // link::memory::a_line_of_many_small_values.
        if dense::structure_bytes(&line) > limits::EVENT_STRUCTURE_BYTES {
            return Err(BadEvents::Said("the sandbox sent an event of too many values"));
        }
        let event = serde_json::from_slice(&line)
            .map_err(|_| BadEvents::Said("the sandbox sent a line that is no event"))?;
        drop(line);
        let event = scrub::event(&session.gate.texts(), event);
        let Event::Outcome { outcome } = event else {
            session.events.send(FromSandbox::Event(event)).await.map_err(|_| BadEvents::Unheard)?;
            continue;
        };
        // The stream ends with its outcome, and only then is it one.
        if !lines.ends().await {
            return Err(BadEvents::Said("the sandbox went on after its outcome"));
        }
        let (kept, is_kept) = oneshot::channel();
        let last = FromSandbox::Outcome { outcome, kept };
        session.events.send(last).await.map_err(|_| BadEvents::Unheard)?;
        return is_kept.await.map_err(|_| BadEvents::Unheard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_end_at_their_number_and_at_their_bytes() {
        let taken = |bytes: usize| {
            let mut heard = Heard::default();
            std::iter::repeat_with(|| heard.add(bytes)).take_while(Result::is_ok).count() as u64
        };
        assert_eq!(taken(1), limits::EVENTS);
        assert_eq!(taken(limits::LINE_BYTES), limits::EVENTS_BYTES / limits::LINE_BYTES as u64);
    }
}
