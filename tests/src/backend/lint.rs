//! What the real backend refuses, refused here in its own words (codex protocol, C.3, J.5), and
//! what it lets pass though it is wrong, kept as complaints: a test that passes has none.

use std::collections::HashSet;

use airlock_shared::item;
use serde_json::Value;

use super::catalogue;
use crate::wire::plain::Plain;
use crate::wire::record::Recorded;

/// Top-level keys that are taken.
const KEYS: [&str; 17] = [
    "model",
    "instructions",
    "input",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "store",
    "stream",
    "include",
    "service_tier",
    "prompt_cache_key",
    "text",
    "client_metadata",
    "stream_options",
    "access_programs",
    "user",
];

/// Item types that are taken, and the prefix an id of theirs must have.
const ITEMS: [(&str, &str); 10] = [
    ("message", "msg_"),
    ("reasoning", "rs_"),
    ("function_call", "fc_"),
    ("function_call_output", "fco_"),
    ("custom_tool_call", "ctc_"),
    ("custom_tool_call_output", "ctco_"),
    ("additional_tools", "at_"),
    ("compaction", "cmp_"),
    ("compaction_summary", "cmp_"),
    ("web_search_call", "ws_"),
];

/// What has been said in one conversation, and what was wrong with it.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Whether the client is ours: then headers and history are held to what we promise.
    pub(super) ours: bool,
    pub(super) calls: HashSet<String>,
    pub(super) reasoning: HashSet<String>,
    /// The items of all answers that were completed, in order, as they must come back.
    pub(super) said: Vec<Value>,
    pub(super) turn_state: Option<String>,
    pub(super) session: Option<String>,
    pub(super) complaints: Vec<String>,
}

impl Ledger {
    fn complain(&mut self, what: impl Into<String>) {
        let what = what.into();
        if self.ours && !self.complaints.contains(&what) {
            self.complaints.push(what);
        }
    }

