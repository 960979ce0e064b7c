//! Starts a command as the tool user, on a thread of its own. The landlock rules and the socket
//! filter for commands belong to the thread that starts them, and the sandbox's other threads are
//! not restricted.
//!
//! ```text
//! caller ──order──→ thread: clone ─→ child: its pid ──→ caller: its oom_score_adj ──→ child: exec
//!    └───────────────────────────── pid and pidfd, or why not ←──── thread ←───────────────┘
//! ```
//!
//! The caller writes the child's `oom_score_adj`, because the child may not write beneath `/proc`.
//!
//! # Why not `std::process`
//! If the uid must change, it forks, which copies our page tables: 10 ms at 256 MB.
//! `clone(VM|VFORK)` takes a third of a millisecond at any size.

use std::ffi::{CString, c_char, c_int, c_void};
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use airlock_shared::outcome::{Fault, FaultKind};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::child::{Candidate, ChildPlan, OOM_SCORE_STEP, child};
use super::launch::{Launch, Program, SpawnError};
use super::reap;
use super::spawned::Spawned;
use super::{ToolUser, filter, landlock, stay_unreadable, unsafe_sandbox};

/// The child's stack until exec.
const STACK_BYTES: usize = 64 << 10;
/// Descriptors for the child are first moved here, above the numbers that it uses.
const FIRST_FREE_DESCRIPTOR: c_int = 10;

/// The thread that starts commands. When it ends, its commands are killed.
pub(crate) struct Spawner {
    line: Mutex<SpawnLine>,
    unrestricted: Option<String>,
}

/// The channels to the thread, and to the child that it is starting.
struct SpawnLine {
    orders: mpsc::Sender<(SpawnOrder, mpsc::SyncSender<Result<ChildStarted, SpawnError>>)>,
    /// The pid of a child that waits for an answer, or 0 if no child waits any more.
    pids: PipeReader,
    /// The same pid if the child may go on, or the negative pid if it must not.
    answers: PipeWriter,
}

/// The pid of a child after exec, and its pidfd.
type ChildStarted = (i32, OwnedFd);

