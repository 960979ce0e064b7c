//! The code that a person types on another device, in the provider's own protocol, which is not
//! RFC 8628 (codex protocol, A.9).

use std::time::Duration;

use airlock_shared::secret::Secret;
use serde_json::{Value, json};

use super::answer::seconds;
use super::{CLIENT_ID, Issuer, IssuerError};

/// The interval between two polls, if the issuer gives none.
const INTERVAL: Duration = Duration::from_secs(5);
/// The interval if the issuer gives zero.
const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST_SECONDS: u64 = 60;

/// The longest id, code or verifier.
const SECRET_BYTES: usize = 4096;
/// The longest code that a person is asked to type.
const USER_CODE_BYTES: usize = 32;

/// A code that a person types on another device.
pub struct DeviceCode {
    pub id: Secret,
    pub user_code: String,
    /// The interval between two polls, at most one minute.
    pub interval: Duration,
    /// The page where the code is typed.
    pub page: String,
}

/// The result after the person has typed the code. The issuer made both (A.9).
pub struct DeviceGrant {
    pub code: Secret,
    pub verifier: Secret,
}

impl Issuer {
    /// Requests a code.
    ///
    /// # Errors
    /// `Refused` with 404: this issuer has no sign-in by device code.
    pub async fn device_code(&self) -> Result<DeviceCode, IssuerError> {
        let body = json!({ "client_id": CLIENT_ID });
        let answer = self.ask_json("/api/accounts/deviceauth/usercode", &body).await?;
        let json = answer.json(&[], false)?;
        let user_code = json["user_code"].as_str().or_else(|| json["usercode"].as_str());
        // THREAT: the code is shown in the terminal, and a hostile issuer sends control characters.
        // Tried by auth::issuer::tests::a_user_code_is_letters_and_digits.
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

    /// Polls once. `None`: the person has not typed the code yet.
    ///
    /// # Errors
    /// The request failed.
    pub async fn device_poll(&self, code: &DeviceCode) -> Result<Option<DeviceGrant>, IssuerError> {
        let body = json!({ "device_auth_id": code.id.reveal(), "user_code": code.user_code });
        let answer = self.ask_json("/api/accounts/deviceauth/token", &body).await?;
        let json = match answer.json(&[&code.id], false) {
            // 403 and 404 mean that the code is not typed yet. A proxy's answer is an
            // `Intercepted`.
            Err(IssuerError::Refused { status: 403 | 404, .. }) => return Ok(None),
            other => other?,
        };
        Ok(Some(DeviceGrant {
            code: secret(&json, "authorization_code")?,
            verifier: secret(&json, "code_verifier")?,
        }))
    }

    /// The redirect URL that the exchange of a device's code must name (A.9).
    #[must_use]
    pub fn device_redirect(&self) -> String {
        format!("{}/deviceauth/callback", self.url)
    }
}

fn secret(json: &Value, name: &str) -> Result<Secret, IssuerError> {
    let text = json[name].as_str().filter(|text| {
        (1..=SECRET_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    });
    let text = text.ok_or(IssuerError::Malformed("lacks a field of the protocol"))?;
    Ok(Secret::new(text.to_owned()))
}
