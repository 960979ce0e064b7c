//! Sends the changes to the host: the edits so far while the model thinks, and all changes at the
//! end.
//!
//! No command runs meanwhile, so the workspace does not change.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use airlock_shared::job::Workspace;
use airlock_shared::limits;
use airlock_shared::outcome::{Fault, FaultKind};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::files::{self, Baseline, ChangesRequest, ChangesSummary};
use crate::link::Link;
use crate::report::Report;

/// Sends changes: where to, and compared with what.
#[derive(Clone)]
pub(crate) struct ChangesKeeper {
    pub(crate) link: Link,
    pub(crate) workspace: Workspace,
    pub(crate) baseline: Arc<Baseline>,
    pub(crate) report: Report,
}

/// Sends the edits so far, again and again during the turn.
pub(crate) struct InterimChanges {
    keeper: ChangesKeeper,
    every: Duration,
    due: Instant,
    /// Something may have changed since the last set was sent.
    touched: bool,
    /// The digest of the set that was sent last.
    sent: Option<u64>,
    has_warned: bool,
}

impl InterimChanges {
    pub(crate) fn new(keeper: ChangesKeeper) -> Self {
        let every = Duration::from_millis(keeper.workspace.edits_every_ms);
        let due = Instant::now() + every;
        Self { keeper, every, due, touched: false, sent: None, has_warned: false }
    }

    /// Call this after a command or a tool that writes.
    pub(crate) fn touch(&mut self) {
        self.touched = true;
    }

    /// Resolves when something may have changed and it is time to send it.
    pub(crate) async fn due(&self) {
        match self.touched {
            true => sleep_until(self.due).await,
            false => std::future::pending().await,
        }
    }

    /// Sends the edits so far. If it fails it is tried again later, and at the end all changes are
    /// sent.
    ///
    /// # Errors
    /// If the sandbox is no longer safe.
    pub(crate) async fn send(&mut self) -> Result<(), Fault> {
        let (stop_scan, stop_stream) = (CancellationToken::new(), CancellationToken::new());
        // If this future is dropped, the scan must not go on beside the next one.
        let _guards = (stop_scan.clone().drop_guard(), stop_stream.clone().drop_guard());
        let bytes = self.keeper.workspace.changes_bytes.unwrap_or(u64::MAX);
        let wanted = ChangesRequest {
            last: false,
            paths: limits::CHANGES_ENTRIES,
            bytes: bytes.min(limits::SO_FAR_BYTES),
            sent: self.sent,
            stop_scan: stop_scan.clone(),
            stop_stream: stop_stream.clone(),
        };
        let result = tokio::select! {
            result = self.keeper.put(wanted) => result,
            late = time_limit(limits::SO_FAR_MS, &stop_scan, &stop_stream) => Err(late),
        };
        self.due = Instant::now() + self.every;
        match result {
            Ok(summary) => {
                self.touched = false;
                self.sent = summary.map(|summary| summary.digest).or(self.sent);
            }
            Err(fault) if is_danger(&fault) => return Err(fault),
            Err(fault) if !self.has_warned => {
                self.has_warned = true;
                let text = format!("the edits so far could not be copied out: {}", fault.message);
                self.keeper.report.note(text).await;
            }
            Err(_) => {}
        }
        Ok(())
    }
}

impl ChangesKeeper {
    /// Sends all changes. Once `cancel` is cancelled there is less time for it.
    ///
    /// # Errors
    /// Why the changes could not be sent.
    pub(crate) async fn send_all(&self, cancel: &CancellationToken) -> Result<(), Fault> {
        let (stop_scan, stop_stream) = (CancellationToken::new(), CancellationToken::new());
        let wanted = ChangesRequest {
            last: true,
            paths: limits::CHANGES_ENTRIES,
            bytes: self.workspace.changes_bytes.unwrap_or(u64::MAX),
            sent: None,
            stop_scan: stop_scan.clone(),
            stop_stream: stop_stream.clone(),
        };
        let cancelled = async {
            cancel.cancelled().await;
            time_limit(limits::CHANGES_CANCELLED_MS, &stop_scan, &stop_stream).await
        };
        let summary = tokio::select! {
            result = self.put(wanted) => result,
            late = cancelled => Err(late),
            late = time_limit(limits::CHANGES_SECONDS * 1000, &stop_scan, &stop_stream) => Err(late),
        }?;
        let omitted = summary.map(|summary| summary.omitted).unwrap_or_default();
        for path in omitted.named {
            self.report.note(format!("not copied out: {path}")).await;
        }
        if omitted.more > 0 {
            self.report.note(format!("not copied out: {} more", omitted.more)).await;
        }
        Ok(())
    }