    /// The 400 this request deserves, if it does.
    pub(super) fn check(&mut self, request: &Recorded, models: &Value) -> Option<Plain> {
        self.check_headers(request);
        let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
            return Some(Plain::detail("Request body is not valid JSON"));
        };
        let lite_asked = request.header(airlock_shared::request::LITE) == Some("true");
        if let Some(refused) = check_body(&body, models, lite_asked) {
            return Some(refused);
        }
        let input = body.get("input").and_then(Value::as_array).cloned().unwrap_or_default();
        if let Some(refused) = self.check_items(&input) {
            return Some(refused);
        }
        self.check_ours(request, &body, models, lite_asked);
        self.check_history(&input);
        None
    }

    /// Pairs, ids and encrypted content.
    fn check_items(&mut self, input: &[Value]) -> Option<Plain> {
        let invalid = |message: String| Plain::error(400, "invalid_request_error", "", &message);
        let mut open: Vec<(String, &'static str)> = Vec::new();
        let mut seen = HashSet::new();
        for (index, entry) in input.iter().enumerate() {
            let kind = item::kind(entry);
            let Some((_, prefix)) = ITEMS.iter().find(|(known, _)| *known == kind) else {
                return Some(invalid(match kind {
                    "item_reference" => {
                        "Items are not persisted when `store` is set to false.".to_owned()
                    }
                    other => format!("Invalid value: '{other}' (input[{index}].type)."),
                }));
            };
            if let Some(id) = entry.get("id").and_then(Value::as_str)
                && !id.starts_with(prefix)
            {
                return Some(invalid(format!(
                    "Invalid 'input[{index}].id': '{id}'. Expected an ID that begins with '{}'.",
                    prefix.trim_end_matches('_')
                )));
            }
            if let Some(call) = item::call(entry) {
                if !self.calls.contains(&call.call_id) {
                    self.complain(format!("a call we never made came back: {}", call.call_id));
                }
                if !seen.insert(call.call_id.clone()) {
                    return Some(invalid(format!(
                        "Duplicate call_id '{}' in input.",
                        call.call_id
                    )));
                }
                let what =
                    if kind == "function_call" { "function call" } else { "custom tool call" };
                open.push((call.call_id, what));
            }
            if let Some(call_id) = item::answers(entry) {
                let Some(position) = open.iter().position(|(id, _)| id == call_id) else {
                    let what = kind.trim_end_matches("_output").replace('_', " ");
                    return Some(invalid(format!(
                        "No tool call found for {what} output with call_id {call_id}."
                    )));
                };
                let (_, what) = open.remove(position);
                if !kind.starts_with(&what.replace(' ', "_")) {
                    self.complain(format!("{call_id} is a {what} and was answered by a {kind}"));
                }
            }
            if let Some(encrypted) = entry.get("encrypted_content").and_then(Value::as_str)
                && kind == "reasoning"
                && !self.reasoning.contains(encrypted)
            {
                return Some(Plain::error(
                    400,
                    "invalid_request_error",
                    "invalid_encrypted_content",
                    "The encrypted content could not be verified.",
                ));
            }
        }
        let (call_id, what) = open.first()?;
        Some(invalid(format!("No tool output found for {what} {call_id}.")))
    }

    fn check_headers(&mut self, request: &Recorded) {
        for name in ["originator", "version", "user-agent", "session-id", "thread-id"] {
            if request.header(name).is_none_or(str::is_empty) {
                self.complain(format!("no header {name}"));
            }
        }
        if request.header("accept") != Some("text/event-stream") {
            self.complain("accept is not text/event-stream");
        }
        if request.header("content-type") != Some("application/json") {
            self.complain("content-type is not application/json");
        }
        for name in
            ["cookie", "referer", "proxy-authorization", "x-airlock-session-key", "traceparent"]
        {
            if request.header(name).is_some() {
                self.complain(format!("a header that has no place here: {name}"));
            }
        }
        for (index, (name, _)) in request.headers.iter().enumerate() {
            if request.headers[..index].iter().any(|(earlier, _)| earlier == name) {
                self.complain(format!("header {name} twice"));
            }
        }
        let is_key = request.bearer().is_some_and(|token| token.starts_with("sk-"));
        let account = request.header(airlock_shared::request::ACCOUNT);
        match (is_key, account) {
            (false, None) => self.complain("a ChatGPT token without chatgpt-account-id"),
            (true, Some(_)) => self.complain("an API key with chatgpt-account-id"),
            _ => {}
        }
    }

    /// What only a client of ours is held to.
    fn check_ours(&mut self, request: &Recorded, body: &Value, models: &Value, lite_asked: bool) {
        let session = request.header("session-id").unwrap_or_default().to_owned();
        for name in ["thread-id", "x-client-request-id"] {
            if request.header(name) != Some(&session) {
                self.complain(format!("{name} is not the session's id"));
            }
        }
        if body.get("prompt_cache_key").and_then(Value::as_str) != Some(&session) {
            self.complain("prompt_cache_key is not the session's id");
        }
        match &self.session {
            None => self.session = Some(session),
            Some(earlier) if *earlier != session => {
                self.complain("the session's id changed within a session");
            }
            Some(_) => {}
        }
        if let Some(state) = self.turn_state.clone()
            && request.header(airlock_shared::request::TURN_STATE) != Some(&state)
        {
            self.complain("x-codex-turn-state was not said again");
        }
        let slug = body.get("model").and_then(Value::as_str).unwrap_or_default();
        if catalogue::find(models, slug) == Some(true) && !lite_asked {
            self.complain("a model that wants the lite shape was asked in the classic one");
        }
        let reasons = body.get("reasoning").is_some_and(Value::is_object);
        let include = serde_json::json!(["reasoning.encrypted_content"]);
        if reasons && body.get("include") != Some(&include) {
            self.complain("include does not ask for encrypted reasoning");
        }
        for tool in tools(body) {
            let kind = tool.get("type").and_then(Value::as_str).unwrap_or_default();
            if !matches!(kind, "function" | "custom") {
                self.complain(format!("a tool the provider would run: {kind}"));
            }
        }
    }

    /// Everything that was said comes back, in order.
    fn check_history(&mut self, input: &[Value]) {
        let compacted = input.iter().any(|entry| item::kind(entry).starts_with("compaction"));
        if compacted {
            return;
        }
        let mut rest = input.iter().map(fingerprint);
        let lost = self.said.iter().find(|said| !rest.any(|entry| entry == **said)).cloned();
        if let Some(lost) = lost {
            self.complain(format!("an item was lost or moved in the history: {lost}"));
        }
    }
}

