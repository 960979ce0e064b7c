//! A model service on the wire: a real HTTP/1.1 server on 127.0.0.1 that answers what a script
//! says, refuses what the real one refuses, fails in every way a network can, and remembers every
//! request.
//!
//! It runs on a thread and a runtime of its own, so that tests with and without one use it alike.
//! Deliberately absent: HTTP/2, WebSockets (426, as the real one says to fall back), compression.

mod catalogue;
mod fault;
mod http;
mod lint;
mod record;
mod script;
mod serve;
mod stream;
mod tls;

use std::collections::{HashSet, VecDeque};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub use catalogue::{CLASSIC, LITE, PLAIN, api as api_catalogue, chatgpt as chatgpt_catalogue};
pub use fault::{Fault, Plain};
pub use record::Recorded;
pub use script::{
    Item, Made, Reply, Script, Step, Wire, answer, answer_echoing_headers, call,
    call_echoing_headers, calls, fault, made, patch, raw, reason, script, text,
};

use lint::Ledger;

/// A running backend. Dropping it ends it.
pub struct Backend {
    state: Arc<Mutex<State>>,
    port: u16,
    ca: Option<String>,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// How a backend is to be.
#[derive(Clone, Debug)]
pub struct Options {
    pub script: Script,
    /// 0: any free one.
    pub port: u16,
    pub tls: bool,
    /// Null: whoever asks for it waits for ever.
    pub catalogue: Value,
    /// Hold the client to what ours promises, beyond what the real backend refuses.
    pub ours: bool,
    /// Tokens that are taken; none given: all but the refused.
    pub tokens: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            script: Script::default(),
            port: 0,
            tls: false,
            catalogue: chatgpt_catalogue(),
            ours: true,
            tokens: Vec::new(),
        }
    }
}

struct State {
    steps: VecDeque<Step>,
    catalogue: Value,
    tokens: HashSet<String>,
    refused: HashSet<String>,
    ledger: Ledger,
    requests: Vec<Recorded>,
    serial: u32,
}

impl Backend {
    /// A backend for one conversation of a client of ours.
    #[must_use]
    pub fn scripted(script: Script) -> Self {
        Self::start(Options { script, ..Options::default() })
    }

    /// # Panics
    /// When the port is taken.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", options.port))
            .unwrap_or_else(|error| panic!("port {} of this machine: {error}", options.port));
        listener.set_nonblocking(true).expect("a fresh socket takes its options");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let (tls, ca) = options.tls.then(tls::server).unzip();
        let state = Arc::new(Mutex::new(State {
            steps: options.script.0.into(),
            catalogue: options.catalogue,
            tokens: options.tokens.into_iter().collect(),
            refused: HashSet::new(),
            ledger: Ledger { ours: options.ours, ..Ledger::default() },
            requests: Vec::new(),
            serial: 0,
        }));
        let stop = CancellationToken::new();
        let serving = (Arc::clone(&state), stop.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime of one thread");
            let (state, stop) = serving;
            runtime.block_on(serve::serve(listener, tls, state, stop));
        });
        Self { state, port, ca, stop, thread: Some(thread) }
    }

    /// Scheme, host and port.
    #[must_use]
    pub fn origin(&self) -> String {
        let scheme = if self.ca.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// The base as a person would give it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}/backend-api/codex", self.origin())
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The authority to trust, as PEM, where it speaks TLS.
    #[must_use]
    pub fn ca(&self) -> Option<&str> {
        self.ca.as_deref()
    }

    /// Every request so far, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.lock().requests.clone()
    }

    /// Every `POST …/responses` so far, in order.
    #[must_use]
    pub fn model_requests(&self) -> Vec<Recorded> {
        self.requests().into_iter().filter(Recorded::is_model_request).collect()
    }

    /// What a client did that the real backend lets pass and we do not.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        self.lock().ledger.complaints.clone()
    }

    /// Steps that nobody asked for.
    #[must_use]
    pub fn left_over(&self) -> usize {
        self.lock().steps.len()
    }

    /// Says more, later.
    pub fn then(&self, script: Script) {
        self.lock().steps.extend(script.0);
    }

    /// From now on this token is answered 401.
    pub fn refuse(&self, token: &str) {
        self.lock().refused.insert(token.to_owned());
    }

    /// A new conversation begins: what was said before need not come back.
    pub fn forget(&self) {
        let mut state = self.lock();
        let ours = state.ledger.ours;
        let complaints = std::mem::take(&mut state.ledger.complaints);
        state.ledger = Ledger { ours, complaints, ..Ledger::default() };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed; a second one here would hide the test's own.
            drop(thread.join());
        }
    }
}
