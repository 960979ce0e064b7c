//! `secrets`: a token that is good now, for hosts that start containers themselves.

use airlock_shared::secret::Secret;

use super::{LoginError, Logins};
use crate::auth::refresh::{RefreshCause, refreshed};
use crate::auth::store::LoginKind;

/// What such a host puts into its container. The refresh token is not among it, ever.
pub struct ContainerSecrets {
    pub access_token: Secret,
    pub account_id: Option<String>,
}

/// The token of a ChatGPT login, renewed where it is near its end.
///
/// # Errors
/// `Key` for an API key; `Login` where there is none, or it is gone.
pub async fn run(logins: &Logins, name: &str) -> Result<ContainerSecrets, LoginError> {
    let login_error = |error| LoginError::login(name, error);
    // THREAT: a host that meant to hand over a token for hours hands over a key that never ends.
    // Tried by login::secrets::an_api_key_is_not_handed_out.
    if logins.store.read(name).map_err(login_error)?.kind == LoginKind::ApiKey {
        return Err(LoginError::Key { name: name.to_owned() });
    }
    let deps = &logins.deps;
    let renewed =
        refreshed(&logins.store, name, RefreshCause::Early, deps.ca.as_deref(), &deps.clock);
    let login = renewed.await.map_err(login_error)?;
    Ok(ContainerSecrets { access_token: login.bearer, account_id: login.account })
}
