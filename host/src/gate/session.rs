//! What the handlers of one pipe share: the run's ears, what may happen once only, and how it ends.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use airlock_shared::command::Command;
use airlock_shared::limits;
use airlock_shared::outcome::{Fault, FaultKind};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{FromSandbox, Gate, WorkspaceTransfer};

pub(super) struct GateSession {
    pub(super) gate: Arc<Gate>,
    pub(super) workspace: Arc<dyn WorkspaceTransfer>,
    pub(super) events: mpsc::Sender<FromSandbox>,
    pub(super) commands: Mutex<Option<mpsc::Receiver<Command>>>,
    pub(super) events_begun: AtomicBool,
    pub(super) workspace_begun: AtomicBool,
    /// Sets of changes that were begun.
    pub(super) changes_begun: AtomicU64,
    pub(super) tunnels: Arc<Semaphore>,
    pub(super) tasks: TaskTracker,
    /// The run is over: a fault was found, or its outcome is kept and answered.
    pub(super) over: CancellationToken,
    /// The pipe is gone, and with it whatever still runs for it.
    pub(super) gone: CancellationToken,
    kept: AtomicBool,
    told: AtomicU32,
    fault: Mutex<Option<Fault>>,
}

impl GateSession {
    pub(super) fn new(
        gate: Arc<Gate>,
        workspace: Arc<dyn WorkspaceTransfer>,
        events: mpsc::Sender<FromSandbox>,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        Self {
            gate,
            workspace,
            events,
            commands: Mutex::new(Some(commands)),
            events_begun: AtomicBool::new(false),
            workspace_begun: AtomicBool::new(false),
            changes_begun: AtomicU64::new(0),
            tunnels: Arc::new(Semaphore::new(limits::TUNNELS)),
            tasks: TaskTracker::new(),
            over: CancellationToken::new(),
            gone: CancellationToken::new(),
            kept: AtomicBool::new(false),
            told: AtomicU32::new(0),
            fault: Mutex::new(None),
        }
    }

    /// Ends the run with what went wrong; the first fault counts.
    pub(super) fn end(&self, kind: FaultKind, message: impl Into<String>) {
        self.end_with(Fault::new(kind, message));
    }

    pub(super) fn end_with(&self, fault: Fault) {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
        self.over.cancel();
    }

    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The outcome is on disk.
    pub(super) fn keep(&self) {
        self.kept.store(true, Ordering::Release);
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Acquire)
    }

    /// Tells people that something was refused, a bounded number of times.
    pub(super) async fn tell_refused(&self, what: String) {
        if self.told.fetch_add(1, Ordering::Relaxed) < limits::REFUSALS_SHOWN {
            let what = self.gate.message(&what);
            // A run that no longer listens needs no notice.
            let _gone = self.events.send(FromSandbox::Refused { what }).await;
        }
    }
}

/// Whether this is the first time.
pub(super) fn first(begun: &AtomicBool) -> bool {
    !begun.swap(true, Ordering::AcqRel)
}
