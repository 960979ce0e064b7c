//! Attacks on the policy: a table of them, and generated bodies.

use airlock_shared::model::Model;
use proptest::prelude::*;
use serde_json::json;

use super::*;

mod named; // in which words a refusal names what it refuses

const SESSION: &str = "s-1";

fn try_out(route: Route, lite: bool, given: &Value, seen: &SeenItems) -> Result<Value, Denied> {
    let model = Model {
        slug: "gpt-5.5".into(),
        effort: Some("low".into()),
        parallel: true,
        lite,
        ..Model::default()
    };
    let pinned = PinnedSettings { model: &model, session: SESSION, service_tier: None };
    outgoing(route, &mut given.clone(), pinned, seen)
}

fn refused(given: &Value) -> String {
    match try_out(Route::Responses, false, given, &SeenItems::default()) {
        Err(Denied(why)) => why,
        Ok(sent) => panic!("{given} was sent on as {sent}"),
    }
}

/// A body with one more item.
fn with_item(item: Value) -> Value {
    json!({"instructions": "i", "input": [item]})
}

fn with_part(part: Value) -> Value {
    with_item(json!({"type": "message", "role": "user", "content": [part]}))
}

fn with_tool(tool: Value) -> Value {
    json!({"input": [], "tools": [tool]})
}

