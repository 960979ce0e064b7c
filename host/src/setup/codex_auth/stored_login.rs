//! The stored login before a sign-in, and whether it works.

use super::{SignInRequest, SignInWith};
use crate::auth::AuthError;
use crate::auth::store::{Login, LoginKind};
use crate::setup::{LoginError, LoginGone, LoginInfo, Logins, ProofResult, proof};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredLogin {
    None,
    /// It works, as far as it could be tried. Nothing needs to be done.
    Good {
        login_info: LoginInfo,
        proof: ProofResult,
    },
    /// It cannot be used any more; `login_info.gone` says why.
    Gone(LoginInfo),
    /// It cannot be used; why.
    Unusable(String),
    /// It is not tried, and stays until a new login replaces it.
    Kept(LoginInfo),
}

/// Reads the stored login and, if needed, tries it with the service.
pub(super) async fn check(
    request: &SignInRequest,
    logins: &Logins,
) -> Result<StoredLogin, LoginError> {
    let name = &request.name;
    let login = match logins.store.read(name) {
        Ok(login) => login,
        Err(AuthError::Missing { .. }) => return Ok(StoredLogin::None),
        Err(AuthError::Unsafe { place, why } | AuthError::Malformed { place, why }) => {
            logins.store.path(name).map_err(|error| LoginError::login(name, error))?;
            return Ok(StoredLogin::Unusable(format!("{place}: {why}")));
        }
        Err(error) => return Err(LoginError::login(name, error)),
    };
    let login_info = LoginInfo::new(name, &login, logins.now());
    if login_info.gone.is_some() {
        return Ok(StoredLogin::Gone(login_info));
    }
    if request.replace || !matches_request(request, &login) {
        return Ok(StoredLogin::Kept(login_info));
    }
    let signer = match logins.signer(name, &login.base) {
        Ok(signer) => signer,
        Err(error) => return Ok(StoredLogin::Unusable(error.to_string())),
    };
    // Renews the token if that is due, so that the state below is current.
    match signer.sign().await {
        Ok(_) => {}
        Err(AuthError::Ended { why, at, .. }) => {
            let gone = Some(LoginGone { reason: why.describe(at), at });
            return Ok(StoredLogin::Gone(LoginInfo { gone, ..login_info }));
        }
        Err(error @ AuthError::OtherAccount { .. }) => {
            return Ok(StoredLogin::Unusable(error.to_string()));
        }
        // A login that cannot be renewed must not prevent a new sign-in.
        Err(error @ AuthError::Unreachable { .. }) if !login.is_good(logins.now()) => {
            return Ok(StoredLogin::Unusable(error.to_string()));
        }
        Err(error) => return Err(LoginError::login(name, error)),
    }
    let proof = proof::prove(&*signer, &login.base, logins.deps.ca.as_deref()).await;
    let stored = logins.store.read(name).unwrap_or(login);
    let login_info = LoginInfo::new(name, &stored, logins.now());
    Ok(match (proof, stored.ended()) {
        // The token may not have expired, but the service does not accept it.
        (ProofResult::Refused(_), Some(ended)) => {
            StoredLogin::Gone(LoginInfo { gone: Some(LoginGone::new(ended)), ..login_info })
        }
        (ProofResult::Refused(why), None) => StoredLogin::Unusable(why),
        (proof, _) => StoredLogin::Good { login_info, proof },
    })
}

/// Whether the stored login is what the request wants.
fn matches_request(request: &SignInRequest, login: &Login) -> bool {
    let same_issuer = request.issuer.as_ref().is_none_or(|url| login.issuer.as_ref() == Some(url));
    let same_base = request.base.as_ref().is_none_or(|base| *base == login.base);
    let same_kind = match request.how {
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
    async fn a_login_that_cannot_be_renewed_does_not_prevent_a_sign_in() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr();
        let unreachable = format!("http://{}", closed.expect("an address"));
        let login = Login {
            kind: LoginKind::ChatGpt,
            base: Base::parse("https://chatgpt.com").expect("a base"),
            issuer: Some(IssuerUrl::parse(&unreachable).expect("an issuer")),
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
        let directory = tempfile::tempdir().expect("a directory");
        let logins = Logins::at(directory.path(), Deps { ca: None, clock: Arc::new(|| 8) });
        logins.store.lock("me").await.expect("a lock").write(&login).expect("written");
        let methods = SignInMethods { browser: false, open: false, device: true, paste: false };
        let request = SignInRequest {
            name: "me".to_owned(),
            how: SignInWith::SignIn { methods, chosen: true },
            issuer: None,
            base: None,
            replace: false,
            engine: None,
        };
        let stored = check(&request, &logins).await.expect("a state");
        let StoredLogin::Unusable(why) = stored else { panic!("{stored:?}") };
        assert!(why.contains("cannot be renewed: 127.0.0.1"), "{why}");
    }
}
