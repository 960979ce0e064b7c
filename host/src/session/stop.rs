//! Stops a session from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use airlock_shared::outcome::{Outcome, Stop as Reason};
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;

/// A handle that can be cloned. A second request has no further effect.
#[derive(Clone, Default)]
pub struct Stop {
    requested: CancellationToken,
    terminated: Arc<AtomicBool>,
}

impl Stop {
    /// A person or a caller stops the session.
    pub fn cancel(&self) {
        self.requested.cancel();
    }

    /// The system ends the process (SIGTERM).
    pub fn terminate(&self) {
        self.terminated.store(true, Ordering::Release);
        self.requested.cancel();
    }

    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.requested.is_cancelled()
    }

    /// Waits until a stop is requested.
    pub async fn requested(&self) {
        self.requested.cancelled().await;
    }

    /// The exit code of a cancelled turn.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.terminated.load(Ordering::Acquire) { Exit::Terminated } else { Exit::Cancelled }
    }

    /// The exit code of an outcome; a SIGTERM has its own.
    pub(super) fn exit_of(&self, outcome: &Outcome) -> Exit {
        match outcome {
            Outcome::Stopped { reason: Reason::Cancelled, .. } => self.exit(),
            other => Exit::of(other),
        }
    }
}
