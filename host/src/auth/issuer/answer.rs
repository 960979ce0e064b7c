//! Turns an answer (status, headers, body) into a value or an [`IssuerError`].

use airlock_shared::secret::Secret;
use http::{HeaderMap, StatusCode, header};
use serde_json::Value;
use zeroize::Zeroizing;

use super::super::CREDENTIAL_BYTES;
use super::super::store::EndReason;
use super::message::sanitized;
use super::{IssuerError, Tokens};

/// The longest body that is read.
pub(super) const BODY_BYTES: usize = 64 << 10;
/// How much of a web page is searched for marks of Cloudflare.
const PAGE_BYTES: usize = 16 << 10;

/// A complete answer.
pub(super) struct IssuerAnswer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl IssuerAnswer {
    /// The server's clock, Unix seconds.
    pub(super) fn date(&self) -> Option<u64> {
        let text = self.headers.get(header::DATE)?.to_str().ok()?;
        let date = jiff::fmt::rfc2822::parse(text).ok()?;
        date.timestamp().as_second().try_into().ok()
    }

    /// The JSON of a successful answer. `sent`: secrets that must not be in an error. `is_refresh`:
    /// a refusal may mean that the login has ended.
    pub(super) fn json(&self, sent: &[&Secret], is_refresh: bool) -> Result<Value, IssuerError> {
        self.success(sent, is_refresh)?;
        if self.body.len() > BODY_BYTES {
            return Err(IssuerError::Malformed("is too long"));
        }
        serde_json::from_slice(&self.body).map_err(|_| IssuerError::Malformed("is not JSON"))
    }

    /// Whether the request succeeded.
    pub(super) fn success(&self, sent: &[&Secret], is_refresh: bool) -> Result<(), IssuerError> {
        let status = self.status.as_u16();
        if let Some(reason) = self.interception() {
            return Err(IssuerError::Intercepted(reason));
        }
        if self.status.is_success() {
            return match self.is_page() {
                false => Ok(()),
                true => Err(IssuerError::Intercepted(format!(
                    "a web page came instead of its answer ({status}): this network may need its \
                     own sign-in first; open any page in a browser"
                ))),
            };
        }
        let json: Option<Value> = serde_json::from_slice(&self.body).ok();
        let code = json.as_ref().and_then(code);
        if is_refresh && let Some(why) = code.as_deref().and_then(|code| end_reason(status, code)) {
            return Err(IssuerError::Gone { why, message: self.message(sent) });
        }
        match status {
            408 | 429 | 500.. => Err(IssuerError::Busy { status }),
            _ if self.is_page() && status != 404 => Err(IssuerError::Intercepted(format!(
                "a web page came instead of its answer ({status}): a proxy or firewall of this \
                 network may block it"
            ))),
            _ => Err(IssuerError::Refused { status, message: self.message(sent) }),
        }
    }

    /// The reason, if another server answered instead of the issuer.
    fn interception(&self) -> Option<String> {
        let status = self.status.as_u16();
        let mitigated = self.headers.get("cf-mitigated").is_some_and(|value| value == "challenge");
        if mitigated || (self.is_page() && is_challenge(&self.body)) {
            return Some(format!(
                "Cloudflare blocks this network for programs ({status}, a challenge): try again \
                 later, from another network, or without a VPN"
            ));
        }
        if status == 407 {
            return Some(proxy_password());
        }
        if status == 511 || self.status.is_redirection() {
            return Some(format!(
                "a redirect came instead of its answer ({status}): this network may need its own \
                 sign-in first; open any page in a browser"
            ));
        }
        None
    }

    fn is_page(&self) -> bool {
        let kind = self.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().trim_start().to_ascii_lowercase();
        kind.starts_with("text/html")
            || kind.starts_with("application/xhtml")
            || self.body.trim_ascii_start().starts_with(b"<")
    }

    fn message(&self, sent: &[&Secret]) -> String {
        if self.is_page() {
            return "it answered with a web page".to_owned();
        }
        let text = String::from_utf8_lossy(&self.body);
        let json: Option<Value> = serde_json::from_str(&text).ok();
        let message = json.as_ref().map_or(Some(text.into_owned()), description);
        let message = sanitized(&message.unwrap_or_default(), sent);
        if message.is_empty() { "it gave no reason".to_owned() } else { message }
    }
}

/// The message for a proxy that needs a password.
pub(super) fn proxy_password() -> String {
    "the proxy of this machine needs a user and a password (407): \
     HTTPS_PROXY=http://USER:PASSWORD@PROXY:PORT"
        .to_owned()
}

