//! The pipe to the host: HTTP/2 with prior knowledge, with us as the client. The routes are in
//! `airlock_shared::link`.
//!
//! Deliberately absent: reconnecting. The pipe lasts as long as the sandbox.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use airlock_shared::command::Command;
use airlock_shared::outcome::{Fault, FaultKind};
use airlock_shared::secret::Secret;
use airlock_shared::{limits, link};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, BufWriter, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// How many bytes of waiting lines are joined in one frame. HTTP/2 frames are not larger.
const LINES_BYTES: usize = 16 << 10;
/// How many bytes of frames are gathered before a write. More is written at once.
const FRAMES_BYTES: usize = 32 << 10;

/// The body of any request that we send.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The pipe to the host. Clones share it.
#[derive(Clone)]
pub(crate) struct Link {
    sender: http2::SendRequest<Body>,
    key: HeaderValue,
}

impl Link {
    /// Starts HTTP/2 on the pipe. `prefix` was already read from it. `gone` is cancelled when the
    /// host's end of the pipe is closed or carries something that is not HTTP/2.
    ///
    /// # Errors
    /// If nothing can be written, or the key is not a valid header value.
    pub(crate) async fn open<R, W>(
        prefix: Vec<u8>,
        input: R,
        output: W,
        key: &Secret,
        gone: CancellationToken,
    ) -> Result<Self, Fault>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let mut value = HeaderValue::from_str(key.reveal())
            .map_err(|_| link_fault("the session key cannot be a header"))?;
        value.set_sensitive(true);
        let input =
            WatchedReader { input: io::Cursor::new(prefix).chain(input), gone: gone.clone() };
        // Frames that are ready together are written together.
        let output = BufWriter::with_capacity(FRAMES_BYTES, output);
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(limits::LINK_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(limits::LINK_CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(limits::LINK_SEND_BUFFER_BYTES)
            .max_header_list_size(limits::LINK_HEADER_BYTES)
            .handshake(TokioIo::new(tokio::io::join(input, output)))
            .await
            .map_err(|error| {
                link_fault(format!("the pipe to the host could not be used: {error}"))
            })?;
        tokio::spawn(async move {
            let _how = connection.await;
            gone.cancel();
        });
        Ok(Self { sender, key: value })
    }

    /// Sends a request. The answer may have any status.
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Body,
    ) -> Result<Response<Incoming>, Fault> {
        let uri = format!("http://{}{path}", link::AUTHORITY);
        self.send(method, &uri, headers, body).await
    }

    /// A stream to `host:port`. The host resolves the name and connects.
    pub(crate) async fn tunnel(
        &self,
        authority: &str,
    ) -> Result<TokioIo<hyper::upgrade::Upgraded>, Fault> {
        let answer = self
            .send(Method::CONNECT, authority, HeaderMap::new(), full_body(Bytes::new()))
            .await?;
        if answer.status() != StatusCode::OK {
            return Err(refused(answer, "the host did not open the tunnel").await);
        }
        let upgraded = hyper::upgrade::on(answer).await;
        upgraded.map(TokioIo::new).map_err(|error| link_fault(format!("no tunnel: {error}")))
    }

    /// Streams the lines to the host until the last reporter is gone, and waits until it has them.
    pub(crate) async fn report(&self, lines: mpsc::Receiver<Bytes>) -> Result<(), Fault> {
        let answer = self
            .request(Method::POST, link::EVENTS, HeaderMap::new(), streamed_lines(lines))
            .await?;
        match answer.status() {
            StatusCode::OK => Ok(()),
            _ => Err(refused(answer, "the host did not take the events").await),
        }
    }

