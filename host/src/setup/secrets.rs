//! `secrets`: a valid token, for programs that start containers themselves.

use airlock_shared::secret::Secret;

use super::{LoginError, Logins};
use crate::auth::refresh::{RefreshCause, fresh_login};
use crate::auth::store::LoginKind;

/// The secrets that such a program puts into its container. Never the refresh token.
pub struct ContainerSecrets {
    pub access_token: Secret,
    pub account_id: Option<String>,
}

/// The token of a ChatGPT login, renewed if it expires soon.
///
/// # Errors
/// `Key` for an API key; `Login` if there is no login, or it cannot be used.
pub async fn run(logins: &Logins, name: &str) -> Result<ContainerSecrets, LoginError> {
    let login_error = |error| LoginError::login(name, error);
    // THREAT: a program wants to give its container a token that expires in hours, and gives it a
    // key that never expires. Tried by login::secrets::an_api_key_is_not_handed_out.
    if logins.store.read(name).map_err(login_error)?.kind == LoginKind::ApiKey {
        return Err(LoginError::Key { name: name.to_owned() });
    }
    let deps = &logins.deps;
    let login =
        fresh_login(&logins.store, name, RefreshCause::Early, deps.ca.as_deref(), &deps.clock);
    let login = login.await.map_err(login_error)?;
    Ok(ContainerSecrets { access_token: login.bearer, account_id: login.account })
}
