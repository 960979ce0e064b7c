//! Stdout and stderr of a run, written by a thread of their own, so that nobody who reads slowly
//! holds the run up.
//!
//! ```text
//! face ─▶ in memory, up to a bound ─▶ then in a file without a name ─▶ the thread ─▶ stdout, stderr
//! ```
//! One queue for both streams: on a terminal the order is what a person reads. No line is dropped;
//! how long somebody waits for the last of them is the caller's to say. A stream that fails, fails
//! alone: a full disk under stderr costs progress, and not the answer.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::screen::Screen;

/// Bytes that wait in memory.
const MEMORY_BYTES: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Out,
    Err,
}

/// Text for one of the streams.
struct Chunk {
    stream: Stream,
    text: Vec<u8>,
}

/// Resolves when all is written that can be.
pub(super) struct Flushed(oneshot::Receiver<io::Result<()>>);

impl Flushed {
    /// # Errors
    /// Why stdout could not be written. A closed pipe is no error, and neither is a stderr that
    /// fails: there is nowhere to say so.
    pub(super) async fn all(self) -> io::Result<()> {
        self.0.await.unwrap_or(Ok(()))
    }
}

/// The same screen, written by a thread, and its stderr once more, for what a person is asked. The
/// thread ends once both are dropped and all is written.
///
/// # Errors
/// There is no thread to be had.
pub(super) fn detached(screen: Screen) -> io::Result<(Screen, Outlet, Flushed)> {
    let shared = Arc::new(OutletQueue::default());
    let (mut out, mut err) = (screen.out, screen.err);
    let (told, written) = oneshot::channel();
    let queue = Arc::clone(&shared);
    let run = move || {
        let result = queue.write_all(|piece| {
            let to = match piece.stream {
                Stream::Out => &mut out,
                Stream::Err => &mut err,
            };
            to.write_all(&piece.text).and_then(|()| to.flush())
        });
        // Nobody waits who has had enough of it.
        let _unheard = told.send(result);
    };
    std::thread::Builder::new().name("output".to_owned()).spawn(run)?;
    let end = Arc::new(QueueEnd(Arc::clone(&shared)));
    let outlet = |stream| Outlet { stream, end: Arc::clone(&end) };
    let (out, err) = (Box::new(outlet(Stream::Out)), Box::new(outlet(Stream::Err)));
    let screen = Screen { out, err, ..screen };
    Ok((screen, outlet(Stream::Err), Flushed(written)))
}

/// One of the two streams, as the screen writes it.
pub(super) struct Outlet {
    stream: Stream,
    end: Arc<QueueEnd>,
}

/// Dropped with the last outlet: nothing more comes.
struct QueueEnd(Arc<OutletQueue>);

impl Drop for QueueEnd {
    fn drop(&mut self) {
        self.0.state().ended = true;
        self.0.changed.notify_all();
    }
}

impl Write for Outlet {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.end.0.put(Chunk { stream: self.stream, text: text.to_vec() })?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Default)]
struct OutletQueue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    waiting: VecDeque<Chunk>,
    bytes: usize,
    /// What came when there was no room in memory; after all of `waiting`.
    spilled: Option<Spill>,
    ended: bool,
    failed: Failed,
}

type Why = (io::ErrorKind, String);

/// Why a stream is written no more.
#[derive(Default)]
struct Failed {
    out: Option<Why>,
    err: Option<Why>,
}

impl Failed {
    fn of(&self, stream: Stream) -> io::Result<()> {
        let failed = match stream {
            Stream::Out => &self.out,
            Stream::Err => &self.err,
        };
        failed.as_ref().map_or(Ok(()), |(kind, why)| Err(io::Error::new(*kind, why.clone())))
    }

    /// The first reason stays.
    fn add(&mut self, stream: Stream, kind: io::ErrorKind, why: String) {
        let failed = match stream {
            Stream::Out => &mut self.out,
            Stream::Err => &mut self.err,
        };
        failed.get_or_insert((kind, why));
    }
}

impl OutletQueue {
    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, piece: Chunk) -> io::Result<()> {
        let mut state = self.state();
        let stream = piece.stream;
        state.failed.of(stream)?;
        let put = state.put(piece);
        if let Err(error) = &put {
            let why = format!("nobody reads it, and what waits cannot be kept: {error}");
            state.failed.add(stream, error.kind(), why);
        }
        self.changed.notify_all();
        put
    }

    /// Writes what comes until nothing more does. The pieces of a stream that failed are dropped.
    fn write_all(&self, mut write: impl FnMut(&Chunk) -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state();
        loop {
            match state.next() {
                Ok(Some(piece)) if state.failed.of(piece.stream).is_err() => {}
                Ok(Some(piece)) => {
                    drop(state);
                    let written = write(&piece);
                    state = self.state();
                    if let Err(error) = written {
                        state.failed.add(piece.stream, error.kind(), error.to_string());
                    }
                }
                Ok(None) if state.ended => break,
                Ok(None) => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                Err(error) => {
                    for stream in [Stream::Out, Stream::Err] {
                        state.failed.add(stream, error.kind(), error.to_string());
                    }
                    break;
                }
            }
        }
        match state.failed.of(Stream::Out) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }
}