#[test]
fn attacks() {
    let hosted = [
        "web_search",
        "web_search_preview",
        "mcp",
        "code_interpreter",
        "file_search",
        "image_generation",
        "local_shell",
        "computer",
        "computer_use_preview",
        "tool_search",
        "namespace",
        "shell",
        "apply_patch",
        "",
    ];
    for kind in hosted {
        let tool = json!({"type": kind, "server_url": "https://evil.example/mcp"});
        let mark = format!("is of a type that a sandbox may not send; sandbox says: “{kind}”");
        assert!(refused(&with_tool(tool.clone())).contains(&mark), "{kind}");
        let hidden =
            with_item(json!({"type": "additional_tools", "role": "developer", "tools": [tool]}));
        assert!(refused(&hidden).contains(&mark), "{kind} inside additional_tools");
    }
    for key in [
        "background",
        "previous_response_id",
        "conversation",
        "prompt",
        "metadata",
        "user",
        "max_output_tokens",
        "temperature",
        "safety_identifier",
        "client_metadata",
        "Store",
        "access_programs",
        "context_management",
        "truncation",
        "\u{1b}[2J",
    ] {
        let mut body = json!({"input": []});
        body[key] = json!("x");
        let why = refused(&body);
        assert!(why.starts_with("the body has a field that a sandbox may not send; "), "{why}");
    }
    let rows: [(Value, &str); 27] = [
        (json!([]), "not an object"),
        (json!({"input": "x"}), "`input` must be a list"),
        (json!({}), "`input` must be a list"),
        (json!({"input": [], "store": true}), "`store` must be false"),
        (json!({"input": [], "tool_choice": {"type": "mcp"}}), "`tool_choice`"),
        (json!({"input": [], "tool_choice": "required"}), "`tool_choice`"),
        (json!({"input": [], "instructions": ["x"]}), "`instructions`"),
        (json!({"input": [], "tools": {}}), "`tools` must be a list"),
        (with_item(json!("x")), "is of a type that a sandbox may not send"),
        (with_item(json!({"type": "item_reference", "id": "rs_1"})), "item_reference"),
        (
            with_item(
                json!({"type": "web_search_call", "action": {"type": "open_page", "url": "https://evil.example"}}),
            ),
            "web_search_call",
        ),
        (
            with_item(json!({"type": "mcp_approval_response", "approve": true})),
            "mcp_approval_response",
        ),
        (with_item(json!({"type": "local_shell_call"})), "local_shell_call"),
        (
            with_item(json!({"type": "image_generation_call", "id": "ig_1"})),
            "image_generation_call",
        ),
        (with_item(json!({"type": "message", "role": "system", "content": []})), "role"),
        (
            with_item(json!({"type": "message", "role": "user", "content": [], "file_id": "f"})),
            "file_id",
        ),
        (
            with_item(
                json!({"type": "reasoning", "summary": [], "encrypted_content": "of another"}),
            ),
            "was not sent by the backend",
        ),
        (
            with_item(json!({"type": "compaction", "encrypted_content": "of another"})),
            "was not sent by the backend",
        ),
        (with_item(json!({"type": "additional_tools", "role": "user", "tools": []})), "role"),
        (
            with_part(
                json!({"type": "input_image", "image_url": "https://evil.example/?q=secret"}),
            ),
            "must be a data: URL",
        ),
        (
            with_part(json!({"type": "input_image", "image_url": "DATA:image/png;base64,eA=="})),
            "must be a data: URL",
        ),
        (
            with_part(
                json!({"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA", "file_id": "file-1"}),
            ),
            "file_id",
        ),
        (
            with_part(json!({"type": "input_file", "file_url": "https://evil.example/"})),
            "input_file",
        ),
        (with_part(json!({"type": "input_file", "file_id": "file-1"})), "input_file"),
        (
            with_item(
                json!({"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "image_url": "http://169.254.169.254/"}]}),
            ),
            "must be a data: URL",
        ),
        (
            with_tool(
                json!({"type": "function", "name": "x", "server_url": "https://evil.example"}),
            ),
            "server_url",
        ),
        (
            with_tool(
                json!({"type": "function", "name": "x", "parameters": {"properties": {"a": {"$ref": "https://evil.example/?q"}}}}),
            ),
            "$ref",
        ),
    ];
    for (body, mark) in rows {
        let why = refused(&body);
        assert!(why.contains(mark), "{body}: {why}");
    }
}

#[test]
fn what_is_pinned_is_overwritten_and_everything_else_is_rebuilt() {
    let given = json!({
        "model": "gpt-6-dear", "reasoning": {"effort": "ultra"}, "service_tier": "priority",
        "stream": false, "prompt_cache_key": "another", "include": ["file_search_call.results"],
        "text": {"verbosity": "high"}, "parallel_tool_calls": false, "tool_choice": "none",
        "instructions": "i",
        "input": [
            {"type": "message", "role": "user", "id": "msg_1", "content": [
                {"type": "input_text", "text": "t"}, {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA"}]},
            {"role": "assistant", "content": [{"type": "output_text", "text": "t", "annotations": []}]},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "s"}], "encrypted_content": null},
            {"type": "function_call", "id": "fc_1", "status": "completed", "call_id": "c1", "name": "bash", "arguments": "{"},
            {"type": "function_call_output", "call_id": "c1", "output": "o"},
            {"type": "custom_tool_call", "call_id": "c2", "name": "apply_patch", "input": "p"},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "o"}]},
        ],
        "tools": [
            {"type": "function", "name": "bash", "description": "d", "strict": false, "parameters": {"type": "object", "$defs": {}, "properties": {"a": {"$ref": "#/$defs/x"}}}},
            {"type": "custom", "name": "apply_patch", "description": "d", "format": {"type": "grammar", "syntax": "lark", "definition": "g"}},
        ],
    });
    let sent = try_out(Route::Responses, false, &given, &SeenItems::default());
    let expected = json!({
        "model": "gpt-5.5", "reasoning": {"effort": "low"}, "store": false, "stream": true,
        "prompt_cache_key": SESSION, "include": ["reasoning.encrypted_content"],
        "parallel_tool_calls": true, "tool_choice": "none", "instructions": "i",
        "input": [
            {"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "t"}, {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "t"}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "s"}], "encrypted_content": null},
            {"type": "function_call", "call_id": "c1", "name": "bash", "arguments": "{"},
            {"type": "function_call_output", "call_id": "c1", "output": "o"},
            {"type": "custom_tool_call", "call_id": "c2", "name": "apply_patch", "input": "p"},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "o"}]},
        ],
        "tools": given["tools"],
    });
    assert_eq!(sent, Ok(expected));
}

#[test]
fn our_own_bodies_pass_unchanged_in_both_shapes() {
    let tools = [
        json!({"type": "function", "name": "bash", "description": "d", "strict": false, "parameters": {"type": "object"}}),
    ];
    let input = [item::message("user", "hello")];
    for lite in [false, true] {
        let model = Model {
            slug: "gpt-5.5".into(),
            effort: Some("low".into()),
            parallel: true,
            lite,
            ..Model::default()
        };
        let prompt = request::Prompt { instructions: "i", tools: &tools, input: &input };
        let body = request::body(&model, SESSION, None, prompt);
        assert_eq!(try_out(Route::Responses, lite, &body, &SeenItems::default()), Ok(body.clone()));
    }
}

