//! The backend's stream in few pieces: what has arrived together is passed on together, without
//! waiting for more.
//!
//! A backend sends each event as a separate piece, even if one segment has many. Passed on like that,
//! each would cross the engine separately, which costs more time than everything else that the host
//! does with it.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;

/// The most that is gathered in one piece.
const GATHERED_BYTES: usize = 64 << 10;

type ChunkResult = Result<Option<Bytes>, reqwest::Error>;

pub(super) struct Chunks {
    answer: reqwest::Response,
    /// What was gathered, and the end or error after it.
    ahead: VecDeque<ChunkResult>,
}

impl Chunks {
    /// Gathers what came with the headers, so that it is sent with them.
    pub(super) async fn of(answer: reqwest::Response) -> Self {
        let mut chunks = Self { answer, ahead: VecDeque::new() };
        chunks.gather(BytesMut::new()).await;
        chunks
    }

    /// The next piece; `None` at the end. If the future is dropped, gathered bytes may be lost.
    pub(super) async fn next(&mut self) -> ChunkResult {
        if self.ahead.is_empty() {
            match self.answer.chunk().await {
                Ok(Some(first)) => self.gather(first.into()).await,
                end => return end,
            }
        }
        let next = self.ahead.pop_front().unwrap_or(Ok(None));
        if next.is_err() {
            // An error resets the stream and drops what was not sent yet, so let that be sent first.
            tokio::task::yield_now().await;
        }
        next
    }

    async fn gather(&mut self, mut gathered: BytesMut) {
        let mut end = None;
        while gathered.len() < GATHERED_BYTES {
            let piece = match self.answer.chunk().now_or_never() {
                Some(piece) => Some(piece),
                // The connection's task may have more once it has run.
                None => {
                    tokio::task::yield_now().await;
                    self.answer.chunk().now_or_never()
                }
            };
            match piece {
                Some(Ok(Some(piece))) => gathered.extend_from_slice(&piece),
                other => {
                    end = other;
                    break;
                }
            }
        }
        if !gathered.is_empty() {
            self.ahead.push_back(Ok(Some(gathered.freeze())));
        }
        self.ahead.extend(end);
    }
}

#[cfg(test)]
mod tests {
    use airlock_shared::base::Base;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_came_together_goes_on_together() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let (more, is_wanted) = oneshot::channel();
        let backend = async move {
            let (mut socket, _) = listener.accept().await.expect("a client");
            assert!(socket.read(&mut [0; 4096]).await.expect("a request") > 0);
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            let three = format!("{head}1\r\na\r\n1\r\nb\r\n1\r\nc\r\n");
            socket.write_all(three.as_bytes()).await.expect("a reader");
            is_wanted.await.expect("what came first is not held back for what comes later");
            socket.write_all(b"1\r\nd\r\n0\r\n\r\n").await.expect("a reader");
        };
        let reading = async {
            let client = crate::gate::client(&Base::parse(&base).expect("a base"), None);
            let answer = client.expect("a client").get(&base).send().await.expect("an answer");
            let mut chunks = Chunks::of(answer).await;
            let mut come = vec![chunks.next().await.expect("a piece")];
            more.send(()).expect("a backend");
            while let Some(piece) = chunks.next().await.expect("a piece") {
                come.push(Some(piece));
            }
            come
        };
        let ((), come) = tokio::join!(backend, reading);
        assert_eq!(come, [Some(Bytes::from("abc")), Some(Bytes::from("d"))]);
    }
}
