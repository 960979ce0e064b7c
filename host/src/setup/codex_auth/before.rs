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
        // Whoever asks to sign in is let: what its issuer does not renew is of no use.
        Err(error @ AuthError::Unreachable { .. }) if !login.is_good(logins.now()) => {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use airlock_shared::base::Base;
    use airlock_shared::secret::Secret;

    use super::*;
    use crate::auth::Means;
    use crate::setup::{IssuerUrl, Ways};

    #[tokio::test]
    async fn a_login_that_its_issuer_cannot_renew_is_in_nobodys_way() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr();
        let nobody = format!("http://{}", closed.expect("an address"));
        let login = Login {
            kind: Kind::ChatGpt,
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
        let logins = Logins::at(folder.path(), Means { ca: None, clock: Arc::new(|| 8) });
        logins.store.lock("me").await.expect("a lock").write(&login).expect("written");
        let ways = Ways { browser: false, open: false, device: true, paste: false };
        let wish = Wish {
            name: "me".to_owned(),
            how: How::SignIn { ways, chosen: true },
            issuer: None,
            base: None,
            replace: false,
            engine: None,
        };
        let before = look(&wish, &logins).await.expect("it goes on");
        let Before::Unusable(why) = before else { panic!("{before:?}") };
        assert!(why.contains("cannot be renewed: 127.0.0.1"), "{why}");
    }
}