fn is_challenge(body: &[u8]) -> bool {
    let page = String::from_utf8_lossy(&body[..body.len().min(PAGE_BYTES)]);
    ["/cdn-cgi/challenge-platform/", "_cf_chl_opt", "cf-chl-", "<title>Just a moment...</title>"]
        .iter()
        .any(|mark| page.contains(mark))
}

/// `error.code`, `error` or `code`, lower-cased (B.4).
fn code(json: &Value) -> Option<String> {
    let error = &json["error"];
    let code = error["code"].as_str().or_else(|| error.as_str()).or_else(|| json["code"].as_str());
    code.map(str::to_ascii_lowercase)
}

/// The known codes that end a login. They count under any status.
fn end_reason(status: u16, code: &str) -> Option<EndReason> {
    match code {
        "refresh_token_expired" => Some(EndReason::Expired),
        "refresh_token_reused" => Some(EndReason::Reused),
        "refresh_token_invalidated" => Some(EndReason::Revoked),
        "invalid_grant" if status == 400 => Some(EndReason::Refused),
        _ => None,
    }
}

/// The error's code and its message for people, or the one of them that there is.
fn description(json: &Value) -> Option<String> {
    let error = &json["error"];
    let texts = [&json["error_description"], &error["message"], &json["message"], &json["detail"]];
    let text = texts.iter().find_map(|text| text.as_str());
    match (code(json), text) {
        (Some(code), Some(text)) => Some(format!("{code}: {text}")),
        (code, text) => code.or_else(|| text.map(str::to_owned)),
    }
}

impl Tokens {
    /// `date`: the issuer's clock.
    pub(super) fn parse(json: &Value, date: Option<u64>) -> Result<Self, IssuerError> {
        let token = |name: &str| match &json[name] {
            Value::Null => Ok(None),
            Value::String(token) if token.is_empty() => Ok(None),
            Value::String(token) if is_token(token) => Ok(Some(Secret::new(token.clone()))),
            _ => Err(IssuerError::Malformed("holds an invalid token")),
        };
        Ok(Self {
            access: token("access_token")?,
            refresh: token("refresh_token")?,
            // The id token is only read for its claims, so an invalid one is ignored.
            id: token("id_token").ok().flatten(),
            expires_in: seconds(&json["expires_in"]),
            date,
        })
    }
}

