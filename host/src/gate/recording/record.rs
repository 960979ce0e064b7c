//! Writes a recording, an exchange at a time: whole lines only, so that a run that dies leaves one
//! that can be read up to there. What cannot be played is not written: the recording ends there, and
//! says why.

use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use airlock_shared::limits;
use airlock_shared::model::Model;
use airlock_shared::outcome::{Fault, FaultKind};
use airlock_shared::scrub::{Needles, Scrubber};
use serde::Serialize;
use serde_json::Value;

use super::writer::Writer;
use super::{
    Exchange, PlayedAnswer, RecordingHeader, Request, RouteName, Said, Sha256Hash, VERSION, fits,
    fits_catalogue, hashed,
};
use crate::gate::policy::Route;
use crate::output::{Opened, Output};

/// A recording being written.
pub struct Recorder {
    tape: Mutex<RecordingFile>,
    writer: Writer,
}

struct RecordingFile {
    /// What a recording begins with: header and catalogue. Written with the first exchange: until then
    /// an older recording stays as it is, for a run that never gets as far as its model.
    head: Vec<u8>,
    n: usize,
    /// Bytes of all lines.
    bytes: u64,
    /// The last request of each route.
    responses: LastRecorded,
    compact: LastRecorded,
    /// The first thing that went wrong; nothing is written after it.
    fault: Option<String>,
}

struct LastRecorded {
    input: Vec<Sha256Hash>,
    instructions: Sha256Hash,
    tools: Sha256Hash,
}

impl Default for LastRecorded {
    fn default() -> Self {
        let none = hashed(&Value::Null);
        Self { input: Vec::new(), instructions: none, tools: none }
    }
}

impl Recorder {
    /// Begins a recording: a new file, or the place of an older recording, which is overwritten by the
    /// first exchange; nothing else ever is. It is the owner's alone.
    ///
    /// # Errors
    /// When the file is something else, or cannot be written, or lies behind a link of `tree`.
    pub fn create(path: &Path, tree: Option<&Path>, model: &Model) -> Result<Self, Fault> {
        let fault =
            |why: &str| Fault::new(FaultKind::Recording, format!("{}: {why}", path.display()));
        let output = Output::open(path, tree).map_err(|why| fault(&why))?;
        let cannot = |error: std::io::Error| fault(&format!("it cannot be written: {error}"));
        let opened = output.open_in_place().map_err(cannot)?;
        if let Opened::File(file) = &opened {
            let mut begin = Vec::new();
            let read = Read::take(file, 64).read_to_end(&mut begin);
            let is_ours = begin.is_empty()
                || begin.starts_with(b"{\"airlock_recording\":")
                || begin.starts_with(b"{\"airlock_cassette\":");
            if read.is_err() || !is_ours {
                return Err(fault("it is there and is no recording; nothing was overwritten"));
            }
            let owners = std::fs::Permissions::from_mode(0o600);
            file.set_permissions(owners).map_err(cannot)?;
        }
        let made_by = env!("CARGO_PKG_VERSION").to_owned();
        let header =
            RecordingHeader { airlock_recording: VERSION, made_by, model: model.slug.clone() };
        let head = rendered(&header, &Needles::default()).map_err(cannot)?;
        let tape = RecordingFile {
            bytes: head.len() as u64,
            head,
            n: 0,
            responses: LastRecorded::default(),
            compact: LastRecorded::default(),
            fault: None,
        };
        let writer = Writer::start(opened).map_err(cannot)?;
        Ok(Self { tape: Mutex::new(tape), writer })
    }

    /// The catalogue that the run chose its model from.
    ///
    /// # Errors
    /// When it is larger than can be played.
    pub(in crate::gate) fn catalogue(&self, catalogue: &Value) -> Result<(), Fault> {
        let mut tape = self.tape();
        let exchange = Exchange {
            n: 0,
            route: RouteName::Models,
            request: None,
            status: 200,
            by_host: false,
            events: None,
            body: Some(catalogue.clone()),
        };
        if let Some(line) = tape.line(exchange, &Needles::default()) {
            match fits_catalogue(&line[..line.len() - 1]) {
                Ok(()) => tape.head.extend(line),
                Err(why) => tape.fault = Some(format!("the catalogue {why} to be played")),
            }
        }
        tape.fault.clone().map_or(Ok(()), |why| Err(unwritten(&why)))
    }

