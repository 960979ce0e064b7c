//! The HTTP service of one session, on the pipe to its sandbox. Everything that passes between the
//! untrusted sandbox and the rest of the world passes here.
//!
//! The sandbox reports and asks. Nothing that it sends makes the host trust it more.
//!
//! ```text
//! pipe → serve → routes ─ session key ─┬→ events, commands     to and from the session
//!                                      ├→ files                to and from a WorkspaceTransfer
//!                                      ├→ relay → policy → upstream | recording → answer (scrubbed)
//!                                      └→ tunnel → address
//! ```

mod serve; // HTTP/2 on one pipe, from the first byte to the last
mod pipe; // the pipe, with two timeouts
mod session; // the state that the handlers of one pipe share
mod routes; // the routes; each needs the session key
mod events; // the sandbox's events
mod lines; // bounded lines of a body
mod commands; // the host's commands
mod files; // the workspace in, the changes out
mod tunnel; // CONNECT, in handoff
mod address; // which addresses may be dialled
mod relay; // a model request, from its body to the answer
mod policy; // what a model request may contain: pure
mod seen; // what the backend sent, so that it may be sent back
mod upstream; // the backend: client, signing, model catalogue
mod usage; // how much of its usage limits an account has used
mod answer; // the backend's stream on its way to the sandbox
mod chunks; // the same stream in few pieces
mod scrub; // removes credentials from what passes
mod quoted; // foreign text within our messages
mod ledger; // what the host saw: cost and answers
mod claims; // checks the outcome that the sandbox claims
mod recording; // answers recorded and played back

#[cfg(test)]
mod flow; // whole exchanges over the link, with a scripted backend
#[cfg(test)]
mod credential; // the credential, on every way out
#[cfg(test)]
mod given_up; // answers that the sandbox abandons, and unusual ones
#[cfg(test)]
mod backend; // a scripted backend that refuses, redirects, echoes and breaks off
#[cfg(test)]
mod hostile; // a hostile program in the sandbox's place
#[cfg(test)]
mod heavy; // large requests and answers, honest and not
#[cfg(test)]
mod rig; // both ends: a scripted backend, a gate, an HTTP/2 client

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use airlock_shared::base::Base;
use airlock_shared::event::Event;
use airlock_shared::job::{Backend, Budget};
use airlock_shared::limits;
use airlock_shared::model::Model;
use airlock_shared::outcome::{Fault, FaultKind, Outcome};
use airlock_shared::scrub::Needles;
use airlock_shared::secret::Secret;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use serde_json::Value;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub use ledger::Spending;
pub use recording::{Differences, Recorder, Replayer};
pub(crate) use scrub::{NOT_SHOWN, Sought, clean};
pub use serve::serve;
pub use upstream::{catalogue, client, refused};
pub use usage::{Usage, Window, usage};

use crate::auth::{AuthError, Signer};
use claims::TurnFacts;
use ledger::BudgetLedger;
use scrub::Scrub;

/// Everything that a gate needs to know of its session; nothing in it means "default".
pub struct GateConfig {
    /// The session's id.
    pub session: String,
    pub session_key: Secret,
    pub model: Model,
    pub backend: Backend,
    pub base: Base,
    pub budget: Budget,
    pub credentials: CredentialsMode,
    pub upstream: Upstream,
    /// Records every exchange with the backend.
    pub recorder: Option<Recorder>,
    /// What `GET /model/models` answers.
    pub catalogue: Value,
    /// The largest stream of changes, in bytes: the size of the sandbox's disk, and
    /// [`airlock_shared::limits::CHANGES_OVERHEAD_BYTES`] for names and padding.
    pub changes_bytes: u64,
}

/// Who holds the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialsMode {
    /// The host signs; the sandbox has no credential.
    Relay,
    /// The sandbox signs, and reaches the backend through a tunnel.
    Handoff,
}

/// Who answers model requests.
pub enum Upstream {
    Live { client: reqwest::Client, signer: Arc<dyn Signer> },
    Replay(Arc<Replayer>),
}

/// What came from the sandbox. All of it is hearsay, except that `Refused` is the host's own act.
pub enum FromSandbox {
    Event(Event),
    /// The host refused a request: one line for people, which may quote the sandbox.
    Refused {
        what: String,
    },
    /// The one outcome, always last. The sandbox gets its answer when `kept` is used: use it once the
    /// outcome is on disk.
    Outcome {
        outcome: Outcome,
        kept: oneshot::Sender<()>,
    },
}

/// Where the workspace comes from and the changes go.
pub trait WorkspaceTransfer: Send + Sync {
    /// The workspace as a tar stream; called at most once.
    fn stream_in(&self) -> BoxStream<'static, io::Result<Bytes>>;

    /// Takes a set of changes, which replaces the one before. The stream should be tar, and may be
    /// anything. An error in `body` means that it broke off, stalled, or is too large.
    fn take_changes(
        &self,
        body: BoxStream<'static, io::Result<Bytes>>,
    ) -> BoxFuture<'_, Result<(), ChangesError>>;
}

/// Why a set of changes was not taken.
pub enum ChangesError {
    /// It is not a valid set: this ends the turn.
    Malformed(Fault),
    /// It broke off, or could not be kept: the sandbox is told, and the turn goes on.
    Unkept(Fault),
}

