//! Reads a body line by line, each within a limit.

use std::time::Duration;

use airlock_shared::limits;
use axum::body::{Body, BodyDataStream};
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::StreamExt as _;

pub(super) struct LineReader {
    body: BodyDataStream,
    /// Bytes that are not a whole line yet.
    rest: BytesMut,
    /// Up to here there is no newline.
    searched: usize,
}

/// Why there is no next line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineEnd {
    /// The body ended, after a whole line.
    End,
    /// The body ended, or broke off, within a line.
    Cut,
    /// A line is longer than [`limits::LINE_BYTES`].
    TooLong,
}

impl LineReader {
    pub(super) fn new(body: Body) -> Self {
        Self { body: body.into_data_stream(), rest: BytesMut::new(), searched: 0 }
    }

    /// The next line, without its newline.
    pub(super) async fn next(&mut self) -> Result<Bytes, LineEnd> {
        loop {
            if let Some(found) = self.rest[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(self.searched + found).freeze();
                self.rest.advance(1);
                self.searched = 0;
                if self.rest.is_empty() {
                    self.rest = BytesMut::new();
                }
                return Ok(line);
            }
            self.searched = self.rest.len();
            // THREAT: an endless line fills the host's memory. Tried by gate::hostile::an_endless_line.
            if self.rest.len() > limits::LINE_BYTES {
                return Err(LineEnd::TooLong);
            }
            match self.body.next().await {
                Some(Ok(bytes)) => self.rest.extend_from_slice(&bytes),
                None if self.rest.is_empty() => return Err(LineEnd::End),
                None | Some(Err(_)) => return Err(LineEnd::Cut),
            }
        }
    }

    /// Whether the body ends here, and soon.
    pub(super) async fn ends(&mut self) -> bool {
        let patience = Duration::from_secs(limits::LINK_PONG_SECONDS);
        let ended = async {
            loop {
                match self.body.next().await {
                    None => return true,
                    Some(Ok(bytes)) if bytes.is_empty() => {}
                    Some(_) => return false,
                }
            }
        };
        self.rest.is_empty() && tokio::time::timeout(patience, ended).await.unwrap_or(false)
    }
}
