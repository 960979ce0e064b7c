//! What the model says, as values: one step for each request, in order.
//!
//! ```
//! use airlock_tests::backend::{Fault, answer, calls, fault, patch, reason, script};
//! use serde_json::json;
//!
//! let script = script![
//!     reason("gAAAA…").call("bash", json!({"command": "ls"})),
//!     calls([("read_file", json!({"path": "a"})), ("read_file", json!({"path": "b"}))]),
//!     fault(Fault::Status { status: 500 }).times(2),
//!     patch("*** Begin Patch\n*** Delete File: a\n*** End Patch\n"),
//!     answer("two files").slowly(5),
//! ];
//! ```

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::fault::Fault;
use crate::wire::record::Recorded;

/// The steps of one conversation, in order.
#[derive(Clone, Debug, Default)]
pub struct Script(pub Vec<Step>);

/// Builds a [`Script`] from steps.
#[macro_export]
macro_rules! script {
    ($($step:expr),* $(,)?) => { $crate::backend::Script(vec![$($step),*]) };
}
pub use crate::script;

/// What one request is answered with.
#[derive(Clone, Debug, Deserialize)]
pub struct Step {
    /// Fails this way instead of answering, before (`times` requests) the next step is reached.
    #[serde(default)]
    pub fault: Option<Fault>,
    /// How many requests are answered so.
    #[serde(default = "once")]
    pub times: u32,
    #[serde(flatten)]
    pub reply: Reply,
    #[serde(skip)]
    pub made: Option<Made>,
}

/// A step that depends on the request it answers.
#[derive(Clone)]
pub struct Made(pub Arc<dyn Fn(&Recorded) -> Reply + Send + Sync>);

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Made")
    }
}

/// The items of one answer and how they travel.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Reply {
    pub items: Vec<Item>,
    pub wire: Wire,
    /// Milliseconds before each event.
    pub pause_ms: u64,
    /// Milliseconds before the head of the answer.
    pub delay_ms: u64,
    /// Input, cached and output tokens; absent: counted from the sizes.
    pub usage: Option<[u64; 3]>,
    /// `end_turn` of the completed response.
    pub end_turn: Option<bool>,
    /// Further headers of the answer.
    pub headers: Vec<(String, String)>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// Encrypted reasoning, which must come back as it was.
    Reason(String),
    Text(String),
    Call {
        name: String,
        arguments: Value,
        #[serde(default)]
        call_id: Option<String>,
    },
    /// A call whose arguments are this text, JSON or not.
    BadCall {
        name: String,
        arguments: String,
    },
    Custom {
        name: String,
        input: String,
    },
    /// Any JSON, sent as it is.
    Raw(Value),
}

/// How events are put on the wire. All but the first are legal and rare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wire {
    #[default]
    Lf,
    CrLf,
    Cr,
    /// A byte order mark first.
    Bom,
    /// One byte a write.
    Bytewise,
    /// The JSON over several `data:` lines.
    Multiline,
    /// Comments and keep-alives between events.
    Comments,
    /// No `event:` lines.
    NoNames,
    /// Events nobody knows, and events that are not JSON, between the others.
    Junk,
}

#[must_use]
pub fn answer(text: &str) -> Step {
    Reply { items: vec![Item::Text(text.to_owned())], ..Reply::default() }.into()
}

#[must_use]
pub fn call(name: &str, arguments: Value) -> Step {
    calls([(name, arguments)])
}

/// Several calls in one answer.
#[must_use]
pub fn calls<'a>(calls: impl IntoIterator<Item = (&'a str, Value)>) -> Step {
    let item = |(name, arguments): (&str, Value)| Item::Call {
        name: name.to_owned(),
        arguments,
        call_id: None,
    };
    Reply { items: calls.into_iter().map(item).collect(), ..Reply::default() }.into()
}

/// A `custom_tool_call` of `apply_patch`.
#[must_use]
pub fn patch(input: &str) -> Step {
    let item = Item::Custom { name: "apply_patch".to_owned(), input: input.to_owned() };
    Reply { items: vec![item], ..Reply::default() }.into()
}

/// Encrypted reasoning; what follows it is chained on.
#[must_use]
pub fn reason(encrypted: &str) -> Step {
    Reply { items: vec![Item::Reason(encrypted.to_owned())], ..Reply::default() }.into()
}

/// Text, then whatever is chained on.
#[must_use]
pub fn text(text: &str) -> Step {
    answer(text)
}

/// One item of any JSON.
#[must_use]
pub fn raw(item: Value) -> Step {
    Reply { items: vec![Item::Raw(item)], ..Reply::default() }.into()
}

#[must_use]
pub fn fault(fault: Fault) -> Step {
    Step { fault: Some(fault), ..Reply::default().into() }
}

