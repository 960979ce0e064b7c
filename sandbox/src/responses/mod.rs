//! One model request, from body to answer, over one of three routes: the host's relay, TLS through
//! the host's tunnel, or the sandbox's own network (`airlock_shared::handoff::CredentialsPlace`).

mod client; // sends a request, with retries
mod connect; // the sandbox's own connection to the backend
mod credentials; // the token in the sandbox
pub(crate) mod retry; // what to do if a try fails

pub(crate) use client::{Answer, Client, ModelRoute};
pub(crate) use connect::{Connector, Network};
pub(crate) use credentials::Credentials;
pub(crate) use retry::GiveUp;
