//! How a run is told to end, by whoever started it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

use crate::exit::Exit;

/// A handle that can be cloned; asking twice is asking once.
#[derive(Clone, Default)]
pub struct Stop {
    asked: CancellationToken,
    terminated: Arc<AtomicBool>,
}

impl Stop {
    /// A person, or a caller, no longer wants it.
    pub fn cancel(&self) {
        self.asked.cancel();
    }

    /// The system wants the process to end (SIGTERM).
    pub fn terminate(&self) {
        self.terminated.store(true, Ordering::Release);
        self.asked.cancel();
    }

    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.asked.is_cancelled()
    }

    /// Waits until it is asked.
    pub async fn asked(&self) {
        self.asked.cancelled().await;
    }

    /// What the exit of a cancelled run is.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.terminated.load(Ordering::Acquire) { Exit::Terminated } else { Exit::Cancelled }
    }
}
