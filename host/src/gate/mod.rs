//! The HTTP service of one run, on the pipe to its sandbox: what passes between a program that nobody
//! trusts and everything else.
//!
//! A request informs or asks; nothing the sandbox sends makes the host trust it more.
//!
//! ```text
//! pipe → serve → routes ─ run key ─┬→ events, commands     to and from the run
//!                                  ├→ files                to and from a Workspace
//!                                  ├→ relay → policy → upstream | recording → answer (scrubbed)
//!                                  └→ tunnel → address
//! ```

mod serve; // HTTP/2 on one pipe, from the first byte to the end
mod pipe; // the pipe with its two clocks
mod session; // what the handlers of one pipe share
mod routes; // the routes, and the run key before all of them
mod events; // what comes up
mod lines; // lines of a body, bounded
mod commands; // what goes down
mod files; // the work tree in, the changes out
mod tunnel; // CONNECT, in handoff
mod address; // which addresses may be dialled
mod relay; // a model request, from the sandbox's body to the answer
mod policy; // what a model request may become: pure, one screen
mod seen; // what the backend sent, and may come back
mod upstream; // the backend: client, signing, catalogue
mod usage; // what of its windows an account has used
mod answer; // the backend's stream on its way down
mod chunks; // and in how few of them
mod scrub; // credentials removed from what passes
mod quoted; // words of others within ours
mod ledger; // what the host saw: spent, said
mod claims; // how it ended by the sandbox's word, held against that
mod recording; // answers recorded and played back

#[cfg(test)]
mod flow; // whole exchanges over the link, with a scripted backend
#[cfg(test)]
mod credential; // the credential, wherever it could come out
#[cfg(test)]
mod given_up; // answers that the sandbox gives up, and odd ones
#[cfg(test)]
mod backend; // a scripted backend that refuses, redirects, echoes and breaks off
#[cfg(test)]
mod hostile; // a hostile program in the sandbox's place
#[cfg(test)]
mod heavy; // heavy requests and answers, honest and not
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

/// Everything a gate needs to know of its run; nothing in it means "default".
pub struct GateConfig {
    /// The run's id.
    pub session: String,
    pub session_key: Secret,
    pub model: Model,
    pub backend: Backend,
    pub base: Base,
    pub budget: Budget,
    pub credentials: CredentialsMode,
    pub upstream: Upstream,
    /// Writes down every exchange with the backend.
    pub recorder: Option<Recorder>,
    /// What `GET /model/models` answers.
    pub catalogue: Value,
    /// Bytes that the stream of changes may hold: what the sandbox's disk does, and
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

/// Who answers.
pub enum Upstream {
    Live { client: reqwest::Client, signer: Arc<dyn Signer> },
    Replay(Arc<Replayer>),
}

/// What came from the sandbox. All of it is hearsay but `Refused`, which the host did itself.
pub enum FromSandbox {
    Event(Event),
    /// Something was asked for and refused; one line for people, with words of the sandbox in it.
    Refused {
        what: String,
    },
    /// The one outcome, the last thing a run hears. The sandbox is answered when `kept` is used:
    /// say so once the outcome is on disk.
    Outcome {
        outcome: Outcome,
        kept: oneshot::Sender<()>,
    },
}

/// Where the work tree comes from and the changes go.
pub trait WorkspaceTransfer: Send + Sync {
    /// The work tree as a tar stream; asked for once at most.
    fn stream_in(&self) -> BoxStream<'static, io::Result<Bytes>>;

    /// Takes a set of changes, a tar stream that may be anything at all, in the place of the one
    /// before. An error within `body` means that it broke off, stalled, or grew over its bound.
    fn take_changes(
        &self,
        body: BoxStream<'static, io::Result<Bytes>>,
    ) -> BoxFuture<'_, Result<(), ChangesError>>;
}

/// Why a set of changes was not taken.
pub enum ChangesError {
    /// It is none: whoever sent it ends the run.
    Malformed(Fault),
    /// It broke off, or could not be kept: that is told, and the run goes on.
    Unkept(Fault),
}

/// The gate of one run: what passes, and what was seen of it.
pub struct Gate {
    config: GateConfig,
    /// The catalogue as it is sent: one text, however often it is asked for.
    catalogue: Bytes,
    ledger: Mutex<BudgetLedger>,
    scrub: Mutex<Scrub>,
    /// When it was opened: the run's seconds count from here.
    opened: Instant,
    /// The sandbox's own connection reached the backend, in handoff.
    is_connected: AtomicBool,
    /// One model request at a time.
    model: Arc<Semaphore>,
    /// Ends of answers that nobody reads any more, so that their connections can be used again.
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

    /// What the run spent, as the host counted it. In handoff the host sees nothing.
    #[must_use]
    pub fn spent(&self) -> Spending {
        self.ledger().used()
    }

    /// What the backend really said last: the last message of its last completed answer.
    #[cfg(test)]
    fn last_answer(&self) -> Option<String> {
        self.ledger().last_answer().map(str::to_owned)
    }

    /// What is true of how the sandbox says that it ended. `is_asked`: somebody asked for the end.
    /// In handoff the backend may be asked whether it takes the credential.
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

    /// Why the credential needs a person, by what the host itself finds; None: it does not, or
    /// nobody says so in time.
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

    /// To be called when the run is over: a recording that departed or has exchanges left, or a
    /// recording that could not be written, is a fault.
    ///
    /// # Errors
    /// `Replayer`, with where.
    pub async fn finish(&self) -> Result<(), Fault> {
        if let Upstream::Replay(recording) = &self.config.upstream {
            recording.finish()?;
        }
        match &self.config.recorder {
            Some(recorder) => recorder.finish().await,
            None => Ok(()),
        }
    }

    /// How a run that was played back differed from its recording where it may.
    #[must_use]
    pub fn differences(&self) -> Option<Differences> {
        match &self.config.upstream {
            Upstream::Replay(recording) => Some(recording.differences()),
            Upstream::Live { .. } => None,
        }
    }

    /// The session's id in headers and cache key; the run's own where none was given.
    fn session(&self) -> &str {
        self.config.backend.session.as_deref().unwrap_or(&self.config.session)
    }

    fn ledger(&self) -> MutexGuard<'_, BudgetLedger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is looked for in what others say.
    fn texts(&self) -> Needles {
        self.scrub().texts(self.secrets_to_scrub())
    }

    /// What is looked for in headers and messages.
    fn messages(&self) -> Needles {
        Needles::for_messages(&self.secrets_to_scrub())
    }

    /// The last words of a sandbox, or of the engine, for people and records.
    #[must_use]
    pub fn message(&self, said: &str) -> String {
        self.messages().text(said).into_owned()
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
