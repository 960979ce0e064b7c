//! Plays a cassette back: no account, no network, and a fault where the run departs from it.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use airlock_shared::limits;
use airlock_shared::outcome::{Fault, FaultKind};
use serde_json::Value;

use super::{Exchange, Header, Mark, Name, Reply, VERSION};
use crate::gate::policy::Route;

/// A cassette being played.
pub struct Cassette {
    model: String,
    catalogue: Value,
    state: Mutex<State>,
}

struct State {
    responses: VecDeque<Recorded>,
    compact: VecDeque<Recorded>,
    differences: Differences,
    /// Where the run departed; nothing is answered after it.
    departed: Option<String>,
}

/// What differed where it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Outputs of tools.
    pub outputs: u32,
    /// Messages, and anything else within items.
    pub texts: u32,
    /// Requests with other instructions.
    pub instructions: u32,
    /// Requests with other tool definitions.
    pub definitions: u32,
}

struct Recorded {
    n: usize,
    input: Vec<Arc<Value>>,
    instructions: Arc<Value>,
    tools: Arc<Value>,
    reply: Reply,
}

#[derive(Default)]
struct Last {
    input: Vec<Arc<Value>>,
    instructions: Arc<Value>,
    tools: Arc<Value>,
}

impl Cassette {
    /// # Errors
    /// When the file is not there, is no cassette, or is of another version.
    pub fn load(path: &Path) -> Result<Self, Fault> {
        let place =
            |why: String| Fault::new(FaultKind::Cassette, format!("{}: {why}", path.display()));
        let file = std::fs::File::open(path).map_err(|error| place(error.to_string()))?;
        Self::read(BufReader::new(file)).map_err(|fault| place(fault.message))
    }

    /// The same from any text; what ships with the program is one.
    ///
    /// # Errors
    /// When it is no cassette, or of another version.
    pub fn read(text: impl BufRead) -> Result<Self, Fault> {
        parse(text).map_err(|why| Fault::new(FaultKind::Cassette, why))
    }

    /// The model that the run was recorded with.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The catalogue that the run was recorded with.
    #[must_use]
    pub fn catalogue(&self) -> &Value {
        &self.catalogue
    }

    #[must_use]
    pub fn differences(&self) -> Differences {
        self.state().differences
    }

    /// The recorded answer to the next request of a route, if that is what was asked.
    pub(in crate::gate) fn answer(&self, route: Route, body: &Value) -> Result<Reply, String> {
        let mut state = self.state();
        if let Some(departed) = &state.departed {
            return Err(departed.clone());
        }
        let queue = match route {
            Route::Responses => &mut state.responses,
            Route::Compact => &mut state.compact,
        };
        let Some(recorded) = queue.pop_front() else {
            let name = Name::from(route).as_str();
            let why = format!(
                "the run departs from its cassette: one more request of {name} than it holds"
            );
            state.departed = Some(why.clone());
            return Err(why);
        };
        match recorded.compare(body) {
            Ok(differences) => {
                let all = &mut state.differences;
                all.outputs += differences.outputs;
                all.texts += differences.texts;
                all.instructions += differences.instructions;
                all.definitions += differences.definitions;
                Ok(recorded.reply)
            }
            Err(why) => {
                let why =
                    format!("the run departs from its cassette at exchange {}, {why}", recorded.n);
                state.departed = Some(why.clone());
                Err(why)
            }
        }
    }

