//! The items of a conversation (codex protocol, D.5, D.6). An item stays the JSON that came, so
//! that unknown fields survive a round trip. This file reads it in a typed way.

use serde_json::{Value, json};

/// A tool call of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub call_id: String,
    pub name: String,
    pub input: Input,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// `function_call`: JSON text as the model wrote it, valid or not.
    Arguments(String),
    /// `custom_tool_call`: raw text.
    Raw(String),
}

/// The item's `type`. A message may lack it.
#[must_use]
pub fn kind(item: &Value) -> &str {
    match item.get("type").and_then(Value::as_str) {
        Some(kind) => kind,
        None if item.get("role").is_some() => "message",
        None => "",
    }
}

/// The item as a call, if it is one that expects an output.
#[must_use]
pub fn call(item: &Value) -> Option<Call> {
    let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let input = match kind(item) {
        "function_call" => Input::Arguments(text("arguments")),
        "custom_tool_call" => Input::Raw(text("input")),
        _ => return None,
    };
    Some(Call { call_id: text("call_id"), name: text("name"), input })
}

/// The call id that an output item answers.
#[must_use]
pub fn answers(item: &Value) -> Option<&str> {
    match kind(item) {
        "function_call_output" | "custom_tool_call_output" => item.get("call_id")?.as_str(),
        _ => None,
    }
}

/// The output item for a call.
#[must_use]
pub fn output(call: &Call, text: &str) -> Value {
    let kind = match call.input {
        Input::Arguments(_) => "function_call_output",
        Input::Raw(_) => "custom_tool_call_output",
    };
    json!({"type": kind, "call_id": call.call_id, "output": text})
}

/// A message with one text part.
#[must_use]
pub fn message(role: &str, text: &str) -> Value {
    let part = if role == "assistant" { "output_text" } else { "input_text" };
    json!({"type": "message", "role": role, "content": [{"type": part, "text": text}]})
}

/// The text of an assistant's message.
#[must_use]
pub fn assistant_text(item: &Value) -> Option<String> {
    if kind(item) != "message" || item.get("role").and_then(Value::as_str) != Some("assistant") {
        return None;
    }
    let parts = item.get("content")?.as_array()?;
    let texts = parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str));
    Some(texts.collect::<Vec<_>>().join(""))
}

/// The item as it is sent back: without its server-side id, which `store:false` makes useless, and
/// without reasoning in plain text.
#[must_use]
pub fn resent(mut item: Value) -> Value {
    let is_reasoning = kind(&item) == "reasoning";
    if let Some(fields) = item.as_object_mut() {
        fields.retain(|field, _| is_resent(field, is_reasoning));
    }
    item
}

/// Whether a field of an item is sent back with it.
#[must_use]
pub fn is_resent(field: &str, is_reasoning: bool) -> bool {
    field != "id" && !(is_reasoning && field == "content")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_and_its_output_pair() {
        let item = json!({"type": "custom_tool_call", "id": "ctc_1", "call_id": "c1", "name": "apply_patch", "input": "x"});
        let call = call(&item).expect("a call");
        assert_eq!(
            call,
            Call {
                call_id: "c1".into(),
                name: "apply_patch".into(),
                input: Input::Raw("x".into())
            }
        );
        let output = output(&call, "done");
        assert_eq!(
            output,
            json!({"type": "custom_tool_call_output", "call_id": "c1", "output": "done"})
        );
        assert_eq!(answers(&output), Some("c1"));
        assert_eq!(answers(&item), None);
    }

    #[test]
    fn reasoning_is_resent_without_id_and_plain_text() {
        let item = json!({"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "x"}], "encrypted_content": "e", "new": 1});
        assert_eq!(
            resent(item),
            json!({"type": "reasoning", "summary": [], "encrypted_content": "e", "new": 1})
        );
    }
}
