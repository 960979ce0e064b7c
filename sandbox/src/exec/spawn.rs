//! Starting one command as the tool user.
//!
//! # Why not `std::process`
//! With a uid to change it forks, which copies our page tables: 10 ms at 256 MB. `clone(VM|VFORK)`
//! takes a third of a millisecond whatever we hold.

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use airlock_shared::outcome::Fault;
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};

use super::reap::{self, Ended};
use super::{ToolUser, stay_unreadable};

/// The child's stack until it becomes another program.
const STACK_BYTES: usize = 64 << 10;
/// Where descriptors are kept before they are put in place, beyond all places used.
const FIRST_FREE_DESCRIPTOR: c_int = 10;
/// How often orphans are collected while a command runs.
const COLLECT: Duration = Duration::from_millis(100);

/// One way to start: an absolute path and its arguments, the first of which is its name.
pub(crate) struct Program {
    pub(crate) path: CString,
    pub(crate) arguments: Vec<CString>,
}

/// What is to be started. The first of `programs` that exists is.
pub(crate) struct Launch<'a> {
    pub(crate) programs: &'a [Program],
    /// `NAME=value`, all of it: nothing is inherited.
    pub(crate) environment: &'a [CString],
    pub(crate) directory: BorrowedFd<'a>,
    pub(crate) user: ToolUser,
}

/// Why nothing was started.
#[derive(Debug)]
pub(crate) enum SpawnError {
    /// None of the programs is there.
    NoProgram,
    /// The arguments are longer than the kernel takes.
    TooLong,
    /// Another call failed; which one, for people.
    Failed(&'static str, io::Error),
    /// We may be readable now: the run must end.
    Unsafe(Fault),
}

/// A command that was started, and the reading end of its output.
pub(crate) struct Spawned {
    pid: i32,
    ended: AsyncFd<OwnedFd>,
    output: Option<OwnedFd>,
}

impl Spawned {
    /// The reading end of what it writes, once.
    pub(crate) fn output(&mut self) -> io::Result<OwnedFd> {
        self.output.take().ok_or_else(|| io::Error::other("the output was taken already"))
    }

