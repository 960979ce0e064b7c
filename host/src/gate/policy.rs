//! What a model request of the sandbox may contain: the whole policy of the relay, pure.
//!
//! The outgoing body is built anew from allow-lists; the sandbox's bytes are never forwarded. Pinned
//! settings (model, effort, tier, `store:false`, `stream:true`, …) come from [`request::fixed`],
//! whatever the sandbox sent. Items that the backend itself sent in this session may be sent back
//! unchanged.

use airlock_shared::{item, limits, model::Model, request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::quoted::quoted_from_sandbox;
use super::seen::SeenItems;

/// The endpoint of the backend that a request is for. No other endpoint takes a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Responses,
    Compact,
}

/// The settings that a session pins.
#[derive(Clone, Copy)]
pub(super) struct PinnedSettings<'a> {
    pub(super) model: &'a Model,
    pub(super) session: &'a str,
    pub(super) service_tier: Option<&'a str>,
}

/// Why a request is refused: one line that names the field, for the sandbox and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Denied(pub(super) String);

/// Fields that the sandbox may set.
const OWN: [&str; 4] = ["instructions", "input", "tools", "tool_choice"];
/// Fields that it may send, but that are pinned: its values are ignored.
const PINNED: [&str; 10] = [
    "model",
    "parallel_tool_calls",
    "reasoning",
    "store",
    "stream",
    "include",
    "service_tier",
    "prompt_cache_key",
    "text",
    "stream_options",
];
/// The pinned fields that a compaction request has.
const COMPACT: [&str; 4] = ["model", "parallel_tool_calls", "reasoning", "text"];
/// Fields that are dropped: they have no effect without the backend's memory, and do no harm with it.
const DROPPED: [&str; 4] = ["id", "status", "phase", "end_turn"];

/// The values of a picture's `detail`.
const DETAILS: [&str; 4] = ["auto", "low", "high", "original"];

/// Builds the outgoing body, or returns why not. It moves values out of `given`, because a second copy
/// of a large request would need as much memory again.
pub(super) fn outgoing(
    route: Route,
    given: &mut Value,
    pinned: PinnedSettings<'_>,
    seen: &SeenItems,
) -> Result<Value, Denied> {
    let given = given.as_object_mut().ok_or_else(|| Denied("the body is not an object".into()))?;
    // THREAT: `background`, `previous_response_id`, `conversation`, `prompt` and fields of the future
    // act on state of other sessions. Tried by gate::policy::tests::attacks.
    if let Some(key) =
        given.keys().find(|key| !OWN.contains(&key.as_str()) && !PINNED.contains(&key.as_str()))
    {
        return Err(Denied(format!("the body {}", unknown_field(key))));
    }
    if given.get("store").is_some_and(|store| store != &json!(false)) {
        return denied("store", "must be false");
    }
    let mut body = request::fixed(pinned.model, pinned.session, pinned.service_tier);
    if route == Route::Compact {
        body.retain(|key, _| COMPACT.contains(&key.as_str()));
    }
    let choice = given.get("tool_choice").cloned().unwrap_or_else(|| json!("auto"));
    if choice != json!("auto") && choice != json!("none") {
        return denied("tool_choice", "may be auto or none");
    }
    if route == Route::Responses {
        body.insert("tool_choice".into(), choice);
    }
    match given.get_mut("instructions") {
        None => {}
        Some(text @ Value::String(_)) => drop(body.insert("instructions".into(), text.take())),
        Some(_) => return denied("instructions", "must be a string"),
    }
    if let Some(list) = given.get_mut("tools") {
        body.insert("tools".into(), tools(list, "tools")?);
    }
    let input = given.get_mut("input").and_then(Value::as_array_mut);
    let input = input.ok_or_else(|| Denied("`input` must be a list".into()))?;
    if input.len() > limits::INPUT_ITEMS {
        return denied("input", "has too many items");
    }
    let items = input
        .iter_mut()
        .enumerate()
        .map(|(n, given)| entry(given, &format!("input[{n}]"), pinned, seen));
    body.insert("input".into(), Value::Array(items.collect::<Result<_, _>>()?));
    Ok(Value::Object(body))
}

