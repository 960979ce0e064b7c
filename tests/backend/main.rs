//! The scripted backend against the plainest client there is: what it refuses, how it streams, and
//! that each fault is the fault it says. Held against a real client by `tests/peer/run.sh`.

mod client; // a request, and what came back, byte for byte
mod faults;
mod streams;