/// An answer that depends on the request.
#[must_use]
pub fn made(reply: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) -> Step {
    Step { made: Some(Made(Arc::new(reply))), ..Reply::default().into() }
}

/// An answer in which the backend says our own headers back, whole and cut across two deltas.
#[must_use]
pub fn answer_echoing_headers() -> Step {
    made(|request| {
        let text = format!("you sent:\n{}", request.headers_as_text());
        Reply { items: vec![Item::Text(text)], ..Reply::default() }
    })
}

/// A call of `bash` whose command line holds our own headers.
#[must_use]
pub fn call_echoing_headers() -> Step {
    made(|request| {
        let command = format!("cat <<'EOF'\n{}\nEOF", request.headers_as_text());
        let arguments = serde_json::json!({"command": command});
        let item = Item::Call { name: "bash".to_owned(), arguments, call_id: None };
        Reply { items: vec![item], ..Reply::default() }
    })
}

impl Step {
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    #[must_use]
    pub fn call(mut self, name: &str, arguments: Value) -> Self {
        let item = Item::Call { name: name.to_owned(), arguments, call_id: None };
        self.reply.items.push(item);
        self
    }

    /// A call with an id of our choosing: to send one twice.
    #[must_use]
    pub fn call_with_id(mut self, call_id: &str, name: &str, arguments: Value) -> Self {
        let call_id = Some(call_id.to_owned());
        self.reply.items.push(Item::Call { name: name.to_owned(), arguments, call_id });
        self
    }

    /// A call whose arguments are not what they should be.
    #[must_use]
    pub fn bad_call(mut self, name: &str, arguments: &str) -> Self {
        let item = Item::BadCall { name: name.to_owned(), arguments: arguments.to_owned() };
        self.reply.items.push(item);
        self
    }

    #[must_use]
    pub fn patch(mut self, input: &str) -> Self {
        let item = Item::Custom { name: "apply_patch".to_owned(), input: input.to_owned() };
        self.reply.items.push(item);
        self
    }

    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.reply.items.push(Item::Text(text.to_owned()));
        self
    }

    #[must_use]
    pub fn wire(mut self, wire: Wire) -> Self {
        self.reply.wire = wire;
        self
    }

    /// Milliseconds before each event.
    #[must_use]
    pub fn slowly(mut self, pause_ms: u64) -> Self {
        self.reply.pause_ms = pause_ms;
        self
    }

    /// Milliseconds before the head of the answer.
    #[must_use]
    pub fn after(mut self, delay_ms: u64) -> Self {
        self.reply.delay_ms = delay_ms;
        self
    }

    #[must_use]
    pub fn usage(mut self, input: u64, cached: u64, output: u64) -> Self {
        self.reply.usage = Some([input, cached, output]);
        self
    }

    /// The model wants another turn though it may have called nothing.
    #[must_use]
    pub fn and_goes_on(mut self) -> Self {
        self.reply.end_turn = Some(false);
        self
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.reply.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl From<Reply> for Step {
    fn from(reply: Reply) -> Self {
        Self { fault: None, times: 1, reply, made: None }
    }
}

impl Script {
    /// Reads a script from JSON: a list of steps, `[{"items":[{"call":{"name":"bash",
    /// "arguments":{"command":"ls"}}}]},{"fault":{"status":{"status":500}},"times":2},
    /// {"items":[{"text":"done"}]}]`.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(json: &str) -> Result<Self, String> {
        serde_json::from_str(json).map(Self).map_err(|error| error.to_string())
    }

    /// A script by name, for people who try things by hand.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let bash = |command: &str| call("bash", serde_json::json!({"command": command}));
        let exec = |command: &str| call("exec_command", serde_json::json!({"cmd": command}));
        Some(match name {
            "answer" => script![answer("Hello from the scripted backend.")],
            "three-rounds" => {
                script![
                    reason("gAAAAthree-rounds")
                        .call("bash", serde_json::json!({"command": "ls -la"})),
                    bash("echo one two three | wc -w"),
                    bash("uname -s"),
                    answer("three rounds are done")
                ]
            }
            // The same in the words of another client's tools.
            "three-rounds-codex" => {
                script![
                    reason("gAAAAthree-rounds")
                        .call("exec_command", serde_json::json!({"cmd": "ls -la"})),
                    exec("echo one two three | wc -w"),
                    exec("uname -s"),
                    answer("three rounds are done")
                ]
            }
            _ => return None,
        })
    }

    /// The names [`Script::named`] knows.
    pub const NAMES: [&str; 3] = ["answer", "three-rounds", "three-rounds-codex"];
}

fn once() -> u32 {
    1
}
