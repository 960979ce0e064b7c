//! This process, closed to others before it reads anything: it may hold a login.

use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// No other process of the same user reads its memory, and it leaves none in a core file.
pub(super) fn close() {
    // THREAT: a program of the same user attaches to us or reads /proc/<us>/mem, or a crash leaves
    // the tokens in a file. Tried by cli::closed::tests::nobody_else_may_look.
    let hidden = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let no_core = rustix::process::setrlimit(Resource::Core, none);
    if let Err(error) = hidden.and(no_core) {
        tracing::warn!(%error, "this process can be read by others of this user");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_may_look() {
        close();
        let hidden = rustix::process::dumpable_behavior();
        let core = rustix::process::getrlimit(Resource::Core);
        // Other tests of this process may look at themselves.
        let _shown = rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable);
        assert_eq!(hidden, Ok(DumpableBehavior::NotDumpable));
        assert_eq!((core.current, core.maximum), (Some(0), Some(0)));
    }
}
