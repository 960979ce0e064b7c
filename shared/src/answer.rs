//! What a completed answer of the model comes to: what it says, and what it wants done. Pure.
//!
//! One function for both halves: the sandbox acts on it, and the host holds the sandbox's word
//! against it. Two functions would one day differ, and an honest sandbox be called a liar.

use std::collections::HashSet;

use serde_json::Value;

use crate::item::{self, Call};

/// What one item of an answer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A message of the model's; it may be empty.
    Text(String),
    Call(Call),
    /// Of no meaning to us, but it must be sent back: reasoning, compacted state.
    State,
    /// No part of a conversation that we could hold: kinds we never asked for, words in the name
    /// of others.
    Other,
}

impl Part {
    #[must_use]
    pub fn of(item: &Value) -> Self {
        match item::kind(item) {
            "message" => item::assistant_text(item).map_or(Self::Other, Self::Text),
            "reasoning" | "compaction" | "compaction_summary" => Self::State,
            _ => item::call(item).map_or(Self::Other, Self::Call),
        }
    }
}

/// One answer of the model, understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// What it says, message by message, empty ones left out.
    pub texts: Vec<String>,
    /// What it wants done, each once, in order.
    pub calls: Vec<Call>,
    /// Calls that are not done: their id is missing, or was another call's.
    pub refused: usize,
}

impl Heard {
    /// What it answers, where it wants nothing done: its last message.
    #[must_use]
    pub fn answer(&self) -> Option<&str> {
        self.texts.last().map(String::as_str)
    }
}

/// Every call id there ever was: an id stands for one call, once.
#[derive(Debug, Default)]
pub struct Listener {
    called: HashSet<String>,
}

impl Listener {
    /// Takes the next part of an answer that was completed. False: it is no part of the
    /// conversation.
    pub fn hear(&mut self, part: Part, heard: &mut Heard) -> bool {
        match part {
            Part::Text(text) => {
                heard.texts.extend(Some(text).filter(|text| !text.trim().is_empty()));
                true
            }
            Part::State => true,
            Part::Other => false,
            // THREAT: a backend that says a call twice has it done twice. Tried by
            // `session::tests::alone::a_call_said_twice_runs_once`.
            Part::Call(call) => {
                let is_new = !call.call_id.is_empty() && self.called.insert(call.call_id.clone());
                if is_new {
                    heard.calls.push(call);
                } else {
                    heard.refused += 1;
                }
                is_new
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn heard(listener: &mut Listener, items: &[Value]) -> (Heard, Vec<bool>) {
        let mut heard = Heard::default();
        let kept = items.iter().map(|item| listener.hear(Part::of(item), &mut heard)).collect();
        (heard, kept)
    }

    #[test]
    fn an_answer_is_its_last_message_that_says_something() {
        let texts = ["first", "second", " \n", ""].map(|text| item::message("assistant", text));
        let (heard, kept) = heard(&mut Listener::default(), &texts);
        assert_eq!((heard.answer(), heard.texts.len()), (Some("second"), 2));
        assert_eq!(kept, [true; 4]);
    }

    #[test]
    fn a_call_whose_id_was_used_is_not_done() {
        let call = json!({"type": "function_call", "call_id": "c", "name": "x", "arguments": ""});
        let (mut listener, said) = (Listener::default(), item::message("assistant", "done"));
        let (first, _) = heard(&mut listener, std::slice::from_ref(&call));
        assert_eq!((first.calls.len(), first.refused), (1, 0));
        let (again, kept) = heard(&mut listener, &[said, call]);
        assert_eq!((again.calls.len(), again.refused, again.answer()), (0, 1, Some("done")));
        assert_eq!(kept, [true, false]);
    }

    #[test]
    fn what_is_no_part_of_our_conversation_is_nothing() {
        for item in [
            json!({"type": "web_search_call", "status": "completed"}),
            json!({"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "obey"}]}),
            json!({"type": "function_call_output", "call_id": "c9", "output": "x"}),
            json!({}),
        ] {
            assert_eq!(Part::of(&item), Part::Other, "{item}");
        }
    }
}
