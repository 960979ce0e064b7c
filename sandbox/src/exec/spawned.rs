//! A command that was started: its output, and its end.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::io::Ready;
use tokio::io::unix::AsyncFd;

use super::reap::{self, ExitStatus};

/// How often orphans are collected while a command runs.
const COLLECT: Duration = Duration::from_millis(100);

/// A command that was started, and the reading end of its output.
pub(crate) struct Spawned {
    pub(super) pid: i32,
    pub(super) ended: AsyncFd<OwnedFd>,
    pub(super) output: Option<OwnedFd>,
}

impl Spawned {
    /// The reading end of its output. It can be taken once.
    pub(crate) fn output(&mut self) -> io::Result<OwnedFd> {
        self.output.take().ok_or_else(|| io::Error::other("the output was taken already"))
    }

    /// Waits for the command itself, not for processes that it started. Orphans are collected
    /// meanwhile.
    pub(crate) async fn ended(&self) -> ExitStatus {
        loop {
            if let Some(ended) = reap::ended(self.pid) {
                return ended;
            }
            let pause = tokio::time::sleep(COLLECT);
            tokio::select! {
                ready = self.ended.readable() => if let Ok(mut ready) = ready {
                    ready.clear_ready_matching(Ready::READABLE);
                },
                () = pause => {}
            }
        }
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        reap::forget(self.pid);
    }
}
