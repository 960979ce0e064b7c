//! Stdout and stderr of a turn, written by a thread of their own, so that a slow reader does not
//! block the session.
//!
//! ```text
//! printer ─▶ queue in memory, up to a limit ─▶ then a file without a name ─▶ thread ─▶ stdout, stderr
//! ```
//! Both streams share one queue, because on a terminal their order matters. No line is dropped; the
//! caller decides how long to wait for the last one. If one stream fails, the other one goes on: a
//! full disk under stderr costs progress lines, not the answer.

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

/// Resolves when everything is written.
pub(super) struct Flushed(oneshot::Receiver<io::Result<()>>);

impl Flushed {
    /// # Errors
    /// Stdout cannot be written. A closed pipe is no error, and a failed stderr is none either: there
    /// is no place to report it.
    pub(super) async fn all(self) -> io::Result<()> {
        self.0.await.unwrap_or(Ok(()))
    }
}

/// The same screen, written by a thread, and a second handle for its stderr, to ask a person. The
/// thread ends when both are dropped and everything is written.
///
/// # Errors
/// No thread can be started.
pub(super) fn detached(screen: Screen) -> io::Result<(Screen, Outlet, Flushed)> {
    let shared = Arc::new(OutletQueue::default());
    let (mut out, mut err) = (screen.out, screen.err);
    let (done, written) = oneshot::channel();
    let queue = Arc::clone(&shared);
    let run = move || {
        let result = queue.write_all(|chunk| {
            let to = match chunk.stream {
                Stream::Out => &mut out,
                Stream::Err => &mut err,
            };
            to.write_all(&chunk.text).and_then(|()| to.flush())
        });
        // The receiver is gone if the caller did not want to wait.
        let _no_receiver = done.send(result);
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

/// Dropped with the last outlet: ends the queue.
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
    /// Chunks that did not fit in memory. They come after all of `waiting`.
    spilled: Option<Spill>,
    ended: bool,
    failed: Failed,
}

type Why = (io::ErrorKind, String);

/// Why a stream is not written any more.
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

    /// Keeps the first reason.
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

    fn put(&self, chunk: Chunk) -> io::Result<()> {
        let mut state = self.state();
        let stream = chunk.stream;
        state.failed.of(stream)?;
        let put = state.put(chunk);
        if let Err(error) = &put {
            let why =
                format!("the reader is slow, and the waiting output cannot be stored: {error}");
            state.failed.add(stream, error.kind(), why);
        }
        self.changed.notify_all();
        put
    }

    /// Writes chunks until the queue ends. Chunks of a failed stream are dropped.
    fn write_all(&self, mut write: impl FnMut(&Chunk) -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state();
        loop {
            match state.next() {
                Ok(Some(chunk)) if state.failed.of(chunk.stream).is_err() => {}
                Ok(Some(chunk)) => {
                    drop(state);
                    let written = write(&chunk);
                    state = self.state();
                    if let Err(error) = written {
                        state.failed.add(chunk.stream, error.kind(), error.to_string());
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
    fn put(&mut self, chunk: Chunk) -> io::Result<()> {
        if self.spilled.is_none() && self.bytes + chunk.text.len() <= MEMORY_BYTES {
            self.bytes += chunk.text.len();
            self.waiting.push_back(chunk);
            return Ok(());
        }
        if self.spilled.is_none() {
            self.spilled = Some(Spill { file: tempfile::tempfile()?, read: 0, written: 0 });
        }
        self.spilled.as_mut().map_or(Ok(()), |spill| spill.put(&chunk))
    }

    fn next(&mut self) -> io::Result<Option<Chunk>> {
        if let Some(chunk) = self.waiting.pop_front() {
            self.bytes -= chunk.text.len();
            return Ok(Some(chunk));
        }
        let Some(spill) = &mut self.spilled else { return Ok(None) };
        if spill.read < spill.written {
            return spill.next().map(Some);
        }
        self.spilled = None;
        Ok(None)
    }
}

/// Chunks in a file without a name, which disappears with the process.
struct Spill {
    file: File,
    read: u64,
    written: u64,
}

impl Spill {
    fn put(&mut self, chunk: &Chunk) -> io::Result<()> {
        let length = u64::try_from(chunk.text.len()).unwrap_or(u64::MAX);
        let mut bytes = Vec::with_capacity(chunk.text.len() + 9);
        bytes.push(u8::from(chunk.stream == Stream::Err));
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&chunk.text);
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

    /// Eight megabytes into a pipe without a reader are accepted, and are complete when read later.
    #[tokio::test]
    async fn a_stalled_reader_blocks_nothing_and_gets_every_line() {
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

    /// The control: without the queue, the same pipe is soon full.
    #[test]
    fn a_pipe_without_a_reader_is_soon_full() {
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

    /// Progress cannot be written, but the answer can.
    #[tokio::test]
    async fn a_stderr_that_fails_costs_no_answer() {
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
