//! The host of Airlock: keeps the login, the policy and the record, and runs an agent in a
//! container that has no network.

pub mod engine; // where a sandbox runs
pub mod workspace; // the tree in, the changes out
pub mod session; // what was said and done, on disk
pub mod auth; // who pays
pub mod gate; // what passes between a box and everything else
pub mod clock; // what time it is
