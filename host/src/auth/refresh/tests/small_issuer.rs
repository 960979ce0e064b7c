//! A small issuer on loopback, which gives scripted replies.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// One reply of the issuer.
#[derive(Clone)]
pub(in crate::auth) enum IssuerReply {
    Status(u16, Value),
    Html(u16),
    /// The issuer has used the token, and the connection breaks.
    Cut,
    Slow(Duration, Box<IssuerReply>),
    /// The reply waits until the test notifies it.
    Held(Arc<Notify>, Box<IssuerReply>),
}

/// An issuer that gives scripted replies in order, and records the refresh tokens it received.
pub(in crate::auth) struct SmallIssuer {
    pub(in crate::auth) url: String,
    received: Arc<Mutex<Vec<String>>>,
    replies: Arc<Mutex<VecDeque<IssuerReply>>>,
}

impl SmallIssuer {
    pub(in crate::auth) async fn start(replies: impl IntoIterator<Item = IssuerReply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let received = Arc::new(Mutex::new(Vec::new()));
        let replies = Arc::new(Mutex::new(replies.into_iter().collect::<VecDeque<_>>()));
        let small = Self { url, received: Arc::clone(&received), replies: Arc::clone(&replies) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (received, replies) = (Arc::clone(&received), Arc::clone(&replies));
                tokio::spawn(async move {
                    let _gone = serve(stream, &received, &replies).await;
                });
            }
        });
        small
    }

    pub(in crate::auth) fn tokens_received(&self) -> Vec<String> {
        self.received.lock().expect("a lock").clone()
    }

    /// Waits until it has received a request.
    pub(in crate::auth) async fn wait_for_request(&self) {
        while self.tokens_received().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(in crate::auth) fn reply(&self, reply: IssuerReply) {
        self.replies.lock().expect("a lock").push_back(reply);
    }
}

async fn serve(
    mut stream: TcpStream,
    received: &Mutex<Vec<String>>,
    replies: &Mutex<VecDeque<IssuerReply>>,
) -> std::io::Result<()> {
    loop {
        let mut request = Vec::new();
        let body = loop {
            let mut piece = [0; 4096];
            let read = stream.read(&mut piece).await?;
            if read == 0 {
                return Ok(());
            }
            request.extend_from_slice(&piece[..read]);
            let text = String::from_utf8_lossy(&request);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
            });
            if body.len() >= length.unwrap_or(0) {
                break serde_json::from_str::<Value>(body)?;
            }
        };
        let token = body["refresh_token"].as_str().unwrap_or_default();
        received.lock().expect("a lock").push(token.to_owned());
        let mut reply = replies.lock().expect("a lock").pop_front().unwrap_or(IssuerReply::Cut);
        loop {
            reply = match reply {
                IssuerReply::Slow(wait, then) => {
                    tokio::time::sleep(wait).await;
                    *then
                }
                IssuerReply::Held(go, then) => {
                    go.notified().await;
                    *then
                }
                _ => break,
            };
        }
        let (status, kind, body) = match reply {
            IssuerReply::Status(status, body) => (status, "application/json", body.to_string()),
            IssuerReply::Html(status) => {
                (status, "text/html", "<html>sign in to the wifi</html>".into())
            }
            IssuerReply::Cut | IssuerReply::Slow(..) | IssuerReply::Held(..) => return Ok(()),
        };
        let answer = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await?;
    }
}
