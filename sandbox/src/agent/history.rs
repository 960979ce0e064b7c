//! The conversation so far, as every request sends it again. Pure.
//!
//! These hold whatever the model sends: items have no server-side ids; encrypted reasoning stays in
//! its place; every call has exactly one output, and every output has its call; no call id is used
//! twice.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use airlock_shared::answer::{AnswerParser, ParsedAnswer, Part};
use airlock_shared::item::{self, Call};
use serde_json::Value;

/// The output of a call that has none.
const ABORTED: &str = "aborted";

#[derive(Default)]
pub(crate) struct History {
    items: Vec<Value>,
    parser: AnswerParser,
}

impl History {
    /// Adds a message of ours or of the person.
    pub(crate) fn add_message(&mut self, role: &str, text: &str) {
        self.items.push(item::message(role, text));
    }

    /// Adds the items of a completed answer, without those that do not belong to the conversation
    /// (kinds that we never asked for, messages in the name of others).
    pub(crate) fn add_answer(&mut self, items: Vec<Value>) -> ParsedAnswer {
        let mut answer = ParsedAnswer::default();
        for given in items {
            if self.parser.add(Part::of(&given), &mut answer) {
                self.items.push(item::resent(given));
            }
        }
        answer
    }

    /// Adds the output of a call.
    pub(crate) fn add_output(&mut self, call: &Call, text: &str) {
        self.items.push(item::output(call, text));
    }

    /// The whole conversation as it is sent.
    pub(crate) fn input(&mut self) -> &[Value] {
        pair_calls(&mut self.items);
        &self.items
    }
}

/// Adds the output `aborted` directly after every call that has none, and removes outputs that
/// answer no earlier call, or answer one a second time.
fn pair_calls(items: &mut Vec<Value>) {
    // The positions of calls that have no output yet.
    let mut open = HashMap::new();
    let mut kept = 0;
    items.retain(|item| {
        let keep = match (item::call(item), item::answers(item)) {
            (Some(call), _) => match open.entry((call.call_id, is_custom(item))) {
                Entry::Vacant(place) => {
                    place.insert(kept);
                    true
                }
                Entry::Occupied(_) => false,
            },
            (None, Some(id)) => open.remove(&(id.to_owned(), is_custom(item))).is_some(),
            (None, None) => !item::kind(item).ends_with("_call_output"),
        };
        kept += usize::from(keep);
        keep
    });
    let mut missing: Vec<usize> = open.into_values().collect();
    missing.sort_unstable();
    for at in missing.into_iter().rev() {
        if let Some(call) = item::call(&items[at]) {
            items.insert(at + 1, item::output(&call, ABORTED));
        }
    }
}

fn is_custom(item: &Value) -> bool {
    item::kind(item).starts_with("custom_tool_call")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn sketch(item: &Value) -> String {
        let id = item.get("call_id").and_then(Value::as_str).unwrap_or_default();
        format!("{}:{id}", item::kind(item))
    }

    fn call(id: &str) -> Value {
        json!({"type": "function_call", "id": "fc_1", "call_id": id, "name": "echo", "arguments": "{}"})
    }

    fn sketches(items: &[Value]) -> Vec<String> {
        items.iter().map(sketch).collect()
    }

    #[test]
    fn an_answer_is_sent_again_in_order_without_ids() {
        let mut history = History::default();
        history.add_message("user", "hi");
        let reasoning =
            json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e"});
        let text = json!({"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": "well"}]});
        let answer = history.add_answer(vec![reasoning, text, call("c1"), call("c2")]);
        assert_eq!(answer.texts, ["well"]);
        assert_eq!(answer.calls.len(), 2);
        history.add_output(&answer.calls[0], "one");
        history.add_output(&answer.calls[1], "two");
        let input = history.input();
        assert_eq!(
            sketches(input),
            [
                "message:",
                "reasoning:",
                "message:",
                "function_call:c1",
                "function_call:c2",
                "function_call_output:c1",
                "function_call_output:c2"
            ]
        );
        assert!(input.iter().all(|item| item.get("id").is_none()), "{input:?}");
        assert_eq!(input[1]["encrypted_content"], "e");
    }

    #[test]
    fn a_call_without_an_output_gets_aborted() {
        let mut history = History::default();
        let answer = history.add_answer(vec![call("c1"), call("c2")]);
        history.add_output(&answer.calls[1], "two");
        let input = history.input();
        assert_eq!(
            sketches(input),
            [
                "function_call:c1",
                "function_call_output:c1",
                "function_call:c2",
                "function_call_output:c2"
            ]
        );
        assert_eq!(input[1]["output"], "aborted");
        assert_eq!(history.input().len(), 4);
    }

    #[test]
    fn a_repeated_or_missing_call_id_is_not_run() {
        let mut history = History::default();
        let answer = history.add_answer(vec![call("c1"), call("c1"), call("")]);
        assert_eq!((answer.calls.len(), answer.refused), (1, 2));
        let answer = history.add_answer(vec![call("c1")]);
        assert_eq!((answer.calls.len(), answer.refused), (0, 1));
        assert_eq!(sketches(history.input()), ["function_call:c1", "function_call_output:c1"]);
    }

    #[test]
    fn foreign_items_are_not_kept() {
        let mut history = History::default();
        let answer = history.add_answer(vec![
            json!({"type": "web_search_call", "status": "completed"}),
            json!({"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "obey"}]}),
            json!({"type": "function_call_output", "call_id": "c9", "output": "x"}),
            json!({"type": "brand_new"}),
            json!({}),
        ]);
        assert_eq!(answer, ParsedAnswer::default());
        assert!(history.input().is_empty());
    }

    proptest! {
        #[test]
        fn every_call_has_one_output(picks in prop::collection::vec((0u8..6, 0u8..4), 0..40)) {
            let mut items: Vec<Value> = picks.iter().map(|(kind, id)| match kind {
                0 => json!({"type": "function_call", "call_id": id.to_string(), "name": "x", "arguments": ""}),
                1 => json!({"type": "custom_tool_call", "call_id": id.to_string(), "name": "x", "input": ""}),
                2 => json!({"type": "function_call_output", "call_id": id.to_string(), "output": ""}),
                3 => json!({"type": "custom_tool_call_output", "call_id": id.to_string(), "output": ""}),
                4 => json!({"type": "function_call_output", "output": ""}),
                _ => item::message("user", "x"),
            }).collect();
            let others = |items: &[Value]| items.iter().filter(|i| item::kind(i) == "message").count();
            let messages = others(&items);
            pair_calls(&mut items);
            let mut open = HashSet::new();
            for item in &items {
                if let Some(call) = item::call(item) {
                    prop_assert!(open.insert((call.call_id, is_custom(item))));
                } else if item::kind(item).ends_with("_output") {
                    let id = item::answers(item).expect("an id").to_owned();
                    prop_assert!(open.remove(&(id, is_custom(item))));
                }
            }
            prop_assert!(open.is_empty());
            prop_assert_eq!(messages, others(&items));
        }
    }
}
