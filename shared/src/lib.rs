//! The words that both halves of Airlock speak. Nothing here does input or output, reads a clock,
//! or decides a policy: every function is one of its arguments.

pub mod base; // where the backend is
pub mod command; // what goes down
pub mod defaults; // what we say of ourselves to the backend, unless configured
pub mod event; // what comes up
pub mod handoff; // the one line that starts a sandbox
pub mod item; // the items of a conversation
pub mod job; // what the sandbox is to do
pub mod limits; // every bound, by name
pub mod link; // the routes between the two halves
pub mod model; // what a model can do, and the catalogue it comes from
pub mod outcome; // how a run ends
pub mod request; // one request to the model: its body and headers
pub mod secret; // a string that cannot be printed
pub mod sse;
pub mod stream; // what the model answers: usage, events, failures // server-sent events, decoded
