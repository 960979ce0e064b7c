//! For tests: a backend that answers by a script, and a host on the other end of the pipe; both on
//! the wire.

pub(crate) mod backend;
pub(crate) mod host;