/// One item of the input.
fn entry(
    given: &mut Value,
    at: &str,
    pinned: PinnedSettings<'_>,
    seen: &SeenItems,
) -> Result<Value, Denied> {
    if seen.item(given) {
        return Ok(item::resent(given.take()));
    }
    let kind = item::kind(given).to_owned();
    let kind = kind.as_str();
    let fields = match kind {
        "message" => fields(given, at, &["role", "content"], &DROPPED)?,
        "reasoning" => {
            fields(given, at, &["summary", "encrypted_content"], &["id", "status", "content"])?
        }
        "compaction" | "compaction_summary" => fields(given, at, &["encrypted_content"], &DROPPED)?,
        "function_call" => {
            fields(given, at, &["call_id", "name", "arguments", "namespace"], &DROPPED)?
        }
        "custom_tool_call" => fields(given, at, &["call_id", "name", "input"], &DROPPED)?,
        "function_call_output" | "custom_tool_call_output" => {
            fields(given, at, &["call_id", "output"], &DROPPED)?
        }
        "additional_tools" => fields(given, at, &["role", "tools"], &["id"])?,
        // THREAT: an item of a tool that the provider runs makes the provider run or fetch something.
        // Tried by gate::policy::tests::attacks.
        other => return denied(at, &unknown_type(other)),
    };
    let mut built = Map::new();
    built.insert("type".into(), json!(kind));
    for (name, value) in fields {
        let at = format!("{at}.{name}");
        let value = match name {
            "role" => role(kind, value, &at)?,
            "content" => parts(value, &at, &["input_text", "output_text", "input_image"])?,
            "output" if value.is_string() => value.take(),
            "output" => parts(value, &at, &["input_text", "input_image"])?,
            "summary" => parts(value, &at, &["summary_text"])?,
            "tools" => tools(value, &at)?,
            // THREAT: state of another conversation, or of another account, is used with our login.
            // Tried by gate::policy::tests::attacks.
            "encrypted_content" if !value.is_null() && !seen.state(value) => {
                return denied(&at, "was not sent by the backend in this session");
            }
            "encrypted_content" => value.take(),
            _ => text(value, &at)?,
        };
        built.insert(name.to_owned(), value);
    }
    let prefix = if kind == "additional_tools" { "at" } else { "msg" };
    if pinned.model.lite
        && given.get("id") == Some(&json!(request::lite_id(pinned.session, prefix)))
    {
        built.insert("id".into(), given["id"].clone());
    }
    Ok(Value::Object(built))
}

/// Tools that the sandbox runs itself; never one that the provider would run.
fn tools(given: &mut Value, at: &str) -> Result<Value, Denied> {
    let list = given.as_array_mut().ok_or_else(|| Denied(format!("`{at}` must be a list")))?;
    if list.len() > limits::TOOLS {
        return denied(at, "has too many tools");
    }
    let built = list.iter_mut().enumerate().map(|(n, tool)| {
        let at = format!("{at}[{n}]");
        let kind = kind_of(tool);
        let keep: &[&str] = match kind.as_str() {
            "function" => &["name", "description", "strict", "parameters"],
            "custom" => &["name", "description", "format"],
            // THREAT: `web_search`, `mcp` with a `server_url`, `code_interpreter`, … give a sandbox
            // without a network the provider's network. Tried by gate::policy::tests::attacks.
            other => return denied(&at, &unknown_type(other)),
        };
        let mut built = Map::new();
        built.insert("type".into(), json!(kind));
        for (name, value) in fields(tool, &at, keep, &[])? {
            let at = format!("{at}.{name}");
            let value = match name {
                "strict" if value.is_boolean() => value.take(),
                "parameters" => schema(value, &at)?,
                "format" => grammar(value, &at)?,
                _ => text(value, &at)?,
            };
            built.insert(name.to_owned(), value);
        }
        Ok(Value::Object(built))
    });
    Ok(Value::Array(built.collect::<Result<_, _>>()?))
}

/// Content parts of the named types, rebuilt.
fn parts(given: &mut Value, at: &str, kinds: &[&str]) -> Result<Value, Denied> {
    let list = given.as_array_mut().ok_or_else(|| Denied(format!("`{at}` must be a list")))?;
    let built = list.iter_mut().enumerate().map(|(n, part)| {
        let at = format!("{at}[{n}]");
        let kind = kind_of(part);
        if !kinds.contains(&kind.as_str()) {
            return denied(&at, &unknown_type(&kind));
        }
        let keep: &[&str] =
            if kind == "input_image" { &["image_url", "detail"] } else { &["text"] };
        let mut built = Map::new();
        built.insert("type".into(), json!(kind));
        for (name, value) in fields(part, &at, keep, &["annotations", "logprobs"])? {
            let at = format!("{at}.{name}");
            // THREAT: the provider fetches an address that contains a secret of the sandbox.
            // Tried by gate::policy::tests::attacks.
            if name == "image_url" && !value.as_str().is_some_and(is_picture) {
                return denied(&at, "must be a data: URL of a png, jpeg, gif or webp in base64");
            }
            if name == "detail" && !value.as_str().is_some_and(|it| DETAILS.contains(&it)) {
                return denied(&at, &format!("may be {}", DETAILS.join(", ")));
            }
            built.insert(name.to_owned(), text(value, &at)?);
        }
        Ok(Value::Object(built))
    });
    Ok(Value::Array(built.collect::<Result<_, _>>()?))
}

