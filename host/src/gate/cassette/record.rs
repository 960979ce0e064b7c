//! Writes a cassette, an exchange at a time: whole lines only, so that a run that dies leaves one
//! that can be read up to there.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use airlock_shared::model::Model;
use airlock_shared::outcome::{Fault, FaultKind};
use airlock_shared::scrub::Needles;
use serde::Serialize;
use serde_json::Value;

use super::{Exchange, Header, Kept, Name, Request, VERSION};
use crate::gate::policy::Route;
use crate::output::Output;

/// A cassette being written.
pub struct Recorder {
    tape: Mutex<Tape>,
}

struct Tape {
    file: File,
    /// Not a terminal, a pipe, or what keeps nothing.
    is_file: bool,
    /// What a cassette begins with. Written with the first exchange: until then an older cassette
    /// stays as it is, for a run that never gets as far as its model.
    before: Option<Before>,
    n: usize,
    /// The last request of each route.
    responses: Last,
    compact: Last,
    /// The first thing that went wrong; nothing is written after it.
    fault: Option<String>,
}

struct Before {
    header: Header,
    catalogue: Option<Value>,
}

#[derive(Default)]
struct Last {
    input: Vec<Value>,
    instructions: Value,
    tools: Value,
}

impl Recorder {
    /// Begins a cassette: a new file, or the place of an older cassette, which is overwritten by the
    /// first exchange; nothing else ever is. It is the owner's alone.
    ///
    /// # Errors
    /// When the file is something else, or cannot be written, or lies behind a link of `tree`.
    pub fn create(path: &Path, tree: Option<&Path>, model: &Model) -> Result<Self, Fault> {
        let fault =
            |why: &str| Fault::new(FaultKind::Cassette, format!("{}: {why}", path.display()));
        let output = Output::open(path, tree).map_err(|why| fault(&why))?;
        let cannot = |error: std::io::Error| fault(&format!("it cannot be written: {error}"));
        let (file, is_file) = output.open_in_place().map_err(cannot)?;
        if is_file {
            let mut begin = Vec::new();
            let read = (&file).take(64).read_to_end(&mut begin);
            let is_ours = begin.is_empty() || begin.starts_with(b"{\"airlock_cassette\":");
            if read.is_err() || !is_ours {
                return Err(fault("it is there and is no cassette; nothing was overwritten"));
            }
            let owners = std::fs::Permissions::from_mode(0o600);
            file.set_permissions(owners).map_err(cannot)?;
        }
        let (responses, compact) = (Last::default(), Last::default());
        let made_by = env!("CARGO_PKG_VERSION").to_owned();
        let header = Header { airlock_cassette: VERSION, made_by, model: model.slug.clone() };
        let before = Some(Before { header, catalogue: None });
        let tape = Tape { file, is_file, before, n: 0, responses, compact, fault: None };
        Ok(Self { tape: Mutex::new(tape) })
    }

    /// The catalogue that the run chose its model from.
    pub(in crate::gate) fn catalogue(&self, catalogue: &Value) {
        self.with(|tape| {
            if let Some(before) = &mut tape.before {
                before.catalogue = Some(catalogue.clone());
            }
        });
    }

    /// One exchange, scrubbed once more of what must not be in a file that is shown around.
    pub(in crate::gate) fn exchange(
        &self,
        route: Route,
        body: &Value,
        status: u16,
        kept: Kept,
        needles: &Needles,
    ) {
        self.with(|tape| {
            let last = match route {
                Route::Responses => &mut tape.responses,
                Route::Compact => &mut tape.compact,
            };
            let request = Some(last.next(body));
            let (events, body) = match kept {
                Kept::Events(events) => (Some(events), None),
                Kept::Body(body) => (None, Some(body)),
            };
            tape.exchange(
                Exchange { n: 0, route: route.into(), request, status, events, body },
                needles,
            );
        });
    }

    /// Whether everything was written, and is on the disk.
    ///
    /// # Errors
    /// `Cassette`, with what went wrong first.
    pub fn finish(&self) -> Result<(), Fault> {
        self.with(|tape| {
            if tape.is_file
                && let (None, Err(error)) = (&tape.fault, tape.file.sync_data())
            {
                tape.fault = Some(error.to_string());
            }
            match &tape.fault {
                Some(why) => Err(Fault::new(
                    FaultKind::Cassette,
                    format!("the cassette could not be written: {why}"),
                )),
                None => Ok(()),
            }
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Tape) -> T) -> T {
        act(&mut self.tape.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Tape {
    fn begin(&mut self, before: Before) {
        if self.is_file
            && let Err(error) = self.file.set_len(0).and_then(|()| self.file.rewind())
        {
            self.fault = Some(error.to_string());
        }
        self.line(&before.header, &Needles::default());
        if let Some(body) = before.catalogue {
            let (route, body) = (Name::Models, Some(body));
            self.exchange(
                Exchange { n: 0, route, request: None, status: 200, events: None, body },
                &Needles::default(),
            );
        }
    }

    fn exchange(&mut self, mut exchange: Exchange, needles: &Needles) {
        if let Some(before) = self.before.take() {
            self.begin(before);
        }
        self.n += 1;
        exchange.n = self.n;
        self.line(&exchange, needles);
    }

    fn line(&mut self, value: &impl Serialize, needles: &Needles) {
        if self.fault.is_some() {
            return;
        }
        let written = serde_json::to_vec(value).map_err(std::io::Error::from).and_then(|line| {
            let mut line = needles.bytes(line);
            line.push(b'\n');
            self.file.write_all(&line)
        });
        if let Err(error) = written {
            self.fault = Some(error.to_string());
        }
    }
}

impl Last {
    /// A request as what changed since the one before.
    fn next(&mut self, body: &Value) -> Request {
        let input = body.get("input").and_then(Value::as_array).cloned().unwrap_or_default();
        let kept = self.input.iter().zip(&input).take_while(|(before, now)| before == now).count();
        let changed = |last: &mut Value, name: &str| {
            let now = body.get(name).cloned().unwrap_or_default();
            let is_changed = *last != now;
            last.clone_from(&now);
            is_changed.then_some(now)
        };
        let instructions = changed(&mut self.instructions, "instructions");
        let tools = changed(&mut self.tools, "tools");
        let new = input[kept..].to_vec();
        self.input = input;
        Request { kept, input: new, instructions, tools }
    }
}
