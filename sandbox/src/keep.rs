//! Brings the changes to the host: the edits so far while the model thinks, all of them at the end.
//!
//! No command runs while either happens: the tree holds still.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use airlock_shared::job::Workspace;
use airlock_shared::limits;
use airlock_shared::outcome::Fault;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::files::{self, Baseline, Summary, Wanted};
use crate::link::Link;
use crate::report::Report;

/// Where changes go, and from what they differ.
#[derive(Clone)]
pub(crate) struct Keeper {
    pub(crate) link: Link,
    pub(crate) workspace: Workspace,
    pub(crate) baseline: Arc<Baseline>,
    pub(crate) report: Report,
}

/// The edits so far, brought out every now and then.
pub(crate) struct SoFar {
    keeper: Keeper,
    every: Duration,
    due: Instant,
    /// Something may have changed since they were last brought out.
    touched: bool,
    out: Option<u64>,
    complained: bool,
}

impl SoFar {
    pub(crate) fn new(keeper: Keeper) -> Self {
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
    pub(crate) async fn bring(&mut self) {
        let (looked, enough) = (CancellationToken::new(), CancellationToken::new());
        // Given up, it is not to go on looking beside whoever does next.
        let _given_up = (looked.clone().drop_guard(), enough.clone().drop_guard());
        let bytes = self.keeper.workspace.changes_bytes.unwrap_or(u64::MAX);
        let wanted = Wanted {
            last: false,
            paths: limits::CHANGES_ENTRIES,
            bytes: bytes.min(limits::SO_FAR_BYTES),
            out: self.out,
            looked: looked.clone(),
            enough: enough.clone(),
        };
        let brought = tokio::select! {
            brought = self.keeper.put(wanted) => brought.map_err(|fault| fault.message),
            why = time(limits::SO_FAR_MS, &looked, &enough) => Err(why),
        };
        self.due = Instant::now() + self.every;
        match brought {
            Ok(summary) => {
                self.touched = false;
                self.out = summary.map(|summary| summary.digest).or(self.out);
            }
            Err(why) if !self.complained => {
                self.complained = true;
                let text = format!("the edits so far could not be brought out: {why}");
                self.keeper.report.note(text).await;
            }
            Err(_) => {}
        }
    }
}

impl Keeper {
    /// Brings all of it out, in a hurry once `cancel` is cancelled.
    ///
    /// # Errors
    /// Why they did not come out whole.
    pub(crate) async fn all(&self, cancel: &CancellationToken) -> Result<(), String> {
        let (looked, enough) = (CancellationToken::new(), CancellationToken::new());
        let wanted = Wanted {
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
            put = self.put(wanted) => put.map_err(|fault| fault.message),
            why = hurry => Err(why),
            why = time(limits::CHANGES_SECONDS * 1000, &looked, &enough) => Err(why),
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

    async fn put(&self, wanted: Wanted) -> Result<Option<Summary>, Fault> {
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
async fn time(ms: u64, looked: &CancellationToken, enough: &CancellationToken) -> String {
    let tenth = Duration::from_millis(ms) / 10;
    sleep(tenth * 5).await;
    looked.cancel();
    sleep(tenth * 3).await;
    enough.cancel();
    sleep(tenth * 2).await;
    "there was no time for more".to_owned()
}
