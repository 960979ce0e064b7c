//! What login is there before anything is done, and whether it is good.

use super::{SignInRequest, SignInWith};
use crate::auth::AuthError;
use crate::auth::store::{Login, LoginKind};
use crate::setup::{LoginError, LoginGone, LoginInfo, Logins, ProofResult, proof};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredLogin {
    None,
    /// It works, as far as it could be tried; nothing has to be done.
    Good {
        login_info: LoginInfo,
        proof: ProofResult,
    },
    /// It is of no use any more; `login_info.gone` says why.
    Gone(LoginInfo),
    /// There is something, and it cannot be used: why.
    Unusable(String),
    /// It stays as long as nothing takes its place.
    Kept(LoginInfo),
}

/// Looks at it, and asks the service where that decides.
pub(super) async fn look(wish: &SignInRequest, logins: &Logins) -> Result<StoredLogin, LoginError> {
    let name = &wish.name;
    let login = match logins.store.read(name) {
        Ok(login) => login,
        Err(AuthError::Missing { .. }) => return Ok(StoredLogin::None),
        Err(AuthError::Unsafe { place, why } | AuthError::Malformed { place, why }) => {
            logins.store.path(name).map_err(|error| LoginError::login(name, error))?;
            return Ok(StoredLogin::Unusable(format!("{place}: {why}")));
        }
        Err(error) => return Err(LoginError::login(name, error)),
    };
    let login_info = LoginInfo::of(name, &login, logins.now());
    if login_info.gone.is_some() {
        return Ok(StoredLogin::Gone(login_info));
    }
    if wish.replace || !wants(wish, &login) {
        return Ok(StoredLogin::Kept(login_info));
    }
    let signer = match logins.signer(name, &login.base) {
        Ok(signer) => signer,
        Err(error) => return Ok(StoredLogin::Unusable(error.to_string())),
    };
    // Renews it where that is due, so that what is said of it afterwards is so.
    match signer.sign().await {
        Ok(_) => {}
        Err(AuthError::Ended { why, at, .. }) => {
            let gone = Some(LoginGone { words: why.words(at), at });
            return Ok(StoredLogin::Gone(LoginInfo { gone, ..login_info }));
        }
        Err(error @ AuthError::OtherAccount { .. }) => {
            return Ok(StoredLogin::Unusable(error.to_string()));
        }
        // Whoever asks to sign in is let: what its issuer does not renew is of no use.
        Err(error @ AuthError::Unreachable { .. }) if !login.is_good(logins.now()) => {
            return Ok(StoredLogin::Unusable(error.to_string()));
        }
        Err(error) => return Err(LoginError::login(name, error)),
    }
    let proof = proof::prove(&*signer, &login.base, logins.deps.ca.as_deref()).await;
    let there = logins.store.read(name).unwrap_or(login);
    let now = LoginInfo::of(name, &there, logins.now());
    Ok(match (proof, there.ended()) {
        // Its token may have hours left, and the service does not take it any more.
        (ProofResult::Refused(_), Some(ended)) => {
            StoredLogin::Gone(LoginInfo { gone: Some(LoginGone::of(ended)), ..now })
        }
        (ProofResult::Refused(why), None) => StoredLogin::Unusable(why),
        (proof, _) => StoredLogin::Good { login_info: now, proof },
    })
}

/// Whether the login that is there is what was asked for.
fn wants(wish: &SignInRequest, login: &Login) -> bool {
    let same_issuer = wish.issuer.as_ref().is_none_or(|url| login.issuer.as_ref() == Some(url));
    let same_base = wish.base.as_ref().is_none_or(|base| *base == login.base);
    let same_kind = match wish.how {
        SignInWith::SignIn { chosen, .. } => !chosen || login.kind == LoginKind::ChatGpt,
        SignInWith::ApiKey(_) | SignInWith::AccessToken(_) => false,
    };
    same_issuer && same_base && same_kind
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use airlock_shared::base::Base;
    use airlock_shared::secret::Secret;

    use super::*;
    use crate::auth::Deps;
    use crate::setup::{IssuerUrl, SignInMethods};

    #[tokio::test]
    async fn a_login_that_its_issuer_cannot_renew_is_in_nobodys_way() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr();
        let nobody = format!("http://{}", closed.expect("an address"));
        let login = Login {
            kind: LoginKind::ChatGpt,
            base: Base::parse("https://chatgpt.com").expect("a base"),
            issuer: Some(IssuerUrl::parse(&nobody).expect("an issuer")),
            bearer: Secret::new("canary-access".to_owned()),
            refresh: Some(Secret::new("canary-refresh".to_owned())),
            account: None,
            email: None,
            plan: None,
            expires_at: Some(7),
            signed_in_at: None,
            refreshed_at: None,
            generation: 0,
            model: None,
            intent: None,
            ended: None,
        };
        let folder = tempfile::tempdir().expect("a folder");
        let logins = Logins::at(folder.path(), Deps { ca: None, clock: Arc::new(|| 8) });
        logins.store.lock("me").await.expect("a lock").write(&login).expect("written");
        let ways = SignInMethods { browser: false, open: false, device: true, paste: false };
        let wish = SignInRequest {
            name: "me".to_owned(),
            how: SignInWith::SignIn { ways, chosen: true },
            issuer: None,
            base: None,
            replace: false,
            engine: None,
        };
        let before = look(&wish, &logins).await.expect("it goes on");
        let StoredLogin::Unusable(why) = before else { panic!("{before:?}") };
        assert!(why.contains("cannot be renewed: 127.0.0.1"), "{why}");
    }
}