#[test]
fn what_the_backend_sent_comes_back_as_it_was() {
    let mut seen = SeenItems::default();
    let message = json!({"type": "message", "id": "m", "role": "assistant", "phase": "commentary", "content": [{"type": "output_text", "text": "t", "annotations": [], "new": 1}]});
    let unknown = json!({"type": "of_next_year", "id": "x", "url": "https://provider.example"});
    let reasoning = json!({"type": "reasoning", "id": "r", "summary": [], "content": null, "encrypted_content": "e"});
    for sent in [&message, &unknown, &reasoning] {
        seen.learn(sent);
    }
    let given = json!({"input": [message, unknown, reasoning, {"type": "reasoning", "summary": [], "encrypted_content": "e", "status": "x"}]});
    let sent = try_out(Route::Responses, false, &given, &seen).expect("sent");
    let expected = json!([
        {"type": "message", "role": "assistant", "phase": "commentary", "content": [{"type": "output_text", "text": "t", "annotations": [], "new": 1}]},
        {"type": "of_next_year", "url": "https://provider.example"},
        {"type": "reasoning", "summary": [], "encrypted_content": "e"},
        {"type": "reasoning", "summary": [], "encrypted_content": "e"},
    ]);
    assert_eq!(sent["input"], expected);
}

#[test]
fn a_compaction_request_has_its_own_keys() {
    let given = json!({"model": "x", "store": false, "stream": true, "input": [], "tools": [], "instructions": "i"});
    let sent = try_out(Route::Compact, false, &given, &SeenItems::default());
    assert_eq!(
        sent,
        Ok(
            json!({"model": "gpt-5.5", "reasoning": {"effort": "low"}, "parallel_tool_calls": true, "input": [], "tools": [], "instructions": "i"})
        )
    );
}

#[test]
fn duplicate_keys_vanish_by_parsing() {
    let text = r#"{"input":[],"store":true,"store":false,"input":[{"type":"message","role":"system","role":"user","content":[]}]}"#;
    let given = serde_json::from_str(text).expect("json");
    let sent =
        try_out(Route::Responses, false, &given, &SeenItems::default()).expect("sent").to_string();
    assert_eq!(sent.matches("store").count(), 1);
    assert!(!sent.contains("system"));
}

/// Values made of valid names and words, so that many of them pass.
fn value() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "message",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "reasoning",
        "additional_tools",
        "input_text",
        "output_text",
        "input_image",
        "function",
        "custom",
        "web_search",
        "mcp",
        "user",
        "developer",
        "system",
        "auto",
        "none",
        "https://evil.example",
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA",
        "file-1",
        "true",
    ]);
    let key = prop::sample::select(vec![
        "type",
        "role",
        "content",
        "text",
        "image_url",
        "file_id",
        "file_url",
        "server_url",
        "id",
        "call_id",
        "name",
        "arguments",
        "input",
        "output",
        "tools",
        "parameters",
        "format",
        "summary",
        "encrypted_content",
        "instructions",
        "tool_choice",
        "store",
        "model",
        "prompt",
    ]);
    let leaf = prop_oneof![
        word.prop_map(|word| json!(word)),
        any::<bool>().prop_map(|flag| json!(flag)),
        Just(Value::Null),
        any::<i32>().prop_map(|number| json!(number)),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((key.clone(), inner), 0..6).prop_map(|fields| fields
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect()),
        ]
    })
}

/// What no outgoing body may contain, outside of parameter schemas.
fn assert_clean(value: &Value) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                assert!(
                    !["file_id", "file_url", "server_url", "prompt"].contains(&key.as_str()),
                    "{key}"
                );
                if key == "image_url" {
                    assert!(value.as_str().is_some_and(|url| url.starts_with("data:image/")));
                }
                if key == "type" {
                    assert!(!["web_search", "mcp"].contains(&value.as_str().unwrap_or_default()));
                }
                if key != "parameters" {
                    assert_clean(value);
                }
            }
        }
        Value::Array(list) => list.iter().for_each(assert_clean),
        _ => {}
    }
}

proptest! {
    #[test]
    fn whatever_goes_out_is_of_the_allow_lists(items in prop::collection::vec(value(), 0..4), tools in value(), extra in value(), route in any::<bool>()) {
        let mut body = json!({"input": items, "instructions": "i"});
        if tools.is_array() { body["tools"] = tools; }
        let route = if route { Route::Responses } else { Route::Compact };
        for given in [&body, &extra] {
            if let Ok(sent) = try_out(route, false, given, &SeenItems::default()) {
                for key in sent.as_object().expect("an object").keys() {
                    let known = OWN.contains(&key.as_str()) || PINNED.contains(&key.as_str());
                    prop_assert!(known, "{}", key);
                }
                prop_assert_eq!(&sent["model"], "gpt-5.5");
                assert_clean(&sent);
                // What was sent is allowed, and passes unchanged again.
                prop_assert_eq!(try_out(route, false, &sent, &SeenItems::default()), Ok(sent));
            }
        }
    }
}
