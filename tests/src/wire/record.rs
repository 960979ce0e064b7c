//! What the backend saw: every request, whole, in the order in which they came.

use std::time::Instant;

use serde_json::Value;

/// One request.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// When its first byte came.
    pub at: Instant,
    /// When its answer, a stream, was ready to be sent to its end.
    pub answered: Option<Instant>,
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The status it was answered with; 0 where the connection was broken instead.
    pub status: u16,
}

impl Recorded {
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The token of `Authorization: Bearer`.
    #[must_use]
    pub fn bearer(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }

    /// The body as JSON; null where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The items of `input`.
    #[must_use]
    pub fn input(&self) -> Vec<Value> {
        match self.json().get_mut("input").map(Value::take) {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        }
    }

    /// What the outputs of tool calls say in this request, by call id, in order.
    #[must_use]
    pub fn outputs(&self) -> Vec<(String, String)> {
        let output = |item: &Value| {
            let call_id = airlock_shared::item::answers(item)?.to_owned();
            let text = match item.get("output")? {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            Some((call_id, text))
        };
        self.input().iter().filter_map(output).collect()
    }

    /// What the last output says; empty where there is none.
    #[must_use]
    pub fn last_output(&self) -> String {
        self.outputs().pop().map(|(_, text)| text).unwrap_or_default()
    }

    /// The names of the tools on offer, in the classic and in the lite shape.
    #[must_use]
    pub fn tools(&self) -> Vec<String> {
        let body = self.json();
        let lite = body.pointer("/input/0/tools");
        let tools = body.get("tools").filter(|tools| tools.is_array()).or(lite);
        let name = |tool: &Value| tool.get("name").and_then(Value::as_str).map(str::to_owned);
        tools.and_then(Value::as_array).into_iter().flatten().filter_map(name).collect()
    }

    /// The headers as lines of text: what an echoing service says back.
    #[must_use]
    pub fn headers_as_text(&self) -> String {
        let line = |(name, value): &(String, String)| format!("{name}: {value}");
        self.headers.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// The path without its query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    #[must_use]
    pub fn is_model_request(&self) -> bool {
        self.method == "POST" && self.path().ends_with("/responses")
    }
}
