//! Cassettes: the exchanges of a run with its backend, written down and played back.
//!
//! A cassette is JSON lines. The first says which version it is; each other one is an exchange, in
//! the order they happened:
//!
//! ```text
//! {"airlock_cassette":1,"made_by":"0.1.0","model":"gpt-5.5"}
//! {"n":1,"route":"models","status":200,"body":{…}}
//! {"n":2,"route":"responses","request":{"kept":0,"input":[…],"instructions":"…","tools":[…]},
//!  "status":200,"events":[…]}
//! ```
//!
//! `kept` is how many items the input shares with the request before it; `instructions` and
//! `tools` stand only where they changed. Of the stream's events only those that a run acts on are
//! kept. Credentials were never in it: requests hold none, and answers were scrubbed.
//!
//! Played back, requests are matched by their order on each route. Item types, tool names, call
//! ids and arguments must be the same; outputs, texts, ids, instructions and definitions may
//! differ and are counted.

mod record; // writes one
mod replay; // plays one
#[cfg(test)]
mod tests;

use airlock_shared::{dense, item, limits};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::policy::Route;
use super::seen::hash;

pub use record::Recorder;
pub use replay::{Cassette, Differences};

/// The version of the format.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Header {
    airlock_cassette: u32,
    made_by: String,
    /// The model of the run.
    model: String,
}

#[derive(Serialize, Deserialize)]
struct Exchange {
    n: usize,
    route: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request: Option<Request>,
    status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    events: Option<Vec<Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Name {
    Models,
    Responses,
    Compact,
}

impl Name {
    fn as_str(self) -> &'static str {
        match self {
            Self::Models => "models",
            Self::Responses => "responses",
            Self::Compact => "compact",
        }
    }
}

impl From<Route> for Name {
    fn from(route: Route) -> Self {
        match route {
            Route::Responses => Self::Responses,
            Route::Compact => Self::Compact,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Request {
    kept: usize,
    input: Vec<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instructions: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tools: Option<Value>,
}

/// What was answered, to be written down.
pub(super) enum Kept {
    Events(Vec<Value>),
    Body(Value),
}

/// What is answered, played back.
pub(super) enum Reply {
    Events { status: u16, events: Vec<Value> },
    Body { status: u16, body: Value },
}

impl Reply {
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::Events { status, .. } | Self::Body { status, .. } => *status,
        }
    }
}

/// Of what is compared later: the thing itself can be as large as all its pictures.
type Hash = [u8; 32];

fn hashed(value: &impl Serialize) -> Hash {
    hash(b"", value)
}

/// What is left for the events of one exchange: no more than can be read again.
pub(super) struct Room {
    bytes: usize,
    structure: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { bytes: limits::CASSETTE_LINE_BYTES, structure: limits::JSON_STRUCTURE_BYTES }
    }
}

impl Room {
    /// The event, where there is room for it.
    pub(super) fn take<'a>(&mut self, data: &'a str) -> Option<&'a str> {
        self.bytes = self.bytes.saturating_sub(data.len());
        self.structure = self.structure.saturating_sub(dense::structure_bytes(data.as_bytes()));
        (!self.is_full()).then_some(data)
    }

    /// Whether something did not fit.
    pub(super) fn is_full(&self) -> bool {
        self.bytes == 0 || self.structure == 0
    }
}

/// An event as it is kept; `None` for what no run acts on. An item stands in it once.
pub(super) fn kept_event(data: &str) -> Option<Value> {
    let mut event: Value = serde_json::from_str(data).ok()?;
    match event.get("type")?.as_str()? {
        "response.output_item.done" | "response.metadata" | "error" => Some(event),
        kind @ ("response.completed" | "response.failed" | "response.incomplete") => {
            let kind = kind.to_owned();
            let mut response = serde_json::Map::new();
            for field in ["id", "usage", "end_turn", "error", "incomplete_details"] {
                if let Some(value) = event.pointer_mut(&format!("/response/{field}")) {
                    response.insert(field.to_owned(), value.take());
                }
            }
            Some(json!({"type": kind, "response": response}))
        }
        _ => None,
    }
}

/// What of an item must be the same when it is played back.
#[derive(PartialEq, Eq, Serialize)]
struct Mark<'a> {
    kind: &'a str,
    role: Option<&'a str>,
    name: Option<&'a str>,
    call_id: Option<&'a str>,
    arguments: Option<&'a str>,
}

impl<'a> Mark<'a> {
    fn of(given: &'a Value) -> Self {
        let text = |name: &str| given.get(name).and_then(Value::as_str);
        Self {
            kind: item::kind(given),
            role: text("role"),
            name: text("name"),
            call_id: text("call_id"),
            arguments: text("arguments").or_else(|| text("input")),
        }
    }

    /// In words, with the arguments from shortly before they differ.
    fn shown(&self, other: &Self) -> String {
        let mut words = match self.kind {
            "" => "something without a type".to_owned(),
            kind => kind.to_owned(),
        };
        for part in [self.role, self.name, self.call_id].into_iter().flatten() {
            words.push_str(&format!(" {}", part.escape_debug()));
        }
        if let Some(arguments) = self.arguments {
            let common = arguments.chars().zip(other.arguments.unwrap_or_default().chars());
            let same = common.take_while(|(own, others)| own == others).count();
            let from = same.saturating_sub(20);
            let piece: String = arguments.chars().skip(from).take(60).collect();
            words.push_str(&format!(" with `{}` at character {same}", piece.escape_debug()));
        }
        words
    }
}
