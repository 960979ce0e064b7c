//! What the host and the sandbox of Airlock share. Nothing here does input or output, reads a clock
//! or decides a policy: every function depends on its arguments alone.

pub mod handoff; // the one line that starts a sandbox
pub mod job; // what the sandbox is to do
pub mod link; // the routes between the two halves
pub mod event; // what the sandbox tells the host
pub mod command; // what the host tells the sandbox
pub mod outcome; // how a turn ends
pub mod base; // where the backend is
pub mod model; // what a model can do, and the catalogue it comes from
pub mod item; // the items of a conversation
pub mod answer; // what an answer of the model says and calls
pub mod request; // one request to the model: its body and headers
pub mod stream; // what the model answers: usage, events, failures
pub mod meter; // an estimate of what an exchange costs
pub mod refusal; // what a failed request means for a turn
pub mod sse; // server-sent events, decoded
pub mod dense; // how much memory a JSON text takes when parsed
pub mod secret; // a string that cannot be printed
pub mod scrub; // removes secrets from text of others
pub mod limits; // every bound, by name
pub mod defaults; // how we present ourselves to the backend, and the default limits
