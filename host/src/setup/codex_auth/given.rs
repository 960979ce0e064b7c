//! A key or a token that a person gave. It is tried first: if the service refuses it, it is not
//! stored.

use airlock_shared::base::Base;
use airlock_shared::defaults;
use airlock_shared::secret::Secret;

use super::{SignInRequest, base_of, issuer_of};
use crate::auth::claims::Claims;
use crate::auth::issuer::{IssuerUrl, Tokens};
use crate::auth::store::{Login, LoginKind};
use crate::auth::{self, Credential};
use crate::failure::shell_url;
use crate::session::sign_in_again;
use crate::setup::{LoginError, Logins, ProofResult, proof};

/// A login to store, and the proof of it, if there is one.
pub(in crate::setup) type ProvenLogin = (Login, Option<ProofResult>);

/// An API key as a login.
pub(super) async fn key(
    key: &Secret,
    request: &SignInRequest,
    logins: &Logins,
) -> Result<ProvenLogin, LoginError> {
    key_for(key, base_of(request, None, defaults::API_BASE)?, &request.name, logins).await
}

/// An API key as a login for this base.
pub(in crate::setup) async fn key_for(
    key: &Secret,
    base: Base,
    name: &str,
    logins: &Logins,
) -> Result<ProvenLogin, LoginError> {
    let login = Login {
        kind: LoginKind::ApiKey,
        base,
        issuer: None,
        bearer: key.clone(),
        refresh: None,
        account: None,
        email: None,
        plan: None,
        expires_at: None,
        signed_in_at: Some(logins.now()),
        refreshed_at: None,
        generation: 0,
        model: None,
        intent: None,
        ended: None,
    };
    prove_first(login, name, logins).await
}

/// An access token as a login that cannot be renewed.
pub(super) async fn token(
    token: &Secret,
    request: &SignInRequest,
    stored: Option<&Login>,
    logins: &Logins,
) -> Result<ProvenLogin, LoginError> {
    let tokens = Tokens {
        access: Some(token.clone()),
        refresh: None,
        id: None,
        expires_in: None,
        date: None,
    };
    let base = base_of(request, stored, defaults::CHATGPT_BASE)?;
    let login = from_tokens(&tokens, base, issuer_of(request, stored), &request.name, logins)?;
    prove_first(login, &request.name, logins).await
}

/// A login from tokens that were issued earlier. They expire at the time in the token; their
/// lifetime does not begin now.
pub(in crate::setup) fn from_tokens(
    tokens: &Tokens,
    base: Base,
    issuer: IssuerUrl,
    name: &str,
    logins: &Logins,
) -> Result<Login, LoginError> {
    let login = Login::from_tokens(tokens, base, issuer, logins.now());
    let login = login.map_err(|reason| LoginError::Given {
        why: format!("the given token cannot be used: {reason}"),
        hint: sign_in_again(name),
    })?;
    let expires = Claims::parse(&login.bearer).and_then(|claims| claims.expires);
    Ok(Login { expires_at: expires.or(login.expires_at), ..login })
}

/// The command that replaces this key or token with another one.
fn command_to_replace(login: &Login, name: &str) -> String {
    let (flag, default) = match login.kind {
        LoginKind::ApiKey => ("--api-key", defaults::API_BASE),
        LoginKind::ChatGpt => ("--access-token", defaults::CHATGPT_BASE),
    };
    let base = match Base::parse(default) {
        Ok(default) if default == login.base => String::new(),
        _ => format!(" --base-url {}", shell_url(&login.base.to_string())),
    };
    format!("{}{base} {flag} - < FILE", sign_in_again(name))
}

/// The login, unless the service refuses its credential.
async fn prove_first(login: Login, name: &str, logins: &Logins) -> Result<ProvenLogin, LoginError> {
    let token = login.bearer.clone();
    let credential = match login.kind {
        LoginKind::ApiKey => Credential::Key(token),
        LoginKind::ChatGpt => Credential::Token { token, account: login.account.clone() },
    };
    let signer = auth::open(credential, &login.base, &logins.deps);
    let signer = signer.map_err(|error| LoginError::login(name, error))?;
    // THREAT: a mistyped or revoked key is stored, and every session fails with it. Tried by
    // login::account::a_key_the_service_refuses_is_not_stored.
    match proof::prove(&*signer, &login.base, logins.deps.ca.as_deref()).await {
        ProofResult::Refused(why) => {
            Err(LoginError::Refused { why, kept: false, again: command_to_replace(&login, name) })
        }
        proof @ (ProofResult::Listed { .. } | ProofResult::Unknown(_)) => Ok((login, Some(proof))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_for_a_refused_key_is_to_give_another_one() {
        let again = |base: &str, kind: LoginKind| {
            let login = Login {
                kind,
                base: Base::parse(base).expect("a base"),
                issuer: None,
                bearer: Secret::new("bearer".to_owned()),
                refresh: None,
                account: None,
                email: None,
                plan: None,
                expires_at: None,
                signed_in_at: None,
                refreshed_at: None,
                generation: 0,
                model: None,
                intent: None,
                ended: None,
            };
            command_to_replace(&login, "team")
        };
        let setup = "airlock setup codex-auth --name team";
        let usual = again(defaults::API_BASE, LoginKind::ApiKey);
        assert_eq!(usual, format!("{setup} --api-key - < FILE"));
        let other = again("https://a.example.org/v1", LoginKind::ChatGpt);
        let expected =
            format!("{setup} --base-url https://a.example.org/v1 --access-token - < FILE");
        assert_eq!(other, expected);
    }
}
