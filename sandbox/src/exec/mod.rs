//! Starts and ends processes: the only `unsafe` code of this program.
//!
//! ```text
//! harden         once, before the first byte of stdin is read: no process can read or trace us
//! ToolUser       the user that commands and file tools run as: never root
//! UserThread     a thread that is that user for files (fsuid) and keeps our ids otherwise
//! Spawner        starts commands as that user, on a thread without write access to /proc and /sys
//!                that makes only sockets of the container
//! ProcessKiller  ends every process of that user, without a fork, and waits until they are gone
//! ```
//!
//! Two facts of Linux matter here. Credentials belong to threads, so we make raw system calls and
//! do not use libc's wrappers, which change all threads. And every change of a thread's ids resets
//! the *process's* dumpable flag to `/proc/sys/fs/suid_dumpable`, so [`stay_unreadable`] follows
//! each of them, and [`harden`] fails if that file is 1.
//!
//! Absent: shells and time limits (`tools::bash`), and paths (`tools::path`).

#![expect(unsafe_code, reason = "system calls that no safe wrapper makes: see each SAFETY")]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("the raw set*id calls of 32-bit systems take 16-bit ids");

mod harden; // before stdin is read
mod user; // another user, for files
mod landlock; // where commands may write
mod filter; // which sockets they may make
mod launch; // what is to be started
mod child; // the child until exec
mod spawn; // starts a command
mod spawned; // a command that was started
mod reap; // collects processes that ended
mod kill; // ends all processes of the tool user

pub(crate) use harden::{harden, stay_unreadable};
pub(crate) use kill::{KillResult, ProcessKiller};
pub(crate) use launch::{Launch, Program, SpawnError};
pub(crate) use reap::ExitStatus;
pub(crate) use spawn::Spawner;
pub(crate) use spawned::Spawned;
pub(crate) use user::{ToolUser, UserThread};

use airlock_shared::outcome::{Fault, FaultKind};

/// The fault of a sandbox that cannot be made safe.
fn unsafe_sandbox(what: &str, error: &std::io::Error) -> Fault {
    Fault::new(FaultKind::Sandbox, format!("the sandbox could not be made safe: {what}: {error}"))
}

/// The result of a raw system call that returns a negative number if it fails.
fn checked(result: libc::c_long) -> std::io::Result<()> {
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
pub(crate) mod tests {
    //! What the tests of this directory share. They need root, because they run commands as other
    //! users.

    use std::ffi::CString;
    use std::io::Read as _;
    use std::os::fd::AsFd as _;
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command, Stdio};
    use std::sync::LazyLock;

    use super::*;

    /// One for all tests: its commands end with it.
    static SPAWNER: LazyLock<Spawner> = LazyLock::new(|| Spawner::start().expect("a thread"));

    /// A user of this test process alone, so that its commands are not killed by another test.
    pub(crate) fn user(number: u32) -> ToolUser {
        let id = 1_000_000_000 + (std::process::id() % 4_000_000) * 64 + number;
        ToolUser::new(id, id).expect("not root")
    }

    /// Starts `sh -c script` in `/` as a user.
    pub(crate) fn start(script: &str, user: ToolUser) -> Spawned {
        let text = |text: &str| CString::new(text).expect("no NUL");
        let programs = vec![Program {
            path: text("/bin/sh"),
            arguments: vec![text("sh"), text("-c"), text(script)],
        }];
        let directory = std::fs::File::open("/").expect("/");
        let environment = [text("PATH=/usr/bin:/bin"), text("HOME=/nonexistent")].into();
        let launch = Launch { programs, environment, directory: directory.as_fd(), user };
        SPAWNER.spawn(launch).expect("these tests need root")
    }

    /// A process that counts as the user's but that the user may not signal: its effective uid is
    /// the user's, and its real and saved ones are not. It ends when this is dropped.
    pub(crate) struct OutOfReach(Child);

    impl OutOfReach {
        #[expect(clippy::disallowed_methods, reason = "`spawn` cannot start such a child")]
        pub(crate) fn start(user: u32) -> Self {
            // No program may be started after the ids are set: exec would change the saved one.
            let script = "import os, sys, time
os.setresuid(64111, int(sys.argv[1]), 64111)
print(flush=True)
time.sleep(1000)";
            let mut child = Command::new("python3")
                .args(["-c", script, &user.to_string()])
                .stdout(Stdio::piped())
                .spawn()
                .expect("python3");
            let read = child.stdout.take().expect("piped").read(&mut [0]);
            assert_eq!(read.expect("read"), 1, "these tests need root");
            Self(child)
        }
    }

    impl Drop for OutOfReach {
        fn drop(&mut self) {
            self.0.kill().expect("it is alive");
            // Collected here or by another test.
            let _ended = self.0.wait();
        }
    }

    /// The output of a script that runs as this user without our restrictions.
    #[expect(clippy::disallowed_methods, reason = "the control: a child that we did not start")]
    pub(crate) fn unrestricted_output(script: &str, user: ToolUser) -> String {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).uid(user.uid()).gid(user.gid()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("these tests need root");
        let mut text = String::new();
        let mut stdout = child.stdout.take().expect("piped");
        stdout.read_to_string(&mut text).expect("utf-8");
        let _ended = child.wait();
        text
    }

    /// The output of a script until it closes it.
    pub(crate) async fn output(script: &str, user: ToolUser) -> String {
        let mut spawned = start(script, user);
        let mut output = std::fs::File::from(spawned.output().expect("once"));
        let read = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            output.read_to_string(&mut text).map(|_| text)
        });
        spawned.ended().await;
        read.await.expect("reader").expect("utf-8")
    }
}
