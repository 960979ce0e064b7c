//! The state that the handlers of one pipe share: its channels, what may happen only once, and its
//! end.

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
    /// How many sets of changes have begun.
    pub(super) changes_begun: AtomicU64,
    pub(super) tunnels: Arc<Semaphore>,
    pub(super) tasks: TaskTracker,
    /// The turn is over: there was a fault, or its outcome is kept and answered.
    pub(super) over: CancellationToken,
    /// The pipe is gone: everything that still runs for it must end.
    pub(super) gone: CancellationToken,
    kept: AtomicBool,
    refusals_shown: AtomicU32,
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
            refusals_shown: AtomicU32::new(0),
            fault: Mutex::new(None),
        }
    }

    /// Ends the turn with a fault; the first fault counts.
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

    /// Shows people that a request was refused, a limited number of times.
    pub(super) async fn tell_refused(&self, what: String) {
        if self.refusals_shown.fetch_add(1, Ordering::Relaxed) < limits::REFUSALS_SHOWN {
            let what = self.gate.message(&what);
            // If the session no longer listens, it needs no notice.
            let _gone = self.events.send(FromSandbox::Refused { what }).await;
        }
    }
}

/// Whether this is the first time.
pub(super) fn first(begun: &AtomicBool) -> bool {
    !begun.swap(true, Ordering::AcqRel)
}
