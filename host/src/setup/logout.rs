//! `logout`: revokes the login at its issuer and deletes the file. It reports both. A login that
//! cannot be revoked is deleted too.

use std::time::Duration;

use super::{LoginError, Logins};
use crate::auth::AuthError;
use crate::auth::store::{Login, LoginKind};

/// The timeout for the issuer (codex protocol, A.10).
const REVOKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The result of a logout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedOut {
    pub name: String,
    pub revoked: Revocation,
    /// The file that was deleted.
    pub path: std::path::PathBuf,
}

/// Whether the login was revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// Revoked by this issuer.
    Done(String),
    /// A key: the person must revoke it where it was created.
    Manual,
    /// The login could not be used any more.
    NotNeeded,
    /// Not revoked, so the token is still valid; why.
    Failed(String),
}

/// Logs out. It holds the login's lock, so that no other process renews the login meanwhile.
///
/// # Errors
/// `NotFound`: there is no such login. `InPart`: the file cannot be deleted.
pub async fn run(logins: &Logins, name: &str) -> Result<LoggedOut, LoginError> {
    let login_error = |error| LoginError::login(name, error);
    let path = logins.store.path(name).map_err(login_error)?;
    // Before the lock, because locking creates the directory.
    if let Err(AuthError::Missing { .. }) = logins.store.read(name) {
        return Err(LoginError::NotFound { name: name.to_owned() });
    }
    let locked = logins.store.lock(name).await.map_err(login_error)?;
    let revoked = match locked.read() {
        Ok(login) => revoke(logins, &login).await,
        Err(AuthError::Missing { .. }) => {
            return Err(LoginError::NotFound { name: name.to_owned() });
        }
        Err(error) => Revocation::Failed(error.to_string()),
    };
    match locked.delete() {
        Ok(_) => Ok(LoggedOut { name: name.to_owned(), revoked, path }),
        Err(AuthError::Store { place, why }) => {
            let done = match revoked {
                Revocation::Done(issuer) => format!("revoked at {issuer}"),
                Revocation::Manual | Revocation::NotNeeded | Revocation::Failed(_) => {
                    "not revoked".to_owned()
                }
            };
            let why = format!("{done}, but {place} cannot be deleted: {why}");
            Err(LoginError::InPart { headline: "not completely logged out", why })
        }
        Err(error) => Err(login_error(error)),
    }
}

async fn revoke(logins: &Logins, login: &Login) -> Revocation {
    let url = match (login.kind, &login.issuer) {
        (LoginKind::ApiKey, _) => return Revocation::Manual,
        (LoginKind::ChatGpt, None) => {
            return Revocation::Failed("its issuer is not known".to_owned());
        }
        (LoginKind::ChatGpt, Some(url)) => url.clone(),
    };
    if login.ended_now(logins.now()).is_some() {
        return Revocation::NotNeeded;
    }
    let host = url.host().to_owned();
    let issuer = match logins.issuer(url) {
        Ok(issuer) => issuer,
        Err(login_error) => {
            return Revocation::Failed(crate::failure::Failure::from(login_error).reason);
        }
    };
    let (token, is_refresh) = match &login.refresh {
        Some(refresh) => (refresh, true),
        None => (&login.bearer, false),
    };
    match tokio::time::timeout(REVOKE_TIMEOUT, issuer.revoke(token, is_refresh)).await {
        Ok(Ok(())) => Revocation::Done(host),
        Ok(Err(error)) => Revocation::Failed(format!("{host}: {error}")),
        Err(_) => Revocation::Failed(format!(
            "{host} did not answer within {} s",
            REVOKE_TIMEOUT.as_secs()
        )),
    }
}
