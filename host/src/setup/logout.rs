//! `logout`: revoked where it was made, deleted here; which of the two worked is said. What cannot
//! be revoked is deleted all the same.

use std::time::Duration;

use super::{LoginError, Logins};
use crate::auth::AuthError;
use crate::auth::store::{Login, LoginKind};

/// How long the issuer may take (codex protocol, A.10).
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedOut {
    pub name: String,
    pub revoked: Revocation,
    /// The file that is gone.
    pub path: std::path::PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// By this issuer.
    By(String),
    /// A key is revoked by hand, where it was made.
    ByHand,
    /// It was of no use any more.
    Before,
    /// It is still good for whoever has it: why.
    Not(String),
}

/// Logs out. The lock is held throughout, so that nobody renews meanwhile what is to go.
///
/// # Errors
/// `Nothing` where there is no such login; `Login` where the file cannot be deleted.
pub async fn run(logins: &Logins, name: &str) -> Result<LoggedOut, LoginError> {
    let login_error = |error| LoginError::login(name, error);
    let path = logins.store.path(name).map_err(login_error)?;
    // Before the lock, which would make the folder.
    if let Err(AuthError::Missing { .. }) = logins.store.read(name) {
        return Err(LoginError::NotFound { name: name.to_owned() });
    }
    let locked = logins.store.lock(name).await.map_err(login_error)?;
    let revoked = match locked.read() {
        Ok(login) => revoke(logins, &login).await,
        Err(AuthError::Missing { .. }) => {
            return Err(LoginError::NotFound { name: name.to_owned() });
        }
        Err(error) => Revocation::Not(error.to_string()),
    };
    match locked.delete() {
        Ok(_) => Ok(LoggedOut { name: name.to_owned(), revoked, path }),
        Err(AuthError::Store { place, why }) => {
            let done = match revoked {
                Revocation::By(issuer) => format!("revoked at {issuer}"),
                Revocation::ByHand | Revocation::Before | Revocation::Not(_) => {
                    "not revoked".to_owned()
                }
            };
            let why = format!("{done}, but {place} cannot be deleted: {why}");
            Err(LoginError::InPart { headline: "logged out in part", why })
        }
        Err(error) => Err(login_error(error)),
    }
}

async fn revoke(logins: &Logins, login: &Login) -> Revocation {
    let url = match (login.kind, &login.issuer) {
        (LoginKind::ApiKey, _) => return Revocation::ByHand,
        (LoginKind::ChatGpt, None) => {
            return Revocation::Not("nobody knows who made it".to_owned());
        }
        (LoginKind::ChatGpt, Some(url)) => url.clone(),
    };
    if login.ended_now(logins.now()).is_some() {
        return Revocation::Before;
    }
    let host = url.host().to_owned();
    let issuer = match logins.issuer(url) {
        Ok(issuer) => issuer,
        Err(login_error) => {
            return Revocation::Not(crate::failure::Failure::from(login_error).reason);
        }
    };
    let (token, is_refresh) = match &login.refresh {
        Some(refresh) => (refresh, true),
        None => (&login.bearer, false),
    };
    match tokio::time::timeout(PATIENCE, issuer.revoke(token, is_refresh)).await {
        Ok(Ok(())) => Revocation::By(host),
        Ok(Err(error)) => Revocation::Not(format!("{host}: {error}")),
        Err(_) => Revocation::Not(format!("{host} did not answer within {} s", PATIENCE.as_secs())),
    }
}
