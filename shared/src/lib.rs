//! The words that both halves of Airlock speak. Nothing here does input or output, reads a clock,
//! or decides a policy: every function is one of its arguments.

pub mod handoff; // the one line that starts a sandbox
pub mod job; // what the sandbox is to do
pub mod link; // the routes between the two halves
pub mod event; // what comes up
pub mod command; // what goes down
pub mod outcome; // how a run ends
pub mod base; // where the backend is
pub mod model; // what a model can do, and the catalogue it comes from
pub mod item; // the items of a conversation
pub mod answer; // what an answer of the model comes to
pub mod request; // one request to the model: its body and headers
pub mod stream; // what the model answers: usage, events, failures
pub mod meter; // what an exchange costs, by what passed of it
pub mod refusal; // what a failure means for a turn
pub mod sse; // server-sent events, decoded
pub mod dense; // what a JSON text would be in memory
pub mod secret; // a string that cannot be printed
pub mod scrub; // and taken out of what others wrote
pub mod limits; // every bound, by name
pub mod defaults; // what we say of ourselves to the backend, unless configured
