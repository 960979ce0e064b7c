//! Commands that prepare a machine. Each can be run again without harm.

pub mod doctor; // what is missing, and the command that fixes it
pub mod demo; // a complete session without an account and a network
pub mod codex_auth; // signing in
pub mod import; // importing the official client's login
pub mod status; // the state of every login
pub mod logout; // revoking and deleting a login
pub mod secrets; // a valid token, for programs that start containers themselves
pub mod logins; // the directory of logins, and access to them
mod login_info; // the parts of a login that may be shown
mod proof; // requests the list of models
mod login_error; // why a command failed

pub use crate::auth::issuer::IssuerUrl;
pub use crate::auth::refresh::wait_for_refreshes;
pub use crate::auth::sign_in::{PortHolder, SignInEvent, SignInMethods};
pub use login_error::LoginError;
pub use login_info::{LoginGone, LoginInfo};
pub use logins::Logins;
pub use proof::ProofResult;
