//! Model catalogues (codex protocol, C.7, J.4): what `GET …/models` answers.

use serde_json::{Value, json};

/// The classic model of the default catalogue, and its default.
pub const CLASSIC: &str = "gpt-5.5";
/// The model of the default catalogue that wants the lite shape.
pub const LITE: &str = "gpt-5.6-luna";
/// A classic model without parallel calls whose patch tool is a function.
pub const PLAIN: &str = "gpt-5.4-mini";

/// What a ChatGPT account is answered.
#[must_use]
pub fn chatgpt() -> Value {
    json!({"models": [
        model(CLASSIC, 1, json!({})),
        model(LITE, 2, json!({"use_responses_lite": true, "tool_mode": "code_mode_only"})),
        model(PLAIN, 3, json!({
            "supports_parallel_tool_calls": false, "apply_patch_tool_type": "function",
            "support_verbosity": false, "truncation_policy": {"mode": "bytes", "limit": 10000},
        })),
        model("codex-auto-review", 0, json!({"visibility": "hide"})),
    ]})
}

/// What an API key is answered: names, and no default among them.
#[must_use]
pub fn api() -> Value {
    let entry =
        |id: &str| json!({"id": id, "object": "model", "created": 1, "owned_by": "scripted"});
    json!({"object": "list", "data": [entry(CLASSIC), entry(LITE), entry(PLAIN)]})
}

fn model(slug: &str, priority: i64, differences: Value) -> Value {
    let efforts = ["low", "medium", "high"].map(|e| json!({"effort": e, "description": e}));
    let mut model = json!({
        "slug": slug, "display_name": slug, "description": "scripted", "visibility": "list",
        "priority": priority, "supported_in_api": true, "shell_type": "shell_command",
        "default_reasoning_level": "medium", "supported_reasoning_levels": efforts,
        "supports_reasoning_summaries": true, "default_reasoning_summary": "auto",
        "support_verbosity": true, "default_verbosity": "low",
        "apply_patch_tool_type": "freeform", "supports_parallel_tool_calls": true,
        "truncation_policy": {"mode": "tokens", "limit": 10000}, "context_window": 272_000,
        "input_modalities": ["text", "image"], "base_instructions": "scripted",
        "experimental_supported_tools": [], "minimal_client_version": "0.0.1",
        "upgrade": null, "availability_nux": null, "use_responses_lite": false,
    });
    if let (Some(model), Value::Object(differences)) = (model.as_object_mut(), differences) {
        model.extend(differences);
    }
    model
}

/// Whether a catalogue knows a model, and whether it wants the lite shape.
pub(super) fn find(catalogue: &Value, slug: &str) -> Option<bool> {
    let list = |name: &str| catalogue.get(name).and_then(Value::as_array).into_iter().flatten();
    let named = list("models").find(|model| {
        let known = model.get("slug").and_then(Value::as_str);
        known.is_some_and(|known| slug.starts_with(known))
    });
    if let Some(model) = named {
        return Some(model.get("use_responses_lite").and_then(Value::as_bool) == Some(true));
    }
    list("data").any(|model| model.get("id").and_then(Value::as_str) == Some(slug)).then_some(false)
}
