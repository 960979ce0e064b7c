//! The containers that sandboxes run in: the constraints on a container, the binary that goes into
//! it, and the engine that makes it.
//!
//! ```text
//! Docker::connect ─→ image ─→ prepare ─→ plan ─→ Planned ─→ Created ─→ Ready ─→ Running ─→ Gone
//!                    digest   binary             asked for  verified   said so  task given removed
//! ```
//!
//! Each stage consumes the one before. So a task cannot go to a container that has not said that it
//! is ready, and nothing can be removed twice. A stage that fails removes its container before it
//! returns its error. There is no clean-up in `Drop`, because it can neither wait nor fail. If a
//! future of this module is dropped before its end, a labelled container stays, and the next start
//! sweeps it. So await these futures: each has a time limit.
//!
//! Absent on purpose: sessions, logins and the link. Here a container is a name, labels and a pipe.

pub mod base; // the default image
pub mod binary; // the sandbox's binary, which the host contains
pub mod confine; // the constraints on a container, each with its reason
pub mod docker; // containers on a Docker engine
pub(crate) mod error; // what can go wrong, one variant for each consequence
pub mod live; // the person's own directory in a container (`--live`)

pub use confine::{ContainerSpec, Waiver, WorkspaceMount};
pub use docker::{Docker, EngineChoice};
pub use error::EngineError;
