//! A key or a token that a person brought. It is tried before it is kept: one that the service
//! refuses is not stored.

use airlock_shared::base::Base;
use airlock_shared::defaults;
use airlock_shared::secret::Secret;

use super::{SignInRequest, base_of, issuer_of};
use crate::auth::claims::Claims;
use crate::auth::issuer::{IssuerUrl, Tokens};
use crate::auth::store::{Login, LoginKind};
use crate::auth::{self, Credential};
use crate::failure::address;
use crate::session::sign_in_again;
use crate::setup::{LoginError, Logins, ProofResult, proof};

/// What is to be kept, and what the service said of it already.
pub(in crate::setup) type ToKeep = (Login, Option<ProofResult>);

/// An API key as a login.
pub(super) async fn key(
    key: &Secret,
    wish: &SignInRequest,
    logins: &Logins,
) -> Result<ToKeep, LoginError> {
    key_for(key, base_of(wish, None, defaults::API_BASE)?, &wish.name, logins).await
}

/// The same for the base it is meant for.
pub(in crate::setup) async fn key_for(
    key: &Secret,
    base: Base,
    name: &str,
    logins: &Logins,
) -> Result<ToKeep, LoginError> {
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
    tried(login, name, logins).await
}

/// An access token as a login that nothing renews.
pub(super) async fn token(
    token: &Secret,
    wish: &SignInRequest,
    there: Option<&Login>,
    logins: &Logins,
) -> Result<ToKeep, LoginError> {
    let tokens = Tokens {
        access: Some(token.clone()),
        refresh: None,
        id: None,
        expires_in: None,
        date: None,
    };
    let base = base_of(wish, there, defaults::CHATGPT_BASE)?;
    let login = from_tokens(&tokens, base, issuer_of(wish, there), &wish.name, logins)?;
    tried(login, &wish.name, logins).await
}

/// Tokens that were made elsewhere, some time ago: they end when they say, not as long from now.
pub(in crate::setup) fn from_tokens(
    tokens: &Tokens,
    base: Base,
    issuer: IssuerUrl,
    name: &str,
    logins: &Logins,
) -> Result<Login, LoginError> {
    let login = Login::granted(tokens, base, issuer, logins.now());
    let login = login.map_err(|what| LoginError::Given {
        why: format!("what was given cannot be used: {what}"),
        hint: sign_in_again(name),
    })?;
    let says = Claims::of(&login.bearer).and_then(|claims| claims.expires);
    Ok(Login { expires_at: says.or(login.expires_at), ..login })
}

/// The command for whoever has another key: signing in does not mend one.
fn given_again(login: &Login, name: &str) -> String {
    let (flag, usual) = match login.kind {
        LoginKind::ApiKey => ("--api-key", defaults::API_BASE),
        LoginKind::ChatGpt => ("--access-token", defaults::CHATGPT_BASE),
    };
    let base = match Base::parse(usual) {
        Ok(usual) if usual == login.base => String::new(),
        _ => format!(" --base-url {}", address(&login.base.to_string())),
    };
    format!("{}{base} {flag} - < FILE", sign_in_again(name))
}

/// The login, once the service took its credential or could not be asked.
async fn tried(login: Login, name: &str, logins: &Logins) -> Result<ToKeep, LoginError> {
    let token = login.bearer.clone();
    let credential = match login.kind {
        LoginKind::ApiKey => Credential::Key(token),
        LoginKind::ChatGpt => Credential::Token { token, account: login.account.clone() },
    };
    let signer = auth::open(credential, &login.base, &logins.deps);
    let signer = signer.map_err(|error| LoginError::login(name, error))?;
    // THREAT: a mistyped or stolen and withdrawn key is kept, and every run fails with it. Tried by
    // login::account::a_key_the_service_refuses_is_not_stored.
    match proof::prove(&*signer, &login.base, logins.deps.ca.as_deref()).await {
        ProofResult::Refused(why) => {
            Err(LoginError::Refused { why, kept: false, again: given_again(&login, name) })
        }
        proof @ (ProofResult::Listed { .. } | ProofResult::Unasked(_)) => Ok((login, Some(proof))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_brought_a_key_is_not_told_to_sign_in() {
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
            given_again(&login, "team")
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
