//! The backend's stream on its way to the sandbox: scrubbed, counted in the ledger, recorded, and
//! passed on without buffering.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use airlock_shared::limits;
use airlock_shared::refusal::Meaning;
use airlock_shared::scrub::Scrubber;
use airlock_shared::sse::Decoder;
use airlock_shared::stream::StreamEvent;
use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use super::Gate;
use super::chunks::Chunks;
use super::policy::Route;
use super::recording::{AnswerContent, Events, PlayedAnswer};
use crate::auth::reach::cause;

/// How long, and how many bytes of, a stream is read to its end after the sandbox stopped reading. Only
/// a connection that was read to its end can be used again.
const DRAIN: Duration = Duration::from_secs(2);
const DRAIN_BYTES: usize = 64 << 10;

pub(super) struct AnswerStream {
    gate: Arc<Gate>,
    source: AnswerSource,
    scrubber: Scrubber,
    decoder: Decoder,
    /// Bytes sent to the sandbox.
    passed: u64,
    /// What is recorded at the end, if this session is recorded.
    recording: Option<AnswerRecording>,
    /// `response.completed`, or a failure, was read: what follows does not matter.
    is_whole: bool,
    /// Other requests wait as long as this exists.
    permit: Option<OwnedSemaphorePermit>,
}

enum AnswerSource {
    Live(Chunks),
    Replay(VecDeque<Value>),
    Ended,
}

struct AnswerRecording {
    route: Route,
    body: Value,
    status: u16,
    events: Events,
}

impl AnswerStream {
    pub(super) fn live(
        gate: &Arc<Gate>,
        (status, chunks): (u16, Chunks),
        route: Route,
        body: Option<Value>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let recording =
            body.map(|body| AnswerRecording { route, body, status, events: Events::default() });
        Self::new(gate, AnswerSource::Live(chunks), recording, permit)
    }

    pub(super) fn replayed(
        gate: &Arc<Gate>,
        events: Vec<Value>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self::new(gate, AnswerSource::Replay(events.into()), None, permit)
    }

    fn new(
        gate: &Arc<Gate>,
        source: AnswerSource,
        recording: Option<AnswerRecording>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let scrubber = Scrubber::new(gate.texts());
        let gate = Arc::clone(gate);
        let decoder = Decoder::default();
        Self {
            gate,
            source,
            scrubber,
            decoder,
            passed: 0,
            recording,
            is_whole: false,
            permit: Some(permit),
        }
    }

    pub(super) fn into_body(self) -> Body {
        Body::from_stream(stream::unfold(self, |mut answer| async {
            let piece = answer.next().await?;
            Some((piece, answer))
        }))
    }

    /// The next piece to send.
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            let piece = match &mut self.source {
                AnswerSource::Ended => return None,
                AnswerSource::Replay(events) => {
                    events.pop_front().map(|event| Bytes::from(format!("data: {event}\n\n")))
                }
                AnswerSource::Live(chunks) => {
                    let patience = Duration::from_secs(limits::RELAY_IDLE_SECONDS);
                    match tokio::time::timeout(patience, chunks.next()).await {
                        Ok(Ok(piece)) => {
                            self.gate.ledger().is_alive();
                            piece
                        }
                        Ok(Err(error)) => return self.broken(cause(&error.without_url())),
                        Err(_) => return self.broken("the backend's stream stalled".to_owned()),
                    }
                }
            };
            let is_last = piece.is_none();
            let clean = match piece {
                Some(piece) => self.scrubber.feed(&piece),
                None => {
                    self.source = AnswerSource::Ended;
                    if !self.is_whole {
                        self.broke_off("the stream ended before response.completed".to_owned());
                    }
                    self.scrubber.finish()
                }
            };
            self.passed = self.passed.saturating_add(clean.len() as u64);
            let heard = self.decoder.feed(&clean);
            let what = if heard.is_err() { "one event" } else { "the answer" };
            let is_too_long = heard.is_err() || self.passed > limits::RESPONSE_BYTES;
            for event in heard.into_iter().flatten() {
                self.hear(&event);
            }
            if is_too_long {
                // This piece is still sent. The sandbox has the same limits and finds the same fault in
                // the same bytes; after a stream that breaks off it would only ask again.
                self.source = AnswerSource::Ended;
                if !self.is_whole {
                    self.gate.ledger().too_large(what);
                }
            }
            if is_last || is_too_long {
                self.write_down();
            }
            if !clean.is_empty() {
                return Some(Ok(Bytes::from(clean)));
            }
        }
    }

    /// The ledger sees each event before the sandbox does.
    fn hear(&mut self, data: &str) {
        if self.is_whole {
            // The sandbox stops reading here, too.
            return;
        }
        let event = StreamEvent::parse(data);
        self.gate.ledger().hear(&event);
        let is_piece =
            matches!(event, StreamEvent::Text(_) | StreamEvent::Piece(_) | StreamEvent::Other);
        if let (Some(recording), false) = (&mut self.recording, is_piece) {
            recording.events.hear(data);
        }
        if matches!(event, StreamEvent::Completed { .. } | StreamEvent::Failed(_)) {
            self.is_whole = true;
            self.write_down();
        }
    }

    fn broken(&mut self, why: String) -> Option<io::Result<Bytes>> {
        self.source = AnswerSource::Ended;
        if !self.is_whole {
            self.broke_off(why.clone());
        }
        self.write_down();
        Some(Err(io::Error::other(why)))
    }

    fn broke_off(&self, why: String) {
        self.gate.ledger().broke_off(Meaning::Passing { why, asked: None });
    }

    /// Records what came until now; does nothing the second time.
    fn write_down(&mut self) {
        if let (Some(recording), Some(recorder)) =
            (self.recording.take(), &self.gate.config.recorder)
        {
            let Some(events) = recording.events.all() else {
                return recorder.fail("an answer is too large to be played back");
            };
            let reply = PlayedAnswer::Answer {
                status: recording.status,
                content: AnswerContent::Events(events),
            };
            recorder.exchange(recording.route, recording.body, reply, &self.gate.texts());
        }
    }
}

impl Drop for AnswerStream {
    /// The sandbox stops reading at `response.completed`, and the connection may end later. If it
    /// abandons an answer before that, the connection to the backend is closed too, so that the backend
    /// stops generating.
    fn drop(&mut self) {
        self.write_down();
        self.permit = None;
        let source = std::mem::replace(&mut self.source, AnswerSource::Ended);
        if let (AnswerSource::Live(mut chunks), true) = (source, self.is_whole)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let rest = async move {
                let mut left = DRAIN_BYTES;
                while let Ok(Some(piece)) = chunks.next().await {
                    left = left.saturating_sub(piece.len());
                    if left == 0 {
                        break;
                    }
                }
            };
            self.gate
                .drains
                .spawn_on(async { drop(tokio::time::timeout(DRAIN, rest).await) }, &runtime);
        }
    }
}
