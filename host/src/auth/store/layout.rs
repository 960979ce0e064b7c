//! One login as the text of a file.
//!
//! ```text
//! {"v":2,"kind":"chatgpt"|"api_key","base":"…","issuer":"…"?,"api_key"?|"access_token"?,
//!  "refresh_token"?,"account_id"?,"email"?,"plan"?,"expires_at"?,"signed_in_at"?,"refreshed_at"?,
//!  "generation":n,"model"?:"…","intent"?:{"token":"<sha256>","at":unix},"ended"?:{"why":"…","token","at"}}
//! ```
//!
//! Version 1 knew less and is read as it is; the next write makes it version 2. A newer version is
//! refused by its number, whatever else it holds.

use airlock_shared::base::Base;
use airlock_shared::model::is_slug;
use airlock_shared::secret::Secret;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Login, LoginEnd, LoginKind, RefreshIntent};
use crate::auth::claims::{is_plain, is_text};
use crate::auth::issuer::IssuerUrl;
use crate::auth::{AuthError, CREDENTIAL_BYTES, checked};

const VERSION: u32 = 2;
/// Two tokens of the longest kind, and a little.
pub(super) const FILE_BYTES: usize = 4 * CREDENTIAL_BYTES;

#[derive(Deserialize)]
struct Version {
    v: u32,
}

#[derive(Deserialize)]
struct Wire {
    kind: LoginKind,
    base: String,
    issuer: Option<String>,
    api_key: Option<Secret>,
    access_token: Option<Secret>,
    refresh_token: Option<Secret>,
    account_id: Option<String>,
    email: Option<String>,
    plan: Option<String>,
    expires_at: Option<u64>,
    signed_in_at: Option<u64>,
    refreshed_at: Option<u64>,
    #[serde(default)]
    generation: u64,
    model: Option<String>,
    intent: Option<RefreshIntent>,
    ended: Option<LoginEnd>,
}

/// The same with everything borrowed: a secret is written here and nowhere else.
#[derive(Serialize)]
struct Written<'a> {
    v: u32,
    kind: LoginKind,
    base: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_in_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refreshed_at: Option<u64>,
    generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<&'a RefreshIntent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<&'a LoginEnd>,
}

/// `place` is for messages.
pub(super) fn parse(text: &[u8], place: &str) -> Result<Login, AuthError> {
    let malformed = |why| AuthError::Malformed { place: place.to_owned(), why };
    let missing = || AuthError::Missing { place: place.to_owned() };
    let not_ours = |_| malformed("it is not a login of ours");
    let Version { v } = serde_json::from_slice(text).map_err(not_ours)?;
    if v == 0 || v > VERSION {
        return Err(malformed("it is of another version"));
    }
    let wire: Wire = serde_json::from_slice(text).map_err(not_ours)?;
    let base = Base::parse(&wire.base).map_err(|_| malformed("its base is not a URL"))?;
    let issuer = wire.issuer.as_deref().map(IssuerUrl::parse).transpose();
    let issuer = issuer.map_err(|_| malformed("its issuer is not a URL"))?;
    let bearer = match wire.kind {
        LoginKind::ApiKey => wire.api_key,
        LoginKind::ChatGpt => wire.access_token,
    };
    let bearer = checked(&bearer.ok_or_else(missing)?, place)?;
    let refresh = wire.refresh_token.map(|token| checked(&token, place)).transpose()?;
    if refresh.is_some() && issuer.is_none() {
        return Err(malformed("it has a refresh token and no issuer"));
    }
    if !wire.account_id.as_deref().is_none_or(is_plain) {
        return Err(malformed("its account is not one"));
    }
    for shown in [&wire.email, &wire.plan] {
        if !shown.as_deref().is_none_or(is_text) {
            return Err(malformed("its email or plan is not one"));
        }
    }
    if !wire.model.as_deref().is_none_or(is_slug) {
        return Err(malformed("its model is not one"));
    }
    Ok(Login {
        kind: wire.kind,
        base,
        issuer,
        bearer,
        refresh,
        account: wire.account_id,
        email: wire.email,
        plan: wire.plan,
        expires_at: wire.expires_at,
        signed_in_at: wire.signed_in_at,
        refreshed_at: wire.refreshed_at,
        generation: wire.generation,
        model: wire.model,
        intent: wire.intent,
        ended: wire.ended,
    })
}

/// None: it would be longer than what is read again.
pub(super) fn text(login: &Login) -> Option<Zeroizing<Vec<u8>>> {
    let bearer = |kind| (login.kind == kind).then(|| login.bearer.reveal());
    let written = Written {
        v: VERSION,
        kind: login.kind,
        base: login.base.to_string(),
        issuer: login.issuer.as_ref().map(IssuerUrl::as_str),
        api_key: bearer(LoginKind::ApiKey),
        access_token: bearer(LoginKind::ChatGpt),
        refresh_token: login.refresh.as_ref().map(Secret::reveal),
        account_id: login.account.as_deref(),
        email: login.email.as_deref(),
        plan: login.plan.as_deref(),
        expires_at: login.expires_at,
        signed_in_at: login.signed_in_at,
        refreshed_at: login.refreshed_at,
        generation: login.generation,
        model: login.model.as_deref(),
        intent: login.intent.as_ref(),
        ended: login.ended.as_ref(),
    };
    // The room is there before, so that growing leaves no copy of a token behind.
    let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES * 2));
    serde_json::to_writer(&mut *text, &written).ok()?;
    text.push(b'\n');
    (text.len() <= FILE_BYTES).then_some(text)
}
