//! What makes a machine ready. Every command of it may be run twice.

pub mod doctor; // what is missing, and the command that mends it
pub mod demo; // a whole run, without account and network