/// Whether it can be stored in a file and sent as a header.
fn is_token(text: &str) -> bool {
    text.len() <= CREDENTIAL_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A number, or a string that holds a number: issuers use both.
pub(super) fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const CANARY: &str = "rt_c4nary-Refresh-0123";

    type HeaderPair = (&'static str, &'static str);

    fn answer(status: u16, headers: &[HeaderPair], body: &str) -> IssuerAnswer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("a header"));
        }
        let status = StatusCode::from_u16(status).expect("a status");
        IssuerAnswer { status, headers: map, body: Zeroizing::new(body.as_bytes().to_vec()) }
    }

    fn refresh_error(answer: &IssuerAnswer) -> Option<IssuerError> {
        answer.json(&[&Secret::new(CANARY.to_owned())], true).err()
    }

    fn gone(why: EndReason, message: &str) -> Option<IssuerError> {
        Some(IssuerError::Gone { why, message: message.to_owned() })
    }

    fn refused(status: u16, message: &str) -> Option<IssuerError> {
        Some(IssuerError::Refused { status, message: message.to_owned() })
    }

    #[test]
    fn a_refusal_of_a_refresh_is_known_by_its_code() {
        let busy = |status| Some(IssuerError::Busy { status });
        let reused = "refresh_token_reused: it has already been used";
        let object = r#"{"error":{"message":"it has already been used","type":"invalid_request_error","param":null,"code":"refresh_token_reused"}}"#;
        let echo = format!(r#"{{"error":"other","error_description":"you sent {CANARY}"}}"#);
        let cases = [
            (401, object, gone(EndReason::Reused, reused)),
            (200, object, None),
            (500, object, gone(EndReason::Reused, reused)),
            (
                403,
                r#"{"error":"Refresh_Token_Expired"}"#,
                gone(EndReason::Expired, "refresh_token_expired"),
            ),
            (
                401,
                r#"{"code":"refresh_token_invalidated"}"#,
                gone(EndReason::Revoked, "refresh_token_invalidated"),
            ),
            (
                400,
                r#"{"error":"invalid_grant","error_description":"no"}"#,
                gone(EndReason::Refused, "invalid_grant: no"),
            ),
            (401, r#"{"error":"invalid_grant"}"#, refused(401, "invalid_grant")),
            (401, r#"{"error":{"code":"other","message":"x"}}"#, refused(401, "other: x")),
            (400, r#"{"detail":"not like this"}"#, refused(400, "not like this")),
            (400, &echo, refused(400, "other: you sent [removed]")),
            (400, "plain words", refused(400, "plain words")),
            (400, "", refused(400, "it gave no reason")),
            (404, "<html>", refused(404, "it answered with a web page")),
            (429, r#"{"error":"slow_down"}"#, busy(429)),
            (408, "", busy(408)),
            (502, "<html>Bad gateway", busy(502)),
            (529, "", busy(529)),
            (200, "{", Some(IssuerError::Malformed("is not JSON"))),
            (200, "", Some(IssuerError::Malformed("is not JSON"))),
            (200, "{}", None),
        ];
        for (status, body, expected) in cases {
            assert_eq!(refresh_error(&answer(status, &[], body)), expected, "{status} {body}");
        }
    }

    #[test]
    fn a_code_that_was_refused_ends_no_login() {
        let body = r#"{"error":"invalid_grant","error_description":"used"}"#;
        let error = answer(400, &[], body).json(&[], false).err();
        assert_eq!(error, refused(400, "invalid_grant: used"));
    }

    #[test]
    fn an_answer_of_another_server_is_reported() {
        let html = ("content-type", "text/html; charset=utf-8");
        let challenge = "<!DOCTYPE html><title>Just a moment...</title><script>window._cf_chl_opt";
        // Status, headers, body, and a part of the message.
        let cases: [(u16, &[HeaderPair], &str, &str); 10] = [
            (403, &[("cf-mitigated", "challenge")], "", "Cloudflare"),
            (200, &[("cf-mitigated", "challenge")], "{}", "Cloudflare"),
            (403, &[html], challenge, "Cloudflare"),
            (503, &[html], challenge, "Cloudflare"),
            (407, &[], "", "HTTPS_PROXY"),
            (302, &[("location", "http://portal.example/login")], "", "redirect"),
            (511, &[html], "<html>", "redirect"),
            (200, &[html], "<html>Welcome to the hotel", "open any page"),
            (200, &[], "  <html>Welcome", "open any page"),
            (403, &[html], "<html>Blocked", "firewall"),
        ];
        for (status, headers, body, word) in cases {
            let error = refresh_error(&answer(status, headers, body));
            let Some(IssuerError::Intercepted(reason)) = &error else {
                panic!("{status}: {error:?}")
            };
            assert!(reason.contains(word), "{reason}");
        }
    }

    #[test]
    fn the_clock_of_an_answer_is_read() {
        let date = |text: &'static str| answer(200, &[("date", text)], "").date();
        assert_eq!(date("Sat, 21 Nov 2026 09:14:00 GMT"), Some(1_795_252_440));
        for wrong in
            ["", "yesterday", "Sat, 41 Nov 2026 09:14:00 GMT", "Thu, 01 Jan 1960 00:00:00 GMT"]
        {
            assert_eq!(date(wrong), None, "{wrong}");
        }
        assert_eq!(answer(200, &[], "").date(), None);
    }

    #[test]
    fn an_invalid_token_is_refused() {
        let tokens = |json: Value| Tokens::parse(&json, None).err();
        let malformed = Some(IssuerError::Malformed("holds an invalid token"));
        for wrong in [json!(7), json!("a b"), json!("a\nb"), json!("é"), json!({"x": 1})] {
            assert_eq!(tokens(json!({"access_token": wrong})), malformed, "{wrong}");
        }
        let long = "a".repeat(CREDENTIAL_BYTES + 1);
        assert_eq!(tokens(json!({"refresh_token": long})), malformed);
        let read = Tokens::parse(&json!({"expires_in": "60", "refresh_token": ""}), None);
        let read = read.unwrap_or_else(|error| panic!("{error}"));
        assert!(read.access.is_none() && read.refresh.is_none());
        assert_eq!(read.expires_in, Some(60));
        for id in [json!(7), json!("a b"), json!("a".repeat(CREDENTIAL_BYTES + 1))] {
            let read = Tokens::parse(&json!({"refresh_token": "rt-2", "id_token": id}), None);
            let read = read.unwrap_or_else(|error| panic!("{error}"));
            assert!(read.refresh.is_some() && read.id.is_none());
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_an_error_that_holds_the_token(
            status in 200_u16..600, before in ".{0,60}", after in ".{0,60}", name in "error|detail|code|message",
        ) {
            let text = format!("{before}{CANARY}{after}");
            for body in [json!({&name: &text}).to_string(), json!({"error": {&name: &text}}).to_string(), text] {
                if let Some(error) = refresh_error(&answer(status, &[], &body)) {
                    let shown = format!("{error} {error:?}");
                    prop_assert!(!shown.contains(CANARY) && shown.len() < 2_000, "{}", shown);
                }
            }
        }
    }
}
