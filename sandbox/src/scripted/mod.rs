//! For tests: a backend that answers by a script, and a host on the other end of the pipe. Both
//! speak real HTTP.

pub(crate) mod backend;
pub(crate) mod host;
