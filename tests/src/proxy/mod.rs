//! A door in front of the engine that notes what passes: which request, when it was answered. With
//! it a test knows what container `airlock` asked for, and when the engine said that it started.
//!
//! It can also put an impostor into the sandbox's place: what `airlock` attaches to is then a
//! function of the test's, and nobody speaks to the container. Everything else stays real.

mod accent; // an engine that says some words otherwise
mod impostor; // how one gets into the sandbox's place

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use accent::{Accent, Words};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use crate::clock;
use crate::engine::Engine;

/// One connection's first request.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// Head and body as they came, up to a bound.
    pub request: Vec<u8>,
    /// When the first byte of the answer passed.
    pub answered: Option<Instant>,
}

/// What is kept of a request.
const KEPT_BYTES: usize = 1 << 20;

impl Exchange {
    /// Method and path.
    #[must_use]
    pub fn line(&self) -> String {
        let first = self.request.split(|byte| *byte == b'\r').next().unwrap_or_default();
        String::from_utf8_lossy(first).trim_end_matches(" HTTP/1.1").to_owned()
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.request).into_owned();
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        let from = body.find('{').unwrap_or(0);
        let to = body.rfind('}').map_or(body.len(), |at| at + 1);
        serde_json::from_str(body.get(from..to).unwrap_or_default()).unwrap_or(Value::Null)
    }
}

/// Plays the sandbox: gets the pipe, and is the other side of it until it returns.
pub type Impostor = Arc<dyn Fn(DuplexStream) -> Playing + Send + Sync>;
pub type Playing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A running door. Dropping it closes it.
pub struct Proxy {
    folder: TempDir,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
    serving: JoinHandle<()>,
}

impl Proxy {
    /// # Panics
    /// When no socket can be made.
    #[must_use]
    pub fn start(engine: &Engine) -> Self {
        Self::open(engine, None, Vec::new())
    }

    /// A door behind which the engine says, and hears, the second of two words for the first.
    ///
    /// # Panics
    /// When no socket can be made.
    #[must_use]
    pub fn with_accent(engine: &Engine, words: &[(&str, &str)]) -> Self {
        let bytes = |word: &str| word.as_bytes().to_vec();
        let words = words.iter().map(|(word, other)| (bytes(word), bytes(other)));
        Self::open(engine, None, words.collect())
    }

    /// A door behind which every sandbox is this impostor.
    ///
    /// # Panics
    /// When no socket can be made.
    #[must_use]
    pub fn with_impostor<F>(
        engine: &Engine,
        play: impl Fn(DuplexStream) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::open(engine, Some(Arc::new(move |pipe| Box::pin(play(pipe)))), Vec::new())
    }

    fn open(engine: &Engine, impostor: Option<Impostor>, words: Words) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let listener = UnixListener::bind(folder.path().join("s")).expect("a fresh path");
        let exchanges = Arc::new(Mutex::new(Vec::new()));
        let (noted, upstream) = (Arc::clone(&exchanges), engine.socket().to_owned());
        let serving = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let noted = Arc::clone(&noted);
                let (impostor, words) = (impostor.clone(), words.clone());
                open.spawn(pass(client, upstream.clone(), noted, impostor, words));
            }
        });
        Self { folder, exchanges, serving }
    }

    /// What `DOCKER_HOST` has to be.
    #[must_use]
    pub fn docker_host(&self) -> String {
        format!("unix://{}", self.path().display())
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    /// What passed so far, in the order in which it began.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.exchanges.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last exchange whose request line ends so, before any query.
    #[must_use]
    pub fn last(&self, ends: &str) -> Option<Exchange> {
        let ends_so = |exchange: &Exchange| {
            exchange.line().split('?').next().is_some_and(|line| line.ends_with(ends))
        };
        self.exchanges().into_iter().rev().find(ends_so)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass(
    mut client: UnixStream,
    upstream: PathBuf,
    noted: Arc<Mutex<Vec<Exchange>>>,
    impostor: Option<Impostor>,
    words: Words,
) {
    let Ok(mut engine) = UnixStream::connect(&upstream).await else { return };
    if let Some(impostor) = impostor {
        let Ok(head) = impostor::head(&mut client).await else { return };
        let line = String::from_utf8_lossy(&head).split("\r\n").next().unwrap_or("").to_owned();
        if line.contains("/attach") {
            return impostor::attached(client, impostor).await;
        }
        if engine.write_all(&head).await.is_err() {
            return;
        }
    }
    let index = {
        let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.push(Exchange::default());
        noted.len() - 1
    };
    let note = |change: &dyn Fn(&mut Exchange)| {
        let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut noted[index]);
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_engine, mut to_engine) = engine.into_split();
    let (mut heard, mut said) = (Accent::new(words.clone()), Accent::new(words));
    let up = async {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(read @ 1..) = from_client.read(&mut bytes).await {
            note(&|exchange| {
                let room = KEPT_BYTES.saturating_sub(exchange.request.len()).min(read);
                if exchange.answered.is_none() {
                    exchange.request.extend_from_slice(&bytes[..room]);
                }
            });
            if to_engine.write_all(&heard.pass(&bytes[..read])).await.is_err() {
                break;
            }
        }
        drop(to_engine.write_all(&heard.end()).await);
        // The other side may have closed first.
        drop(to_engine.shutdown().await);
    };
    let down = async {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(read @ 1..) = from_engine.read(&mut bytes).await {
            note(&|exchange| {
                exchange.answered.get_or_insert_with(clock::now);
            });
            if to_client.write_all(&said.pass(&bytes[..read])).await.is_err() {
                break;
            }
        }
        drop(to_client.write_all(&said.end()).await);
        drop(to_client.shutdown().await);
    };
    tokio::join!(up, down);
}
