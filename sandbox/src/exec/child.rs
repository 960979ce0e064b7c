//! The child of `spawn`, which shares our memory until exec: only system calls, no allocation, no
//! panic, no return.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;

use super::ToolUser;
use super::launch::SpawnError;

/// The niceness of commands: the highest, because the sandbox must be able to answer the host.
const NICE: c_int = 19;
/// The step that fails if we could not write the child's score. Only we know the error.
pub(super) const OOM_SCORE_STEP: &CStr = c"oom_score_adj";

pub(super) type Candidate = (*const c_char, *const *const c_char);

/// What the child needs, prepared so that it does not allocate, and its result.
pub(super) struct ChildPlan {
    pub(super) candidates: *const Candidate,
    pub(super) candidate_count: usize,
    pub(super) environment: *const *const c_char,
    /// The pipes to our caller: for the child's pid, and for the answer.
    pub(super) pid_writer: c_int,
    pub(super) answer_reader: c_int,
    pub(super) null: c_int,
    pub(super) writer: c_int,
    pub(super) directory: c_int,
    pub(super) user: ToolUser,
    pub(super) failed: &'static CStr,
    pub(super) errno: c_int,
}

impl ChildPlan {
    pub(super) fn error(&self) -> SpawnError {
        let error = io::Error::from_raw_os_error(self.errno);
        match self.errno {
            libc::ENOENT | libc::ENOTDIR if self.failed == c"exec" => SpawnError::NoProgram,
            libc::E2BIG => SpawnError::TooLong,
            _ => SpawnError::Failed(self.failed.to_str().unwrap_or_default(), error),
        }
    }
}

/// The main function of the child.
pub(super) extern "C" fn child(plan: *mut c_void) -> c_int {
    // SAFETY: `start` passes its `ChildPlan` and waits. No other thread uses it meanwhile.
    let plan = unsafe { &mut *plan.cast::<ChildPlan>() };
    // SAFETY: plain system calls on what `start` prepared.
    plan.failed = unsafe { exec(plan) };
    // SAFETY: errno is this thread's; `_exit` runs nothing of ours.
    unsafe {
        plan.errno = *libc::__errno_location();
        libc::_exit(127)
    }
}

/// Returns only if a step fails, with the name of the step. errno says why.
///
/// # Safety
/// Only in a child of `start`.
unsafe fn exec(plan: &ChildPlan) -> &'static CStr {
    // SAFETY: every pointer is prepared by `start` and ends with null.
    unsafe {
        // The kernel's own form of `sigaction` with the default handler: all zeros.
        let default = [0_usize; 4];
        for signal in 1..=64 {
            // KILL and STOP give EINVAL. They always have the default handler.
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
        let (us, mut answer): (libc::pid_t, libc::pid_t) = (libc::getpid(), 0);
        let size = size_of::<libc::pid_t>();
        while libc::write(plan.pid_writer, (&raw const us).cast(), size) < 0 {
            if *libc::__errno_location() != libc::EINTR {
                return OOM_SCORE_STEP;
            }
        }
        // Another pid is the answer to an earlier child that ended before it was written.
        while answer != us {
            let read = libc::read(plan.answer_reader, (&raw mut answer).cast(), size);
            let again = read < 0 && *libc::__errno_location() == libc::EINTR;
            if answer == -us || (read <= 0 && !again) {
                return OOM_SCORE_STEP;
            }
        }
        // THREAT: a command inherits the pipe to the host and speaks in our name. Tried by
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
        // After the ids, because changing them clears it.
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) < 0 {
            return c"death signal";
        }
        if libc::fchdir(3) < 0 {
            return c"working directory";
        }
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        // Last, because our own thread waits for the child until exec.
        // THREAT: commands that spin take the processor that the sandbox needs to answer the host.
        // Tried by flow::load::commands_stand_back_and_their_load_costs_no_changes.
        if libc::setpriority(libc::PRIO_PROCESS, 0, NICE) < 0 {
            return c"nice";
        }
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
