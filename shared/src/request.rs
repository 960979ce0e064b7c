//! One request to the model: its body and its headers (codex protocol, C.2, C.3, J.2, J.5).
//!
//! The sandbox builds bodies. With relay credentials the host builds them again from what it
//! allows, with [`fixed`] for all fields that the session fixes. So both halves agree.

use serde_json::{Map, Value, json};

use crate::job::Backend;
use crate::model::Model;

/// The fields that change from request to request.
#[derive(Clone, Copy, Debug)]
pub struct Prompt<'a> {
    pub instructions: &'a str,
    pub tools: &'a [Value],
    pub input: &'a [Value],
}

/// The fields that a session fixes: every key of the body except `instructions`, `input` and
/// `tools`.
#[must_use]
pub fn fixed(model: &Model, session: &str, service_tier: Option<&str>) -> Map<String, Value> {
    let mut reasoning = Map::new();
    if let Some(effort) = &model.effort {
        reasoning.insert("effort".into(), json!(effort));
    }
    if let Some(summary) = &model.summary {
        reasoning.insert("summary".into(), json!(summary));
    }
    if model.lite {
        reasoning.insert("context".into(), json!("all_turns"));
    }
    let mut body = Map::new();
    body.insert("model".into(), json!(model.slug));
    body.insert("tool_choice".into(), json!("auto"));
    body.insert("parallel_tool_calls".into(), json!(model.parallel && !model.lite));
    body.insert("reasoning".into(), Value::Object(reasoning));
    body.insert("store".into(), json!(false));
    body.insert("stream".into(), json!(true));
    body.insert("include".into(), json!(["reasoning.encrypted_content"]));
    if let Some(tier) = service_tier {
        body.insert("service_tier".into(), json!(tier));
    }
    body.insert("prompt_cache_key".into(), json!(session));
    if let Some(verbosity) = &model.verbosity {
        body.insert("text".into(), json!({"verbosity": verbosity}));
    }
    body
}

/// The whole body, in the lite shape if the model needs it.
#[must_use]
pub fn body(model: &Model, session: &str, service_tier: Option<&str>, prompt: Prompt<'_>) -> Value {
    let mut body = fixed(model, session, service_tier);
    if model.lite {
        let mut tools =
            json!({"type": "additional_tools", "role": "developer", "tools": prompt.tools});
        let mut base = crate::item::message("developer", prompt.instructions);
        tools["id"] = json!(lite_id(session, "at"));
        base["id"] = json!(lite_id(session, "msg"));
        let input: Vec<&Value> = [&tools, &base].into_iter().chain(prompt.input).collect();
        body.insert("input".into(), json!(input));
    } else {
        body.insert("instructions".into(), json!(prompt.instructions));
        body.insert("input".into(), json!(prompt.input));
        body.insert("tools".into(), json!(prompt.tools));
    }
    Value::Object(body)
}

/// The id of the lite shape's first two items: `at` for the tools, `msg` for the instructions.
#[must_use]
pub fn lite_id(session: &str, prefix: &str) -> String {
    let thread = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, session.as_bytes());
    format!("{prefix}_{}", uuid::Uuid::new_v5(&thread, prefix.as_bytes()))
}

/// The header for the lite shape.
pub const LITE: &str = "x-openai-internal-codex-responses-lite";
/// The first answer of a turn gives this header. Every later request of the turn repeats it.
pub const TURN_STATE: &str = "x-codex-turn-state";

/// Every header of a model request except `Authorization` and `ChatGPT-Account-ID`. Only the half
/// that holds the credential adds those.
#[must_use]
pub fn headers(
    backend: &Backend,
    session: &str,
    lite: bool,
    turn_state: Option<&str>,
) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        ("originator", backend.originator.clone()),
        ("version", backend.version.clone()),
        ("user-agent", backend.user_agent()),
        ("accept", "text/event-stream".to_owned()),
        ("content-type", "application/json".to_owned()),
        ("session-id", session.to_owned()),
        ("thread-id", session.to_owned()),
        ("x-client-request-id", session.to_owned()),
    ];
    if lite {
        headers.push((LITE, "true".to_owned()));
    }
    if let Some(state) = turn_state {
        headers.push((TURN_STATE, state.to_owned()));
    }
    headers
}

/// The header with the ChatGPT account.
pub const ACCOUNT: &str = "chatgpt-account-id";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classic_body_in_full() {
        let model = Model {
            slug: "gpt-5.5".into(),
            effort: Some("low".into()),
            summary: Some("auto".into()),
            verbosity: Some("medium".into()),
            parallel: true,
            ..Model::default()
        };
        let input = [crate::item::message("user", "hi")];
        let prompt = Prompt { instructions: "be good", tools: &[], input: &input };
        assert_eq!(
            body(&model, "s-1", Some("flex"), prompt),
            json!({
                "model": "gpt-5.5", "instructions": "be good",
                "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
                "tools": [], "tool_choice": "auto", "parallel_tool_calls": true,
                "reasoning": {"effort": "low", "summary": "auto"},
                "store": false, "stream": true, "include": ["reasoning.encrypted_content"],
                "service_tier": "flex", "prompt_cache_key": "s-1", "text": {"verbosity": "medium"},
            })
        );
    }

    #[test]
    fn the_lite_body_carries_tools_and_instructions_in_its_input() {
        let model =
            Model { slug: "gpt-5.6-luna".into(), lite: true, parallel: true, ..Model::default() };
        let prompt = Prompt {
            instructions: "be good",
            tools: &[json!({"type": "function", "name": "bash"})],
            input: &[],
        };
        let body = body(&model, "s-1", None, prompt);
        assert_eq!(
            body,
            json!({
                "model": "gpt-5.6-luna",
                "input": [
                    {"type": "additional_tools", "role": "developer", "tools": [{"type": "function", "name": "bash"}], "id": body["input"][0]["id"]},
                    {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "be good"}], "id": body["input"][1]["id"]},
                ],
                "tool_choice": "auto", "parallel_tool_calls": false, "reasoning": {"context": "all_turns"},
                "store": false, "stream": true, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "s-1",
            })
        );
    }
}