    /// Whether the run was the cassette's to its end.
    pub(in crate::gate) fn finish(&self) -> Result<(), Fault> {
        let state = self.state();
        let left = state
            .responses
            .front()
            .into_iter()
            .chain(state.compact.front())
            .min_by_key(|left| left.n);
        let why = match (&state.departed, left) {
            (Some(departed), _) => departed.clone(),
            (None, Some(left)) => {
                let count = state.responses.len() + state.compact.len();
                format!(
                    "the run ended before its cassette: {count} left, the first is exchange {}",
                    left.n
                )
            }
            (None, None) => return Ok(()),
        };
        Err(Fault::new(FaultKind::Cassette, why))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorded {
    /// Item by item; the first that must be the same and is not says so.
    fn compare(&self, body: &Value) -> Result<Differences, String> {
        let empty = Vec::new();
        let came = body.get("input").and_then(Value::as_array).unwrap_or(&empty);
        let mut differences = Differences::default();
        for (n, (expected, came)) in self.input.iter().zip(came).enumerate() {
            let (recorded, now) = (Mark::of(expected), Mark::of(came));
            if recorded != now {
                return Err(format!(
                    "item {}: expected {}, came {}",
                    n + 1,
                    recorded.shown(&now),
                    now.shown(&recorded)
                ));
            }
            if **expected != *came {
                let is_output = recorded.kind.ends_with("_output");
                *(if is_output { &mut differences.outputs } else { &mut differences.texts }) += 1;
            }
        }
        match (self.input.get(came.len()), came.get(self.input.len())) {
            (Some(missing), _) => {
                let mark = Mark::of(missing);
                return Err(format!(
                    "item {}: expected {}, came nothing more",
                    came.len() + 1,
                    mark.shown(&mark)
                ));
            }
            (None, Some(extra)) => {
                let mark = Mark::of(extra);
                return Err(format!(
                    "item {}: expected nothing more, came {}",
                    self.input.len() + 1,
                    mark.shown(&mark)
                ));
            }
            (None, None) => {}
        }
        let differs = |name: &str, recorded: &Value| {
            u32::from(body.get(name).unwrap_or(&Value::Null) != recorded)
        };
        differences.instructions = differs("instructions", &self.instructions);
        differences.definitions = differs("tools", &self.tools);
        Ok(differences)
    }
}

fn parse(text: impl BufRead) -> Result<Cassette, String> {
    let mut text = text.take(limits::CASSETTE_BYTES);
    let first = line(&mut text, 1)?.ok_or("it is empty")?;
    let version: Value = serde_json::from_slice(&first).map_err(|_| "it is no cassette")?;
    match version.get("airlock_cassette").and_then(Value::as_u64) {
        Some(known) if known == u64::from(VERSION) => {}
        Some(other) => {
            return Err(format!(
                "it is a cassette of version {other}; this program plays {VERSION}"
            ));
        }
        None => return Err("it is no cassette".to_owned()),
    }
    let header: Header =
        serde_json::from_value(version).map_err(|_| "its first line is not understood")?;
    let mut state = State {
        responses: VecDeque::new(),
        compact: VecDeque::new(),
        differences: Differences::default(),
        departed: None,
    };
    let (mut responses, mut compact, mut catalogue) =
        (Last::default(), Last::default(), Value::Null);
    for n in 1.. {
        let Some(line) = line(&mut text, n + 1)? else { break };
        if n > limits::CASSETTE_EXCHANGES {
            return Err("it holds too many exchanges".to_owned());
        }
        let exchange: Exchange = serde_json::from_slice(&line)
            .map_err(|error| format!("line {} is not understood: {error}", n + 1))?;
        if exchange.n != n {
            return Err(format!(
                "exchange {n} is missing: line {} is exchange {}",
                n + 1,
                exchange.n
            ));
        }
        let reply = match (exchange.events, exchange.body) {
            (Some(events), None) => Reply::Events { status: exchange.status, events },
            (None, Some(body)) => Reply::Body { status: exchange.status, body },
            _ => return Err(format!("exchange {n} has no answer, or two")),
        };
        let (last, queue) = match exchange.route {
            Name::Models => {
                if let Reply::Body { body, .. } = reply {
                    catalogue = body;
                }
                continue;
            }
            Name::Responses => (&mut responses, &mut state.responses),
            Name::Compact => (&mut compact, &mut state.compact),
        };
        let request = exchange.request.ok_or_else(|| format!("exchange {n} has no request"))?;
        if request.kept > last.input.len() {
            return Err(format!("exchange {n} keeps more items than there were"));
        }
        last.input.truncate(request.kept);
        last.input.extend(request.input.into_iter().map(Arc::new));
        if let Some(changed) = request.instructions {
            last.instructions = Arc::new(changed);
        }
        if let Some(changed) = request.tools {
            last.tools = Arc::new(changed);
        }
        let input = last.input.clone();
        let (instructions, tools) = (Arc::clone(&last.instructions), Arc::clone(&last.tools));
        queue.push_back(Recorded { n, input, instructions, tools, reply });
    }
    Ok(Cassette { model: header.model, catalogue, state: Mutex::new(state) })
}

/// One whole line; a last one without its end is what a crash left, and is no line.
fn line(text: &mut impl BufRead, number: usize) -> Result<Option<Vec<u8>>, String> {
    let mut line = Vec::new();
    let most = limits::CASSETTE_LINE_BYTES as u64;
    text.take(most)
        .read_until(b'\n', &mut line)
        .map_err(|error| format!("it cannot be read: {error}"))?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) if line.len() as u64 + 1 == most => Err(format!("line {number} is too long")),
        Some(_) => Ok(None),
    }
}
