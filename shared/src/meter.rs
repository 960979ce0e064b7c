//! Estimates what one exchange with the backend costs, by the bytes that were sent and received. It
//! is used if an exchange ends before the backend reports its usage, and for backends that never
//! do. Pure.
//!
//! Four bytes count as one token. Every reader of an estimate is told that it is one.

use serde_json::Value;

use crate::stream::{StreamEvent, Usage};

const TOKEN_BYTES: u64 = 4;
/// The price of a picture depends on its size on a screen and not on its bytes: about a thousand
/// tokens.
const PICTURE_BYTES: u64 = 4 << 10;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    request_bytes: u64,
    /// Bytes of the pieces, and bytes of the whole items: the same content, sent twice.
    delta_bytes: u64,
    item_bytes: u64,
}

impl Meter {
    /// Starts with the body of a request.
    #[must_use]
    pub fn of_request(body: &Value) -> Self {
        Self { request_bytes: bytes(body), ..Self::default() }
    }

    /// Counts one event of the answer.
    pub fn count(&mut self, event: &StreamEvent) {
        match event {
            StreamEvent::Text(piece) => self.delta_bytes += piece.len() as u64,
            StreamEvent::Piece(bytes) => self.delta_bytes += *bytes,
            StreamEvent::Item(item) => self.item_bytes += written_bytes(item),
            _ => {}
        }
    }

    /// Whether any part of an answer came.
    #[must_use]
    pub fn saw_answer(&self) -> bool {
        self.delta_bytes + self.item_bytes > 0
    }

    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            input: self.request_bytes.div_ceil(TOKEN_BYTES),
            output: self.delta_bytes.max(self.item_bytes).div_ceil(TOKEN_BYTES),
            ..Usage::default()
        }
    }
}

/// Bytes of an item that the model wrote.
fn written_bytes(item: &Value) -> u64 {
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
        assert_eq!((meter.usage().input, meter.saw_answer()), (102, false));
        let half = "y".repeat(200);
        for event in [
            json!({"type": "response.output_text.delta", "delta": half}),
            json!({"type": "response.function_call_arguments.delta", "delta": half}),
        ] {
            meter.count(&StreamEvent::parse(&event.to_string()));
        }
        assert_eq!(meter.usage().output, 100);
        let item = json!({"type": "message", "content": [{"text": "y".repeat(200)}]});
        meter.count(&StreamEvent::Item(item));
        assert_eq!(meter.usage().output, 100, "the item repeats its pieces");
    }

    #[test]
    fn a_picture_does_not_cost_its_bytes() {
        let body = json!({"image_url": format!("data:image/png;base64,{}", "A".repeat(4 << 20))});
        assert!(Meter::of_request(&body).usage().input < 2_000);
    }
}
