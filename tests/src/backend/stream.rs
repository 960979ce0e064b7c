//! One answer of the model as events, and events as bytes.

use serde_json::{Value, json};

use super::script::{Item, Reply, Wire};

/// An answer, ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Event by event; the last one is `response.completed`.
    pub(super) events: Vec<Value>,
    /// The items in it.
    pub(super) items: Vec<Value>,
}

/// Makes an answer. `serial` numbers calls and items within one backend.
pub(super) fn answer(reply: &Reply, model: &str, asked_bytes: usize, serial: &mut u32) -> Answer {
    let mut number = || {
        *serial += 1;
        *serial
    };
    let id = format!("resp_{:04}", number());
    let head = json!({"id": id, "object": "response", "status": "in_progress", "model": model, "output": []});
    let mut events = vec![
        json!({"type": "response.created", "response": head}),
        json!({"type": "response.in_progress", "response": head}),
    ];
    let mut items = Vec::new();
    for (index, what) in reply.items.iter().enumerate() {
        let item = whole(what, number());
        events.push(json!({
            "type": "response.output_item.added", "output_index": index, "item": begun(&item),
        }));
        events.extend(deltas(&item, index));
        events.push(
            json!({"type": "response.output_item.done", "output_index": index, "item": item}),
        );
        items.push(item);
    }
    let said: usize = items.iter().map(|item| item.to_string().len()).sum();
    let counted = [asked_bytes as u64 / 4, 0, said as u64 / 4];
    let [input, cached, output] = reply.usage.unwrap_or(counted);
    let mut completed = json!({
        "id": id, "object": "response", "status": "completed", "model": model, "output": [],
        "usage": {
            "input_tokens": input, "input_tokens_details": {"cached_tokens": cached},
            "output_tokens": output, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": input + output,
        },
    });
    if let Some(end_turn) = reply.end_turn {
        completed["end_turn"] = json!(end_turn);
    }
    events.push(json!({"type": "response.completed", "response": completed}));
    for (index, event) in events.iter_mut().enumerate() {
        event["sequence_number"] = json!(index);
    }
    Answer { events, items }
}

fn whole(item: &Item, number: u32) -> Value {
    let call_id = format!("call_{number:04}");
    match item {
        Item::Reason(encrypted) => json!({
            "type": "reasoning", "id": format!("rs_{number:04}"),
            "summary": [{"type": "summary_text", "text": "**Thinking**"}],
            "encrypted_content": encrypted,
        }),
        Item::Text(text) => json!({
            "type": "message", "id": format!("msg_{number:04}"), "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}],
        }),
        Item::Call { name, arguments, call_id: given } => json!({
            "type": "function_call", "id": format!("fc_{number:04}"), "status": "completed",
            "call_id": given.as_ref().unwrap_or(&call_id), "name": name,
            "arguments": arguments.to_string(),
        }),
        Item::BadCall { name, arguments } => json!({
            "type": "function_call", "id": format!("fc_{number:04}"), "status": "completed",
            "call_id": call_id, "name": name, "arguments": arguments,
        }),
        Item::Custom { name, input } => json!({
            "type": "custom_tool_call", "id": format!("ctc_{number:04}"), "status": "completed",
            "call_id": call_id, "name": name, "input": input,
        }),
        Item::Raw(value) => value.clone(),
    }
}

/// The item as it is first announced: nothing in it yet.
fn begun(item: &Value) -> Value {
    let mut begun = item.clone();
    for (name, empty) in [
        ("arguments", json!("")),
        ("input", json!("")),
        ("content", json!([])),
        ("summary", json!([])),
    ] {
        if begun.get(name).is_some() {
            begun[name] = empty;
        }
    }
    if begun.get("status").is_some() {
        begun["status"] = json!("in_progress");
    }
    begun
}

fn deltas(item: &Value, index: usize) -> Vec<Value> {
    let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, whole) = match airlock_shared::item::kind(item) {
        "message" => (
            "response.output_text.delta",
            airlock_shared::item::assistant_text(item).unwrap_or_default(),
        ),
        "function_call" => ("response.function_call_arguments.delta", text("arguments")),
        "custom_tool_call" => ("response.custom_tool_call_input.delta", text("input")),
        _ => return Vec::new(),
    };
    let id = text("id");
    let delta =
        |delta: String| json!({"type": kind, "item_id": id, "output_index": index, "delta": delta});
    pieces(&whole).into_iter().map(delta).collect()
}

/// A few pieces of a short text, so that what is looked for stands across a border; larger ones of
/// a long text.
fn pieces(text: &str) -> Vec<String> {
    let size = if text.len() > 1 << 16 { 1 << 13 } else { 13 };
    let chars: Vec<char> = text.chars().collect();
    chars.chunks(size).map(|piece| piece.iter().collect()).collect()
}

/// One event as bytes.
pub(super) fn frame(wire: Wire, event: &Value) -> Vec<u8> {
    let name = event.get("type").and_then(Value::as_str).unwrap_or("message").to_owned();
    let text = event.to_string();
    let frame = match wire {
        Wire::NoNames => format!("data: {text}\n\n"),
        Wire::Multiline => {
            let pretty = serde_json::to_string_pretty(event).unwrap_or(text);
            let lines: Vec<String> = pretty.lines().map(|line| format!("data: {line}")).collect();
            format!("event: {name}\n{}\n\n", lines.join("\n"))
        }
        Wire::Comments => {
            format!(": keep-alive\n\nevent: {name}\nid: 7\nretry: 1\ndata:{text}\n\n")
        }
        Wire::Junk => format!(
            "event: {name}\ndata: {text}\n\nevent: response.unheard_of\ndata: {{\"type\":\"response.unheard_of\"}}\n\n\
             data: {{\"type\":\"response.output_text.delta\",\n\ndata: [DONE]\n\n"
        ),
        Wire::Lf | Wire::CrLf | Wire::Cr | Wire::Bom | Wire::Bytewise => {
            format!("event: {name}\ndata: {text}\n\n")
        }
    };
    match wire {
        Wire::CrLf => frame.replace('\n', "\r\n").into_bytes(),
        Wire::Cr => frame.replace('\n', "\r").into_bytes(),
        _ => frame.into_bytes(),
    }
}
