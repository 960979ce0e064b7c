//! `logout`: revoked where it was made, deleted here; which of the two worked is said. What cannot
//! be revoked is deleted all the same.

use std::time::Duration;

use super::{Logins, Unable};
use crate::auth::AuthError;
use crate::auth::store::{Kind, Login};

/// How long the issuer may take (codex protocol, A.10).
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedOut {
    pub name: String,
    pub revoked: Revoked,
    /// The file that is gone.
    pub path: std::path::PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoked {
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
pub async fn run(logins: &Logins, name: &str) -> Result<LoggedOut, Unable> {
    let unable = |error| Unable::login(name, error);
    let path = logins.store.path(name).map_err(unable)?;
    // Before the lock, which would make the folder.
    if let Err(AuthError::Missing { .. }) = logins.store.read(name) {
        return Err(Unable::Nothing { name: name.to_owned() });
    }
    let locked = logins.store.lock(name).await.map_err(unable)?;
    let revoked = match locked.read() {
        Ok(login) => revoke(logins, &login).await,
        Err(AuthError::Missing { .. }) => {
            return Err(Unable::Nothing { name: name.to_owned() });
        }
        Err(error) => Revoked::Not(error.to_string()),
    };
    match locked.delete() {
        Ok(_) => Ok(LoggedOut { name: name.to_owned(), revoked, path }),
        Err(AuthError::Store { place, why }) => {
            let done = match revoked {
                Revoked::By(issuer) => format!("revoked at {issuer}"),
                Revoked::ByHand | Revoked::Before | Revoked::Not(_) => "not revoked".to_owned(),
            };
            let why = format!("{done}, but {place} cannot be deleted: {why}");
            Err(Unable::InPart { headline: "logged out in part", why })
        }
        Err(error) => Err(unable(error)),
    }
}

async fn revoke(logins: &Logins, login: &Login) -> Revoked {
    let url = match (login.kind, &login.issuer) {
        (Kind::ApiKey, _) => return Revoked::ByHand,
        (Kind::ChatGpt, None) => return Revoked::Not("nobody knows who made it".to_owned()),
        (Kind::ChatGpt, Some(url)) => url.clone(),
    };
    if login.ended_now(logins.now()).is_some() {
        return Revoked::Before;
    }
    let host = url.host().to_owned();
    let issuer = match logins.issuer(url) {
        Ok(issuer) => issuer,
        Err(unable) => return Revoked::Not(crate::failure::Failure::from(unable).reason),
    };
    let (token, is_refresh) = match &login.refresh {
        Some(refresh) => (refresh, true),
        None => (&login.bearer, false),
    };
    match tokio::time::timeout(PATIENCE, issuer.revoke(token, is_refresh)).await {
        Ok(Ok(())) => Revoked::By(host),
        Ok(Err(error)) => Revoked::Not(format!("{host}: {error}")),
        Err(_) => Revoked::Not(format!("{host} did not answer within {} s", PATIENCE.as_secs())),
    }
}
