//! What a token says about its owner: the payload of a JWT. It is used only to show the account and
//! to know when to renew the token. The signature is not verified, because the token came from the
//! issuer over TLS (codex protocol, A.7).

use airlock_shared::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use zeroize::Zeroizing;

use super::CREDENTIAL_BYTES;

/// The longest text of a claim. A longer one is ignored.
const CLAIM_BYTES: usize = 256;
const AUTH: &str = "https://api.openai.com/auth";
const PROFILE: &str = "https://api.openai.com/profile";

/// The claims that were found. Each may be missing, and none is secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    pub email: Option<String>,
    /// `free`, `plus`, `pro`, `team`, …; an unknown plan stays as it is.
    pub plan: Option<String>,
    pub account: Option<String>,
    /// Unix seconds, by the issuer's clock.
    pub issued: Option<u64>,
    /// Unix seconds, by the issuer's clock.
    pub expires: Option<u64>,
}

impl Claims {
    /// `None`: it is not a JWT.
    #[must_use]
    pub fn parse(token: &Secret) -> Option<Self> {
        let token = token.reveal();
        let mut parts = token.split('.');
        let (_header, payload) = (parts.next()?, parts.next()?);
        let _signature = parts.next()?;
        if parts.next().is_some() || token.len() > CREDENTIAL_BYTES {
            return None;
        }
        let payload = payload.trim_end_matches('=');
        let payload = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload).ok()?);
        let claims: Value = serde_json::from_slice(&payload).ok()?;
        let claims = claims.as_object()?;
        let (auth, profile) = (claims.get(AUTH), claims.get(PROFILE));
        let auth_claim = |name: &str| claim_text(auth?.get(name)?);
        Some(Self {
            email: claims
                .get("email")
                .and_then(claim_text)
                .or_else(|| claim_text(profile?.get("email")?)),
            plan: auth_claim("chatgpt_plan_type").map(plan),
            account: auth_claim("chatgpt_account_id").filter(|id| is_account_id(id)),
            issued: claims.get("iat").and_then(seconds),
            expires: claims.get("exp").and_then(seconds),
        })
    }

    /// These claims, with those that are missing taken from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            email: self.email.or(other.email),
            plan: self.plan.or(other.plan),
            account: self.account.or(other.account),
            issued: self.issued.or(other.issued),
            expires: self.expires.or(other.expires),
        }
    }

    /// Seconds from issue to expiry. This holds even if this machine's clock is wrong.
    #[must_use]
    pub fn lifetime(&self) -> Option<u64> {
        self.expires?.checked_sub(self.issued?)
    }
}

/// A text that is not empty, not too long, and has no control characters.
pub(super) fn claim_text(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    is_claim_text(text).then(|| text.to_owned())
}

/// Whether [`claim_text`] accepts it.
pub(super) fn is_claim_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= CLAIM_BYTES && !text.chars().any(char::is_control)
}

/// Whether it can be the id of an account, which is sent as a header.
pub(super) fn is_account_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= CLAIM_BYTES && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Some plans have two names; this gives the usual one.
fn plan(name: String) -> String {
    match name.as_str() {
        "hc" => "enterprise".to_owned(),
        "education" => "edu".to_owned(),
        _ => name,
    }
}

/// Some issuers write seconds with a fraction.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked before the cast"
)]
fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let seconds = value.as_f64()?;
        (0.0..1e15).contains(&seconds).then_some(seconds as u64)
    })
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// A token in the issuer's format, with a meaningless signature.
    pub(in crate::auth) fn jwt(claims: &Value) -> Secret {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let (header, claims) = (part(r#"{"alg":"RS256"}"#), part(&claims.to_string()));
        Secret::new(format!("{header}.{claims}.c2lnbmF0dXJl"))
    }

    #[test]
    fn the_claims_of_a_token_are_found() {
        let id = jwt(&json!({
            "email": "ada@example.org", "iat": 1_000, "exp": 865_000.5,
            AUTH: {"chatgpt_plan_type": "plus", "chatgpt_account_id": "acct-1"},
        }));
        let expected = Claims {
            email: Some("ada@example.org".into()),
            plan: Some("plus".into()),
            account: Some("acct-1".into()),
            issued: Some(1_000),
            expires: Some(865_000),
        };
        assert_eq!(Claims::parse(&id), Some(expected.clone()));
        assert_eq!(expected.lifetime(), Some(864_000));
        let access = jwt(&json!({PROFILE: {"email": "b@example.org"},
            AUTH: {"chatgpt_plan_type": "hc"}}));
        let access = Claims::parse(&access).expect("a token");
        assert_eq!(access.email.as_deref(), Some("b@example.org"));
        assert_eq!(access.plan.as_deref(), Some("enterprise"));
        let both = access.or(expected);
        assert_eq!(
            (both.email.as_deref(), both.account.as_deref()),
            (Some("b@example.org"), Some("acct-1"))
        );
    }

    #[test]
    fn a_text_that_could_control_a_terminal_or_a_header_is_ignored() {
        let token = jwt(&json!({
            "email": "\u{1b}[2J", "exp": -1, "iat": "soon",
            AUTH: {"chatgpt_plan_type": "x".repeat(300), "chatgpt_account_id": "a\r\nx: 1"},
        }));
        assert_eq!(Claims::parse(&token), Some(Claims::default()));
        for none in ["", "a.b", "a.b.c", "a.e30.c.d", "sk-key", "a.W10.c"] {
            assert_eq!(Claims::parse(&Secret::new(none.to_owned())), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn no_input_makes_it_panic(text in ".{0,400}", bytes in any::<Vec<u8>>()) {
            let _nothing = Claims::parse(&Secret::new(text));
            let payload = URL_SAFE_NO_PAD.encode(&bytes);
            let _nothing = Claims::parse(&Secret::new(format!("a.{payload}.c")));
        }

        #[test]
        fn claims_survive_encoding_and_parsing(
            email in "[a-z]{1,20}@[a-z]{1,20}", plan in "[a-z_]{1,20}", account in "[!-~]{1,80}",
            issued in 0..1_u64 << 48, lifetime in 0..1_u64 << 40,
        ) {
            let token = jwt(&json!({"email": email, "iat": issued, "exp": issued + lifetime,
                AUTH: {"chatgpt_plan_type": plan, "chatgpt_account_id": account}}));
            let claims = Claims::parse(&token).expect("a token");
            prop_assert_eq!(claims.lifetime(), Some(lifetime));
            prop_assert_eq!(claims.email, Some(email));
            prop_assert_eq!(claims.account, Some(account));
            prop_assert_eq!(claims.plan, Some(super::plan(plan)));
        }
    }
}
