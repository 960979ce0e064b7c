//! Makes this process unreadable to the commands that it runs.
//!
//! Absent: seccomp and landlock, which restrict only commands. This protection comes from separate
//! uids.

use airlock_shared::outcome::Fault;

use super::{checked, unsafe_sandbox};

/// The value that the dumpable flag gets when a thread changes its ids.
const SUID_DUMPABLE: &str = "/proc/sys/fs/suid_dumpable";

/// Makes this process unreadable and unable to leave a core file. Call it first in `main`, while
/// there is one thread.
///
/// # Errors
/// If the kernel refuses, or would undo it at the next change of ids.
pub(crate) fn harden() -> Result<(), Fault> {
    let reset = std::fs::read_to_string(SUID_DUMPABLE)
        .map_err(|error| unsafe_sandbox(SUID_DUMPABLE, &error))?;
    // THREAT: if this is 1, each change of our ids opens our memory to commands until we close it
    // again. Tried by exec::harden::tests::a_kernel_that_makes_us_readable_again_is_refused.
    check_suid_dumpable(&reset)?;
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let mut limit = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
    // THREAT: a core file holds the token. Tried by
    // exec::harden::tests::after_hardening_nothing_of_us_can_be_read_as_the_tool_user.
    // SAFETY: both point at a live rlimit.
    let answer = unsafe {
        checked(libc::setrlimit(libc::RLIMIT_CORE, &raw const none).into())
            .and_then(|()| checked(libc::getrlimit(libc::RLIMIT_CORE, &raw mut limit).into()))
    };
    answer.map_err(|error| unsafe_sandbox("core limit", &error))?;
    if limit.rlim_cur != 0 || limit.rlim_max != 0 {
        return Err(unsafe_sandbox("core limit", &std::io::Error::other("it did not stay 0")));
    }
    stay_unreadable()?;
    // THREAT: LD_*, GCONV_PATH and similar variables of the image change how even a static libc
    // works. We use no variables, so all are removed.
    for (name, _) in std::env::vars_os() {
        // SAFETY: there is one thread, so the environment is not read meanwhile.
        unsafe { std::env::remove_var(name) };
    }
    Ok(())
}

fn check_suid_dumpable(reset: &str) -> Result<(), Fault> {
    match reset.trim() {
        "0" | "2" => Ok(()),
        other => {
            Err(unsafe_sandbox(SUID_DUMPABLE, &std::io::Error::other(format!("it is {other}"))))
        }
    }
}

/// Sets dumpable to 0 and checks it. Call it after every change of a thread's ids.
///
/// # Errors
/// If it did not become 0: the turn must end.
pub(crate) fn stay_unreadable() -> Result<(), Fault> {
    // THREAT: a command opens /proc/<us>/mem for the token, or /proc/<us>/fd/1 to end the turn in
    // our name. Tried by
    // exec::harden::tests::after_hardening_nothing_of_us_can_be_read_as_the_tool_user.
    // SAFETY: prctl with plain numbers.
    let (set, got) = unsafe {
        (
            libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0),
            libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0),
        )
    };
    if set != 0 || got != 0 {
        return Err(unsafe_sandbox("dumpable", &std::io::Error::other("it did not become 0")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::tests::{output, user};
    use super::*;

    #[test]
    fn a_kernel_that_makes_us_readable_again_is_refused() {
        assert!(check_suid_dumpable("0\n").is_ok() && check_suid_dumpable("2\n").is_ok());
        let fault = check_suid_dumpable("1\n").expect_err("readable at each change of ids");
        assert_eq!(
            fault.message,
            "the sandbox could not be made safe: /proc/sys/fs/suid_dumpable: it is 1"
        );
    }

    /// Needs root: a command as the tool user tries to read this very process.
    #[tokio::test]
    async fn after_hardening_nothing_of_us_can_be_read_as_the_tool_user() {
        // This file must be readable. Otherwise the test proves nothing.
        let open = std::fs::metadata("/proc/self/status").expect("proc");
        assert_eq!(open.permissions().mode() & 0o444, 0o444);
        // Not `harden` itself: it removes all variables, and the tests have other threads.
        stay_unreadable().expect("dumpable");
        let us = std::process::id();
        let script = format!(
            "cat /proc/{us}/status >/dev/null && echo canary
             for what in environ mem maps auxv stack syscall; do cat /proc/{us}/$what >/dev/null 2>&1 && echo read $what; done
             for what in exe cwd root fd/0 fd/1 fd/2; do readlink /proc/{us}/$what >/dev/null 2>&1 && echo link $what; done
             (echo forged >/proc/{us}/fd/1) 2>/dev/null && echo forged
             kill -0 {us} 2>/dev/null && echo signalled
             python3 -c 'import ctypes; c = ctypes.CDLL(None); print(\"traced\" if c.ptrace(16, {us}, 0, 0) == 0 else \"\", end=\"\")' 2>/dev/null
             echo end"
        );
        assert_eq!(output(&script, user(1)).await, "canary\nend\n");
    }
}
