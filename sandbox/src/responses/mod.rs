//! One model request, from body to answer, in one of three ways: the host's relay, TLS through the
//! host's tunnel, or the sandbox's own network (`airlock_shared::handoff::CredentialsPlace`).

mod client; // ask, and ask again
mod connect; // the sandbox's own connection to the backend
mod credentials; // the token in the sandbox
pub(crate) mod retry; // what to do when a try failed

pub(crate) use client::{Answer, Client, ModelRoute};
pub(crate) use connect::{Connector, Network};
pub(crate) use credentials::Credentials;
pub(crate) use retry::GiveUp;
