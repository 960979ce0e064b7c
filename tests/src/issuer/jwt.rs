//! Tokens that look like the real ones (A.7): three parts, a header that says RS256, claims at their
//! places, and a signature that is noise.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rand::Rng as _;
use serde_json::{Value, json};

use super::{Account, CLIENT_ID};

/// This many random bytes in base64url, without padding.
pub(super) fn random(bytes: usize) -> String {
    let mut noise = vec![0; bytes];
    rand::rng().fill_bytes(&mut noise);
    BASE64_URL_SAFE_NO_PAD.encode(noise)
}

fn token(claims: &Value) -> String {
    let header = json!({"alg": "RS256", "kid": "19344e65-scripted", "typ": "JWT"});
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(&header), part(claims), random(256))
}

/// What an access token says.
pub(super) fn access(issuer: &str, account: &Account, now: u64, lifetime: u64) -> String {
    token(&json!({
        "aud": ["https://api.openai.com/v1"], "client_id": CLIENT_ID, "iss": issuer,
        "iat": now, "nbf": now, "exp": now + lifetime, "jti": random(16),
        "https://api.openai.com/auth": of(account),
        "https://api.openai.com/profile": {"email": account.email, "email_verified": true},
        "pwd_auth_time": now * 1000, "scp": ["openid", "profile", "email", "offline_access"],
        "session_id": format!("authsess_{}", random(12)), "sub": account.user,
    }))
}

/// What an id token says.
pub(super) fn id(issuer: &str, account: &Account, now: u64) -> String {
    let mut auth = of(account);
    auth["completed_platform_onboarding"] = json!(true);
    auth["is_org_owner"] = json!(true);
    auth["organization_id"] = json!("org-scripted");
    auth["project_id"] = json!("proj_scripted");
    auth["organizations"] =
        json!([{"id": "org-scripted", "is_default": true, "role": "owner", "title": "Personal"}]);
    token(&json!({
        "aud": [CLIENT_ID], "iss": issuer, "iat": now, "exp": now + 3600, "at_hash": random(16),
        "auth_provider": "password", "email": account.email, "email_verified": true,
        "https://api.openai.com/auth": auth, "name": account.user, "sub": account.user,
    }))
}

fn of(account: &Account) -> Value {
    json!({
        "chatgpt_account_id": account.id, "chatgpt_plan_type": account.plan,
        "chatgpt_user_id": account.user, "user_id": account.user,
    })
}
