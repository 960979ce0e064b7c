//! Recordings: the exchanges of a turn with its backend, written to a file and played back.
//!
//! A recording is JSON lines. The first names the version; each other line is an exchange, in order:
//!
//! ```text
//! {"airlock_recording":1,"made_by":"0.2.0","model":"gpt-5.5"}
//! {"n":1,"route":"models","status":200,"body":{…}}
//! {"n":2,"route":"responses","request":{"kept":0,"input":[…],"instructions":"…","tools":[…]},
//!  "status":200,"events":[…]}
//! ```
//!
//! `kept` is how many items the input shares with the request before it. `instructions` and `tools`
//! are there only if they changed. Only the events that a turn acts on are kept. `by_host` is set if
//! the host itself refused, with its refusal as the body. There are no credentials in it: requests
//! have none, and answers are scrubbed.
//!
//! A recording may come from a stranger, so playing has limits. Writing has the same limits
//! ([`fits`]), so everything that is written can be played.
//!
//! Played back, requests are matched by their order on each route. Item types, tool names, call
//! ids and arguments must be the same; outputs, texts, ids, instructions and definitions may
//! differ and are counted.

mod record; // writes a recording
mod writer; // its file, on a thread of its own
mod read; // reads its lines
mod replay; // plays a recording
#[cfg(test)]
mod bounds; // what is written can be played
#[cfg(test)]
mod tests;

use airlock_shared::link::HostRefusal;
use airlock_shared::{dense, item, limits};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::policy::Route;
use super::quoted::quoted;
use super::seen::hash;

pub use record::Recorder;
pub use replay::{Differences, Replayer};

/// The version of the format.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct RecordingHeader {
    /// The version of the format; earlier builds wrote the alias.
    #[serde(alias = "airlock_cassette")]
    airlock_recording: u32,
    made_by: String,
    /// The model of the session.
    model: String,
}

#[derive(Serialize, Deserialize)]
struct Exchange {
    n: usize,
    route: RouteName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request: Option<Request>,
    status: u16,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    by_host: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    events: Option<Vec<Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RouteName {
    Models,
    Responses,
    Compact,
}

impl RouteName {
    fn as_str(self) -> &'static str {
        match self {
            Self::Models => "models",
            Self::Responses => "responses",
            Self::Compact => "compact",
        }
    }
}

impl From<Route> for RouteName {
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

/// How a request was answered, to be recorded or played back.
#[derive(Debug, PartialEq)]
pub(super) enum PlayedAnswer {
    /// By the backend.
    Answer { status: u16, content: AnswerContent },
    /// By the host itself: the backend was not asked, or did not answer completely.
    Refused { refusal: HostRefusal, why: String },
}

#[derive(Debug, PartialEq)]
pub(super) enum AnswerContent {
    Events(Vec<Value>),
    Body(Value),
}

/// Why the line of exchange `n` cannot be played.
///
/// THREAT: a stranger's recording is small as text and fills the memory.
/// Tried by `cli::memory::an_untrusted_recording_is_replayed_in_little_memory`.
fn fits(line: &[u8], n: usize) -> Result<(), &'static str> {
    if n > limits::RECORDING_EXCHANGES {
        return Err("is one too many");
    }
    if line.len() >= limits::RECORDING_LINE_BYTES {
        return Err("is too long");
    }
    if dense::structure_bytes(line) > limits::JSON_STRUCTURE_BYTES {
        return Err("has too many values");
    }
    Ok(())
}

/// The same for the line with the catalogue.
fn fits_catalogue(line: &[u8]) -> Result<(), &'static str> {
    if line.len() > limits::CATALOGUE_BYTES { Err("is too long") } else { Ok(()) }
}

/// The hash of a value that is compared later; the value itself can be very large.
type Sha256Hash = [u8; 32];

fn hashed(value: &impl Serialize) -> Sha256Hash {
    hash(b"", value)
}

/// The events of one answer that are kept, if they are not too large to be played.
#[derive(Default)]
pub(super) struct Events {
    kept: Vec<Value>,
    bytes: usize,
    structure: usize,
}

impl Events {
    /// Keeps the events that a turn acts on. Text deltas, of which there are thousands, are not kept.
    pub(super) fn hear(&mut self, data: &str) {
        let Some(event) = kept_event(data) else { return };
        let text = event.to_string();
        self.bytes = self.bytes.saturating_add(text.len());
        self.structure = self.structure.saturating_add(dense::structure_bytes(text.as_bytes()));
        if self.is_too_large() {
            self.kept = Vec::new();
        } else {
            self.kept.push(event);
        }
    }

    fn is_too_large(&self) -> bool {
        self.bytes >= limits::RECORDING_LINE_BYTES || self.structure > limits::JSON_STRUCTURE_BYTES
    }

    /// `None` if they are too large to be played.
    pub(super) fn all(self) -> Option<Vec<Value>> {
        (!self.is_too_large()).then_some(self.kept)
    }
}

/// An event as it is kept; `None` if no turn acts on it. Each item is kept once.
fn kept_event(data: &str) -> Option<Value> {
    if dense::structure_bytes(data.as_bytes()) > limits::JSON_STRUCTURE_BYTES {
        // No turn acts on it: see `StreamEvent::parse`.
        return None;
    }
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

/// The parts of an item that must be the same when it is played back.
#[derive(PartialEq, Eq, Serialize)]
struct ComparedItem<'a> {
    kind: &'a str,
    role: Option<&'a str>,
    name: Option<&'a str>,
    call_id: Option<&'a str>,
    arguments: Option<&'a str>,
}

impl<'a> ComparedItem<'a> {
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

    /// In quotes, with the arguments from shortly before the difference.
    ///
    /// THREAT: the words of the sandbox, or of a stranger's recording, look like ours. Tried by
    /// `gate::recording::tests::a_departure_from_the_recording_is_quoted`.
    fn shown(&self, other: &Self) -> String {
        let mut words = match self.kind {
            "" => "something without a type".to_owned(),
            kind => cut(kind),
        };
        for part in [self.role, self.name, self.call_id].into_iter().flatten() {
            words.push_str(&format!(" {}", cut(part)));
        }
        if let Some(arguments) = self.arguments {
            let common = arguments.chars().zip(other.arguments.unwrap_or_default().chars());
            let same = common.take_while(|(own, others)| own == others).count();
            let from = same.saturating_sub(20);
            let piece: String = arguments.chars().skip(from).take(60).collect();
            words.push_str(&format!(" with `{}` at character {same}", piece.escape_debug()));
        }
        quoted(&words, SHOWN)
    }
}

/// How much of an item, and of each of its names, is shown, in characters.
const SHOWN: usize = 240;
const SHOWN_NAME: usize = 60;

fn cut(name: &str) -> String {
    name.chars().take(SHOWN_NAME).flat_map(char::escape_debug).collect()
}
