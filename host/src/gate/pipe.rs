//! The pipe under HTTP/2, with two timeouts that HTTP/2 does not have: one for the preface (keep-alive
//! does not run before it), and one for writes that make no progress (keep-alive cannot close a pipe
//! whose peer does not read).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use airlock_shared::limits;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// The length of HTTP/2's preface.
const PREFACE_BYTES: usize = 24;

pub(super) struct LinkStream<T> {
    inner: T,
    /// Bytes received, at most the length of the preface.
    received: usize,
    preface: Pin<Box<Sleep>>,
    /// Runs while a write waits.
    stall: Option<Pin<Box<Sleep>>>,
}

impl<T> LinkStream<T> {
    pub(super) fn new(inner: T) -> Self {
        let preface = Box::pin(sleep(Duration::from_secs(limits::LINK_HANDSHAKE_SECONDS)));
        Self { inner, received: 0, preface, stall: None }
    }

    /// THREAT: a sandbox never reads, and the host keeps its buffers for ever.
    /// Tried by `gate::hostile::a_peer_that_never_reads`.
    fn progress<V>(
        &mut self,
        cx: &mut Context<'_>,
        poll: Poll<io::Result<V>>,
    ) -> Poll<io::Result<V>> {
        if poll.is_ready() {
            self.stall = None;
            return poll;
        }
        let patience = Duration::from_secs(limits::LINK_STALL_SECONDS);
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(patience)));
        match stall.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the sandbox stopped reading",
            ))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for LinkStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.received = (self.received + buffer.filled().len() - before).min(PREFACE_BYTES);
        // THREAT: the sandbox sends nothing, or half a preface, for ever. Tried by gate::hostile::silence.
        if poll.is_pending()
            && self.received < PREFACE_BYTES
            && self.preface.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the sandbox did not begin to speak HTTP/2",
            )));
        }
        poll
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for LinkStream<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.progress(cx, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.inner).poll_flush(cx);
        self.progress(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.progress(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write_vectored(cx, bytes);
        self.progress(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