    /// Waits for the command itself, not for what it started; collects orphans meanwhile.
    pub(crate) async fn ended(&self) -> Ended {
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

/// Starts a command in a session of its own, with `/dev/null` as its input and one pipe as both
/// its outputs, so that what it writes stays in order. It ends with the thread that calls this:
/// to be called on the main one.
///
/// # Errors
/// When nothing was started.
pub(crate) fn spawn(launch: &Launch<'_>) -> Result<Spawned, SpawnError> {
    let failed = |step| move |error: rustix::io::Errno| SpawnError::Failed(step, error.into());
    let (output, writer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(failed("no pipe"))?;
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())
        .map_err(failed("/dev/null"))?;
    let (null, writer) = (aside(null.as_fd())?, aside(writer.as_fd())?);
    let directory = aside(launch.directory)?;

    let environment = pointers(launch.environment);
    let arguments: Vec<Vec<*const c_char>> =
        launch.programs.iter().map(|program| pointers(&program.arguments)).collect();
    let candidates: Vec<Candidate> = launch
        .programs
        .iter()
        .zip(&arguments)
        .map(|(program, arguments)| (program.path.as_ptr(), arguments.as_ptr()))
        .collect();
    let mut plan = Plan {
        candidates: candidates.as_ptr(),
        candidate_count: candidates.len(),
        environment: environment.as_ptr(),
        null: null.as_raw_fd(),
        writer: writer.as_raw_fd(),
        directory: directory.as_raw_fd(),
        user: launch.user,
        failed: c"",
        errno: 0,
    };
    let mut stack = vec![0_u128; STACK_BYTES / size_of::<u128>()];
    let mut pidfd: c_int = -1;

    let starting = reap::Starting::begin();
    // SAFETY: `stack` and all that `plan` points at outlive the call: with CLONE_VFORK it returns
    // only once the child has become another program or ended. The child touches `plan` alone.
    // Signals are blocked around it, so that no handler of ours runs in the child.
    let pid = unsafe {
        let mut all = std::mem::zeroed();
        let mut before = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let pid = libc::clone(
            child,
            stack.as_mut_ptr().add(stack.len()).cast::<c_void>(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD,
            (&raw mut plan).cast::<c_void>(),
            &raw mut pidfd,
        );
        let error = *libc::__errno_location();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        *libc::__errno_location() = error;
        pid
    };
    if pid < 0 {
        let error = io::Error::last_os_error();
        return Err(SpawnError::Failed("no process", error));
    }
    starting.awaits(pid);
    // SAFETY: CLONE_PIDFD stored a new descriptor here, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    // The child changed its ids while it shared our memory, and so our dumpable flag.
    if let Err(fault) = stay_unreadable() {
        reap::forget(pid);
        return Err(SpawnError::Unsafe(fault));
    }
    // Not `errno`, which a step that fell short without an error leaves at 0.
    if !plan.failed.is_empty() {
        reap::ended(pid);
        reap::forget(pid);
        return Err(plan.error());
    }
    // SAFETY: an owned descriptor stays open for as long as what owns it.
    match unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) } {
        Ok(ended) => Ok(Spawned { pid, ended, output: Some(output) }),
        Err(error) => {
            reap::forget(pid);
            Err(SpawnError::Failed("no wait", error.into()))
        }
    }
}

type Candidate = (*const c_char, *const *const c_char);

/// What the child needs, prepared so that it allocates nothing, and its answer.
struct Plan {
    candidates: *const Candidate,
    candidate_count: usize,
    environment: *const *const c_char,
    null: c_int,
    writer: c_int,
    directory: c_int,
    user: ToolUser,
    failed: &'static std::ffi::CStr,
    errno: c_int,
}

impl Plan {
    fn error(&self) -> SpawnError {
        let error = io::Error::from_raw_os_error(self.errno);
        match self.errno {
            libc::ENOENT | libc::ENOTDIR if self.failed == c"exec" => SpawnError::NoProgram,
            libc::E2BIG => SpawnError::TooLong,
            _ => SpawnError::Failed(self.failed.to_str().unwrap_or_default(), error),
        }
    }
}

/// The child, on our memory: system calls alone, no allocation, no panic, no return.
extern "C" fn child(plan: *mut c_void) -> c_int {
    // SAFETY: `spawn` passes its `Plan` and waits; nobody else touches it meanwhile.
    let plan = unsafe { &mut *plan.cast::<Plan>() };
    // SAFETY: plain system calls on what `spawn` prepared.
    plan.failed = unsafe { become_the_command(plan) };
    // SAFETY: errno is this thread's; `_exit` runs nothing of ours.
    unsafe {
        plan.errno = *libc::__errno_location();
        libc::_exit(127)
    }
}

/// Returns only when a step failed, with that step's name; errno says why.
///
/// # Safety
/// In a child of `spawn` alone.
unsafe fn become_the_command(plan: &Plan) -> &'static std::ffi::CStr {
    // SAFETY: every pointer is prepared by `spawn` and ends with null.
    unsafe {
        // The kernel's own form of `sigaction` with the default handler: all zeros.
        let default = [0_usize; 4];
        for signal in 1..=64 {
            // KILL and STOP answer EINVAL, and are as they should be.
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null::<c_void>(),
                8,
            );
        }
        if libc::setsid() < 0 {
            return c"setsid";
        }
        // THREAT: a memory bomb that takes us instead of itself. Tried by
        // tools::bash::tests::a_command_starts_with_nothing_of_ours.
        let score =
            libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if score < 0 || libc::write(score, c"1000".as_ptr().cast(), 4) != 4 {
            return c"oom_score_adj";
        }
        // THREAT: a command that inherits the pipe to the host speaks in our name. Tried by
        // tools::bash::tests::a_command_starts_with_nothing_of_ours.
        if libc::dup2(plan.null, 0) < 0
            || libc::dup2(plan.writer, 1) < 0
            || libc::dup2(plan.writer, 2) < 0
            || libc::dup3(plan.directory, 3, libc::O_CLOEXEC) < 0
            || libc::syscall(libc::SYS_close_range, 4, libc::c_uint::MAX, 0) < 0
        {
            return c"descriptors";
        }
        libc::umask(0o022);
        // THREAT: a set-uid program of the image makes a command root. Tried by
        // tools::bash::tests::a_command_starts_with_nothing_of_ours.
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 {
            return c"no_new_privs";
        }
        let (uid, gid) = (plan.user.uid(), plan.user.gid());
        if libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) < 0
            || libc::syscall(libc::SYS_setresgid, gid, gid, gid) < 0
            || libc::syscall(libc::SYS_setresuid, uid, uid, uid) < 0
        {
            return c"user";
        }
        // After the ids, whose change would clear it.
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) < 0 {
            return c"death signal";
        }
        if libc::fchdir(3) < 0 {
            return c"working directory";
        }
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        for index in 0..plan.candidate_count {
            let (path, arguments) = *plan.candidates.add(index);
            libc::execve(path, arguments, plan.environment);
            if !matches!(*libc::__errno_location(), libc::ENOENT | libc::ENOTDIR) {
                break;
            }
        }
        c"exec"
    }
}

fn aside(descriptor: BorrowedFd<'_>) -> Result<OwnedFd, SpawnError> {
    rustix::io::fcntl_dupfd_cloexec(descriptor, FIRST_FREE_DESCRIPTOR)
        .map_err(|error| SpawnError::Failed("no descriptor", error.into()))
}

fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}
