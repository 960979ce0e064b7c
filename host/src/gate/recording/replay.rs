//! Plays a recording back, without an account or a network. It is a fault if the turn departs from
//! the recording.
//!
//! A recording may come from a stranger, and may be larger than the memory. So it is read once,
//! exchange by exchange, and only the position of each in the file is kept. To be played, an exchange
//! is read again. Of earlier requests only hashes are kept.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use airlock_shared::limits;
use airlock_shared::outcome::{Fault, FaultKind};
use serde_json::Value;

use super::read::{exchange, line, refusal, seekable};
use super::{
    AnswerContent, ComparedItem, PlayedAnswer, RecordingHeader, Request, RouteName, Sha256Hash,
    VERSION, fits_catalogue, hashed,
};
use crate::gate::policy::Route;

/// A recording being played.
pub struct Replayer {
    model: String,
    catalogue: Value,
    file: File,
    state: Mutex<PlayState>,
}

#[derive(Default)]
struct PlayState {
    responses: RoutePlayback,
    compact: RoutePlayback,
    differences: Differences,
    /// Where the turn departed; no request is answered after that.
    departed: Option<String>,
}

/// The exchanges of one route.
#[derive(Default)]
struct RoutePlayback {
    ahead: VecDeque<ExchangeLine>,
    /// The last request that was played.
    last: LastPlayed,
}

/// An exchange, and where its line is.
#[derive(Clone, Copy)]
struct ExchangeLine {
    n: usize,
    at: u64,
    bytes: usize,
}

/// What differed, where it may differ.
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

struct LastPlayed {
    input: Vec<RecordedItem>,
    instructions: Sha256Hash,
    tools: Sha256Hash,
}

/// An item of a recorded request: by hash, and where it can be read again.
struct RecordedItem {
    mark: Sha256Hash,
    whole: Sha256Hash,
    place: ExchangeLine,
    nth: usize,
}

impl Default for LastPlayed {
    fn default() -> Self {
        let none = hashed(&Value::Null);
        Self { input: Vec::new(), instructions: none, tools: none }
    }
}

impl Replayer {
    /// # Errors
    /// If the file does not exist, is not a recording, or has another version.
    pub fn load(path: &Path) -> Result<Self, Fault> {
        let place =
            |why: String| Fault::new(FaultKind::Recording, format!("{}: {why}", path.display()));
        let file = File::open(path).and_then(seekable).map_err(|error| place(error.to_string()))?;
        parse(file).map_err(place)
    }

    /// The model that was recorded.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The catalogue that was recorded.
    #[must_use]
    pub fn catalogue(&self) -> &Value {
        &self.catalogue
    }

    #[must_use]
    pub fn differences(&self) -> Differences {
        self.state().differences
    }

    /// The recorded answer to the next request of a route, if `body` matches that request. It reads the
    /// file, and holds no lock meanwhile.
    pub(in crate::gate) fn answer(
        &self,
        route: Route,
        body: &Value,
    ) -> Result<PlayedAnswer, String> {
        let (next, mut last) = {
            let mut state = self.state();
            if let Some(departed) = &state.departed {
                return Err(departed.clone());
            }
            let track = state.track(route);
            (track.ahead.pop_front(), std::mem::take(&mut track.last))
        };
        let departs = "the turn departs from its recording";
        let played = match next {
            Some(place) => self
                .play(place, &mut last, body)
                .map_err(|why| format!("{departs} at exchange {}, {why}", place.n)),
            None => {
                let name = RouteName::from(route).as_str();
                Err(format!("{departs}: one more request of {name} than it has"))
            }
        };
        let mut state = self.state();
        state.track(route).last = last;
        match played {
            Ok((reply, found)) => {
                state.differences.add(found);
                Ok(reply)
            }
            Err(why) => {
                state.departed = Some(why.clone());
                Err(why)
            }
        }
    }

    /// Reads an exchange and compares the request with it.
    fn play(
        &self,
        place: ExchangeLine,
        last: &mut LastPlayed,
        body: &Value,
    ) -> Result<(PlayedAnswer, Differences), String> {
        let (request, reply) = self.exchange(place)?;
        last.next(request, place);
        Ok((reply, self.compare(last, body)?))
    }

    /// Reads an exchange again.
    fn exchange(&self, place: ExchangeLine) -> Result<(Request, PlayedAnswer), String> {
        let changed = |_| format!("line {} changed while it was played", place.n + 1);
        let mut line = vec![0; place.bytes];
        self.file.read_exact_at(&mut line, place.at).map_err(|error| changed(error.to_string()))?;
        let exchange = exchange(&line, place.n).map_err(changed)?;
        drop(line);
        let request = exchange.request.ok_or_else(|| changed(String::new()))?;
        let status = exchange.status;
        let reply = match (exchange.events, exchange.body.unwrap_or_default()) {
            (Some(events), _) => {
                PlayedAnswer::Answer { status, content: AnswerContent::Events(events) }
            }
            (None, body) if exchange.by_host => {
                refusal(&body).ok_or_else(|| "its recorded refusal is not valid".to_owned())?
            }
            (None, body) => PlayedAnswer::Answer { status, content: AnswerContent::Body(body) },
        };
        Ok((request, reply))
    }

