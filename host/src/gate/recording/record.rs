//! Writes a recording, one exchange at a time. Only whole lines are written, so after a crash the
//! recording can be read up to there. What cannot be played is not written: the recording ends there,
//! with a fault that says why.

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
    AnswerContent, Exchange, PlayedAnswer, RecordingHeader, Request, RouteName, Sha256Hash,
    VERSION, fits, fits_catalogue, hashed,
};
use crate::gate::policy::Route;
use crate::output::{Opened, Output};

/// A recording being written.
pub struct Recorder {
    recording: Mutex<RecordingFile>,
    writer: Writer,
}

struct RecordingFile {
    /// Header and catalogue. They are written with the first exchange, so a turn that never reaches its
    /// model does not overwrite an older recording.
    head: Vec<u8>,
    n: usize,
    /// Bytes of all lines.
    bytes: u64,
    /// The last request of each route.
    responses: LastRecorded,
    compact: LastRecorded,
    /// The first error; nothing is written after it.
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
    /// Begins a recording, in a new file or in place of an older recording, which the first exchange
    /// overwrites. No other file is overwritten. Only its owner may read it.
    ///
    /// # Errors
    /// If the file is not a recording, cannot be written, or lies behind a link within `tree`.
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
                return Err(fault(
                    "the file exists and is not a recording; nothing was overwritten",
                ));
            }
            let owners = std::fs::Permissions::from_mode(0o600);
            file.set_permissions(owners).map_err(cannot)?;
        }
        let made_by = env!("CARGO_PKG_VERSION").to_owned();
        let header =
            RecordingHeader { airlock_recording: VERSION, made_by, model: model.slug.clone() };
        let head = rendered(&header, &Needles::default()).map_err(cannot)?;
        let recording = RecordingFile {
            bytes: head.len() as u64,
            head,
            n: 0,
            responses: LastRecorded::default(),
            compact: LastRecorded::default(),
            fault: None,
        };
        let writer = Writer::start(opened).map_err(cannot)?;
        Ok(Self { recording: Mutex::new(recording), writer })
    }

    /// Records the catalogue that the model was chosen from.
    ///
    /// # Errors
    /// If it is too large to be played.
    pub(in crate::gate) fn catalogue(&self, catalogue: &Value) -> Result<(), Fault> {
        let mut recording = self.recording();
        let exchange = Exchange {
            n: 0,
            route: RouteName::Models,
            request: None,
            status: 200,
            by_host: false,
            events: None,
            body: Some(catalogue.clone()),
        };
        if let Some(line) = recording.line(exchange, &Needles::default()) {
            match fits_catalogue(&line[..line.len() - 1]) {
                Ok(()) => recording.head.extend(line),
                Err(why) => recording.fault = Some(format!("the catalogue {why} to be played")),
            }
        }
        recording.fault.clone().map_or(Ok(()), |why| Err(unwritten(&why)))
    }

    /// Records one exchange, scrubbed once more, because recordings are passed on to others.
    pub(in crate::gate) fn exchange(
        &self,
        route: Route,
        body: Value,
        reply: PlayedAnswer,
        needles: &Needles,
    ) {
        let mut recording = self.recording();
        let last = match route {
            Route::Responses => &mut recording.responses,
            Route::Compact => &mut recording.compact,
        };
        let request = Some(last.next(body));
        let (status, by_host, events, body) = match reply {
            PlayedAnswer::Answer { status, content: AnswerContent::Events(events) } => {
                (status, false, Some(events), None)
            }
            PlayedAnswer::Answer { status, content: AnswerContent::Body(body) } => {
                (status, false, None, Some(body))
            }
            PlayedAnswer::Refused { refusal, why } => {
                (refusal.status(), true, None, Some(refusal.body(&why)))
            }
        };
        let route = route.into();
        let exchange = Exchange { n: 0, route, request, status, by_host, events, body };
        if let Some(line) = recording.line(exchange, needles) {
            let mut lines = std::mem::take(&mut recording.head);
            lines.extend(line);
            if let Err(why) = self.writer.put(lines) {
                recording.fault = Some(why.to_owned());
            }
        }
    }

    /// Ends the recording with this reason; nothing more is written.
    pub(in crate::gate) fn fail(&self, why: &str) {
        self.recording().fault.get_or_insert_with(|| why.to_owned());
    }

    /// Waits until everything is on the disk.
    ///
    /// # Errors
    /// `Recording`, with the first error.
    pub async fn finish(&self) -> Result<(), Fault> {
        let written = self.writer.finish().await;
        // The writer's errors come before ours: it was given the earlier exchanges.
        let fault = written.err().or_else(|| self.recording().fault.clone());
        fault.map_or(Ok(()), |why| Err(unwritten(&why)))
    }

    /// Pretends that so many bytes were written.
    #[cfg(test)]
    pub(super) fn has_written(&self, bytes: u64) {
        self.recording().bytes = bytes;
    }

    fn recording(&self) -> MutexGuard<'_, RecordingFile> {
        self.recording.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unwritten(why: &str) -> Fault {
    Fault::new(FaultKind::Recording, format!("the recording could not be written: {why}"))
}

impl RecordingFile {
    /// The line of the next exchange; `None` after an error.
    fn line(&mut self, mut exchange: Exchange, needles: &Needles) -> Option<Vec<u8>> {
        if self.fault.is_some() {
            return None;
        }
        self.n += 1;
        exchange.n = self.n;
        let line = rendered(&exchange, needles).map_err(|error| error.to_string());
        match line.and_then(|line| self.checked(line)) {
            Ok(line) => Some(line),
            Err(why) => {
                self.fault = Some(why);
                None
            }
        }
    }

    /// The line, if it can be played.
    fn checked(&mut self, line: Vec<u8>) -> Result<Vec<u8>, String> {
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

/// A line with its newline, scrubbed.
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

/// A line that is being written.
struct RecordingLine {
    scrubber: Scrubber,
    clean: Vec<u8>,
}

impl Write for RecordingLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.clean.extend(self.scrubber.feed(bytes));
        // Stop if it is too long already.
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
    /// A request as the difference from the one before.
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
