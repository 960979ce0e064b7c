//! Starting one command as the tool user, on a standing thread: what commands may write, and which
//! sockets they may make, are properties of the thread that starts them, and the sandbox's own
//! threads keep their freedom.
//!
//! ```text
//! caller ──order──→ thread: clone ─→ child: its pid ──→ caller: its oom_score_adj ──→ child: exec
//!    └───────────────────────────── pid and pidfd, or why not ←──── thread ←───────────────┘
//! ```
//!
//! The caller writes the child's `oom_score_adj`: the child may write nothing beneath `/proc`.
//!
//! # Why not `std::process`
//! With a uid to change it forks, which copies our page tables: 10 ms at 256 MB. `clone(VM|VFORK)`
//! takes a third of a millisecond whatever we hold.

use std::ffi::{CString, c_char, c_int, c_void};
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use airlock_shared::outcome::{Fault, FaultKind};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::child::{Candidate, ChildPlan, MARKED, child};
use super::launch::{Launch, Program, SpawnError};
use super::reap;
use super::spawned::Spawned;
use super::{ToolUser, filter, landlock, stay_unreadable, unsafe_sandbox};

/// The child's stack until it becomes another program.
const STACK_BYTES: usize = 64 << 10;
/// Where descriptors are kept before they are put in place, beyond all places used.
const FIRST_FREE_DESCRIPTOR: c_int = 10;

/// The standing thread. What it started ends with it.
pub(crate) struct Spawner {
    line: Mutex<SpawnLine>,
    unrestricted: Option<String>,
}

/// To the thread, and to the child that it is starting.
struct SpawnLine {
    orders: mpsc::Sender<(SpawnOrder, mpsc::SyncSender<Result<ChildStarted, SpawnError>>)>,
    /// The child's pid, and 0 when there is no child to be answered (any more).
    pids: PipeReader,
    /// The same pid when the child may go on; less than 0 when it must not.
    answers: PipeWriter,
}

/// A child that became another program, and what says when it ends.
type ChildStarted = (i32, OwnedFd);

impl Spawner {
    /// Starts the thread and restricts it.
    ///
    /// # Errors
    /// When there is no thread to be had, or the kernel filters no system calls. A kernel without
    /// landlock is no error: see [`Self::unrestricted`].
    pub(crate) fn start() -> Result<Self, Fault> {
        let failed = |error: io::Error| unsafe_sandbox("no thread to start commands", &error);
        let (pids, told) = io::pipe().map_err(failed)?;
        let (answered, answers) = io::pipe().map_err(failed)?;
        let (orders, waiting) = mpsc::channel::<(SpawnOrder, mpsc::SyncSender<_>)>();
        let (ready, restricted) = mpsc::sync_channel(1);
        let run = move || {
            let restricted = landlock::restrict_this_thread();
            let filtered = filter::filter_this_thread().map(|()| restricted);
            let stop = filtered.is_err();
            if ready.send(filtered).is_err() || stop {
                return;
            }
            let (mut told, answered) = (told, answered);
            while let Ok((order, reply)) = waiting.recv() {
                let born: Result<ChildStarted, SpawnError> = start(&order, &told, &answered);
                // With it goes our own writing end of the command's output: its reader sees the end
                // of the output once the command has closed it.
                drop(order);
                // If no one waits for this any more, no one can order either.
                if told.write_all(&0_i32.to_ne_bytes()).is_err() || reply.send(born).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("spawn".to_owned()).spawn(run).map_err(failed)?;
        let restricted = restricted.recv().unwrap_or_else(|_| Err(gone()))?;
        Ok(Self {
            line: Mutex::new(SpawnLine { orders, pids, answers }),
            unrestricted: restricted.err(),
        })
    }

    /// Why commands may write wherever their user may, if they may.
    pub(crate) fn unrestricted(&self) -> Option<&str> {
        self.unrestricted.as_deref()
    }

    /// Starts a command in a session of its own, with `/dev/null` as its input and one pipe as
    /// both its outputs, so that what it writes stays in order.
    ///
    /// # Errors
    /// When nothing was started.
    pub(crate) fn spawn(&self, launch: Launch<'_>) -> Result<Spawned, SpawnError> {
        let failed = |step| move |error: rustix::io::Errno| SpawnError::Failed(step, error.into());
        let (output, writer) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(failed("no pipe"))?;
        // The pipe is root's: `echo >/dev/stderr` opens it anew, as the tool user.
        rustix::fs::fchmod(&writer, rustix::fs::Mode::from_raw_mode(0o666))
            .map_err(failed("no pipe"))?;
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())
            .map_err(failed("/dev/null"))?;
        let order = SpawnOrder {
            null: aside(null.as_fd())?,
            writer: aside(writer.as_fd())?,
            directory: aside(launch.directory)?,
            programs: launch.programs,
            environment: launch.environment,
            user: launch.user,
        };
        drop(writer);
        let (pid, pidfd) = self.line.lock().unwrap_or_else(PoisonError::into_inner).order(order)?;
        // SAFETY: an owned descriptor stays open for as long as what owns it.
        match unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) } {
            Ok(ended) => Ok(Spawned { pid, ended, output: Some(output) }),
            Err(error) => {
                reap::forget(pid);
                Err(SpawnError::Failed("no wait", error.into()))
            }
        }
    }
}

