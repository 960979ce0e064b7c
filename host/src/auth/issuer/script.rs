//! A scripted issuer for tests: raw replies by path.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{Issuer, IssuerUrl};

/// One request that the issuer received.
#[derive(Clone, Debug)]
pub(in crate::auth) struct ReceivedRequest {
    /// Method, path, version, headers.
    pub(in crate::auth) head: String,
    pub(in crate::auth) body: String,
}

impl ReceivedRequest {
    pub(in crate::auth) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// A field of the body, which is a form.
    pub(in crate::auth) fn field(&self, name: &str) -> Option<String> {
        let mut fields = oauth2::url::form_urlencoded::parse(self.body.as_bytes());
        fields.find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
    }
}

/// A reply. The last one for a path is repeated.
#[derive(Clone, Debug)]
pub(in crate::auth) enum Reply {
    Raw(String),
    /// Nothing, and the connection stays open.
    Silence,
    /// The raw reply, after a notification.
    Held(Arc<tokio::sync::Notify>, String),
    /// A body without an end.
    Endless,
}

pub(in crate::auth) fn response(status: &str, headers: &str, body: &str) -> Reply {
    Reply::Raw(format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    ))
}

pub(in crate::auth) fn json(status: &str, body: &serde_json::Value) -> Reply {
    response(status, "content-type: application/json\r\n", &body.to_string())
}

#[derive(Default)]
pub(in crate::auth) struct Script {
    replies: Mutex<HashMap<String, VecDeque<Reply>>>,
    requests: Mutex<Vec<ReceivedRequest>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Script {
    pub(in crate::auth) async fn start() -> (Arc<Self>, Issuer) {
        let script = Arc::new(Self::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let served = Arc::clone(&script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&served).serve(stream));
            }
        });
        let url = IssuerUrl::parse(&url).expect("an issuer");
        (script, Issuer::open(url, None).expect("an issuer"))
    }

    pub(in crate::auth) fn on(&self, path: &str, replies: impl IntoIterator<Item = Reply>) {
        locked(&self.replies).insert(path.to_owned(), replies.into_iter().collect());
    }

    /// The requests for a path.
    pub(in crate::auth) fn requests(&self, path: &str) -> Vec<ReceivedRequest> {
        locked(&self.requests).iter().filter(|request| request.path() == path).cloned().collect()
    }

    fn next(&self, path: &str) -> Reply {
        let mut replies = locked(&self.replies);
        let Some(queue) = replies.get_mut(path) else { return response("404 Not Found", "", "") };
        match queue.len() {
            1 => queue[0].clone(),
            _ => queue.pop_front().unwrap_or(Reply::Silence),
        }
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) -> std::io::Result<()> {
        let mut read = Vec::new();
        let (head, body) = loop {
            let mut buffer = [0; 4096];
            let got = stream.read(&mut buffer).await?;
            if got == 0 {
                return Ok(());
            }
            read.extend_from_slice(&buffer[..got]);
            let text = String::from_utf8_lossy(&read).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let lower = head.to_ascii_lowercase();
            let length = lower.split("content-length: ").nth(1).unwrap_or("0");
            let length = length.split("\r\n").next().unwrap_or("0").parse().unwrap_or(0);
            if body.len() >= length {
                break (head.to_owned(), body.to_owned());
            }
        };
        let request = ReceivedRequest { head, body };
        let reply = self.next(request.path());
        locked(&self.requests).push(request);
        match reply {
            Reply::Raw(text) => stream.write_all(text.as_bytes()).await,
            Reply::Held(go, text) => {
                go.notified().await;
                stream.write_all(text.as_bytes()).await
            }
            Reply::Silence => std::future::pending().await,
            Reply::Endless => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                loop {
                    stream.write_all(&[b'1'; 4096]).await?;
                }
            }
        }
    }
}
