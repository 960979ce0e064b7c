//! Brings the changes to the host: the edits so far while the model thinks, all of them at the end.
//!
//! No command runs while either happens: the tree holds still.

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

/// Where changes go, and from what they differ.
#[derive(Clone)]
pub(crate) struct ChangesKeeper {
    pub(crate) link: Link,
    pub(crate) workspace: Workspace,
    pub(crate) baseline: Arc<Baseline>,
    pub(crate) report: Report,
}

/// The edits so far, brought out every now and then.
pub(crate) struct InterimChanges {
    keeper: ChangesKeeper,
    every: Duration,
    due: Instant,
    /// Something may have changed since they were last brought out.
    touched: bool,
    out: Option<u64>,
    complained: bool,
}

impl InterimChanges {
    pub(crate) fn new(keeper: ChangesKeeper) -> Self {
        let every = Duration::from_millis(keeper.workspace.edits_every_ms);
        let due = Instant::now() + every;
        Self { keeper, every, due, touched: false, out: None, complained: false }
    }

    /// A command or a tool that writes was run.
    pub(crate) fn touch(&mut self) {
        self.touched = true;
    }

    /// Resolves when there is something to bring out and it is time for it.
    pub(crate) async fn due(&self) {
        match self.touched {
            true => sleep_until(self.due).await,
            false => std::future::pending().await,
        }
    }

    /// Brings the edits out. What does not work now is tried again, and the end brings out all.
    ///
    /// # Errors
    /// When the sandbox is no longer safe.
    pub(crate) async fn bring(&mut self) -> Result<(), Fault> {
        let (looked, enough) = (CancellationToken::new(), CancellationToken::new());
        // Given up, it is not to go on looking beside whoever does next.
        let _given_up = (looked.clone().drop_guard(), enough.clone().drop_guard());
        let bytes = self.keeper.workspace.changes_bytes.unwrap_or(u64::MAX);
        let wanted = ChangesRequest {
            last: false,
            paths: limits::CHANGES_ENTRIES,
            bytes: bytes.min(limits::SO_FAR_BYTES),
            out: self.out,
            looked: looked.clone(),
            enough: enough.clone(),
        };
        let brought = tokio::select! {
            brought = self.keeper.put(wanted) => brought,
            late = time(limits::SO_FAR_MS, &looked, &enough) => Err(late),
        };
        self.due = Instant::now() + self.every;
        match brought {
            Ok(summary) => {
                self.touched = false;
                self.out = summary.map(|summary| summary.digest).or(self.out);
            }
            Err(fault) if is_danger(&fault) => return Err(fault),
            Err(fault) if !self.complained => {
                self.complained = true;
                let text = format!("the edits so far could not be brought out: {}", fault.message);
                self.keeper.report.note(text).await;
            }
            Err(_) => {}
        }
        Ok(())
    }
}

impl ChangesKeeper {
    /// Brings all of it out, in a hurry once `cancel` is cancelled.
    ///
    /// # Errors
    /// Why they did not come out whole.
    pub(crate) async fn all(&self, cancel: &CancellationToken) -> Result<(), Fault> {
        let (looked, enough) = (CancellationToken::new(), CancellationToken::new());
        let wanted = ChangesRequest {
            last: true,
            paths: limits::CHANGES_ENTRIES,
            bytes: self.workspace.changes_bytes.unwrap_or(u64::MAX),
            out: None,
            looked: looked.clone(),
            enough: enough.clone(),
        };
        let hurry = async {
            cancel.cancelled().await;
            time(limits::CHANGES_CANCELLED_MS, &looked, &enough).await
        };
        let summary = tokio::select! {
            put = self.put(wanted) => put,
            late = hurry => Err(late),
            late = time(limits::CHANGES_SECONDS * 1000, &looked, &enough) => Err(late),
        }?;
        let left_out = summary.map(|summary| summary.left_out).unwrap_or_default();
        for left_out in left_out.named {
            self.report.note(format!("not brought out: {left_out}")).await;
        }
        if left_out.more > 0 {
            self.report.note(format!("not brought out: {} more", left_out.more)).await;
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
        // It is there: the stream ended well.
        Ok(summary.await.ok())
    }
}

/// Runs out after `ms`: half of it is for looking, and the last two tenths for ending the stream.
async fn time(ms: u64, looked: &CancellationToken, enough: &CancellationToken) -> Fault {
    let tenth = Duration::from_millis(ms) / 10;
    sleep(tenth * 5).await;
    looked.cancel();
    sleep(tenth * 3).await;
    enough.cancel();
    sleep(tenth * 2).await;
    Fault::new(FaultKind::Workspace, "there was no time for more")
}

/// Whether it means that the sandbox may be readable, or is not in our hand any more.
///
/// THREAT: a thread that acts as the tool user finds that it cannot be made safe; told as a note, the
/// turn goes on with commands beside it. Tried by
/// keep::tests::what_is_not_safe_is_no_note.
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

    /// Bringing out as this user, and the notes of it. The folder is none.
    async fn brought(uid: u32) -> (Result<(), Fault>, Result<(), Fault>, usize) {
        let (_host, input, output, _serving) = Host::start([], Vec::new());
        let gone = CancellationToken::new();
        let link = Link::open(Vec::new(), input, output, &Secret::new(KEY.into()), gone).await;
        let (report, mut lines) = Report::new(Scrub::default());
        let path = "/nonexistent/workspace".to_owned();
        let workspace = Workspace { path, uid, gid: uid, ..Workspace::default() };
        let baseline = Arc::default();
        let keeper = ChangesKeeper { link: link.expect("a host"), workspace, baseline, report };
        let mut so_far = InterimChanges::new(keeper.clone());
        let first = so_far.bring().await;
        drop(so_far);
        let all = keeper.all(&CancellationToken::new()).await;
        drop(keeper);
        let mut notes = 0;
        while lines.recv().await.is_some() {
            notes += 1;
        }
        (first, all, notes)
    }

    /// Needs root. The control: a folder that cannot be read is a note, and is tried again.
    #[tokio::test]
    async fn what_is_not_safe_is_no_note() {
        let (first, all, notes) = brought(user(10).uid()).await;
        assert_eq!(
            (first, all.map_err(|fault| fault.kind), notes),
            (Ok(()), Err(FaultKind::Workspace), 1)
        );
        let (first, all, notes) = brought(0).await;
        let kind = |ended: Result<(), Fault>| ended.map_err(|fault| fault.kind);
        assert_eq!(
            (kind(first), kind(all), notes),
            (Err(FaultKind::Sandbox), Err(FaultKind::Sandbox), 0)
        );
    }
}
