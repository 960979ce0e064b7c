//! What is to be started, and why it was not.

use std::ffi::CString;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use airlock_shared::outcome::Fault;

use super::ToolUser;

/// A program: an absolute path and its arguments, the first of which is its name.
pub(crate) struct Program {
    pub(crate) path: CString,
    pub(crate) arguments: Vec<CString>,
}

/// What is to be started: the first of `programs` that exists.
pub(crate) struct Launch<'a> {
    pub(crate) programs: Vec<Program>,
    /// All of the environment, as `NAME=value`. Nothing is inherited.
    pub(crate) environment: Arc<[CString]>,
    pub(crate) directory: BorrowedFd<'a>,
    pub(crate) user: ToolUser,
}

/// Why nothing was started.
#[derive(Debug)]
pub(crate) enum SpawnError {
    /// None of the programs exists.
    NoProgram,
    /// The arguments are longer than the kernel takes.
    TooLong,
    /// Another call failed. The text names it, for people.
    Failed(&'static str, io::Error),
    /// We may be readable now: the turn must end.
    Unsafe(Fault),
}
