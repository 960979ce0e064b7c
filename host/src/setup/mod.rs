//! What makes a machine ready. Every command of it may be run twice.

pub mod doctor; // what is missing, and the command that mends it
pub mod demo; // a whole run, without account and network
pub mod codex_auth; // signing in, from what is there to the proof
pub mod import; // the official client's login, read once
pub mod status; // every login, as it stands
pub mod logout; // revoked and deleted
pub mod secrets; // a fresh token, for hosts that start containers themselves
pub mod logins; // where logins are, and what using one takes
mod login_info; // a login as anybody may see it
mod proof; // the service, asked for its models
mod login_error; // why it was not done

pub use crate::auth::issuer::IssuerUrl;
pub use crate::auth::refresh::settled;
pub use crate::auth::sign_in::{PortHolder, SignInEvent, SignInMethods};
pub use login_error::LoginError;
pub use login_info::{LoginGone, LoginInfo};
pub use logins::Logins;
pub use proof::ProofResult;
