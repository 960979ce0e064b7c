//! A login as anybody may see it: whose it is, how long it is good, why it is gone. Pure, and
//! nothing in it is secret.

use crate::auth::store::{Login, LoginEnd, LoginKind};
use crate::text;

/// A shorter key would be told by its last characters.
const TELLABLE_KEY: usize = 24;
/// Characters of an account, or of a key's end, that are shown.
const SHOWN: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginInfo {
    /// The login's name.
    pub login: String,
    /// An API key, by its last characters; none for a ChatGPT login.
    pub key: Option<String>,
    pub email: Option<String>,
    pub plan: Option<String>,
    /// Its first characters.
    pub account: Option<String>,
    /// Where its credential may go.
    pub base: String,
    /// Who made it, and alone may renew it.
    pub issuer: Option<String>,
    /// Unix seconds; none where it is good until it is refused.
    pub expires_at: Option<u64>,
    /// Seconds of it that are left.
    pub left: Option<u64>,
    /// It is renewed by itself.
    pub renews: bool,
    /// The model that a person chose for it.
    pub model: Option<String>,
    /// It is of no use any more.
    pub gone: Option<LoginGone>,
}

/// Why a login is of no use any more, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginGone {
    /// `revoked on 21 Nov 09:14 UTC (signed out in another place)`
    pub words: String,
    /// Unix seconds.
    pub at: u64,
}

impl LoginGone {
    pub(super) fn of(ended: &LoginEnd) -> Self {
        Self { words: ended.words(), at: ended.at }
    }
}

impl LoginInfo {
    pub(super) fn of(name: &str, login: &Login, now: u64) -> Self {
        let is_key = login.kind == LoginKind::ApiKey;
        Self {
            login: name.to_owned(),
            key: is_key.then(|| tail(login.bearer.reveal())),
            email: login.email.clone(),
            plan: login.plan.clone(),
            account: login.account.as_deref().map(short),
            base: login.base.to_string(),
            issuer: login.issuer.as_ref().map(|issuer| issuer.as_str().to_owned()),
            expires_at: login.expires_at,
            left: login.expires_at.map(|at| at.saturating_sub(now)),
            renews: login.refresh.is_some(),
            model: login.model.clone(),
            gone: login.ended_now(now).as_ref().map(LoginGone::of),
        }
    }

    /// `ada@example.org · plus · account 9f2c…`, `API key …a1b2 · metered · https://…`: who pays.
    #[must_use]
    pub fn said(&self) -> String {
        let account = self.account.as_ref().map(|account| format!("account {account}"));
        let parts = match &self.key {
            Some(key) => vec![format!("API key {key}"), "metered".to_owned(), self.base.clone()],
            None => {
                [self.email.clone(), self.plan.clone(), account].into_iter().flatten().collect()
            }
        };
        match parts.is_empty() {
            true => "an account that does not say whose it is".to_owned(),
            false => parts.join(" · "),
        }
    }

    /// The same, and where it differs from the `other` that says as much, what differs.
    #[must_use]
    pub fn said_beside(&self, other: &Self) -> String {
        let mut said = self.said();
        if said == other.said() {
            if self.key.is_none() && self.base != other.base {
                said = format!("{said} · for {}", self.base);
            }
            if let Some(issuer) = self.issuer.as_ref().filter(|_| self.issuer != other.issuer) {
                said = format!("{said} · by {issuer}");
            }
        }
        said
    }

    /// How long the token is good: `token good for 9 d 23 h`, `token ended`.
    #[must_use]
    pub fn good_for(&self) -> Option<String> {
        Some(match self.left? {
            0 => "token ended".to_owned(),
            left => format!("token good for {}", text::long_time(left)),
        })
    }
}

/// `…a1b2`, or `…` alone where that would be much of it.
fn tail(key: &str) -> String {
    let last = key.get(key.len().saturating_sub(SHOWN)..).filter(|_| key.len() >= TELLABLE_KEY);
    format!("…{}", last.unwrap_or_default())
}

/// `9f2c…`
fn short(account: &str) -> String {
    format!("{}…", account.chars().take(SHOWN).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_key_or_an_account_little_is_shown() {
        assert_eq!(tail("sk-proj-0123456789-0123456789-a1b2"), "…a1b2");
        assert_eq!(tail("sk-short-a1b2"), "…");
        assert_eq!(tail(""), "…");
        assert_eq!(short("9f2c0d1e-2222-4444-8888-000000000000"), "9f2c…");
    }
}
