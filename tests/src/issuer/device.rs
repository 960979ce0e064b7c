//! The code that is typed on another device, in the provider's own shape (A.9): the interval is a
//! text, what is pending is 403 or 404, and the issuer makes the PKCE pair itself.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::book::{Agreement, Book, DeviceCode};
use super::{CLIENT_ID, Device, jwt};
use crate::clock;
use crate::wire::plain::Plain;

fn text<'a>(body: &'a Value, name: &str) -> &'a str {
    body.get(name).and_then(Value::as_str).unwrap_or_default()
}

impl Book {
    pub(super) fn user_code(&mut self, body: &Value) -> Plain {
        if self.options.device == Device::Off {
            return Plain::json(404, &json!({"detail": "Not Found"}));
        }
        if text(body, "client_id") != CLIENT_ID {
            return Plain::error(400, "invalid_request_error", "invalid_client", "no such client");
        }
        let id = format!("deviceauth_{}", jwt::random(24));
        let letter = |byte: u8| char::from(b"BCDFGHJKLMNPQRSTVWXZ23456789"[usize::from(byte) % 28]);
        let letters: String = rand::random::<[u8; 8]>().map(letter).iter().collect();
        let user_code = format!("{}-{}", &letters[..4], &letters[4..]);
        let code =
            DeviceCode { user_code: user_code.clone(), polls: 0, polled: None, typed: false };
        self.devices.insert(id.clone(), code);
        self.secret("a device's id", &id);
        let interval = &self.options.interval;
        Plain::json(
            200,
            &json!({"device_auth_id": id, "user_code": user_code, "interval": interval}),
        )
    }

    pub(super) fn poll(&mut self, body: &Value) -> Plain {
        let (now, device) = (clock::now(), self.options.device);
        // An interval of nothing is a test's wish to be quick: five times a second is the least.
        let interval = self.options.interval.trim().parse().unwrap_or(0_u64) * 1000;
        let least = Duration::from_millis(interval.max(200)).mul_f32(0.75);
        let Some(code) = self.devices.get_mut(text(body, "device_auth_id")) else {
            return Plain::error(400, "invalid_request_error", "no_such_device", "unknown device");
        };
        if code.user_code != text(body, "user_code") {
            return Plain::error(400, "invalid_request_error", "no_such_code", "unknown code");
        }
        let hasty = code.polled.is_some_and(|last| now.duration_since(last) < least);
        code.polled = Some(now);
        code.polls += 1;
        code.typed |= matches!(device, Device::Types { after_polls } if code.polls > after_polls);
        let (typed, polls) = (code.typed, code.polls);
        if hasty {
            self.note("polled more often than the interval says");
        }
        if !typed {
            // The real one says either.
            let status = if polls % 2 == 1 { 403 } else { 404 };
            return Plain::error(status, "invalid_request_error", "pending", "not typed yet");
        }
        self.devices.remove(text(body, "device_auth_id"));
        let verifier = jwt::random(64);
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
        self.secret("a verifier", &verifier);
        let agreement = Agreement {
            account: self.options.account.clone(),
            redirect: format!("{}/deviceauth/callback", self.url),
            challenge: challenge.clone(),
            state: String::new(),
        };
        let code = self.code_for(agreement);
        Plain::json(
            200,
            &json!({
                "authorization_code": code, "code_challenge": challenge, "code_verifier": verifier,
            }),
        )
    }

    /// The person types it.
    pub(super) fn type_code(&mut self, user_code: &str) -> bool {
        let user_code = user_code.trim().to_ascii_uppercase();
        let code = self.devices.values_mut().find(|code| code.user_code == user_code);
        code.map(|code| code.typed = true).is_some()
    }
}
