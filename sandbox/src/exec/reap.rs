//! Collecting what ended. As PID 1 we inherit every orphan, and one `waitpid(-1)` for all of them
//! would swallow the status somebody waits for: so all waiting goes through here.
//!
//! # Why a static
//! The children of a process are one set, whoever looks; two owners would steal from each other.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How a command ended: its exit code, or 128 + the signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExitStatus(pub(crate) i32);

/// The children somebody waits for, by pid.
static AWAITED: Mutex<BTreeMap<i32, Option<ExitStatus>>> = Mutex::new(BTreeMap::new());

/// Holds back all collecting while a child is being started, so that it is awaited before it can
/// be collected.
pub(super) struct StartGuard(MutexGuard<'static, BTreeMap<i32, Option<ExitStatus>>>);

impl StartGuard {
    pub(super) fn begin() -> Self {
        Self(AWAITED.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn awaits(mut self, pid: i32) {
        self.0.insert(pid, None);
    }
}

/// Collects everything that ended; what nobody waits for is forgotten.
pub(super) fn collect() {
    let mut awaited = AWAITED.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let mut status = 0;
        // SAFETY: `status` is live; WNOHANG never blocks.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if pid <= 0 {
            return;
        }
        if let Some(slot) = awaited.get_mut(&pid) {
            *slot = Some(ExitStatus(if libc::WIFSIGNALED(status) {
                128 + libc::WTERMSIG(status)
            } else {
                libc::WEXITSTATUS(status)
            }));
        }
    }
}

/// How an awaited child ended, if it has.
pub(super) fn ended(pid: i32) -> Option<ExitStatus> {
    collect();
    *AWAITED.lock().unwrap_or_else(PoisonError::into_inner).get(&pid)?
}

/// Nobody waits for this child any more.
pub(super) fn forget(pid: i32) {
    AWAITED.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
}
