//! What login is there before anything is done, and whether it is good.

use super::{How, Wish};
use crate::auth::AuthError;
use crate::auth::store::{Kind, Login};
use crate::setup::{Gone, Logins, Proof, Unable, Whose, proof};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Before {
    None,
    /// It works, as far as it could be tried; nothing has to be done.
    Good {
        whose: Whose,
        proof: Proof,
    },
    /// It is of no use any more; `whose.gone` says why.
    Gone(Whose),
    /// There is something, and it cannot be used: why.
    Unusable(String),
    /// It stays as long as nothing takes its place.
    Kept(Whose),
}

/// Looks at it, and asks the service where that decides.
pub(super) async fn look(wish: &Wish, logins: &Logins) -> Result<Before, Unable> {
    let name = &wish.name;
    let login = match logins.store.read(name) {
        Ok(login) => login,
        Err(AuthError::Missing { .. }) => return Ok(Before::None),
        Err(AuthError::Unsafe { place, why } | AuthError::Malformed { place, why }) => {
            logins.store.path(name).map_err(|error| Unable::login(name, error))?;
            return Ok(Before::Unusable(format!("{place}: {why}")));
        }
        Err(error) => return Err(Unable::login(name, error)),
    };
    let whose = Whose::of(name, &login, logins.now());
    if whose.gone.is_some() {
        return Ok(Before::Gone(whose));
    }
    if wish.replace || !wants(wish, &login) {
        return Ok(Before::Kept(whose));
    }
    let signer = match logins.signer(name, &login.base) {
        Ok(signer) => signer,
        Err(error) => return Ok(Before::Unusable(error.to_string())),
    };
    // Renews it where that is due, so that what is said of it afterwards is so.
    match signer.sign().await {
        Ok(_) => {}
        Err(AuthError::Ended { why, at, .. }) => {
            let gone = Some(Gone { words: why.words(at), at });
            return Ok(Before::Gone(Whose { gone, ..whose }));
        }
        Err(error @ AuthError::OtherAccount { .. }) => {
            return Ok(Before::Unusable(error.to_string()));
        }
        Err(error) => return Err(Unable::login(name, error)),
    }
    let proof = proof::prove(&*signer, &login.base, logins.means.ca.as_deref()).await;
    let there = logins.store.read(name).unwrap_or(login);
    let now = Whose::of(name, &there, logins.now());
    Ok(match (proof, there.ended()) {
        // Its token may have hours left, and the service does not take it any more.
        (Proof::Refused(_), Some(ended)) => {
            Before::Gone(Whose { gone: Some(Gone::of(ended)), ..now })
        }
        (Proof::Refused(why), None) => Before::Unusable(why),
        (proof, _) => Before::Good { whose: now, proof },
    })
}

/// Whether the login that is there is what was asked for.
fn wants(wish: &Wish, login: &Login) -> bool {
    let same_issuer = wish.issuer.as_ref().is_none_or(|url| login.issuer.as_ref() == Some(url));
    let same_base = wish.base.as_ref().is_none_or(|base| *base == login.base);
    let same_kind = match wish.how {
        How::SignIn { chosen, .. } => !chosen || login.kind == Kind::ChatGpt,
        How::ApiKey(_) | How::AccessToken(_) => false,
    };
    same_issuer && same_base && same_kind
}
