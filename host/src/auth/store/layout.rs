//! The JSON of one login.
//!
//! ```text
//! {"v":2,"kind":"chatgpt"|"api_key","base":"…","issuer":"…"?,"api_key"?|"access_token"?,
//!  "refresh_token"?,"account_id"?,"email"?,"plan"?,"expires_at"?,"signed_in_at"?,"refreshed_at"?,
//!  "generation":n,"model"?:"…","intent"?:{"token":"<sha256>","at":unix},"ended"?:{"why":"…","token","at"}}
//! ```
//!
//! Version 1 has fewer fields. It is read, and the next write makes it version 2. A newer version
//! is refused.

use airlock_shared::base::Base;
use airlock_shared::model::is_slug;
use airlock_shared::secret::Secret;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Login, LoginEnd, LoginKind, RefreshIntent};
use crate::auth::claims::{is_account_id, is_claim_text};
use crate::auth::issuer::IssuerUrl;
use crate::auth::{AuthError, CREDENTIAL_BYTES, checked};

const VERSION: u32 = 2;
/// Room for two tokens of the greatest length and the rest.
pub(super) const FILE_BYTES: usize = 4 * CREDENTIAL_BYTES;

#[derive(Deserialize)]
struct Version {
    v: u32,
}

#[derive(Deserialize)]
struct StoredFields {
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

/// The same fields, borrowed. Only this type serializes secrets.
#[derive(Serialize)]
struct StoredFieldsRef<'a> {
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
    let not_a_login = |_| malformed("it is not a login of airlock");
    let Version { v } = serde_json::from_slice(text).map_err(not_a_login)?;
    if v == 0 || v > VERSION {
        return Err(malformed("its version is not supported"));
    }
    let fields: StoredFields = serde_json::from_slice(text).map_err(not_a_login)?;
    let base = Base::parse(&fields.base).map_err(|_| malformed("its base is not a URL"))?;
    let issuer = fields.issuer.as_deref().map(IssuerUrl::parse).transpose();
    let issuer = issuer.map_err(|_| malformed("its issuer is not a URL"))?;
    let bearer = match fields.kind {
        LoginKind::ApiKey => fields.api_key,
        LoginKind::ChatGpt => fields.access_token,
    };
    let bearer = checked(&bearer.ok_or_else(missing)?, place)?;
    let refresh = fields.refresh_token.map(|token| checked(&token, place)).transpose()?;
    if refresh.is_some() && issuer.is_none() {
        return Err(malformed("it has a refresh token and no issuer"));
    }
    if !fields.account_id.as_deref().is_none_or(is_account_id) {
        return Err(malformed("its account id is not valid"));
    }
    for shown in [&fields.email, &fields.plan] {
        if !shown.as_deref().is_none_or(is_claim_text) {
            return Err(malformed("its email or plan is not valid"));
        }
    }
    if !fields.model.as_deref().is_none_or(is_slug) {
        return Err(malformed("its model is not valid"));
    }
    Ok(Login {
        kind: fields.kind,
        base,
        issuer,
        bearer,
        refresh,
        account: fields.account_id,
        email: fields.email,
        plan: fields.plan,
        expires_at: fields.expires_at,
        signed_in_at: fields.signed_in_at,
        refreshed_at: fields.refreshed_at,
        generation: fields.generation,
        model: fields.model,
        intent: fields.intent,
        ended: fields.ended,
    })
}

/// `None`: it would be longer than [`FILE_BYTES`].
pub(super) fn serialize(login: &Login) -> Option<Zeroizing<Vec<u8>>> {
    let bearer = |kind| (login.kind == kind).then(|| login.bearer.reveal());
    let written = StoredFieldsRef {
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
    // Enough capacity from the start: a buffer that grows leaves copies of a token in memory.
    let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES * 2));
    serde_json::to_writer(&mut *text, &written).ok()?;
    text.push(b'\n');
    (text.len() <= FILE_BYTES).then_some(text)
}
