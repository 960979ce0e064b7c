//! What a token of the issuer says of its owner: the payload of a JWT, read and never trusted for
//! more than what a person is shown and when to ask for the next one. The signature is not
//! verified: the token came from the issuer itself over TLS (codex protocol, A.7).

use airlock_shared::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use zeroize::Zeroizing;

use super::CREDENTIAL_BYTES;

/// The longest text of a claim; a longer one is no claim of ours.
const CLAIM_BYTES: usize = 256;
const AUTH: &str = "https://api.openai.com/auth";
const PROFILE: &str = "https://api.openai.com/profile";

/// What was found; every part may be missing. Nothing in it is secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    pub email: Option<String>,
    /// `free`, `plus`, `pro`, `team`, … ; one not known here is kept as it is.
    pub plan: Option<String>,
    pub account: Option<String>,
    /// Unix seconds, by the issuer's clock.
    pub issued: Option<u64>,
    /// Unix seconds, by the issuer's clock.
    pub expires: Option<u64>,
}

impl Claims {
    /// None: it is not a JWT.
    #[must_use]
    pub fn of(token: &Secret) -> Option<Self> {
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
        let of_auth = |name: &str| text(auth?.get(name)?);
        Some(Self {
            email: claims.get("email").and_then(text).or_else(|| text(profile?.get("email")?)),
            plan: of_auth("chatgpt_plan_type").map(plan),
            account: of_auth("chatgpt_account_id").filter(|id| is_plain(id)),
            issued: claims.get("iat").and_then(seconds),
            expires: claims.get("exp").and_then(seconds),
        })
    }

    /// What is missing here is taken from there.
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

    /// Seconds from issue to expiry: good on a machine whose clock is wrong.
    #[must_use]
    pub fn lifetime(&self) -> Option<u64> {
        self.expires?.checked_sub(self.issued?)
    }
}

/// A text that is not empty, not long, and holds nothing that steers a terminal or a file.
pub(super) fn text(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    is_text(text).then(|| text.to_owned())
}

/// As [`text`] takes it.
pub(super) fn is_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= CLAIM_BYTES && !text.chars().any(char::is_control)
}

/// Whether it may be an account's id, which becomes a header.
pub(super) fn is_plain(id: &str) -> bool {
    !id.is_empty() && id.len() <= CLAIM_BYTES && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Two names of the same plans.
fn plan(name: String) -> String {
    match name.as_str() {
        "hc" => "enterprise".to_owned(),
        "education" => "edu".to_owned(),
        _ => name,
    }
}

/// JSON knows one kind of number: some issuers write seconds with a fraction.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "only what is a number of seconds that fits is cast"
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

    /// A token as the issuer makes them, signed by nobody.
    pub(in crate::auth) fn jwt(claims: &Value) -> Secret {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let (header, claims) = (part(r#"{"alg":"RS256"}"#), part(&claims.to_string()));
        Secret::new(format!("{header}.{claims}.c2lnbmF0dXJl"))
    }

    #[test]
    fn what_a_token_says_is_found() {
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
        assert_eq!(Claims::of(&id), Some(expected.clone()));
        assert_eq!(expected.lifetime(), Some(864_000));
        let access = jwt(&json!({PROFILE: {"email": "b@example.org"},
            AUTH: {"chatgpt_plan_type": "hc"}}));
        let access = Claims::of(&access).expect("a token");
        assert_eq!(access.email.as_deref(), Some("b@example.org"));
        assert_eq!(access.plan.as_deref(), Some("enterprise"));
        let both = access.or(expected);
        assert_eq!(
            (both.email.as_deref(), both.account.as_deref()),
            (Some("b@example.org"), Some("acct-1"))
        );
    }

    #[test]
    fn what_would_steer_a_terminal_or_a_header_is_no_claim() {
        let token = jwt(&json!({
            "email": "\u{1b}[2J", "exp": -1, "iat": "soon",
            AUTH: {"chatgpt_plan_type": "x".repeat(300), "chatgpt_account_id": "a\r\nx: 1"},
        }));
        assert_eq!(Claims::of(&token), Some(Claims::default()));
        for none in ["", "a.b", "a.b.c", "a.e30.c.d", "sk-key", "a.W10.c"] {
            assert_eq!(Claims::of(&Secret::new(none.to_owned())), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn anything_at_all_is_read_without_harm(text in ".{0,400}", bytes in any::<Vec<u8>>()) {
            let _nothing = Claims::of(&Secret::new(text));
            let payload = URL_SAFE_NO_PAD.encode(&bytes);
            let _nothing = Claims::of(&Secret::new(format!("a.{payload}.c")));
        }

        #[test]
        fn what_was_put_in_comes_out(
            email in "[a-z]{1,20}@[a-z]{1,20}", plan in "[a-z_]{1,20}", account in "[!-~]{1,80}",
            issued in 0..1_u64 << 48, lifetime in 0..1_u64 << 40,
        ) {
            let token = jwt(&json!({"email": email, "iat": issued, "exp": issued + lifetime,
                AUTH: {"chatgpt_plan_type": plan, "chatgpt_account_id": account}}));
            let claims = Claims::of(&token).expect("a token");
            prop_assert_eq!(claims.lifetime(), Some(lifetime));
            prop_assert_eq!(claims.email, Some(email));
            prop_assert_eq!(claims.account, Some(account));
            prop_assert_eq!(claims.plan, Some(super::plan(plan)));
        }
    }
}
