//! Stdin and stdout: the ready line out, the handoff line in, and then both as streams.
//!
//! # Why not `tokio::io::stdin`
//! It reads on a thread and is half as fast. We poll a pipe or a socket. A file or a terminal
//! cannot be polled and gets a thread.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use airlock_shared::handoff::Ready;
use airlock_shared::limits;
use bytes::Bytes;
use futures_util::stream;
use rustix::fs::FileType;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::confinement;

pub(crate) type Input = Box<dyn AsyncRead + Send + Unpin>;
pub(crate) type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// The handoff line, and the bytes after it that came with the same read.
pub(crate) struct HandoffInput {
    pub(crate) text: Zeroizing<Vec<u8>>,
    pub(crate) rest: Vec<u8>,
}

/// Why no line could be read.
#[derive(Debug)]
pub(crate) enum LineError {
    /// Stdin ended, or failed, before the first byte.
    Ended,
    TooLong,
}

/// fd 0.
pub(crate) fn input() -> io::Result<Input> {
    let own = io::stdin().as_fd().try_clone_to_owned()?;
    Ok(match kind(&own)? {
        FileType::Fifo => Box::new(pipe::Receiver::from_owned_fd(own)?),
        FileType::Socket => Box::new(socket(own)?),
        _ => Box::new(threaded_reader(own)),
    })
}

/// fd 1.
pub(crate) fn output() -> io::Result<Output> {
    let own = io::stdout().as_fd().try_clone_to_owned()?;
    Ok(match kind(&own)? {
        FileType::Fifo => Box::new(pipe::Sender::from_owned_fd(own)?),
        FileType::Socket => Box::new(socket(own)?),
        _ => Box::new(BlockingWriter(own.into())),
    })
}

/// Writes the ready line: the protocol and our confinement.
pub(crate) async fn say_ready(output: &mut Output) -> io::Result<()> {
    let ready = Ready {
        ready: limits::PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        confinement: Some(confinement::read()),
    };
    let mut line = serde_json::to_vec(&ready)?;
    line.push(b'\n');
    output.write_all(&line).await?;
    output.flush().await
}

/// The first line of `input`. It is wiped when dropped. A last line without a newline counts.
pub(crate) async fn first_line(
    input: &mut (impl AsyncRead + Unpin),
) -> Result<HandoffInput, LineError> {
    let mut chunk = Zeroizing::new(vec![0; 16 << 10]);
    let mut text = Zeroizing::new(Vec::with_capacity(chunk.len()));
    loop {
        let read = input.read(&mut chunk).await.unwrap_or(0);
        let end = chunk[..read].iter().position(|byte| *byte == b'\n');
        grow(&mut text, &chunk[..end.unwrap_or(read)]);
        match end {
            _ if text.len() > limits::HANDOFF_BYTES => return Err(LineError::TooLong),
            Some(end) => return Ok(HandoffInput { text, rest: chunk[end + 1..read].to_vec() }),
            None if read == 0 && text.is_empty() => return Err(LineError::Ended),
            None if read == 0 => return Ok(HandoffInput { text, rest: Vec::new() }),
            None => {}
        }
    }
}

/// Appends without an unwiped copy. A vector that grows by itself would leave one.
fn grow(text: &mut Zeroizing<Vec<u8>>, more: &[u8]) {
    if text.len() + more.len() > text.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity((text.len() + more.len()) * 2));
        larger.extend_from_slice(text);
        *text = larger;
    }
    text.extend_from_slice(more);
}

fn kind(file: &OwnedFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode))
}

fn socket(own: OwnedFd) -> io::Result<tokio::net::UnixStream> {
    let stream = std::os::unix::net::UnixStream::from(own);
    stream.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(stream)
}

/// A file or a terminal cannot be polled: a thread reads it until it ends.
fn threaded_reader(own: OwnedFd) -> impl AsyncRead + Send + Unpin {
    let (send, mut receive) = mpsc::channel::<io::Result<Bytes>>(2);
    let mut file = std::fs::File::from(own);
    let reader = std::thread::Builder::new().stack_size(128 << 10).spawn(move || {
        let mut chunk = Zeroizing::new(vec![0; 16 << 10]);
        loop {
            let read = file.read(&mut chunk);
            let ended = !matches!(read, Ok(1..));
            let bytes = read.map(|read| Bytes::copy_from_slice(&chunk[..read]));
            if send.blocking_send(bytes).is_err() || ended {
                return;
            }
        }
    });
    if reader.is_err() {
        receive.close();
    }
    tokio_util::io::StreamReader::new(stream::poll_fn(move |context| receive.poll_recv(context)))
}

/// A writer that may block for as long as its file or terminal does.
struct BlockingWriter(std::fs::File);

impl AsyncWrite for BlockingWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.0.write(bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.flush())
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(mut bytes: &[u8]) -> Result<(usize, Vec<u8>), LineError> {
        first_line(&mut bytes).await.map(|line| (line.text.len(), line.rest))
    }

    #[tokio::test]
    async fn the_line_and_the_bytes_after_it_are_split() {
        assert!(matches!(read(b"{}\nPRI").await, Ok((2, rest)) if rest == b"PRI"));
        assert!(matches!(read(b"{}").await, Ok((2, rest)) if rest.is_empty()));
        assert!(matches!(read(b"").await, Err(LineError::Ended)));
        assert!(matches!(read(b"\n").await, Ok((0, _))));
    }

    #[tokio::test]
    async fn a_line_that_never_ends_is_refused() {
        let endless = tokio::io::repeat(b'x');
        assert!(matches!(first_line(&mut { endless }).await, Err(LineError::TooLong)));
        let long = [vec![b'x'; 100_000], vec![b'\n']].concat();
        assert!(matches!(read(&long).await, Ok((100_000, _))));
    }
}
