//! Collects processes that ended. As PID 1 we inherit every orphan. A `waitpid(-1)` for the orphans
//! also takes the status of commands that we wait for, so all waiting is here.
//!
//! # Why a static
//! A process has one set of children. Two owners would take each other's statuses.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How a command ended: its exit code, or 128 + the signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExitStatus(pub(crate) i32);

/// The children that we wait for, by pid.
static AWAITED: Mutex<BTreeMap<i32, Option<ExitStatus>>> = Mutex::new(BTreeMap::new());

/// Prevents collecting while a child is being started, so that the child cannot be collected before
/// it is in the list.
pub(super) struct StartGuard(MutexGuard<'static, BTreeMap<i32, Option<ExitStatus>>>);

impl StartGuard {
    pub(super) fn begin() -> Self {
        Self(AWAITED.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn awaits(mut self, pid: i32) {
        self.0.insert(pid, None);
    }
}

/// Collects all processes that ended. Statuses that we do not wait for are dropped.
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

/// How a child that we wait for ended, if it has.
pub(super) fn ended(pid: i32) -> Option<ExitStatus> {
    collect();
    *AWAITED.lock().unwrap_or_else(PoisonError::into_inner).get(&pid)?
}

/// Stops waiting for this child.
pub(super) fn forget(pid: i32) {
    AWAITED.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
}
