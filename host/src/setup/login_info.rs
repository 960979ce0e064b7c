//! The parts of a login that may be shown: its account, how long it is valid, why it ended. It
//! holds no secret.

use crate::auth::store::{Login, LoginEnd, LoginKind};
use crate::text;

/// Of a shorter key no characters are shown: four would be too much of it.
const MIN_KEY_TO_SHOW: usize = 24;
/// How many characters of an account, or of the end of a key, are shown.
const SHOWN: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginInfo {
    /// The login's name.
    pub login: String,
    /// The last characters of an API key; `None` for a ChatGPT login.
    pub key: Option<String>,
    pub email: Option<String>,
    pub plan: Option<String>,
    /// The first characters of the account id.
    pub account: Option<String>,
    /// The base that its credential may go to.
    pub base: String,
    /// The issuer, the only one that may renew it.
    pub issuer: Option<String>,
    /// Unix seconds; `None`: it is valid until the backend refuses it.
    pub expires_at: Option<u64>,
    /// Seconds until it expires.
    pub left: Option<u64>,
    /// It is renewed automatically.
    pub renews: bool,
    /// The model that the person chose for it.
    pub model: Option<String>,
    /// Why it cannot be used any more.
    pub gone: Option<LoginGone>,
}

/// Why a login cannot be used any more, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginGone {
    /// `revoked on 21 Nov 09:14 UTC (signed out in another place)`
    pub reason: String,
    /// Unix seconds.
    pub at: u64,
}

impl LoginGone {
    pub(super) fn new(ended: &LoginEnd) -> Self {
        Self { reason: ended.describe(), at: ended.at }
    }
}

impl LoginInfo {
    pub(super) fn new(name: &str, login: &Login, now: u64) -> Self {
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
            gone: login.ended_now(now).as_ref().map(LoginGone::new),
        }
    }

    /// `ada@example.org · plus · account 9f2c…`, `API key …a1b2 · metered · https://…`.
    #[must_use]
    pub fn describe(&self) -> String {
        let account = self.account.as_ref().map(|account| format!("account {account}"));
        let parts = match &self.key {
            Some(key) => vec![format!("API key {key}"), "metered".to_owned(), self.base.clone()],
            None => {
                [self.email.clone(), self.plan.clone(), account].into_iter().flatten().collect()
            }
        };
        match parts.is_empty() {
            true => "an unknown account".to_owned(),
            false => parts.join(" · "),
        }
    }

    /// The same; if the `other` has the same description, with what differs.
    #[must_use]
    pub fn describe_beside(&self, other: &Self) -> String {
        let mut text = self.describe();
        if text == other.describe() {
            if self.key.is_none() && self.base != other.base {
                text = format!("{text} · for {}", self.base);
            }
            if let Some(issuer) = self.issuer.as_ref().filter(|_| self.issuer != other.issuer) {
                text = format!("{text} · by {issuer}");
            }
        }
        text
    }

    /// How long the token is valid: `token good for 9 d 23 h`, `token expired`.
    #[must_use]
    pub fn good_for(&self) -> Option<String> {
        Some(match self.left? {
            0 => "token expired".to_owned(),
            left => format!("token good for {}", text::long_time(left)),
        })
    }
}

/// `…a1b2`, or `…` alone for a short key.
fn tail(key: &str) -> String {
    let last = key.get(key.len().saturating_sub(SHOWN)..).filter(|_| key.len() >= MIN_KEY_TO_SHOW);
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
    fn only_a_few_characters_of_a_key_or_an_account_are_shown() {
        assert_eq!(tail("sk-proj-0123456789-0123456789-a1b2"), "…a1b2");
        assert_eq!(tail("sk-short-a1b2"), "…");
        assert_eq!(tail(""), "…");
        assert_eq!(short("9f2c0d1e-2222-4444-8888-000000000000"), "9f2c…");
    }
}