    async fn put(&self, wanted: ChangesRequest) -> Result<Option<ChangesSummary>, Fault> {
        let root = PathBuf::from(&self.workspace.path);
        let (uid, gid) = (self.workspace.uid, self.workspace.gid);
        let baseline = Arc::clone(&self.baseline);
        let Some((changes, summary)) = files::changes(&root, uid, gid, baseline, wanted).await?
        else {
            return Ok(None);
        };
        self.link.put_changes(changes).await?;
        // The stream ended well, so there is a summary.
        Ok(summary.await.ok())
    }
}

/// Resolves after `ms`. Half of the time is for the scan, and the last two tenths are for ending
/// the stream.
async fn time_limit(
    ms: u64,
    stop_scan: &CancellationToken,
    stop_stream: &CancellationToken,
) -> Fault {
    let tenth = Duration::from_millis(ms) / 10;
    sleep(tenth * 5).await;
    stop_scan.cancel();
    sleep(tenth * 3).await;
    stop_stream.cancel();
    sleep(tenth * 2).await;
    Fault::new(FaultKind::Workspace, "there was no time for more")
}

/// Whether the fault means that the sandbox may be readable, or no longer under our control.
///
/// THREAT: a thread that acts as the tool user cannot be made safe. If that were only a note, the
/// turn would go on with commands beside it. Tried by
/// keep::tests::an_unsafe_sandbox_is_a_fault_and_no_note.
pub(crate) fn is_danger(fault: &Fault) -> bool {
    fault.kind == FaultKind::Sandbox
}

#[cfg(test)]
mod tests {
    use airlock_shared::secret::Secret;

    use super::*;
    use crate::exec::tests::user;
    use crate::scripted::host::{Host, KEY};
    use crate::scrub::Scrub;

    /// Sends changes as this user, from a directory that does not exist. Returns the number of
    /// notes too.
    async fn send_as(uid: u32) -> (Result<(), Fault>, Result<(), Fault>, usize) {
        let (_host, input, output, _serving) = Host::start([], Vec::new());
        let gone = CancellationToken::new();
        let link = Link::open(Vec::new(), input, output, &Secret::new(KEY.into()), gone).await;
        let (report, mut lines) = Report::new(Scrub::default());
        let path = "/nonexistent/workspace".to_owned();
        let workspace = Workspace { path, uid, gid: uid, ..Workspace::default() };
        let baseline = Arc::default();
        let keeper = ChangesKeeper { link: link.expect("a host"), workspace, baseline, report };
        let mut so_far = InterimChanges::new(keeper.clone());
        let first = so_far.send().await;
        drop(so_far);
        let all = keeper.send_all(&CancellationToken::new()).await;
        drop(keeper);
        let mut notes = 0;
        while lines.recv().await.is_some() {
            notes += 1;
        }
        (first, all, notes)
    }

    /// Needs root. The control: a directory that cannot be read is a note, and is tried again.
    #[tokio::test]
    async fn an_unsafe_sandbox_is_a_fault_and_no_note() {
        let (first, all, notes) = send_as(user(10).uid()).await;
        assert_eq!(
            (first, all.map_err(|fault| fault.kind), notes),
            (Ok(()), Err(FaultKind::Workspace), 1)
        );
        let (first, all, notes) = send_as(0).await;
        let kind = |ended: Result<(), Fault>| ended.map_err(|fault| fault.kind);
        assert_eq!(
            (kind(first), kind(all), notes),
            (Err(FaultKind::Sandbox), Err(FaultKind::Sandbox), 0)
        );
    }
}
