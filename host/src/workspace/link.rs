//! Both ways for one run, as the gate asks for them: the tree once, the changes once.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use airlock_shared::outcome::{Fault, FaultKind};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::oneshot;

use super::change::ChangeSet;
use super::copy_in::{self, Copied, CopyError};
use super::intake;
use super::rules::Rules;
use crate::session::RunFolder;

/// A tree that has begun to go in.
pub struct Copy {
    pub workspace: Workspace,
    /// What went in, once all of it did; a sender that is gone means that the run ended first.
    pub copied: oneshot::Receiver<Result<Copied, CopyError>>,
}

/// The work tree of one run.
pub struct Workspace {
    run: std::path::PathBuf,
    disk: u64,
    tree: Mutex<Option<BoxStream<'static, io::Result<Bytes>>>>,
    taken: Mutex<bool>,
}

impl Workspace {
    /// Begins to copy `folder` at once, up to a few megabytes ahead of whoever reads. `disk`: the
    /// bytes of the box's disk, the bound of both ways.
    #[must_use]
    pub fn copy(folder: &Path, rules: Rules, disk: u64, run: &RunFolder) -> Copy {
        let copy = copy_in::start(folder, rules, disk, run.path());
        let workspace = Self {
            run: run.path().to_owned(),
            disk,
            tree: Mutex::new(Some(copy.stream)),
            taken: Mutex::new(false),
        };
        Copy { workspace, copied: copy.copied }
    }

    /// The tree as a tar stream. A second time it is an error.
    pub fn stream_in(&self) -> BoxStream<'static, io::Result<Bytes>> {
        let tree = self.tree.lock().unwrap_or_else(PoisonError::into_inner).take();
        tree.unwrap_or_else(|| {
            stream::iter([Err(io::Error::other("the work tree was asked for twice"))]).boxed()
        })
    }

    /// Reads the changes and stores them; back when they are on the disk. What is no set of
    /// changes, or cut short, leaves nothing, and may be tried again; a set that was stored stays.
    ///
    /// # Errors
    /// [`FaultKind::Workspace`].
    pub async fn take_changes(
        &self,
        body: BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<ChangeSet, Fault> {
        // THREAT: a second set, or two at once, replaces the one that was shown.
        // Tried by workspace::link::tests::each_way_is_gone_once.
        if std::mem::replace(&mut *self.taken.lock().unwrap_or_else(PoisonError::into_inner), true)
        {
            return Err(Fault::new(FaultKind::Workspace, "the changes came twice"));
        }
        let taken = intake::take(&self.run, self.disk, body).await;
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = taken.is_ok();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::super::trial::{Tar, Trial, body};
    use super::*;

    #[tokio::test]
    async fn each_way_is_gone_once() {
        let trial = Trial::new(&["a"]);
        let workspace = trial.copy().await;
        assert!(workspace.stream_in().next().await.unwrap().is_err());
        let cut = Tar::default().file("b", "x").0;
        workspace.take_changes(body(cut)).await.unwrap_err();
        let set = workspace.take_changes(body(Tar::default().file("b", "x").end())).await.unwrap();
        assert_eq!(set.changes.len(), 1);
        let twice = workspace.take_changes(body(Tar::default().end())).await.unwrap_err();
        assert_eq!(twice.kind, FaultKind::Workspace);
        assert_eq!(crate::workspace::changes(&trial.run).unwrap(), Some(set));
    }
}