    /// One exchange, scrubbed once more of what must not be in a file that is shown around.
    pub(in crate::gate) fn exchange(
        &self,
        route: Route,
        body: Value,
        reply: PlayedAnswer,
        needles: &Needles,
    ) {
        let mut tape = self.tape();
        let last = match route {
            Route::Responses => &mut tape.responses,
            Route::Compact => &mut tape.compact,
        };
        let request = Some(last.next(body));
        let (status, by_host, events, body) = match reply {
            PlayedAnswer::Answer { status, said: Said::Events(events) } => {
                (status, false, Some(events), None)
            }
            PlayedAnswer::Answer { status, said: Said::Body(body) } => {
                (status, false, None, Some(body))
            }
            PlayedAnswer::Refused { refusal, why } => {
                (refusal.status(), true, None, Some(refusal.body(&why)))
            }
        };
        let route = route.into();
        let exchange = Exchange { n: 0, route, request, status, by_host, events, body };
        if let Some(line) = tape.line(exchange, needles) {
            let mut lines = std::mem::take(&mut tape.head);
            lines.extend(line);
            if let Err(why) = self.writer.put(lines) {
                tape.fault = Some(why.to_owned());
            }
        }
    }

    /// Nothing more is written, and this is why.
    pub(in crate::gate) fn fail(&self, why: &str) {
        self.tape().fault.get_or_insert_with(|| why.to_owned());
    }

    /// Whether everything was written, and is on the disk.
    ///
    /// # Errors
    /// `Replayer`, with what went wrong first.
    pub async fn finish(&self) -> Result<(), Fault> {
        let written = self.writer.finish().await;
        // What was not given to the writer comes after all that was.
        let fault = written.err().or_else(|| self.tape().fault.clone());
        fault.map_or(Ok(()), |why| Err(unwritten(&why)))
    }

    /// As if so many bytes had been written.
    #[cfg(test)]
    pub(super) fn has_written(&self, bytes: u64) {
        self.tape().bytes = bytes;
    }

    fn tape(&self) -> MutexGuard<'_, RecordingFile> {
        self.tape.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unwritten(why: &str) -> Fault {
    Fault::new(FaultKind::Recording, format!("the recording could not be written: {why}"))
}

impl RecordingFile {
    /// The next exchange as its line; none once something went wrong, and nothing can follow.
    fn line(&mut self, mut exchange: Exchange, needles: &Needles) -> Option<Vec<u8>> {
        if self.fault.is_some() {
            return None;
        }
        self.n += 1;
        exchange.n = self.n;
        let line = rendered(&exchange, needles).map_err(|error| error.to_string());
        match line.and_then(|line| self.taken(line)) {
            Ok(line) => Some(line),
            Err(why) => {
                self.fault = Some(why);
                None
            }
        }
    }

    /// The line, if it can be played.
    fn taken(&mut self, line: Vec<u8>) -> Result<Vec<u8>, String> {
        let n = self.n;
        fits(&line[..line.len() - 1], n)
            .map_err(|why| format!("exchange {n} {why} to be played"))?;
        self.bytes += line.len() as u64;
        if self.bytes > limits::RECORDING_BYTES {
            let most = limits::RECORDING_BYTES >> 20;
            return Err(format!(
                "with exchange {n} it is larger than {most} MiB, and cannot be played"
            ));
        }
        Ok(line)
    }
}

/// A line with its end, scrubbed.
fn rendered(value: &impl Serialize, needles: &Needles) -> io::Result<Vec<u8>> {
    let mut line = RecordingLine { scrubber: Scrubber::new(needles.clone()), clean: Vec::new() };
    let mut buffered = BufWriter::with_capacity(64 << 10, &mut line);
    serde_json::to_writer(&mut buffered, value)?;
    buffered.flush()?;
    drop(buffered);
    let RecordingLine { mut scrubber, mut clean } = line;
    clean.extend(scrubber.finish());
    clean.push(b'\n');
    Ok(clean)
}

/// A line as it is made.
struct RecordingLine {
    scrubber: Scrubber,
    clean: Vec<u8>,
}

impl Write for RecordingLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.clean.extend(self.scrubber.feed(bytes));
        // It is not made to its end if it is too long already.
        if self.clean.len() > limits::RECORDING_LINE_BYTES {
            return Err(io::Error::other("an exchange is too long to be played"));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LastRecorded {
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
        let changed = |last: &mut Sha256Hash, now: Value| {
            let hash = hashed(&now);
            (std::mem::replace(last, hash) != hash).then_some(now)
        };
        let instructions = changed(&mut self.instructions, instructions);
        let tools = changed(&mut self.tools, tools);
        Request { kept, input, instructions, tools }
    }
}
