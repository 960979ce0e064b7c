//! Both ways for one session, for the gate: the directory goes in once, and the changes come out as
//! often as they are sent. Each set replaces the one before.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use airlock_shared::outcome::{Fault, FaultKind};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::copy_in::{self, CopyError, CopySummary, Counted};
use super::intake::{self, ChangesRefused, IntakeSlot, KeptChanges};
use super::rules::LeaveOutRules;
use crate::records::SessionFolder;

/// A copy into the sandbox that has begun.
pub struct CopyStarted {
    pub workspace: WorkspaceLink,
    /// The result, when the copy is complete. If the sender is gone, the session ended first.
    pub copied: oneshot::Receiver<Result<CopySummary, CopyError>>,
    /// How far the directory is counted. Nothing is copied before the count is complete. If the
    /// sender is gone before that, `copied` says why.
    pub counted: watch::Receiver<Counted>,
}

/// The workspace of one session.
pub struct WorkspaceLink {
    session: std::path::PathBuf,
    disk: u64,
    tree: Mutex<Option<BoxStream<'static, io::Result<Bytes>>>>,
    taken: Arc<watch::Sender<KeptChanges>>,
    /// Held while a set is taken.
    intake_lock: Arc<tokio::sync::Mutex<()>>,
    /// Cancelled: no more sets are taken.
    closed: CancellationToken,
    /// Cancelled: the set that is being taken is given up.
    given_up: CancellationToken,
}

impl WorkspaceLink {
    /// Starts to copy `folder` at once, up to a few megabytes ahead of the reader. `disk`: the
    /// bytes of the sandbox's disk, which limit both ways.
    #[must_use]
    pub fn copy(
        folder: &Path,
        rules: LeaveOutRules,
        disk: u64,
        session: &SessionFolder,
    ) -> CopyStarted {
        let copy = copy_in::start(folder, rules, disk, session.path());
        let workspace = Self {
            session: session.path().to_owned(),
            disk,
            tree: Mutex::new(Some(copy.stream)),
            taken: Arc::new(watch::Sender::new(KeptChanges::default())),
            intake_lock: Arc::default(),
            closed: CancellationToken::new(),
            given_up: CancellationToken::new(),
        };
        CopyStarted { workspace, copied: copy.copied, counted: copy.counted }
    }