impl SpawnLine {
    fn order(&mut self, order: SpawnOrder) -> Result<ChildStarted, SpawnError> {
        let (reply, made) = mpsc::sync_channel(1);
        self.orders.send((order, reply)).map_err(|_| SpawnError::Unsafe(gone()))?;
        // A pipe to the thread that is broken leaves a child that no one can answer: it is neither
        // waited for nor forgotten, but ends the turn, and with it the container.
        let marked = self.mark().map_err(|_| SpawnError::Unsafe(gone()))?;
        let made = made.recv().map_err(|_| SpawnError::Unsafe(gone()))?;
        made.map_err(|error| why(error, marked))
    }

    /// Makes the child the first that the kernel ends for want of memory, before it is a command.
    /// Why it is not that, if it is not: then it goes no further.
    ///
    /// THREAT: a memory bomb that takes us instead of itself. Tried by
    /// tools::bash::tests::a_command_starts_with_nothing_of_ours.
    ///
    /// # Errors
    /// When a pipe to the thread or the child is broken.
    fn mark(&mut self) -> io::Result<io::Result<()>> {
        let mut marked = Ok(());
        loop {
            let mut pid = [0; size_of::<i32>()];
            self.pids.read_exact(&mut pid)?;
            let pid = i32::from_ne_bytes(pid);
            if pid == 0 {
                return Ok(marked);
            }
            marked = std::fs::OpenOptions::new()
                .write(true)
                .open(format!("/proc/{pid}/oom_score_adj"))
                .and_then(|mut score| score.write_all(b"1000"));
            let answer = if marked.is_ok() { pid } else { -pid };
            self.answers.write_all(&answer.to_ne_bytes())?;
        }
    }
}

/// Why nothing was started. That we may be readable is never replaced by anything.
fn why(error: SpawnError, marked: io::Result<()>) -> SpawnError {
    match (error, marked) {
        (SpawnError::Failed(step, _), Err(why)) if MARKED.to_str() == Ok(step) => {
            SpawnError::Failed(step, why)
        }
        (error, _) => error,
    }
}

fn gone() -> Fault {
    Fault::new(FaultKind::Sandbox, "the thread that starts commands ended")
}

/// What the thread is to start.
struct SpawnOrder {
    programs: Vec<Program>,
    environment: Arc<[CString]>,
    null: OwnedFd,
    writer: OwnedFd,
    directory: OwnedFd,
    user: ToolUser,
}

/// On the standing thread alone.
fn start(
    order: &SpawnOrder,
    told: &PipeWriter,
    answered: &PipeReader,
) -> Result<ChildStarted, SpawnError> {
    let environment = pointers(&order.environment);
    let arguments: Vec<Vec<*const c_char>> =
        order.programs.iter().map(|program| pointers(&program.arguments)).collect();
    let candidates: Vec<Candidate> = order
        .programs
        .iter()
        .zip(&arguments)
        .map(|(program, arguments)| (program.path.as_ptr(), arguments.as_ptr()))
        .collect();
    let mut plan = ChildPlan {
        candidates: candidates.as_ptr(),
        candidate_count: candidates.len(),
        environment: environment.as_ptr(),
        told: told.as_raw_fd(),
        answered: answered.as_raw_fd(),
        null: order.null.as_raw_fd(),
        writer: order.writer.as_raw_fd(),
        directory: order.directory.as_raw_fd(),
        user: order.user,
        failed: c"",
        errno: 0,
    };
    let mut stack = vec![0_u128; STACK_BYTES / size_of::<u128>()];
    let mut pidfd: c_int = -1;

    let starting = reap::StartGuard::begin();
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
    Ok((pid, pidfd))
}

fn aside(descriptor: BorrowedFd<'_>) -> Result<OwnedFd, SpawnError> {
    rustix::io::fcntl_dupfd_cloexec(descriptor, FIRST_FREE_DESCRIPTOR)
        .map_err(|error| SpawnError::Failed("no descriptor", error.into()))
}

fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_we_may_be_readable_is_never_replaced() {
        let told = |error, marked: Result<(), i32>| {
            format!("{:?}", why(error, marked.map_err(io::Error::from_raw_os_error)))
        };
        let denied = io::Error::from_raw_os_error(libc::EACCES);
        let failed = || SpawnError::Failed("oom_score_adj", io::Error::from_raw_os_error(0));
        assert_eq!(
            told(failed(), Err(libc::EACCES)),
            format!("{:?}", SpawnError::Failed("oom_score_adj", denied))
        );
        for marked in [Ok(()), Err(libc::EACCES)] {
            let unsafe_now = format!("{:?}", SpawnError::Unsafe(gone()));
            assert_eq!(told(SpawnError::Unsafe(gone()), marked), unsafe_now);
            let no_program = format!("{:?}", SpawnError::NoProgram);
            assert_eq!(told(SpawnError::NoProgram, marked), no_program);
        }
    }
}
