//! The host of Airlock: keeps the login, the policy and the record, and runs an agent in a
//! container that has no network.

pub mod cli; // the command line
pub mod setup; // what makes a machine ready
pub mod session; // one session, from nothing to gone
pub mod gate; // what passes between a sandbox and everything else
pub mod engine; // where a sandbox runs
pub mod workspace; // the tree in, the changes out
pub mod records; // what was said and done, on disk
pub mod auth; // who pays
pub mod failure; // what a person is told when something cannot be done
pub mod exit; // the exit codes, one table
pub mod output; // a file written at a path that a person names
pub mod neutral; // text of strangers, made harmless
pub mod text; // numbers, times and columns
pub mod clock; // what time it is
