//! Stdin and stdout of a container as one stream. Stderr is separate: our sandbox writes nothing there,
//! so its end helps to explain why a container died.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bollard::container::{AttachContainerResults, LogOutput};
use bollard::errors::Error;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// How much of the end of stderr is kept.
const STDERR_TAIL_BYTES: usize = 4096;
/// How many frames of stderr are read before other tasks may run.
const STDERR_FRAMES_AT_ONCE: usize = 64;

type Frames = Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>;

/// Both directions of an attached container.
pub struct Pipe {
    frames: Frames,
    input: Pin<Box<dyn AsyncWrite + Send>>,
    unread: Bytes,
    stderr_tail: StderrTail,
}

impl Pipe {
    pub(super) fn new(attached: AttachContainerResults) -> Self {
        Self {
            frames: attached.output,
            input: attached.input,
            unread: Bytes::new(),
            stderr_tail: StderrTail::default(),
        }
    }

    /// The end of stderr; it can be read after the pipe is gone, too.
    #[must_use]
    pub fn stderr_tail(&self) -> StderrTail {
        self.stderr_tail.clone()
    }

    /// The next line, without its newline; what follows it stays unread. A line longer than `most`, or
    /// an end of the stream within the line, is an error.
    pub(super) async fn line(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let mut line = BytesMut::new();
        loop {
            if let Some(end) = line.iter().position(|&byte| byte == b'\n') {
                let mut rest = line.split_off(end);
                rest.advance(1);
                // The rest of the frame was not read yet: it comes after the rest of the line.
                let mut unread = rest;
                unread.extend_from_slice(&self.unread);
                self.unread = unread.freeze();
                return Ok(line.to_vec());
            }
            if line.len() > most {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "its first line has no end",
                ));
            }
            if self.read_buf(&mut line).await? == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "it ended before its first line was whole",
                ));
            }
        }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let pipe = &mut *self;
        for _ in 0..STDERR_FRAMES_AT_ONCE {
            if !pipe.unread.is_empty() {
                let most = pipe.unread.len().min(buffer.remaining());
                buffer.put_slice(&pipe.unread.split_to(most));
                return Poll::Ready(Ok(()));
            }
            match ready!(pipe.frames.as_mut().poll_next(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Ok(LogOutput::StdOut { message })) => pipe.unread = message,
                Some(Ok(LogOutput::StdErr { message })) => pipe.stderr_tail.add(&message),
                Some(Ok(LogOutput::StdIn { .. } | LogOutput::Console { .. })) => {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the engine sent a frame that is neither stdout nor stderr",
                    )));
                }
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        // THREAT: endless stderr keeps this loop, and so the host's thread, busy for ever.
        // Tried by engine::docker::pipe::tests::a_flood_of_stderr_is_bounded.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.input.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.as_mut().poll_shutdown(cx)
    }
}

impl std::fmt::Debug for Pipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pipe")
    }
}

/// The end of a container's stderr: hearsay, and only for people.
#[derive(Clone, Debug, Default)]
pub struct StderrTail(Arc<Mutex<Vec<u8>>>);

impl StderrTail {
    /// As one line; empty if there was none. Not safe for a terminal yet.
    #[must_use]
    pub fn from_sandbox(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&kept).trim().replace('\n', "; ")
    }

    fn add(&self, message: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let message = &message[message.len().saturating_sub(STDERR_TAIL_BYTES)..];
        kept.extend_from_slice(message);
        let surplus = kept.len().saturating_sub(STDERR_TAIL_BYTES);
        kept.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};

    use super::*;

    fn out(text: &'static str) -> Result<LogOutput, Error> {
        Ok(LogOutput::StdOut { message: Bytes::from_static(text.as_bytes()) })
    }

    fn err(text: &'static str) -> Result<LogOutput, Error> {
        Ok(LogOutput::StdErr { message: Bytes::from_static(text.as_bytes()) })
    }

    fn pipe(frames: impl Stream<Item = Result<LogOutput, Error>> + Send + 'static) -> Pipe {
        Pipe::new(AttachContainerResults {
            output: frames.boxed(),
            input: Box::pin(tokio::io::sink()),
        })
    }

    #[tokio::test]
    async fn a_line_ends_where_it_ends_and_nothing_after_it_is_lost() {
        let frames = [out("rea"), err("hm\n"), out("dy\nPRI * HT"), out("TP/2.0")];
        let mut pipe = pipe(stream::iter(frames));
        assert_eq!(pipe.line(100).await.unwrap(), b"ready");
        let mut rest = String::new();
        pipe.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "PRI * HTTP/2.0");
        assert_eq!(pipe.stderr_tail().from_sandbox(), "hm");
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_an_error() {
        let mut endless = pipe(stream::repeat_with(|| out("aaaaaaaaaaaaaaaa")));
        assert!(endless.line(100).await.is_err());
        let mut cut = pipe(stream::iter([out("rea")]));
        assert!(cut.line(100).await.is_err());
    }

    #[tokio::test]
    async fn a_flood_of_stderr_is_bounded() {
        let piece = || err("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
        let mut flood = pipe(stream::repeat_with(piece).take(STDERR_TAIL_BYTES));
        let stderr_tail = flood.stderr_tail();
        assert!(flood.line(100).await.is_err());
        assert_eq!(stderr_tail.from_sandbox().len(), STDERR_TAIL_BYTES);
    }

    #[tokio::test]
    async fn a_frame_of_no_kind_is_an_error() {
        let message = Bytes::from_static(b"\x07");
        let mut odd = pipe(stream::iter([Ok(LogOutput::Console { message })]));
        assert!(odd.line(100).await.is_err());
    }
}