/// The gate of one session: what may pass, and what the host saw of it.
pub struct Gate {
    config: GateConfig,
    /// The catalogue as it is sent, rendered once.
    catalogue: Bytes,
    ledger: Mutex<BudgetLedger>,
    scrub: Mutex<Scrub>,
    /// When it was opened; the turn's seconds count from here.
    opened: Instant,
    /// In handoff: a connection of the sandbox reached the backend.
    is_connected: AtomicBool,
    /// One model request at a time.
    model: Arc<Semaphore>,
    /// Tasks that read answers to their end after the sandbox stopped reading, so that the connections
    /// can be used again.
    drains: TaskTracker,
}

impl Gate {
    /// # Errors
    /// When the catalogue cannot be recorded.
    pub fn new(config: GateConfig) -> Result<Arc<Self>, Fault> {
        if let Some(recorder) = &config.recorder {
            recorder.catalogue(&config.catalogue)?;
        }
        let catalogue = Bytes::from(config.catalogue.to_string());
        let model = Arc::new(Semaphore::new(1));
        let drains = TaskTracker::new();
        let (ledger, scrub) = (Mutex::new(BudgetLedger::default()), Mutex::default());
        let (opened, is_connected) = (Instant::now(), AtomicBool::new(false));
        Ok(Arc::new(Self { config, catalogue, ledger, scrub, opened, is_connected, model, drains }))
    }

    /// What the turn spent, as the host counted it. In handoff the host sees nothing of it.
    #[must_use]
    pub fn spent(&self) -> Spending {
        self.ledger().used()
    }

    /// The last message of the backend's last completed answer.
    #[cfg(test)]
    fn last_answer(&self) -> Option<String> {
        self.ledger().last_answer().map(str::to_owned)
    }

    /// Checks the outcome that the sandbox claims. `is_asked`: the host was asked to stop the turn. In
    /// handoff this may ask the backend whether it accepts the credential.
    pub async fn judge(&self, claim: Outcome, is_asked: bool) -> Outcome {
        let known = |used| TurnFacts {
            used,
            budget: &self.config.budget,
            elapsed: self.opened.elapsed(),
            is_asked,
            texts: self.texts(),
        };
        match self.config.credentials {
            CredentialsMode::Relay => {
                let mut ledger = self.ledger();
                ledger.hear_silence();
                claims::in_relay(claim, &ledger.observed, &known(ledger.used()))
            }
            CredentialsMode::Handoff => {
                let sign_in = match &claim {
                    Outcome::Failed { fault } if fault.kind == FaultKind::SignIn => {
                        self.sign_in().await
                    }
                    _ => None,
                };
                let is_connected = self.is_connected.load(Ordering::Acquire);
                claims::in_handoff(claim, is_connected, sign_in, &known(Spending::default()))
            }
        }
    }

    /// Why the person must sign in again, as the host itself finds; `None` if that is not needed, or
    /// not known in time.
    async fn sign_in(&self) -> Option<Fault> {
        let Upstream::Live { client, signer } = &self.config.upstream else { return None };
        let patience = Duration::from_secs(limits::CATALOGUE_SECONDS_NAMED);
        let why = match tokio::time::timeout(patience, signer.sign()).await.ok()? {
            Err(AuthError::Unreachable { .. } | AuthError::Store { .. }) => return None,
            Err(error) => error.to_string(),
            Ok(_) => {
                let (base, backend) = (&self.config.base, &self.config.backend);
                upstream::refused(client, signer.as_ref(), base, backend, patience).await?;
                "the backend refuses the credential".to_owned()
            }
        };
        Some(Fault::new(FaultKind::SignIn, why))
    }

    /// Call this when the turn is over.
    ///
    /// # Errors
    /// `Recording` if the turn departed from the recording that is played, if that has exchanges left,
    /// or if a new recording could not be written.
    pub async fn finish(&self) -> Result<(), Fault> {
        if let Upstream::Replay(recording) = &self.config.upstream {
            recording.finish()?;
        }
        match &self.config.recorder {
            Some(recorder) => recorder.finish().await,
            None => Ok(()),
        }
    }

    /// How the turn differed from the recording that is played, where it may differ.
    #[must_use]
    pub fn differences(&self) -> Option<Differences> {
        match &self.config.upstream {
            Upstream::Replay(recording) => Some(recording.differences()),
            Upstream::Live { .. } => None,
        }
    }

    /// The session's id in headers and cache key; the gate's own if the backend's settings have none.
    fn session(&self) -> &str {
        self.config.backend.session.as_deref().unwrap_or(&self.config.session)
    }

    fn ledger(&self) -> MutexGuard<'_, BudgetLedger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is removed from texts of the sandbox and the backend.
    fn texts(&self) -> Needles {
        self.scrub().texts(self.secrets_to_scrub())
    }

    /// What is removed from headers and messages.
    fn messages(&self) -> Needles {
        Needles::for_messages(&self.secrets_to_scrub())
    }

    /// Removes credentials from a message of the sandbox or the engine, for people and records.
    #[must_use]
    pub fn message(&self, text: &str) -> String {
        self.messages().text(text).into_owned()
    }

    fn scrub(&self) -> MutexGuard<'_, Scrub> {
        self.scrub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn secrets_to_scrub(&self) -> Vec<Secret> {
        match &self.config.upstream {
            Upstream::Live { signer, .. } => signer.secrets_to_scrub(),
            Upstream::Replay(_) => Vec::new(),
        }
    }
}
