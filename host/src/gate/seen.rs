//! What the backend sent in this session, remembered by hash. It may be sent back unchanged, even if
//! the policy does not know its type or its fields.

use std::collections::HashSet;
use std::io::{self, Write};

use airlock_shared::item;
use serde::{Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Hashes of whole items (as they are resent: without id) and of encrypted state.
#[derive(Default)]
pub(super) struct SeenItems {
    hashes: HashSet<[u8; 32]>,
}

impl SeenItems {
    /// Remembers an item from the backend.
    pub(super) fn learn(&mut self, given: &Value) {
        self.hashes.insert(item_hash(given));
        if let Some(state) = given.get("encrypted_content").filter(|state| state.is_string()) {
            self.hashes.insert(hash(b"state", state));
        }
    }

    /// Whether the backend sent this item.
    pub(super) fn item(&self, given: &Value) -> bool {
        !self.hashes.is_empty() && given.is_object() && self.hashes.contains(&item_hash(given))
    }

    /// Whether the backend sent this `encrypted_content`.
    pub(super) fn state(&self, given: &Value) -> bool {
        self.hashes.contains(&hash(b"state", given))
    }
}

fn item_hash(given: &Value) -> [u8; 32] {
    hash(b"item", &Resent(given))
}

/// Objects are maps sorted by key, so equal values have equal JSON. The JSON is not held in memory,
/// because an item can be as large as a request.
pub(super) fn hash(what: &[u8], value: &impl Serialize) -> [u8; 32] {
    let mut hasher = Hasher(Sha256::new_with_prefix(what));
    // A JSON value can always be written as JSON, and the hasher never fails.
    serde_json::to_writer(&mut hasher, value).unwrap_or_default();
    hasher.0.finalize().into()
}

/// An item as it is sent back, see [`item::resent`].
struct Resent<'a>(&'a Value);

impl Serialize for Resent<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(fields) = self.0.as_object() else { return self.0.serialize(serializer) };
        let is_reasoning = item::kind(self.0) == "reasoning";
        serializer
            .collect_map(fields.iter().filter(|(field, _)| item::is_resent(field, is_reasoning)))
    }
}

struct Hasher(Sha256);

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_item_is_known_without_its_id_and_in_any_order_of_keys() {
        let mut seen = SeenItems::default();
        seen.learn(&json!({"type": "new_kind", "id": "x_1", "a": 1, "b": [2.0]}));
        let back = serde_json::from_str(r#"{"b":[2.0],"a":1,"type":"new_kind"}"#).expect("json");
        assert!(seen.item(&back));
        assert!(!seen.item(&json!({"type": "new_kind", "a": 1, "b": [2.5]})));
    }

    #[test]
    fn reasoning_is_known_without_its_plain_text() {
        let mut seen = SeenItems::default();
        seen.learn(&json!({"type": "reasoning", "id": "r", "summary": [], "content": [{}], "encrypted_content": "e"}));
        assert!(seen.item(&json!({"type": "reasoning", "summary": [], "encrypted_content": "e"})));
        assert!(seen.state(&json!("e")) && !seen.state(&json!("f")));
    }
}
