//! The code that a person types on another device, in the provider's own shape, which is not that
//! of RFC 8628 (codex protocol, A.9).

use std::time::Duration;

use airlock_shared::secret::Secret;
use serde_json::{Value, json};

use super::answer::seconds;
use super::{CLIENT_ID, Issuer, IssuerError};

/// Between two polls, where the issuer does not say.
const INTERVAL: Duration = Duration::from_secs(5);
/// What an interval of zero means.
const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST_SECONDS: u64 = 60;

/// The longest id, and code and verifier of a grant.
const SECRET_BYTES: usize = 4096;
/// The longest code that a person is asked to type.
const USER_CODE_BYTES: usize = 32;

/// A code that a person types on another device.
pub struct DeviceCode {
    pub id: Secret,
    pub user_code: String,
    /// Between two polls, a minute at most.
    pub interval: Duration,
    /// The page where it is typed.
    pub page: String,
}

/// The person has typed it: the issuer made code and verifier itself (A.9).
pub struct DeviceGrant {
    pub code: Secret,
    pub verifier: Secret,
}

impl Issuer {
    /// # Errors
    /// `Refused` with 404 where this issuer has no device login.
    pub async fn device_code(&self) -> Result<DeviceCode, IssuerError> {
        let body = json!({ "client_id": CLIENT_ID });
        let answer = self.ask_json("/api/accounts/deviceauth/usercode", &body).await?;
        let json = answer.json(&[], false)?;
        let user_code = json["user_code"].as_str().or_else(|| json["usercode"].as_str());
        // THREAT: the code is shown on the terminal; an issuer that is not ours draws on it.
        // Tried by auth::issuer::a_user_code_is_letters_and_digits.
        let plain = |code: &&str| {
            (1..=USER_CODE_BYTES).contains(&code.len())
                && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let user_code = user_code.filter(plain);
        let user_code = user_code.ok_or(IssuerError::Malformed("holds no code to type"))?;
        Ok(DeviceCode {
            id: secret(&json, "device_auth_id")?,
            user_code: user_code.to_owned(),
            interval: match seconds(&json["interval"]) {
                None => INTERVAL,
                Some(0) => SHORTEST,
                Some(seconds) => Duration::from_secs(seconds.min(LONGEST_SECONDS)),
            },
            page: format!("{}/codex/device", self.url),
        })
    }

    /// None: not typed yet.
    ///
    /// # Errors
    /// As it is.
    pub async fn device_poll(&self, code: &DeviceCode) -> Result<Option<DeviceGrant>, IssuerError> {
        let body = json!({ "device_auth_id": code.id.reveal(), "user_code": code.user_code });
        let answer = self.ask_json("/api/accounts/deviceauth/token", &body).await?;
        let json = match answer.json(&[&code.id], false) {
            // 403 and 404 say that nobody has typed it, unless somebody on the way says them.
            Err(IssuerError::Refused { status: 403 | 404, .. }) => return Ok(None),
            other => other?,
        };
        Ok(Some(DeviceGrant {
            code: secret(&json, "authorization_code")?,
            verifier: secret(&json, "code_verifier")?,
        }))
    }

    /// Where the issuer sends the code of a device, and what its exchange must name (A.9).
    #[must_use]
    pub fn device_redirect(&self) -> String {
        format!("{}/deviceauth/callback", self.url)
    }
}

fn secret(json: &Value, name: &str) -> Result<Secret, IssuerError> {
    let text = json[name].as_str().filter(|text| {
        (1..=SECRET_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    });
    let text = text.ok_or(IssuerError::Malformed("does not hold what was agreed"))?;
    Ok(Secret::new(text.to_owned()))
}