/// Whether the picture is contained in its URL, and begins like one of its kind.
///
/// THREAT: the provider fetches addresses that an SVG names, also if the SVG is declared as a png; the
/// next program reads `data:image/../…` as something else. Tried by
/// gate::policy::foreign::only_pictures_are_pictures.
fn is_picture(url: &str) -> bool {
    let data = url.strip_prefix("data:image/").and_then(|rest| rest.split_once(";base64,"));
    data.is_some_and(|(kind, data)| {
        let data = data.strip_suffix("==").or(data.strip_suffix('=')).unwrap_or(data);
        let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/".contains(&byte);
        data.bytes().all(is_base64) && begins_as(kind, data)
    })
}

/// Whether data in base64 begins like a picture of this kind.
fn begins_as(kind: &str, data: &str) -> bool {
    let begin = data.as_bytes().get(..16).and_then(|begin| STANDARD.decode(begin).ok());
    let begin = begin.unwrap_or_default();
    match kind {
        "png" => begin.starts_with(b"\x89PNG\r\n\x1a\n"),
        "jpeg" => begin.starts_with(b"\xff\xd8\xff"),
        "gif" => begin.starts_with(b"GIF87a") || begin.starts_with(b"GIF89a"),
        "webp" => begin.starts_with(b"RIFF") && begin.ends_with(b"WEBP"),
        _ => false,
    }
}

/// A custom tool's format: text, or a grammar.
fn grammar(given: &mut Value, at: &str) -> Result<Value, Denied> {
    let mut built = Map::new();
    for (name, value) in fields(given, at, &["type", "syntax", "definition"], &[])? {
        built.insert(name.to_owned(), text(value, at)?);
    }
    Ok(Value::Object(built))
}

/// A function's parameters: any JSON Schema without references to other documents.
fn schema(given: &mut Value, at: &str) -> Result<Value, Denied> {
    // THREAT: the provider fetches what a schema refers to. A list of targets counts too, and so does
    // the keyword of an older draft. Tried by gate::policy::foreign::a_schema_points_nowhere_else.
    let is_foreign = |key: &str, value: &Value| match key {
        "$ref" | "$dynamicRef" | "$recursiveRef" | "$schema" | "$id" | "$vocabulary" => {
            !value.as_str().is_some_and(|target| target.starts_with('#'))
        }
        // A keyword up to draft 4. A property may have this name; its value is a schema, not a string.
        "id" => value.as_str().is_some_and(|target| !target.starts_with('#')),
        _ => false,
    };
    let mut left = vec![&*given];
    while let Some(value) = left.pop() {
        match value {
            Value::Object(object) => {
                if let Some((key, _)) = object.iter().find(|(key, value)| is_foreign(key, value)) {
                    return denied(at, &format!("may not refer to another document with `{key}`"));
                }
                left.extend(object.values());
            }
            Value::Array(list) => left.extend(list),
            _ => {}
        }
    }
    if given.is_object() { Ok(given.take()) } else { denied(at, "must be an object") }
}

fn role(kind: &str, given: &Value, at: &str) -> Result<Value, Denied> {
    let allowed: &[&str] = if kind == "additional_tools" {
        &["developer"]
    } else {
        &["user", "assistant", "developer"]
    };
    match given.as_str() {
        Some(role) if allowed.contains(&role) => Ok(json!(role)),
        _ => denied(at, &format!("may be {}", allowed.join(", "))),
    }
}

/// The type of a part or a tool.
fn kind_of(given: &Value) -> String {
    given.get("type").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn text(given: &mut Value, at: &str) -> Result<Value, Denied> {
    if given.is_string() { Ok(given.take()) } else { denied(at, "must be a string") }
}

/// The fields of an object that are kept. `type` and the fields of `drop` are ignored; any other is
/// refused by name.
fn fields<'a>(
    given: &'a mut Value,
    at: &str,
    keep: &[&'static str],
    drop: &[&str],
) -> Result<Vec<(&'static str, &'a mut Value)>, Denied> {
    let given = given.as_object_mut().ok_or_else(|| Denied(format!("`{at}` must be an object")))?;
    let mut kept = Vec::with_capacity(given.len());
    for (name, value) in given {
        match keep.iter().find(|known| **known == name.as_str()) {
            Some(known) => kept.push((*known, value)),
            None if name == "type" || drop.contains(&name.as_str()) => {}
            None => return denied(at, &unknown_field(name)),
        }
    }
    Ok(kept)
}

/// `at` must only contain text of ours.
fn denied<T>(at: &str, why: &str) -> Result<T, Denied> {
    Err(Denied(format!("`{at}` {why}")))
}

/// How much of a name from the sandbox is shown, in characters.
const NAME: usize = 80;

fn unknown_field(name: &str) -> String {
    format!("has a field that a sandbox may not send; {}", quoted_from_sandbox(name, NAME))
}

fn unknown_type(kind: &str) -> String {
    format!("is of a type that a sandbox may not send; {}", quoted_from_sandbox(kind, NAME))
}

#[cfg(test)]
mod foreign; // what would make the provider look elsewhere
#[cfg(test)]
mod tests;
