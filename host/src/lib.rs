//! The host of Airlock: it has the login, the policy and the record, and runs an agent in a
//! container without a network.

pub mod cli; // the command line
pub mod setup; // makes a machine ready
pub mod session; // one session, from its start to its end
pub mod gate; // what passes between a sandbox and everything else
pub mod engine; // where a sandbox runs
pub mod workspace; // the directory in, the changes out
pub mod records; // sessions on disk
pub mod auth; // logins and credentials
pub mod failure; // messages for people when something fails
pub mod exit; // the exit codes, one table
pub mod output; // files that a person names
pub mod sanitize; // makes untrusted text safe for a terminal
pub mod text; // formats numbers, times and columns
pub mod clock; // the time
