//! Writes the file of a recording on its own thread, so that a slow disk, or a slow reader of
//! `/dev/stdout`, does not block other tasks.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::output::Opened;

/// How many bytes may wait to be written: more than one exchange can have, and little enough for the
/// memory.
const WAITING_BYTES: usize = 64 << 20;
/// How long the end may take.
const PATIENCE: Duration = Duration::from_secs(30);
const TOO_SLOW: &str = "writing takes too long";

pub(super) struct Writer {
    work: Sender<Work>,
    /// Bytes that wait.
    waiting: Arc<AtomicUsize>,
}

enum Work {
    Lines(Vec<u8>),
    /// Reports whether everything is on the disk.
    Finish(oneshot::Sender<Result<(), String>>),
}

impl Writer {
    /// A regular file is truncated before the first line, and synced at the end. Terminals, pipes and
    /// devices are only written. The thread ends once the writer is dropped and everything is written.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(super) fn start(opened: Opened) -> io::Result<Self> {
        let (work, to_do) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&waiting);
        let run = move || write(opened, &to_do, &left);
        std::thread::Builder::new().name("recording".to_owned()).spawn(run)?;
        Ok(Self { work, waiting })
    }

    /// Takes whole lines, without waiting.
    ///
    /// # Errors
    /// If too much waits already.
    pub(super) fn put(&self, lines: Vec<u8>) -> Result<(), &'static str> {
        // THREAT: the reader of the recording stops reading, and it fills the memory. Tried by
        // `gate::recording::writer::tests::a_reader_that_stalls_delays_nothing`.
        let before = self.waiting.fetch_add(lines.len(), Ordering::AcqRel);
        if before + lines.len() > WAITING_BYTES {
            return Err(TOO_SLOW);
        }
        self.work.send(Work::Lines(lines)).map_err(|_| "its thread has ended")
    }

    /// # Errors
    /// The first error.
    pub(super) async fn finish(&self) -> Result<(), String> {
        let (report, written) = oneshot::channel();
        self.work.send(Work::Finish(report)).map_err(|_| "its thread has ended")?;
        match tokio::time::timeout(PATIENCE, written).await {
            Ok(Ok(written)) => written,
            Ok(Err(_)) => Err("its thread has ended".to_owned()),
            Err(_) => Err(TOO_SLOW.to_owned()),
        }
    }
}

fn write(mut opened: Opened, to_do: &Receiver<Work>, waiting: &AtomicUsize) {
    let mut is_begun = false;
    let mut fault = None;
    for work in to_do {
        match work {
            Work::Lines(lines) => {
                let begun = match &opened {
                    Opened::File(file) if !is_begun => cut(file),
                    _ => Ok(()),
                };
                if fault.is_none() {
                    fault = begun.and_then(|()| opened.write_all(&lines)).err();
                    is_begun = true;
                }
                waiting.fetch_sub(lines.len(), Ordering::AcqRel);
            }
            Work::Finish(report) => {
                if let Opened::File(file) = &opened
                    && fault.is_none()
                {
                    fault = file.sync_data().err();
                }
                let written = fault.as_ref().map_or(Ok(()), |error| Err(error.to_string()));
                // The caller may have stopped waiting.
                let _not_received = report.send(written);
            }
        }
    }
}

fn cut(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::output::Stream;

    fn open(pipe: io::PipeWriter) -> Opened {
        Opened::Stream(Stream::new(File::from(std::os::fd::OwnedFd::from(pipe)), None))
    }

    #[tokio::test]
    async fn a_reader_that_stalls_delays_nothing() {
        let (mut reader, pipe) = io::pipe().expect("a pipe");
        let writer = Writer::start(open(pipe)).expect("a thread");
        let line = vec![b'x'; 8 << 20];
        // The pipe takes a part of the first. All of it counts as waiting until it is written.
        for _ in 0..WAITING_BYTES / line.len() {
            assert_eq!(writer.put(line.clone()), Ok(()));
        }
        assert_eq!(writer.put(line.clone()), Err(TOO_SLOW));
        // What it has accepted comes out once there is a reader.
        let reading = tokio::task::spawn_blocking(move || {
            let mut came = vec![0; WAITING_BYTES];
            reader.read_exact(&mut came).map(|()| came.iter().all(|byte| *byte == b'x'))
        });
        assert_eq!(writer.finish().await, Ok(()));
        assert!(reading.await.expect("no panic").expect("read"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_for_the_end_is_bounded() {
        let (reader, pipe) = io::pipe().expect("a pipe");
        let writer = Writer::start(open(pipe)).expect("a thread");
        assert_eq!(writer.put(vec![b'x'; 1 << 20]), Ok(()));
        assert_eq!(writer.finish().await, Err(TOO_SLOW.to_owned()));
        drop(reader);
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_is_named() {
        let (reader, pipe) = io::pipe().expect("a pipe");
        drop(reader);
        let writer = Writer::start(open(pipe)).expect("a thread");
        assert_eq!(writer.put(b"x\n".to_vec()), Ok(()));
        let written = writer.finish().await;
        assert!(written.as_ref().is_err_and(|why| why.contains("Broken pipe")), "{written:?}");
    }
}