impl Spawner {
    /// Starts the thread and restricts it.
    ///
    /// # Errors
    /// If no thread can be started, or the kernel does not accept the filter of system calls. A
    /// kernel without landlock is no error: see [`Self::unrestricted`].
    pub(crate) fn start() -> Result<Self, Fault> {
        let failed = |error: io::Error| unsafe_sandbox("no thread to start commands", &error);
        let (pids, pid_writer) = io::pipe().map_err(failed)?;
        let (answer_reader, answers) = io::pipe().map_err(failed)?;
        let (orders, waiting) = mpsc::channel::<(SpawnOrder, mpsc::SyncSender<_>)>();
        let (ready, restricted) = mpsc::sync_channel(1);
        let run = move || {
            let restricted = landlock::restrict_this_thread();
            let filtered = filter::filter_this_thread().map(|()| restricted);
            let stop = filtered.is_err();
            if ready.send(filtered).is_err() || stop {
                return;
            }
            let (mut pid_writer, answer_reader) = (pid_writer, answer_reader);
            while let Ok((order, reply)) = waiting.recv() {
                let started: Result<ChildStarted, SpawnError> =
                    start(&order, &pid_writer, &answer_reader);
                // This closes our own writing end of the command's output, so that its reader sees
                // the end when the command closes it.
                drop(order);
                // If the reply is not received, no further order can come.
                if pid_writer.write_all(&0_i32.to_ne_bytes()).is_err()
                    || reply.send(started).is_err()
                {
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

    /// Why commands are not restricted by landlock. `None`: they are.
    pub(crate) fn unrestricted(&self) -> Option<&str> {
        self.unrestricted.as_deref()
    }

    /// Starts a command in a new process session, with `/dev/null` as stdin and one pipe as stdout
    /// and stderr, so that its output stays in order.
    ///
    /// # Errors
    /// If no command was started.
    pub(crate) fn spawn(&self, launch: Launch<'_>) -> Result<Spawned, SpawnError> {
        let failed = |step| move |error: rustix::io::Errno| SpawnError::Failed(step, error.into());
        let (output, writer) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(failed("no pipe"))?;
        // The pipe belongs to root, and `echo >/dev/stderr` opens it again as the tool user.
        rustix::fs::fchmod(&writer, rustix::fs::Mode::from_raw_mode(0o666))
            .map_err(failed("no pipe"))?;
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())
            .map_err(failed("/dev/null"))?;
        let order = SpawnOrder {
            null: move_up(null.as_fd())?,
            writer: move_up(writer.as_fd())?,
            directory: move_up(launch.directory)?,
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
        // If a pipe to the thread is broken, a child may wait for an answer that cannot come. This
        // ends the turn, and with it the container.
        let scored = self.set_oom_score().map_err(|_| SpawnError::Unsafe(gone()))?;
        let made = made.recv().map_err(|_| SpawnError::Unsafe(gone()))?;
        made.map_err(|error| with_cause(error, scored))
    }

    /// Makes the child the first process that the kernel kills if memory runs out, before exec. The
    /// inner result says whether that worked. If it did not, the child stops.
    ///
    /// THREAT: a command uses up the memory, and the kernel kills us instead of it. Tried by
    /// tools::bash::tests::a_command_starts_with_nothing_of_ours.
    ///
    /// # Errors
    /// If a pipe to the thread or to the child is broken.
    fn set_oom_score(&mut self) -> io::Result<io::Result<()>> {
        let mut scored = Ok(());
        loop {
            let mut pid = [0; size_of::<i32>()];
            self.pids.read_exact(&mut pid)?;
            let pid = i32::from_ne_bytes(pid);
            if pid == 0 {
                return Ok(scored);
            }
            scored = std::fs::OpenOptions::new()
                .write(true)
                .open(format!("/proc/{pid}/oom_score_adj"))
                .and_then(|mut score| score.write_all(b"1000"));
            let answer = if scored.is_ok() { pid } else { -pid };
            self.answers.write_all(&answer.to_ne_bytes())?;
        }
    }
}

/// The error, with its cause if the child's score could not be set. `Unsafe` is never replaced.
fn with_cause(error: SpawnError, scored: io::Result<()>) -> SpawnError {
    match (error, scored) {
        (SpawnError::Failed(step, _), Err(cause)) if OOM_SCORE_STEP.to_str() == Ok(step) => {
            SpawnError::Failed(step, cause)
        }
        (error, _) => error,
    }
}

fn gone() -> Fault {
    Fault::new(FaultKind::Sandbox, "the thread that starts commands is gone")
}

/// The order to start one command.
struct SpawnOrder {
    programs: Vec<Program>,
    environment: Arc<[CString]>,
    null: OwnedFd,
    writer: OwnedFd,
    directory: OwnedFd,
    user: ToolUser,
}

/// Only on the spawn thread.
fn start(
    order: &SpawnOrder,
    pid_writer: &PipeWriter,
    answer_reader: &PipeReader,
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
        pid_writer: pid_writer.as_raw_fd(),
        answer_reader: answer_reader.as_raw_fd(),
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
    // only after the child's exec or end. The child uses only `plan`. Signals are blocked around
    // the call, so that no handler of ours runs in the child.
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
    // SAFETY: CLONE_PIDFD stored a new descriptor here, which has no other owner.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    // The child changed its ids while it shared our memory, and this changed our dumpable flag.
    if let Err(fault) = stay_unreadable() {
        reap::forget(pid);
        return Err(SpawnError::Unsafe(fault));
    }
    // `errno` is not checked: a step can fail without an error and leave it at 0.
    if !plan.failed.is_empty() {
        reap::ended(pid);
        reap::forget(pid);
        return Err(plan.error());
    }
    Ok((pid, pidfd))
}

/// A copy of a descriptor above the numbers that the child uses.
fn move_up(descriptor: BorrowedFd<'_>) -> Result<OwnedFd, SpawnError> {
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
    fn an_unsafe_error_is_never_replaced() {
        let error_of = |error, scored: Result<(), i32>| {
            format!("{:?}", with_cause(error, scored.map_err(io::Error::from_raw_os_error)))
        };
        let denied = io::Error::from_raw_os_error(libc::EACCES);
        let failed = || SpawnError::Failed("oom_score_adj", io::Error::from_raw_os_error(0));
        assert_eq!(
            error_of(failed(), Err(libc::EACCES)),
            format!("{:?}", SpawnError::Failed("oom_score_adj", denied))
        );
        for scored in [Ok(()), Err(libc::EACCES)] {
            let unsafe_now = format!("{:?}", SpawnError::Unsafe(gone()));
            assert_eq!(error_of(SpawnError::Unsafe(gone()), scored), unsafe_now);
            let no_program = format!("{:?}", SpawnError::NoProgram);
            assert_eq!(error_of(SpawnError::NoProgram, scored), no_program);
        }
    }
}