impl QueueState {
    fn put(&mut self, piece: Chunk) -> io::Result<()> {
        if self.spilled.is_none() && self.bytes + piece.text.len() <= MEMORY_BYTES {
            self.bytes += piece.text.len();
            self.waiting.push_back(piece);
            return Ok(());
        }
        if self.spilled.is_none() {
            self.spilled = Some(Spill { file: tempfile::tempfile()?, read: 0, written: 0 });
        }
        self.spilled.as_mut().map_or(Ok(()), |spill| spill.put(&piece))
    }

    fn next(&mut self) -> io::Result<Option<Chunk>> {
        if let Some(piece) = self.waiting.pop_front() {
            self.bytes -= piece.text.len();
            return Ok(Some(piece));
        }
        let Some(spill) = &mut self.spilled else { return Ok(None) };
        if spill.read < spill.written {
            return spill.next().map(Some);
        }
        self.spilled = None;
        Ok(None)
    }
}

/// Pieces in a file that has no name: it is gone with us.
struct Spill {
    file: File,
    read: u64,
    written: u64,
}

impl Spill {
    fn put(&mut self, piece: &Chunk) -> io::Result<()> {
        let length = u64::try_from(piece.text.len()).unwrap_or(u64::MAX);
        let mut bytes = Vec::with_capacity(piece.text.len() + 9);
        bytes.push(u8::from(piece.stream == Stream::Err));
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&piece.text);
        self.file.seek(SeekFrom::Start(self.written))?;
        self.file.write_all(&bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn next(&mut self) -> io::Result<Chunk> {
        self.file.seek(SeekFrom::Start(self.read))?;
        let mut head = [0; 9];
        self.file.read_exact(&mut head)?;
        let mut length = [0; 8];
        length.copy_from_slice(&head[1..]);
        let length = u64::from_le_bytes(length);
        let mut text = vec![0; usize::try_from(length).unwrap_or(0)];
        self.file.read_exact(&mut text)?;
        self.read += length + head.len() as u64;
        let stream = if head[0] == 1 { Stream::Err } else { Stream::Out };
        Ok(Chunk { stream, text })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;
    use crate::cli::style::Style;

    fn screen(out: impl Write + Send + 'static, err: impl Write + Send + 'static) -> Screen {
        Screen {
            out: Box::new(out),
            err: Box::new(err),
            out_is_terminal: false,
            err_is_terminal: false,
            columns: None,
            out_style: Style::default(),
            err_style: Style::default(),
        }
    }

    /// Eight megabytes into a pipe that nobody reads: written all the same, and read later, whole.
    #[tokio::test]
    async fn a_reader_that_stalls_holds_nobody_up_and_gets_every_line() {
        let (reader, writer) = io::pipe().expect("a pipe");
        let (mut screen, _, written) = detached(screen(writer, io::sink())).expect("a thread");
        let line = |number: usize| format!("{number} {}\n", "x".repeat(1000));
        for number in 0..8_000 {
            screen.print(&line(number)).expect("it waits");
        }
        drop(screen);
        let reading = tokio::task::spawn_blocking(move || {
            let lines = BufReader::new(reader).lines();
            lines.map(|line| line.expect("text") + "\n").enumerate().all(|(n, it)| it == line(n))
        });
        written.all().await.expect("all of it");
        assert!(reading.await.expect("no panic"));
    }

    /// The control: the same pipe takes no more by itself.
    #[test]
    fn a_pipe_that_nobody_reads_is_full_soon() {
        let (_reader, mut writer) = io::pipe().expect("a pipe");
        rustix::io::ioctl_fionbio(&writer, true).expect("a mode");
        let full = writer.write_all(&vec![b'x'; 8 << 20]).expect_err("it is full");
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn both_streams_keep_their_order() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let err = writer.try_clone().expect("a second end");
        let (mut screen, _, written) = detached(screen(writer, err)).expect("a thread");
        for number in 0..100 {
            screen.tell(&format!("{number} err\n"));
            screen.print(&format!("{number} out\n")).expect("written");
        }
        drop(screen);
        written.all().await.expect("all of it");
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("text");
        let expected: String = (0..100).map(|n| format!("{n} err\n{n} out\n")).collect();
        assert_eq!(text, expected);
    }

    #[tokio::test]
    async fn a_closed_pipe_is_no_error_and_a_full_disk_is() {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let (mut closed, _, written) = detached(screen(writer, io::sink())).expect("a thread");
        closed.print("x").expect("it has read enough");
        drop(closed);
        written.all().await.expect("it has read enough");
        let (mut full, _, written) = detached(screen(full(), io::sink())).expect("a thread");
        full.print("x").expect("it waits");
        drop(full);
        let error = written.all().await.expect_err("it is full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    fn full() -> File {
        File::options().write(true).open("/dev/full").expect("a full disk")
    }

    /// Progress that cannot be written, then the answer.
    #[tokio::test]
    async fn a_stderr_that_fails_takes_no_answer_with_it() {
        let (_, closed) = io::pipe().expect("a pipe");
        for failing in [Box::new(full()) as Box<dyn Write + Send>, Box::new(closed)] {
            let (mut reader, writer) = io::pipe().expect("a pipe");
            let (mut screen, _, written) = detached(screen(writer, failing)).expect("a thread");
            for _ in 0..100 {
                screen.tell(&"progress\n".repeat(1_000));
            }
            screen.print("the answer\n").expect("it waits");
            drop(screen);
            written.all().await.expect("stdout was written");
            let mut text = String::new();
            reader.read_to_string(&mut text).expect("text");
            assert_eq!(text, "the answer\n");
        }
    }
}
