//! What a completed answer of the model says, and which tool calls it asks for. Pure.
//!
//! Both halves use this code: the sandbox acts on the result, and the host compares it with what
//! the sandbox reports. If there were two versions, they would differ one day, and the host would
//! call an honest report forged.

use std::collections::HashSet;

use serde_json::Value;

use crate::item::{self, Call};

/// What kind one item of an answer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A message of the model. It may be empty.
    Text(String),
    Call(Call),
    /// We do not read it, but it must be sent back: reasoning, compacted state.
    State,
    /// Not part of our conversation: kinds that we never asked for, and messages in the name of
    /// others.
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

/// One answer of the model, parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParsedAnswer {
    /// Its messages, without empty ones.
    pub texts: Vec<String>,
    /// Its tool calls, each once, in order.
    pub calls: Vec<Call>,
    /// How many calls are not run: their id is missing, or an earlier call had it.
    pub refused: usize,
}

impl ParsedAnswer {
    /// The final answer if there are no calls: the last message.
    #[must_use]
    pub fn final_text(&self) -> Option<&str> {
        self.texts.last().map(String::as_str)
    }
}

/// Parses the answers of one conversation. It remembers every call id, so that no id is used twice.
#[derive(Debug, Default)]
pub struct AnswerParser {
    call_ids: HashSet<String>,
}

impl AnswerParser {
    /// Adds the next part of a completed answer. False: it does not belong to the conversation.
    pub fn add(&mut self, part: Part, answer: &mut ParsedAnswer) -> bool {
        match part {
            Part::Text(text) => {
                answer.texts.extend(Some(text).filter(|text| !text.trim().is_empty()));
                true
            }
            Part::State => true,
            Part::Other => false,
            // THREAT: a backend repeats a call, and the call runs twice. Tried by
            // `session::tests::alone::a_repeated_call_runs_once`.
            Part::Call(call) => {
                let is_new = !call.call_id.is_empty() && self.call_ids.insert(call.call_id.clone());
                if is_new {
                    answer.calls.push(call);
                } else {
                    answer.refused += 1;
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

    fn parse(parser: &mut AnswerParser, items: &[Value]) -> (ParsedAnswer, Vec<bool>) {
        let mut answer = ParsedAnswer::default();
        let kept = items.iter().map(|item| parser.add(Part::of(item), &mut answer)).collect();
        (answer, kept)
    }

    #[test]
    fn the_answer_is_the_last_message_with_text() {
        let texts = ["first", "second", " \n", ""].map(|text| item::message("assistant", text));
        let (answer, kept) = parse(&mut AnswerParser::default(), &texts);
        assert_eq!((answer.final_text(), answer.texts.len()), (Some("second"), 2));
        assert_eq!(kept, [true; 4]);
    }

    #[test]
    fn a_call_with_a_used_id_is_refused() {
        let call = json!({"type": "function_call", "call_id": "c", "name": "x", "arguments": ""});
        let (mut parser, message) = (AnswerParser::default(), item::message("assistant", "done"));
        let (first, _) = parse(&mut parser, std::slice::from_ref(&call));
        assert_eq!((first.calls.len(), first.refused), (1, 0));
        let (again, kept) = parse(&mut parser, &[message, call]);
        assert_eq!((again.calls.len(), again.refused, again.final_text()), (0, 1, Some("done")));
        assert_eq!(kept, [true, false]);
    }

    #[test]
    fn foreign_items_are_no_part_of_the_conversation() {
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
