//! `secrets`: a token that is good now, for hosts that start containers themselves.

use airlock_shared::secret::Secret;

use super::{Logins, Unable};
use crate::auth::refresh::{Cause, refreshed};
use crate::auth::store::Kind;

/// What such a host puts into its container. The refresh token is not among it, ever.
pub struct Given {
    pub access_token: Secret,
    pub account_id: Option<String>,
}

/// The token of a ChatGPT login, renewed where it is near its end.
///
/// # Errors
/// `Key` for an API key; `Login` where there is none, or it is gone.
pub async fn run(logins: &Logins, name: &str) -> Result<Given, Unable> {
    let unable = |error| Unable::login(name, error);
    // THREAT: a host that meant to hand over a token for hours hands over a key that never ends.
    // Tried by login::secrets::an_api_key_is_not_handed_out.
    if logins.store.read(name).map_err(unable)?.kind == Kind::ApiKey {
        return Err(Unable::Key { name: name.to_owned() });
    }
    let means = &logins.means;
    let renewed = refreshed(&logins.store, name, Cause::Early, means.ca.as_deref(), &means.clock);
    let login = renewed.await.map_err(unable)?;
    Ok(Given { access_token: login.bearer, account_id: login.account })
}
