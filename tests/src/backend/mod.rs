//! A model service on the wire: a real HTTP/1.1 server on 127.0.0.1 that answers what a script
//! says, refuses what the real one refuses, fails in every way a network can, and remembers every
//! request.
//!
//! Deliberately absent: HTTP/2, WebSockets (426, as the real one says to fall back), compression.

mod catalogue; // what `GET …/models` answers
mod fault; // the ways it fails
mod lint; // what the real one refuses
mod script; // what the model says
mod serve; // which step a request gets
mod stream; // an answer as events, events as bytes
mod usage; // what `GET …/wham/usage` answers

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

pub use crate::wire::plain::Plain;
pub use crate::wire::record::Recorded;
pub use catalogue::{CLASSIC, LITE, PLAIN, api as api_catalogue, chatgpt as chatgpt_catalogue};
pub use fault::Fault;
pub use script::{
    Item, Made, Reply, Script, Step, Wire, answer, answer_echoing_headers, call,
    call_echoing_headers, calls, fault, made, patch, raw, reason, script, text,
};
pub use usage::plus as plus_usage;

use crate::wire::Serving;
use lint::Ledger;

/// A running backend. Dropping it ends it.
pub struct Backend {
    state: Arc<Mutex<State>>,
    serving: Serving,
}

/// Whether a bearer is taken now: an issuer's own word.
#[derive(Clone)]
pub struct Taken(pub Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl std::fmt::Debug for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Taken")
    }
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
    /// Who else decides which tokens are taken: see `Issuer::newest`.
    pub taken: Option<Taken>,
    /// What `GET …/usage` answers; null: 404.
    pub usage: Value,
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
            taken: None,
            usage: plus_usage(),
        }
    }
}

struct State {
    steps: VecDeque<Step>,
    catalogue: Value,
    tokens: HashSet<String>,
    refused: HashSet<String>,
    taken: Option<Taken>,
    usage: Value,
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
        let state = Arc::new(Mutex::new(State {
            steps: options.script.0.into(),
            catalogue: options.catalogue,
            tokens: options.tokens.into_iter().collect(),
            refused: HashSet::new(),
            taken: options.taken,
            usage: options.usage,
            ledger: Ledger { ours: options.ours, ..Ledger::default() },
            requests: Vec::new(),
            serial: 0,
        }));
        let serving =
            Serving::start(options.port, options.tls, serve::Answering(Arc::clone(&state)));
        Self { state, serving }
    }

    /// Scheme, host and port.
    #[must_use]
    pub fn origin(&self) -> String {
        self.serving.origin()
    }

    /// The base as a person would give it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}/backend-api/codex", self.origin())
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.serving.port()
    }

    /// The authority to trust, as PEM, where it speaks TLS.
    #[must_use]
    pub fn ca(&self) -> Option<&str> {
        self.serving.ca()
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