/// The body as such: keys, shapes, the model.
fn check_body(body: &Value, models: &Value, lite_asked: bool) -> Option<Plain> {
    let detail = |message: &str| Some(Plain::detail(message));
    let Some(fields) = body.as_object() else { return detail("Request body must be an object") };
    if let Some(unknown) = fields.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return detail(&format!("Unsupported parameter: {unknown}"));
    }
    let slug = body.get("model").and_then(Value::as_str).unwrap_or_default();
    let Some(wants_lite) = catalogue::find(models, slug) else {
        return detail(&format!(
            "The '{slug}' model is not supported when using Codex with a ChatGPT account."
        ));
    };
    let instructions = body.get("instructions").and_then(Value::as_str).unwrap_or_default();
    if !lite_asked && instructions.is_empty() {
        return detail("Instructions are required");
    }
    let Some(input) = body.get("input").and_then(Value::as_array) else {
        return detail("Input must be a list");
    };
    if body.get("store") != Some(&Value::Bool(false)) {
        return detail("Store must be set to false");
    }
    if body.get("stream") != Some(&Value::Bool(true)) {
        return detail("Stream must be set to true");
    }
    if !lite_asked {
        return None;
    }
    let lite = "X-OpenAI-Internal-Codex-Responses-Lite";
    if !wants_lite {
        return detail(&format!("This model is not supported when using {lite}."));
    }
    let client_tools = |tool: &Value| {
        matches!(tool.get("type").and_then(Value::as_str), Some("function" | "custom"))
    };
    if body.get("tools").is_some() || !tools(body).iter().all(client_tools) {
        return detail(&format!(
            "{lite} only supports function tools, custom tools, and client-executed tool search."
        ));
    }
    let first = input.first().map(item::kind);
    if first != Some("additional_tools") || !instructions.is_empty() {
        return detail(&format!("{lite} requires tools and instructions to be input items."));
    }
    if body.pointer("/reasoning/context").and_then(Value::as_str) != Some("all_turns") {
        return detail(&format!("{lite} requires reasoning.context to be 'all_turns'."));
    }
    if body.get("parallel_tool_calls") != Some(&Value::Bool(false)) {
        return detail(&format!("{lite} requires parallel_tool_calls to be false."));
    }
    None
}

/// The tools on offer, wherever they stand.
fn tools(body: &Value) -> Vec<Value> {
    let input = body.get("input").and_then(Value::as_array).into_iter().flatten();
    let lite = input.filter(|entry| item::kind(entry) == "additional_tools");
    let lists = lite.filter_map(|entry| entry.get("tools")).chain(body.get("tools"));
    lists.filter_map(Value::as_array).flatten().cloned().collect()
}

/// An item as far as it must survive a round trip.
pub(super) fn fingerprint(entry: &Value) -> Value {
    let text = item::assistant_text(entry);
    let mut entry = item::resent(entry.clone());
    if let Some(fields) = entry.as_object_mut() {
        fields.retain(|name, _| {
            matches!(
                name.as_str(),
                "type" | "role" | "name" | "call_id" | "arguments" | "input" | "encrypted_content"
            )
        });
    }
    if let Some(text) = text {
        entry["text"] = Value::String(text);
    }
    entry
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(body: &Value) -> Recorded {
        Recorded {
            at: crate::clock::now(),
            answered: None,
            method: "POST".into(),
            target: "/v1/responses".into(),
            headers: Vec::new(),
            body: body.to_string().into_bytes(),
            status: 0,
        }
    }

    fn good() -> Value {
        json!({"model": "gpt-5.5", "instructions": "x", "input": [], "store": false, "stream": true})
    }

    fn refusal(change: impl Fn(&mut Value)) -> String {
        let mut body = good();
        change(&mut body);
        let mut ledger = Ledger { calls: ["known".to_owned()].into(), ..Ledger::default() };
        let refused = ledger.check(&request(&body), &catalogue::chatgpt());
        refused.map(|plain| plain.body).unwrap_or_default()
    }

    #[test]
    fn the_literal_refusals_of_the_real_backend() {
        assert_eq!(refusal(|_| {}), "");
        let detail = |text: &str| json!({"detail": text}).to_string();
        assert_eq!(refusal(|b| b["instructions"] = json!("")), detail("Instructions are required"));
        assert_eq!(refusal(|b| b["input"] = json!("hi")), detail("Input must be a list"));
        assert_eq!(refusal(|b| b["store"] = json!(true)), detail("Store must be set to false"));
        assert_eq!(refusal(|b| b["stream"] = json!(false)), detail("Stream must be set to true"));
        assert_eq!(
            refusal(|b| b["max_output_tokens"] = json!(1)),
            detail("Unsupported parameter: max_output_tokens")
        );
        assert_eq!(
            refusal(|b| b["model"] = json!("nobody")),
            detail("The 'nobody' model is not supported when using Codex with a ChatGPT account.")
        );
    }

    #[test]
    fn calls_and_outputs_pair() {
        let call =
            json!({"type": "function_call", "call_id": "known", "name": "n", "arguments": "{}"});
        let output = json!({"type": "function_call_output", "call_id": "known", "output": ""});
        let refused = |items: Value| refusal(|b| b["input"] = items.clone());
        assert_eq!(refused(json!([call, output])), "");
        assert!(refused(json!([call])).contains("No tool output found for function call known"));
        assert!(refused(json!([output])).contains("No tool call found for function call output"));
        assert!(refused(json!([call, call, output])).contains("Duplicate call_id"));
        assert!(refused(json!([{"type": "item_reference", "id": "x"}])).contains("not persisted"));
        let reasoning = json!({"type": "reasoning", "summary": [], "encrypted_content": "made up"});
        assert!(refused(json!([reasoning])).contains("could not be verified"));
    }
}
