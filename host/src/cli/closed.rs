//! Closes this process to other programs before it reads anything, because it may hold a login.

use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// Stops other processes of the same user from reading its memory, and disables core files.
pub(super) fn close() {
    // THREAT: a program of the same user attaches to us or reads /proc/<us>/mem, or a crash writes
    // the tokens to a file. Tried by cli::closed::tests::other_processes_cannot_read_memory.
    let hidden = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let no_core = rustix::process::setrlimit(Resource::Core, none);
    if let Err(error) = hidden.and(no_core) {
        tracing::warn!(%error, "other programs of this user can read this process");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_processes_cannot_read_memory() {
        close();
        let hidden = rustix::process::dumpable_behavior();
        let core = rustix::process::getrlimit(Resource::Core);
        // Other tests in this process need it again.
        let _shown = rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable);
        assert_eq!(hidden, Ok(DumpableBehavior::NotDumpable));
        assert_eq!((core.current, core.maximum), (Some(0), Some(0)));
    }
}
