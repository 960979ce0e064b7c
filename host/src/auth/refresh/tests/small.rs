//! A small issuer on loopback, which says what it is told to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// One answer of the issuer.
#[derive(Clone)]
pub(in crate::auth) enum Says {
    Status(u16, Value),
    Html(u16),
    /// It has done as it was asked, and the connection breaks.
    Cut,
    Slow(Duration, Box<Says>),
    /// It waits for the test before it answers.
    Held(Arc<Notify>, Box<Says>),
}

/// An issuer that says what it is told to, in this order, and notes the tokens it was asked with.
pub(in crate::auth) struct Small {
    pub(in crate::auth) url: String,
    asked: Arc<Mutex<Vec<String>>>,
    says: Arc<Mutex<VecDeque<Says>>>,
}

impl Small {
    pub(in crate::auth) async fn start(says: impl IntoIterator<Item = Says>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let says = Arc::new(Mutex::new(says.into_iter().collect::<VecDeque<_>>()));
        let small = Self { url, asked: Arc::clone(&asked), says: Arc::clone(&says) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (asked, says) = (Arc::clone(&asked), Arc::clone(&says));
                tokio::spawn(async move {
                    let _gone = serve(stream, &asked, &says).await;
                });
            }
        });
        small
    }

    pub(in crate::auth) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("a lock").clone()
    }

    /// Waits until it was asked.
    pub(in crate::auth) async fn is_asked(&self) {
        while self.asked().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(in crate::auth) fn then(&self, says: Says) {
        self.says.lock().expect("a lock").push_back(says);
    }
}

async fn serve(
    mut stream: TcpStream,
    asked: &Mutex<Vec<String>>,
    says: &Mutex<VecDeque<Says>>,
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
        asked.lock().expect("a lock").push(token.to_owned());
        let mut says = says.lock().expect("a lock").pop_front().unwrap_or(Says::Cut);
        loop {
            says = match says {
                Says::Slow(wait, then) => {
                    tokio::time::sleep(wait).await;
                    *then
                }
                Says::Held(go, then) => {
                    go.notified().await;
                    *then
                }
                _ => break,
            };
        }
        let (status, kind, body) = match says {
            Says::Status(status, body) => (status, "application/json", body.to_string()),
            Says::Html(status) => (status, "text/html", "<html>sign in to the wifi</html>".into()),
            Says::Cut | Says::Slow(..) | Says::Held(..) => return Ok(()),
        };
        let answer = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await?;
    }
}
