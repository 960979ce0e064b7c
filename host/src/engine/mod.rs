//! Where a sandbox runs: which terms a container is made on, the binary that goes into it, and the
//! engine that makes it.
//!
//! ```text
//! Docker::connect ─→ image ─→ prepare ─→ plan ─→ Planned ─→ Created ─→ Ready ─→ Running ─→ Gone
//!                    digest   binary             terms      verified   said so  handed     removed
//! ```
//!
//! Each stage consumes the one before, so that nothing can be handed over to a container that has not
//! said it is ready, and nothing can be removed twice. A stage that fails removes its container
//! before it returns its error. There is no clean-up in `Drop`: it could neither wait nor fail.
//! A future of this module that is dropped half-way leaves a labelled container, which the next
//! start sweeps; so await them, they are all bounded.
//!
//! Absent on purpose: any knowledge of runs, logins and the link. A container is a name, labels, a pipe.

pub mod base; // the image that containers start from by default
pub mod binary; // the sandbox we carry
pub mod confine; // the terms of a container, each with its reason
pub mod docker; // containers on a Docker engine
pub(crate) mod error; // what can go wrong, by consequence
pub mod live; // the host's own tree in a container

pub use confine::{ContainerSpec, Waiver, WorkspaceMount};
pub use docker::{Docker, EngineChoice};
pub use error::EngineError;