    /// Reads commands of the host until the stream ends, and calls `on_command` with each. Lines
    /// that are not commands are ignored: a newer host may have more commands.
    pub(crate) async fn commands(&self, mut on_command: impl FnMut(Command)) -> Result<(), Fault> {
        let answer = self
            .request(Method::GET, link::COMMANDS, HeaderMap::new(), full_body(Bytes::new()))
            .await?;
        if answer.status() != StatusCode::OK {
            return Err(refused(answer, "the host sends no commands").await);
        }
        let mut body = answer.into_body();
        let mut line = Zeroizing::new(Vec::new());
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|error| link_fault(format!("the commands broke off: {error}")))?;
            let Ok(bytes) = frame.into_data() else { continue };
            for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
                if line.len() + piece.len() > limits::LINE_BYTES {
                    return Err(link_fault("a command is too long"));
                }
                line.extend_from_slice(piece);
                if piece.ends_with(b"\n") {
                    if let Ok(command) = serde_json::from_slice(&line) {
                        on_command(command);
                    }
                    line = Zeroizing::new(Vec::new());
                }
            }
        }
        Ok(())
    }

    /// The person's directory, as a tar stream.
    pub(crate) async fn workspace(&self) -> Result<impl AsyncRead + Send + Unpin + use<>, Fault> {
        let answer = self
            .request(Method::GET, link::WORKSPACE, HeaderMap::new(), full_body(Bytes::new()))
            .await?;
        if answer.status() != StatusCode::OK {
            return Err(refused(answer, "the host did not send the directory").await);
        }
        let body = Box::pin(stream::unfold(answer.into_body(), |mut body| async move {
            loop {
                match body.frame().await? {
                    Err(error) => return Some((Err(io::Error::other(error)), body)),
                    Ok(frame) => match frame.into_data() {
                        Ok(bytes) => return Some((Ok(bytes), body)),
                        Err(_trailers) => {}
                    },
                }
            }
        }));
        Ok(tokio_util::io::StreamReader::new(body))
    }

    /// Sends the changes, and waits until the host has them.
    pub(crate) async fn put_changes(
        &self,
        tar: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<(), Fault> {
        let body = StreamBody::new(tar.map_ok(Frame::data));
        let answer =
            self.request(Method::PUT, link::CHANGES, HeaderMap::new(), body.boxed_unsync()).await?;
        match answer.status() {
            StatusCode::OK => Ok(()),
            _ => Err(refused(answer, "the host did not take the changes").await),
        }
    }

    async fn send(
        &self,
        method: Method,
        uri: &str,
        headers: HeaderMap,
        body: Body,
    ) -> Result<Response<Incoming>, Fault> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri.parse().map_err(|_| link_fault("the address is not valid"))?;
        *request.headers_mut() = headers;
        request.headers_mut().insert(link::SESSION_KEY, self.key.clone());
        let mut sender = self.sender.clone();
        sender
            .send_request(request)
            .await
            .map_err(|error| link_fault(format!("the pipe to the host broke: {error}")))
    }
}

/// A body of known bytes.
pub(crate) fn full_body(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// The first [`limits::ERROR_BODY_BYTES`] of an answer that come within 10 seconds.
pub(crate) async fn read_start(body: Incoming) -> Vec<u8> {
    let mut body = Limited::new(body, limits::ERROR_BODY_BYTES);
    let mut bytes = Vec::new();
    let all = async {
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(data) = frame.into_data() {
                bytes.extend_from_slice(&data);
            }
        }
    };
    let _cut = tokio::time::timeout(Duration::from_secs(10), all).await;
    bytes
}

/// The host's refusal in an answer, and its message.
///
/// THREAT: a backend answers with a body like the host's and ends the turn in the host's name.
/// Tried by `session::tests::linked::a_backend_does_not_speak_in_the_hosts_name`.
pub(crate) fn refusal(headers: &HeaderMap, body: &[u8]) -> Option<(link::HostRefusal, String)> {
    headers.get(link::REFUSAL)?;
    let (refusal, why) = link::HostRefusal::of_body(body)?;
    Some((refusal, crate::scrub::one_line(&why)))
}

async fn refused(answer: Response<Incoming>, what: &str) -> Fault {
    let (head, body) = answer.into_parts();
    let status = head.status;
    let body = read_start(body).await;
    match refusal(&head.headers, &body) {
        Some((link::HostRefusal::Policy, why)) => {
            Fault::new(FaultKind::Policy, format!("{what}: {why}"))
        }
        Some((_, why)) => link_fault(format!("{what}: {why}")),
        None => link_fault(format!("{what}: status {}", status.as_u16())),
    }
}

fn link_fault(why: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Link, why)
}

/// Lines that wait are sent in one frame: each frame costs a pass through the engine.
fn streamed_lines(lines: mpsc::Receiver<Bytes>) -> Body {
    let frames = stream::unfold(lines, |mut lines| async move {
        let mut frame = lines.recv().await?;
        while frame.len() < LINES_BYTES
            && let Ok(line) = lines.try_recv()
        {
            frame = [frame, line].concat().into();
        }
        Some((Ok(Frame::data(frame)), lines))
    });
    StreamBody::new(frames).boxed_unsync()
}

/// A reader that cancels `gone` when its input ends.
struct WatchedReader<R> {
    input: R,
    gone: CancellationToken,
}

impl<R: AsyncRead + Unpin> AsyncRead for WatchedReader<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (buffer.filled().len(), buffer.remaining());
        let read = Pin::new(&mut self.input).poll_read(context, buffer);
        match &read {
            Poll::Ready(Ok(())) if buffer.filled().len() > before || room == 0 => {}
            // THREAT: the host is killed, and the sandbox works on unseen. The end of stdin ends
            // the session. Tried by `session::tests::linked::the_end_of_the_pipe_ends_the_session`.
            Poll::Ready(_) => self.gone.cancel(),
            Poll::Pending => {}
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_lines_are_sent_in_one_frame() {
        let (sender, lines) = mpsc::channel(8);
        let mut body = streamed_lines(lines);
        let large = "x".repeat(LINES_BYTES);
        for line in ["a\n", "b\n", &large, "c\n"] {
            sender.send(Bytes::copy_from_slice(line.as_bytes())).await.expect("a listener");
        }
        drop(sender);
        let mut frames = Vec::new();
        while let Some(frame) = body.frame().await {
            frames.push(frame.expect("a frame").into_data().expect("data"));
        }
        assert_eq!(frames, [format!("a\nb\n{large}"), "c\n".to_owned()]);
    }
}
