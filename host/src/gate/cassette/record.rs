//! Writes a cassette, an exchange at a time: whole lines only, so that a run that dies leaves one
//! that can be read up to there.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use airlock_shared::limits;
use airlock_shared::model::Model;
use airlock_shared::outcome::{Fault, FaultKind};
use airlock_shared::scrub::{Needles, Scrubber};
use serde::Serialize;
use serde_json::Value;

use super::{Exchange, Hash, Header, Kept, Name, Request, VERSION, hashed};
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

struct Last {
    input: Vec<Hash>,
    instructions: Hash,
    tools: Hash,
}

impl Default for Last {
    fn default() -> Self {
        let none = hashed(&Value::Null);
        Self { input: Vec::new(), instructions: none, tools: none }
    }
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
        body: Value,
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

    /// Nothing more is written, and this is why.
    pub(in crate::gate) fn fail(&self, why: &str) {
        self.with(|tape| {
            tape.fault.get_or_insert_with(|| why.to_owned());
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
        let scrubber = Scrubber::new(needles.clone());
        let mut line = Line { file: &self.file, scrubber, bytes: 0 };
        let mut buffered = BufWriter::with_capacity(64 << 10, &mut line);
        let written = serde_json::to_writer(&mut buffered, value)
            .map_err(io::Error::from)
            .and_then(|()| buffered.flush());
        drop(buffered);
        if let Err(error) = written.and_then(|()| line.end()) {
            self.fault = Some(error.to_string());
        }
    }
}

/// A line on its way to the file, scrubbed as it is written. One that fails half-way has no end,
/// and whoever reads it passes over it.
struct Line<'a> {
    file: &'a File,
    scrubber: Scrubber,
    bytes: usize,
}

impl Line<'_> {
    fn end(mut self) -> io::Result<()> {
        let mut rest = self.scrubber.finish();
        rest.push(b'\n');
        self.file.write_all(&rest)
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes += bytes.len();
        if self.bytes >= limits::CASSETTE_LINE_BYTES {
            return Err(io::Error::other("an exchange is too large to be recorded"));
        }
        self.file.write_all(&self.scrubber.feed(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Last {
    /// A request as what changed since the one before.
    fn next(&mut self, mut body: Value) -> Request {
        let mut field = |name: &str| body.get_mut(name).map(Value::take).unwrap_or_default();
        let (instructions, tools) = (field("instructions"), field("tools"));
        let Value::Array(mut input) = field("input") else {
            return Request { kept: 0, input: Vec::new(), instructions: None, tools: None };
        };
        let hashes: Vec<_> = input.iter().map(hashed).collect();
        let same = self.input.iter().zip(&hashes).take_while(|(before, now)| before == now);
        let kept = same.count();
        input.drain(..kept);
        self.input = hashes;
        let changed = |last: &mut Hash, now: Value| {
            let hash = hashed(&now);
            (std::mem::replace(last, hash) != hash).then_some(now)
        };
        let instructions = changed(&mut self.instructions, instructions);
        let tools = changed(&mut self.tools, tools);
        Request { kept, input, instructions, tools }
    }
}
