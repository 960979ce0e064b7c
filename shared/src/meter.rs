//! What one exchange with the backend costs, by what passed of it: for those that end before the
//! backend says what they cost, and for backends that never say. Pure.
//!
//! Four bytes are taken for a token. It is an estimate: a reader is always told that it is one.

use serde_json::Value;

use crate::stream::{StreamEvent, Usage};

const BYTES_OF_A_TOKEN: u64 = 4;
/// A picture is paid for by its size on a screen, not by its bytes: about a thousand tokens.
const PICTURE_BYTES: u64 = 4 << 10;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    request: u64,
    /// What came in pieces, and what came whole: the same, said twice.
    pieces: u64,
    items: u64,
}

impl Meter {
    /// Of a request that goes out with this body.
    #[must_use]
    pub fn of_request(body: &Value) -> Self {
        Self { request: bytes(body), ..Self::default() }
    }

    /// One event of the answer.
    pub fn hear(&mut self, event: &StreamEvent) {
        match event {
            StreamEvent::Text(piece) => self.pieces += piece.len() as u64,
            StreamEvent::Piece(bytes) => self.pieces += *bytes,
            StreamEvent::Item(item) => self.items += said(item),
            _ => {}
        }
    }

    /// Whether anything of an answer came.
    #[must_use]
    pub fn has_heard(&self) -> bool {
        self.pieces + self.items > 0
    }

    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            input: self.request.div_ceil(BYTES_OF_A_TOKEN),
            output: self.pieces.max(self.items).div_ceil(BYTES_OF_A_TOKEN),
            ..Usage::default()
        }
    }
}

/// What of an item the model wrote.
fn said(item: &Value) -> u64 {
    let written = ["content", "summary", "arguments", "input", "encrypted_content"];
    written.iter().filter_map(|name| item.get(name)).map(bytes).sum()
}

fn bytes(value: &Value) -> u64 {
    match value {
        Value::String(text) if text.starts_with("data:") => PICTURE_BYTES.min(text.len() as u64),
        Value::String(text) => text.len() as u64,
        Value::Array(values) => values.iter().map(bytes).sum(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| name.len() as u64 + bytes(value)).sum()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_passed_is_counted_once() {
        let body = json!({"input": ["x".repeat(400)]});
        let mut meter = Meter::of_request(&body);
        assert_eq!((meter.usage().input, meter.has_heard()), (102, false));
        let half = "y".repeat(200);
        for event in [
            json!({"type": "response.output_text.delta", "delta": half}),
            json!({"type": "response.function_call_arguments.delta", "delta": half}),
        ] {
            meter.hear(&StreamEvent::parse(&event.to_string()));
        }
        assert_eq!(meter.usage().output, 100);
        let item = json!({"type": "message", "content": [{"text": "y".repeat(200)}]});
        meter.hear(&StreamEvent::Item(item));
        assert_eq!(meter.usage().output, 100, "the item repeats its pieces");
    }

    #[test]
    fn a_picture_is_not_paid_for_by_its_bytes() {
        let body = json!({"image_url": format!("data:image/png;base64,{}", "A".repeat(4 << 20))});
        assert!(Meter::of_request(&body).usage().input < 2_000);
    }
}