    /// The directory as a tar stream. A second call is an error.
    pub fn stream_in(&self) -> BoxStream<'static, io::Result<Bytes>> {
        let tree = self.tree.lock().unwrap_or_else(PoisonError::into_inner).take();
        tree.unwrap_or_else(|| {
            stream::iter([Err(io::Error::other("the workspace was requested twice"))]).boxed()
        })
    }

    /// Reads a set of changes and stores it in place of the one before. Returns when it is on the
    /// disk. Sets are taken one after another.
    ///
    /// # Errors
    /// The earlier set is unchanged.
    pub async fn take_changes(
        &self,
        body: BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<(), ChangesRefused> {
        let lock = Arc::clone(&self.intake_lock).lock_owned().await;
        // THREAT: a set that comes after the end replaces the one that the person saw.
        // Tried by workspace::link::tests::the_last_set_that_came_whole_is_the_one.
        if self.closed.is_cancelled() {
            let why = "the changes were taken already".to_owned();
            return Err(ChangesRefused::Unkept(Fault::new(FaultKind::Workspace, why)));
        }
        let slot = IntakeSlot {
            taken: Arc::clone(&self.taken),
            lock,
            closed: self.closed.clone(),
            given_up: self.given_up.clone(),
        };
        intake::take(&self.session, self.disk, body, slot).await
    }

    /// Takes no more, also not the rest of a stream, and returns what is on the disk. What came is
    /// examined and stored first, unless `give_up` is ready earlier.
    // THREAT: a set that takes minutes to examine keeps a person waiting who pressed Ctrl-C.
    // Tried by workspace::link::tests::a_set_that_takes_too_long_is_given_up.
    pub async fn close(&self, give_up: impl Future<Output = ()>) -> KeptChanges {
        self.closed.cancel();
        let is_over = tokio::select! {
            biased;
            _lock = self.intake_lock.lock() => true,
            () = give_up => false,
        };
        let mut taken = self.taken.borrow().clone();
        if !is_over {
            self.given_up.cancel();
            let why =
                "the session was stopped before the last changes were all examined".to_owned();
            taken.unkept = Some(Fault::new(FaultKind::Workspace, why));
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::super::trial::{ApplyFixture, TarBytes, body};
    use super::*;

    #[tokio::test]
    async fn the_tree_goes_in_once() {
        let workspace = ApplyFixture::new(&["a"]).copy().await;
        assert!(workspace.stream_in().next().await.unwrap().is_err());
    }

    /// What is kept, path by path, and whether it says that it is not all.
    fn kept(trial: &ApplyFixture) -> Option<(Vec<String>, bool)> {
        let set = crate::workspace::changes(&trial.session).unwrap()?;
        let paths = set.changes.iter().map(|change| change.path.to_string()).collect();
        Some((paths, set.extent.note(None).is_some()))
    }

    #[tokio::test]
    async fn the_last_set_that_came_whole_is_the_one() {
        let trial = ApplyFixture::new(&["a"]);
        let workspace = trial.copy().await;
        let put = async |stream: Vec<u8>| workspace.take_changes(body(stream)).await;
        let is = |paths: &[&str], cut| {
            Some((paths.iter().map(|&path| path.to_owned()).collect::<Vec<_>>(), cut))
        };
        // Nothing came whole: nothing is there.
        assert!(matches!(put(Vec::new()).await, Err(ChangesRefused::Unkept(_))));
        assert_eq!(kept(&trial), None);
        let so_far = r#"{"so_far":true}"#;
        let end = |tar: TarBytes, end: &str| {
            tar.entry(tar::EntryType::Regular, "end", "", 0o644, end.as_bytes()).end()
        };
        put(end(TarBytes::default().file("b", "x").file("c", "x"), so_far)).await.unwrap();
        assert_eq!(kept(&trial), is(&["b", "c"], true));
        // One that broke off and has less replaces nothing, one that has all of it does.
        assert!(matches!(
            put(TarBytes::default().file("b", "2").0).await,
            Err(ChangesRefused::Unkept(_))
        ));
        assert_eq!(kept(&trial), is(&["b", "c"], true));
        put(TarBytes::default().file("b", "2").file("c", "2").file("d", "2").0).await.unwrap();
        assert_eq!(kept(&trial), is(&["b", "c", "d"], true));
        // One that is none replaces nothing.
        assert!(matches!(put(vec![7; 2000]).await, Err(ChangesRefused::Malformed(_))));
        assert_eq!(kept(&trial), is(&["b", "c", "d"], true));
        // A set that says what is missing replaces the one before.
        let cut = r#"{"cut":{"why":"sending","edits":true,"paths":2,"first":["c","d"]}}"#;
        put(end(TarBytes::default().file("b", "3"), cut)).await.unwrap();
        assert_eq!(kept(&trial), is(&["b"], true));
        let note = crate::workspace::changes(&trial.session).unwrap().unwrap().extent.note(None);
        let expected = "changes did not come out whole, there was no time for more: 2 paths missing \
                    (sandbox says: “c”, “d”)";
        assert_eq!(note.as_deref(), Some(expected));
        put(end(TarBytes::default(), "{}")).await.unwrap();
        assert_eq!(kept(&trial), is(&[], false));
        put(end(TarBytes::default().file("b", "4"), "{}")).await.unwrap();
        let left = std::fs::read_dir(trial.session.path()).unwrap().flatten();
        let left: Vec<_> = left.map(|it| it.file_name().into_string().unwrap()).collect();
        assert!(left.iter().filter(|name| name.starts_with("changes")).eq(["changes"]), "{left:?}");
        let taken = workspace.close(std::future::pending()).await;
        let on_disk = crate::workspace::changes(&trial.session).unwrap();
        assert_eq!(taken.set, on_disk.map(|set| set.count()));
        assert!(matches!(
            put(end(TarBytes::default(), "{}")).await,
            Err(ChangesRefused::Unkept(_))
        ));
        assert_eq!(kept(&trial), is(&["b"], false));
    }

    /// Closing does not wait for an endless stream, and loses nothing that came.
    #[tokio::test]
    async fn what_came_before_the_end_is_kept() {
        let trial = ApplyFixture::new(&["a"]);
        let workspace = trial.copy().await;
        let came = Bytes::from(TarBytes::default().file("b", "x").0);
        let (all, came_all) = tokio::sync::oneshot::channel();
        let endless = stream::iter([Ok(came)]).chain(stream::once(async move {
            let _heard = all.send(());
            std::future::pending().await
        }));
        let (taken, closed) = tokio::join!(workspace.take_changes(endless.boxed()), async {
            came_all.await.unwrap();
            workspace.close(std::future::pending()).await
        });
        taken.unwrap();
        assert_eq!(closed.set.map(|set| set.applied), Some(1));
        assert_eq!(kept(&trial), Some((vec!["b".to_owned()], true)));
    }

    /// The intake blocks on a pipe until the test writes into it.
    #[tokio::test]
    async fn a_set_that_takes_too_long_is_given_up() {
        let trial = ApplyFixture::new(&["a"]);
        let workspace = trial.copy().await;
        let whole = |name: &str| TarBytes::default().file(name, "x").end();
        workspace.take_changes(body(whole("b"))).await.unwrap();
        // The base is a pipe without a writer.
        let base = trial.session.path().join("base.jsonl");
        let text = std::fs::read(&base).unwrap();
        std::fs::remove_file(&base).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &base,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let (stop, stopped) = oneshot::channel();
        let closing = async {
            stopped.await.unwrap();
            workspace.close(std::future::ready(())).await
        };
        let taking = async {
            let mut taking = std::pin::pin!(workspace.take_changes(body(whole("c"))));
            tokio::select! {
                biased;
                _ = taking.as_mut() => panic!("it was taken"),
                () = std::future::ready(()) => stop.send(()).unwrap(),
            }
            taking.await
        };
        let feeding = async {
            let taken = closing.await;
            // Now it can be read, too late.
            tokio::task::spawn_blocking(move || std::fs::write(base, text)).await.unwrap().unwrap();
            taken
        };
        let (late, taken) = tokio::join!(taking, feeding);
        assert!(matches!(late, Err(ChangesRefused::Unkept(_))), "{late:?}");
        assert!(taken.unkept.unwrap().message.contains("stopped"));
        assert_eq!(taken.set.map(|set| set.applied), Some(1));
        assert_eq!(kept(&trial), Some((vec!["b".to_owned()], false)));
    }
}
