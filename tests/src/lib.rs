//! The rig: what Airlock's tests are written with. A scripted model backend on the wire, a Docker
//! engine with images of our own making, and `airlock` as a real process between the two.
//!
//! Deliberately absent: a fake engine, a fake clock for other processes, and any call into the
//! host's library but by the one program that has to die inside it. What is tested here is what a
//! person runs.

pub mod backend; // the model service, scripted, that refuses what the real one refuses
pub mod issuer; // the issuer of logins, scripted, that refuses what the real one refuses
pub mod browser; // a browser without eyes
pub mod clock; // what time it is
pub mod engine; // the Docker engine, spoken to by hand
pub mod images; // images of our own making
pub mod peak; // how much memory a process ever had
pub mod proxy; // a door in front of the engine that notes what passes
pub mod registry; // a registry on loopback, to pull from
pub mod rig; // a run of `airlock` as a sentence
pub mod scan; // looks for canaries everywhere
pub mod tree; // a folder as a value
mod wire; // HTTP on loopback, which both services stand on

pub use rig::{CredentialsMode, Rig};