    /// Compares item by item; the error names the first difference that is not allowed.
    fn compare(&self, last: &LastPlayed, body: &Value) -> Result<Differences, String> {
        let none = Vec::new();
        let came = body.get("input").and_then(Value::as_array).unwrap_or(&none);
        let mut differences = Differences::default();
        for (n, (expected, came)) in last.input.iter().zip(came).enumerate() {
            let now = ComparedItem::of(came);
            if expected.mark != hashed(&now) {
                let recorded = self.item(expected)?;
                let recorded = ComparedItem::of(&recorded);
                return Err(format!(
                    "item {}: expected {}, the sandbox sent {}",
                    n + 1,
                    recorded.shown(&now),
                    now.shown(&recorded)
                ));
            }
            if expected.whole != hashed(came) {
                let is_output = now.kind.ends_with("_output");
                *(if is_output { &mut differences.outputs } else { &mut differences.texts }) += 1;
            }
        }
        match (last.input.get(came.len()), came.get(last.input.len())) {
            (Some(missing), _) => {
                let missing = self.item(missing)?;
                let mark = ComparedItem::of(&missing);
                return Err(format!(
                    "item {}: expected {}, the sandbox sent nothing more",
                    came.len() + 1,
                    mark.shown(&mark)
                ));
            }
            (None, Some(extra)) => {
                let mark = ComparedItem::of(extra);
                return Err(format!(
                    "item {}: expected nothing more, the sandbox sent {}",
                    last.input.len() + 1,
                    mark.shown(&mark)
                ));
            }
            (None, None) => {}
        }
        let differs = |name: &str, recorded: Sha256Hash| {
            u32::from(hashed(body.get(name).unwrap_or(&Value::Null)) != recorded)
        };
        differences.instructions = differs("instructions", last.instructions);
        differences.definitions = differs("tools", last.tools);
        Ok(differences)
    }

    /// A recorded item, to show it.
    fn item(&self, item: &RecordedItem) -> Result<Value, String> {
        let (mut request, _) = self.exchange(item.place)?;
        Ok(request.input.get_mut(item.nth).map(Value::take).unwrap_or_default())
    }

    /// Whether the turn followed the recording to its end.
    pub(in crate::gate) fn finish(&self) -> Result<(), Fault> {
        let state = self.state();
        let left = state
            .responses
            .ahead
            .front()
            .into_iter()
            .chain(state.compact.ahead.front())
            .min_by_key(|left| left.n);
        let why = match (&state.departed, left) {
            (Some(departed), _) => departed.clone(),
            (None, Some(left)) => {
                let count = state.responses.ahead.len() + state.compact.ahead.len();
                format!(
                    "the turn ended before its recording: {count} left, the first is exchange {}",
                    left.n
                )
            }
            (None, None) => return Ok(()),
        };
        Err(Fault::new(FaultKind::Recording, why))
    }

    fn state(&self) -> MutexGuard<'_, PlayState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PlayState {
    fn track(&mut self, route: Route) -> &mut RoutePlayback {
        match route {
            Route::Responses => &mut self.responses,
            Route::Compact => &mut self.compact,
        }
    }
}

impl Differences {
    fn add(&mut self, found: Self) {
        self.outputs += found.outputs;
        self.texts += found.texts;
        self.instructions += found.instructions;
        self.definitions += found.definitions;
    }
}

impl LastPlayed {
    /// Applies the request of the next exchange, which says how much of this one it keeps.
    fn next(&mut self, request: Request, place: ExchangeLine) {
        self.input.truncate(request.kept);
        let new = request.input.iter().enumerate();
        self.input.extend(new.map(|(nth, item)| RecordedItem {
            mark: hashed(&ComparedItem::of(item)),
            whole: hashed(item),
            place,
            nth,
        }));
        if let Some(changed) = request.instructions {
            self.instructions = hashed(&changed);
        }
        if let Some(changed) = request.tools {
            self.tools = hashed(&changed);
        }
    }
}

fn parse(file: File) -> Result<Replayer, String> {
    let size = file.metadata().map_err(|error| error.to_string())?.len();
    if size > limits::RECORDING_BYTES {
        return Err(format!("it is larger than {} MiB", limits::RECORDING_BYTES >> 20));
    }
    let mut text = BufReader::new(&file).take(limits::RECORDING_BYTES);
    let first = line(&mut text, 1)?.ok_or("it is empty")?;
    let version: Value = serde_json::from_slice(&first).map_err(|_| "it is not a recording")?;
    match version
        .get("airlock_recording")
        .or_else(|| version.get("airlock_cassette"))
        .and_then(Value::as_u64)
    {
        Some(known) if known == u64::from(VERSION) => {}
        Some(other) => {
            return Err(format!(
                "it is a recording of version {other}; this program plays {VERSION}"
            ));
        }
        None => return Err("it is not a recording".to_owned()),
    }
    let header: RecordingHeader =
        serde_json::from_value(version).map_err(|_| "its first line is not valid")?;
    let (mut state, mut catalogue) = (PlayState::default(), Value::Null);
    // How many items the last request of each route had.
    let (mut responses, mut compact) = (0, 0);
    let mut at = first.len() as u64 + 1;
    for n in 1.. {
        let Some(line) = line(&mut text, n + 1)? else { break };
        let place = ExchangeLine { n, at, bytes: line.len() };
        at += line.len() as u64 + 1;
        let exchange = exchange(&line, n)?;
        let (items, track) = match exchange.route {
            RouteName::Models => {
                fits_catalogue(&line).map_err(|why| format!("line {} {why}", n + 1))?;
                catalogue = exchange.body.unwrap_or_default();
                continue;
            }
            RouteName::Responses => (&mut responses, &mut state.responses),
            RouteName::Compact => (&mut compact, &mut state.compact),
        };
        let request = exchange.request.ok_or_else(|| format!("exchange {n} has no request"))?;
        if request.kept > *items {
            return Err(format!("exchange {n} keeps more items than there were"));
        }
        *items = request.kept + request.input.len();
        if *items > limits::INPUT_ITEMS {
            return Err(format!("exchange {n} has too many items"));
        }
        track.ahead.push_back(place);
    }
    Ok(Replayer { model: header.model, catalogue, file, state: Mutex::new(state) })
}
