//! The user that commands and file tools act as, and a standing thread that is this user for
//! files.
//!
//! # Why not the whole process, or a helper process
//! The process must stay root to end what commands leave behind, and a helper process of the tool
//! user could be killed by any command. `fsuid` is the part of a thread's credentials that files
//! see and signals do not.

use std::sync::mpsc;

use airlock_shared::outcome::{Fault, FaultKind};
use tokio::sync::oneshot;

use super::{checked, stay_unreadable, unsafe_sandbox};

/// A uid and gid that are not root's and not "unchanged".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ToolUser {
    uid: u32,
    gid: u32,
}

impl ToolUser {
    /// # Errors
    /// For 0 and for `u32::MAX`, which the kernel reads as "leave it": both would mean root.
    pub(crate) fn new(uid: u32, gid: u32) -> Result<Self, Fault> {
        // THREAT: a handoff that names 0 would run what the model says as root. Tried by
        // exec::user::tests::nobody_acts_as_root.
        if [uid, gid].iter().any(|id| matches!(*id, 0 | u32::MAX)) {
            return Err(Fault::new(
                FaultKind::Sandbox,
                format!(
                    "commands cannot run as user {uid}, group {gid}: name one that is not root"
                ),
            ));
        }
        Ok(Self { uid, gid })
    }

    pub(crate) fn uid(self) -> u32 {
        self.uid
    }

    pub(crate) fn gid(self) -> u32 {
        self.gid
    }
}

type WorkItem = Box<dyn FnOnce() + Send>;

/// A thread whose files are the tool user's. Dropping it lets the thread end after its work.
pub(crate) struct UserThread {
    queue: mpsc::Sender<WorkItem>,
}

impl UserThread {
    /// Starts the thread and waits until it is the user.
    ///
    /// # Errors
    /// When there is no thread to be had, or the kernel does not let us act as the user.
    pub(crate) fn start(user: ToolUser) -> Result<Self, Fault> {
        let (queue, waiting) = mpsc::channel::<WorkItem>();
        let (ready, became) = mpsc::sync_channel(1);
        let run = move || {
            let answer = become_for_files(user);
            let stop = answer.is_err();
            if ready.send(answer).is_err() || stop {
                return;
            }
            while let Ok(work) = waiting.recv() {
                work();
            }
        };
        std::thread::Builder::new()
            .name("files".to_owned())
            .spawn(run)
            .map_err(|error| unsafe_sandbox("no thread for the file tools", &error))?;
        became.recv().unwrap_or_else(|_| Err(gone()))?;
        Ok(Self { queue })
    }

    /// Does `work` as the user, after what was asked before.
    ///
    /// # Errors
    /// When the thread is gone, which only a bug in some `work` can bring about.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let (answer, done) = oneshot::channel();
        let work = move || drop(answer.send(work()));
        self.queue.send(Box::new(work)).map_err(|_| gone())?;
        done.await.map_err(|_| gone())
    }

    /// Starts `work` as the user and leaves it to say itself how it went.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(crate) fn begin(&self, work: impl FnOnce() + Send + 'static) -> Result<(), Fault> {
        self.queue.send(Box::new(work)).map_err(|_| gone())
    }

    /// Does `work` as the user and waits for it; for the start, before there is anything else.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(crate) fn run_now<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let (answer, done) = mpsc::sync_channel(1);
        let work = move || drop(answer.send(work()));
        self.queue.send(Box::new(work)).map_err(|_| gone())?;
        done.recv().map_err(|_| gone())
    }
}

fn gone() -> Fault {
    Fault::new(FaultKind::Sandbox, "the thread of the file tools ended")
}

/// Drops the groups and takes the user's file ids, on this thread alone.
fn become_for_files(user: ToolUser) -> Result<(), Fault> {
    // THREAT: without this a file tool would read and write as root, through any link a command
    // planted. Tried by exec::user::tests::a_worker_cannot_touch_what_is_roots.
    // SAFETY: raw calls with plain numbers; they change this thread only.
    let answer = unsafe {
        checked(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>())).map(|()| {
            libc::syscall(libc::SYS_setfsgid, user.gid);
            libc::syscall(libc::SYS_setfsuid, user.uid);
        })
    };
    stay_unreadable()?;
    answer.map_err(|error| unsafe_sandbox("groups", &error))?;
    // These two calls never fail: asking for the impossible id -1 answers with what holds now.
    // SAFETY: as above.
    let (gid, uid) =
        unsafe { (libc::syscall(libc::SYS_setfsgid, -1), libc::syscall(libc::SYS_setfsuid, -1)) };
    stay_unreadable()?;
    if (uid, gid) != (i64::from(user.uid), i64::from(user.gid)) {
        let found = std::io::Error::other(format!("it is user {uid}, group {gid}"));
        return Err(unsafe_sandbox("file tools cannot act as another user", &found));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::user;
    use super::*;

    #[test]
    fn nobody_acts_as_root() {
        for (uid, gid) in [(0, 1), (1, 0), (u32::MAX, 1), (1, u32::MAX)] {
            assert!(ToolUser::new(uid, gid).is_err(), "{uid}:{gid}");
        }
    }

    /// Needs root.
    #[tokio::test]
    async fn a_worker_cannot_touch_what_is_roots() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().expect("folder");
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "x").expect("write");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&secret, mode).expect("chmod");
        let worker = UserThread::start(user(2)).expect("root");
        let tried = {
            let (secret, folder) = (secret.clone(), folder.path().to_owned());
            worker.run(move || {
                (std::fs::read(secret).is_ok(), std::fs::write(folder.join("new"), "").is_ok())
            })
        };
        assert_eq!(tried.await, Ok((false, false)));
        let open = tempfile::tempdir().expect("folder");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(open.path(), mode).expect("chmod");
        let ours = open.path().join("ours");
        let made = ours.clone();
        worker.run(move || std::fs::write(made, "")).await.expect("worker").expect("write");
        let made = std::fs::metadata(ours).expect("made");
        assert_eq!((made.uid(), made.gid()), (user(2).uid(), user(2).gid()));
        // And this thread is still root.
        assert!(std::fs::read(secret).is_ok());
    }
}
