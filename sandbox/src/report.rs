//! Events as JSON lines: to the host on `POST /events`, or to stdout in plain mode. One line is one
//! event. A slow reader slows us down.

use airlock_shared::event::Event;
use airlock_shared::limits;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::scrub::Scrub;

/// How many lines may wait for the reader. If there are more, the sender waits too.
const WAITING: usize = 64;

/// Clones report to the same reader.
#[derive(Clone)]
pub(crate) struct Report {
    lines: mpsc::Sender<Bytes>,
    scrub: Scrub,
}

impl Report {
    /// A reporter, and the receiver of its lines.
    pub(crate) fn new(scrub: Scrub) -> (Self, mpsc::Receiver<Bytes>) {
        let (lines, listener) = mpsc::channel(WAITING);
        (Self { lines, scrub }, listener)
    }

    /// Sends an event, once there is room. If the reader is gone the event is dropped: the session
    /// is ended elsewhere.
    pub(crate) async fn send(&self, event: Event) {
        let _unheard = self.lines.send(self.line(&event)).await;
    }

    pub(crate) async fn note(&self, text: impl Into<String>) {
        self.send(Event::Note { text: crate::scrub::one_line(&text.into()) }).await;
    }

    /// THREAT: text of the backend or of a command carries our token into a record. Every line is
    /// scrubbed. Tried by `report::tests::no_line_holds_a_secret`.
    fn line(&self, event: &Event) -> Bytes {
        let text = serde_json::to_string(event).unwrap_or_default();
        let mut text = self.scrub.clean(text);
        if text.len() >= limits::LINE_BYTES {
            let note = Event::Note { text: "an event was too large to be reported".to_owned() };
            text = serde_json::to_string(&note).unwrap_or_default();
        }
        text.push('\n');
        Bytes::from(text)
    }
}

#[cfg(test)]
mod tests {
    use airlock_shared::secret::Secret;

    use super::*;

    fn one(event: &Event) -> String {
        let scrub = Scrub::default();
        scrub.add(Secret::new("sk-0123456789-abc".into()));
        let line = Report::new(scrub).0.line(event);
        String::from_utf8(line.to_vec()).expect("text")
    }

    #[test]
    fn no_line_holds_a_secret() {
        assert_eq!(
            one(&Event::Note { text: "it is sk-0123456789-abc".into() }),
            "{\"event\":\"note\",\"text\":\"it is [secret removed]\"}\n"
        );
    }

    #[test]
    fn no_line_is_longer_than_its_bound() {
        let line = one(&Event::Text { text: "x".repeat(limits::LINE_BYTES) });
        assert!(line.contains("too large"), "{} bytes", line.len());
    }
}
