//! Turns the issuer's tokens into a login: its account, and when it expires by this machine's
//! clock. The id token is read for its claims and is not stored.

use airlock_shared::base::Base;
use airlock_shared::secret::Secret;

use super::claims::Claims;
use super::issuer::{IssuerUrl, Tokens};
use super::store::{Login, LoginKind};
use super::{AuthError, checked};

/// A smaller difference between two clocks is ignored.
const CLOCK_SECONDS: u64 = 300;

impl Login {
    /// The login of a person who has just signed in.
    ///
    /// # Errors
    /// Which token cannot be used, as a fragment.
    pub fn from_tokens(
        tokens: &Tokens,
        base: Base,
        issuer: IssuerUrl,
        now: u64,
    ) -> Result<Self, &'static str> {
        let token = |token: &Secret| checked(token, "").map_err(|_| "it holds an invalid token");
        let bearer = tokens.access.as_ref().ok_or("it holds no access token")?;
        let claims = claims(tokens);
        Ok(Self {
            kind: LoginKind::ChatGpt,
            base,
            issuer: Some(issuer),
            bearer: token(bearer)?,
            refresh: tokens.refresh.as_ref().map(token).transpose()?,
            expires_at: expires_at(tokens, &claims, now),
            account: claims.account,
            email: claims.email,
            plan: claims.plan,
            signed_in_at: Some(now),
            refreshed_at: None,
            generation: 0,
            model: None,
            intent: None,
            ended: None,
        })
    }
}

/// The login after a refresh. What the answer leaves out stays as it was.
///
/// # Errors
/// `Malformed`: a token is invalid. `OtherAccount`: the tokens belong to another account.
pub(super) fn apply_refresh(
    old: &Login,
    tokens: &Tokens,
    now: u64,
    place: &str,
) -> Result<Login, AuthError> {
    let claims = claims(tokens);
    // THREAT: an issuer answers with another person's tokens, and the work goes to the account of
    // that person. Tried by auth::refresh::tests::another_accounts_tokens_are_not_used.
    if old.account.is_some() && claims.account.is_some() && old.account != claims.account {
        return Err(AuthError::OtherAccount { place: place.to_owned() });
    }
    let token =
        |fresh: &Option<Secret>| fresh.as_ref().map(|token| checked(token, place)).transpose();
    let access = token(&tokens.access)?;
    let is_new = access.is_some();
    Ok(Login {
        bearer: access.unwrap_or_else(|| old.bearer.clone()),
        refresh: token(&tokens.refresh)?.or_else(|| old.refresh.clone()),
        expires_at: if is_new { expires_at(tokens, &claims, now) } else { old.expires_at },
        account: old.account.clone().or(claims.account),
        email: claims.email.or_else(|| old.email.clone()),
        plan: claims.plan.or_else(|| old.plan.clone()),
        refreshed_at: Some(now),
        generation: old.generation + 1,
        intent: None,
        ended: None,
        ..old.clone()
    })
}

/// The claims of the access token; those that are missing come from the id token.
#[must_use]
pub fn claims(tokens: &Tokens) -> Claims {
    let parse = |token: &Option<Secret>| token.as_ref().and_then(Claims::parse).unwrap_or_default();
    parse(&tokens.access).or(Claims { issued: None, expires: None, ..parse(&tokens.id) })
}

/// When the token expires, by this machine's clock: the lifetime begins now. So even if the clock
/// is wrong by hours, the token is not renewed again and again, and an expired one is not used for
/// long. If no lifetime is known, it is the time that the issuer gave.
#[must_use]
pub fn expires_at(tokens: &Tokens, claims: &Claims, now: u64) -> Option<u64> {
    let lifetime = tokens.expires_in.or_else(|| claims.lifetime());
    lifetime.map(|seconds| now.saturating_add(seconds)).or(claims.expires)
}

/// Reports a wrong clock: `this machine's clock is 10 h ahead of auth.openai.com`.
#[must_use]
pub fn clock_skew(date: Option<u64>, now: u64, issuer: &str) -> Option<String> {
    let date = date?;
    let difference = now.abs_diff(date);
    let direction = if now > date { "ahead of" } else { "behind" };
    if difference <= CLOCK_SECONDS {
        return None;
    }
    let long = match (difference + 1_800) / 3_600 {
        0..2 => format!("{} min", difference / 60),
        hours @ 2..48 => format!("{hours} h"),
        hours => format!("{} days", hours / 24),
    };
    Some(format!("this machine's clock is {long} {direction} {issuer}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::claims::tests::jwt;
    use super::*;

    fn tokens(access: Secret) -> Tokens {
        Tokens { access: Some(access), refresh: None, id: None, expires_in: None, date: None }
    }

    #[test]
    fn a_lifetime_begins_when_it_is_received() {
        let now = 1_000_000;
        let access = jwt(&json!({"iat": 36_000, "exp": 36_600}));
        let given = tokens(access.clone());
        assert_eq!(expires_at(&given, &claims(&given), now), Some(now + 600));
        let given = Tokens { expires_in: Some(60), ..tokens(access) };
        assert_eq!(expires_at(&given, &claims(&given), now), Some(now + 60));
        let given = tokens(jwt(&json!({"exp": 36_600})));
        assert_eq!(expires_at(&given, &claims(&given), now), Some(36_600));
        let given = tokens(Secret::new("opaque".to_owned()));
        assert_eq!(expires_at(&given, &claims(&given), now), None);
    }

    #[test]
    fn a_wrong_clock_is_reported() {
        let now = 1_000_000;
        let skew = |date| clock_skew(Some(date), now, "auth.openai.com");
        assert_eq!(clock_skew(None, now, "x"), None);
        assert_eq!(skew(now - 300), None);
        let ahead = "this machine's clock is 10 h ahead of auth.openai.com";
        assert_eq!(skew(now - 36_000).as_deref(), Some(ahead));
        let behind = "this machine's clock is 10 min behind auth.openai.com";
        assert_eq!(skew(now + 600).as_deref(), Some(behind));
    }
}
