//! The user that commands and file tools run as, and a thread that is this user for files.
//!
//! # Why not the whole process, or a helper process
//! The process must stay root to end processes that commands leave behind, and any command could
//! kill a helper process of the tool user. `fsuid` is the part of a thread's credentials that
//! counts for files and not for signals.

use std::sync::mpsc;

use airlock_shared::outcome::{Fault, FaultKind};
use tokio::sync::oneshot;

use super::{checked, stay_unreadable, unsafe_sandbox};

/// A uid and a gid that are neither root's nor "unchanged".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ToolUser {
    uid: u32,
    gid: u32,
}

impl ToolUser {
    /// # Errors
    /// For 0, and for `u32::MAX`, which means "unchanged" to the kernel. Both would mean root.
    pub(crate) fn new(uid: u32, gid: u32) -> Result<Self, Fault> {
        // THREAT: a handoff that names 0 would run the model's commands as root. Tried by
        // exec::user::tests::root_is_refused_as_the_tool_user.
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

/// A thread that is the tool user for files. When it is dropped, the thread ends after its work.
pub(crate) struct UserThread {
    queue: mpsc::Sender<WorkItem>,
}

impl UserThread {
    /// Starts the thread and waits until it is the user.
    ///
    /// # Errors
    /// If no thread can be started, or the kernel does not let us act as the user.
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

    /// Does `work` as the user, after earlier work.
    ///
    /// # Errors
    /// If the thread is gone. Only a panic in some `work` can cause that.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let (answer, done) = oneshot::channel();
        let work = move || drop(answer.send(work()));
        self.queue.send(Box::new(work)).map_err(|_| gone())?;
        done.await.map_err(|_| gone())
    }

    /// Starts `work` as the user and does not wait for it.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(crate) fn begin(&self, work: impl FnOnce() + Send + 'static) -> Result<(), Fault> {
        self.queue.send(Box::new(work)).map_err(|_| gone())
    }

    /// Does `work` as the user and blocks until it is done. Use it only while the sandbox starts.
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
    // THREAT: without this a file tool would read and write as root, through any link that a
    // command made. Tried by exec::user::tests::a_user_thread_cannot_use_files_of_root.
    // SAFETY: raw calls with plain numbers; they change this thread only.
    let answer = unsafe {
        checked(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>())).map(|()| {
            libc::syscall(libc::SYS_setfsgid, user.gid);
            libc::syscall(libc::SYS_setfsuid, user.uid);
        })
    };
    stay_unreadable()?;
    answer.map_err(|error| unsafe_sandbox("groups", &error))?;
    // These two calls cannot fail. With the invalid id -1 they return the current ids.
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
    fn root_is_refused_as_the_tool_user() {
        for (uid, gid) in [(0, 1), (1, 0), (u32::MAX, 1), (1, u32::MAX)] {
            assert!(ToolUser::new(uid, gid).is_err(), "{uid}:{gid}");
        }
    }

    /// Needs root.
    #[tokio::test]
    async fn a_user_thread_cannot_use_files_of_root() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().expect("directory");
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "x").expect("write");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&secret, mode).expect("chmod");
        let worker = UserThread::start(user(2)).expect("root");
        let results = {
            let (secret, dir) = (secret.clone(), dir.path().to_owned());
            worker.run(move || {
                (std::fs::read(secret).is_ok(), std::fs::write(dir.join("new"), "").is_ok())
            })
        };
        assert_eq!(results.await, Ok((false, false)));
        let open = tempfile::tempdir().expect("directory");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(open.path(), mode).expect("chmod");
        let ours = open.path().join("ours");
        let made = ours.clone();
        worker.run(move || std::fs::write(made, "")).await.expect("worker").expect("write");
        let made = std::fs::metadata(ours).expect("made");
        assert_eq!((made.uid(), made.gid()), (user(2).uid(), user(2).gid()));
        // This thread is still root.
        assert!(std::fs::read(secret).is_ok());
    }
}
