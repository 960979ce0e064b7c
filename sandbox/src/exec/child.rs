//! The child of one start, on our memory until it is another program: system calls alone, no
//! allocation, no panic, no return.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;

use super::ToolUser;
use super::launch::SpawnError;

/// How far commands stand back for the sandbox, which has the host to answer: as far as there is.
const NICE: c_int = 19;
/// The step at which the child knows only that we said no, and we know why.
pub(super) const MARKED: &CStr = c"oom_score_adj";

pub(super) type Candidate = (*const c_char, *const *const c_char);

/// What the child needs, prepared so that it allocates nothing, and its answer.
pub(super) struct ChildPlan {
    pub(super) candidates: *const Candidate,
    pub(super) candidate_count: usize,
    pub(super) environment: *const *const c_char,
    /// Where our caller reads the child's pid, and where its answer comes.
    pub(super) told: c_int,
    pub(super) answered: c_int,
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

/// The child, on our memory: system calls alone, no allocation, no panic, no return.
pub(super) extern "C" fn child(plan: *mut c_void) -> c_int {
    // SAFETY: `start` passes its `ChildPlan` and waits; nobody else touches it meanwhile.
    let plan = unsafe { &mut *plan.cast::<ChildPlan>() };
    // SAFETY: plain system calls on what `start` prepared.
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
/// In a child of `start` alone.
unsafe fn become_the_command(plan: &ChildPlan) -> &'static CStr {
    // SAFETY: every pointer is prepared by `start` and ends with null.
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
        let (us, mut answer): (libc::pid_t, libc::pid_t) = (libc::getpid(), 0);
        let size = size_of::<libc::pid_t>();
        while libc::write(plan.told, (&raw const us).cast(), size) < 0 {
            if *libc::__errno_location() != libc::EINTR {
                return MARKED;
            }
        }
        // What is not ours was meant for one that ended before it came.
        while answer != us {
            let read = libc::read(plan.answered, (&raw mut answer).cast(), size);
            let again = read < 0 && *libc::__errno_location() == libc::EINTR;
            if answer == -us || (read <= 0 && !again) {
                return MARKED;
            }
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
        // Last: until here our own thread waits for this one.
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
