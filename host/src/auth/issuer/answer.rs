//! What an answer means: status, headers and body into a value or an [`IssuerError`], and nothing
//! else is looked at.

use airlock_shared::secret::Secret;
use http::{HeaderMap, StatusCode, header};
use serde_json::Value;
use zeroize::Zeroizing;

use super::super::CREDENTIAL_BYTES;
use super::super::store::EndReason;
use super::said::shown;
use super::{IssuerError, Tokens};

/// The longest body that is read.
pub(super) const BODY_BYTES: usize = 64 << 10;
/// How much of a page is searched for whose it is.
const PAGE_BYTES: usize = 16 << 10;

/// An answer, whole.
pub(super) struct IssuerAnswer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl IssuerAnswer {
    /// The clock of whoever answered, Unix seconds.
    pub(super) fn date(&self) -> Option<u64> {
        let text = self.headers.get(header::DATE)?.to_str().ok()?;
        let date = jiff::fmt::rfc2822::parse(text).ok()?;
        date.timestamp().as_second().try_into().ok()
    }

    /// The JSON of a success, or why there is none. `sent`: what must not come back in an error.
    /// `is_refresh`: whether a refusal says that a login is gone.
    pub(super) fn json(&self, sent: &[&Secret], is_refresh: bool) -> Result<Value, IssuerError> {
        self.success(sent, is_refresh)?;
        if self.body.len() > BODY_BYTES {
            return Err(IssuerError::Malformed("is too long"));
        }
        serde_json::from_slice(&self.body).map_err(|_| IssuerError::Malformed("is not JSON"))
    }

    /// Whether it says yes.
    pub(super) fn success(&self, sent: &[&Secret], is_refresh: bool) -> Result<(), IssuerError> {
        let status = self.status.as_u16();
        if let Some(between) = self.between() {
            return Err(IssuerError::Between(between));
        }
        if self.status.is_success() {
            return match self.is_page() {
                false => Ok(()),
                true => Err(IssuerError::Between(format!(
                    "a web page came in place of its answer ({status}): this network may want a \
                     sign-in of its own first; open any page in a browser"
                ))),
            };
        }
        let said: Option<Value> = serde_json::from_slice(&self.body).ok();
        let code = said.as_ref().and_then(code);
        if is_refresh && let Some(why) = code.as_deref().and_then(|code| gone(status, code)) {
            return Err(IssuerError::Gone { why, said: self.said(sent) });
        }
        match status {
            408 | 429 | 500.. => Err(IssuerError::Busy { status }),
            _ if self.is_page() && status != 404 => Err(IssuerError::Between(format!(
                "a web page came in place of its answer ({status}): a proxy or firewall of this \
                 network may not let it through"
            ))),
            _ => Err(IssuerError::Refused { status, said: self.said(sent) }),
        }
    }

    /// Whether somebody on the way answered, whatever was asked.
    fn between(&self) -> Option<String> {
        let status = self.status.as_u16();
        let mitigated = self.headers.get("cf-mitigated").is_some_and(|value| value == "challenge");
        if mitigated || (self.is_page() && is_challenge(&self.body)) {
            return Some(format!(
                "Cloudflare wants to see a browser before it lets this network through ({status}, \
                 a challenge): try again later, from another network, or without a VPN"
            ));
        }
        if status == 407 {
            return Some(proxy_password());
        }
        if status == 511 || self.status.is_redirection() {
            return Some(format!(
                "a redirect came in place of its answer ({status}): this network may want a \
                 sign-in of its own first; open any page in a browser"
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

    fn said(&self, sent: &[&Secret]) -> String {
        if self.is_page() {
            return "it answered with a web page".to_owned();
        }
        let text = String::from_utf8_lossy(&self.body);
        let said: Option<Value> = serde_json::from_str(&text).ok();
        let said = said.as_ref().map_or(Some(text.into_owned()), sentence);
        let said = shown(&said.unwrap_or_default(), sent);
        if said.is_empty() { "it did not say why".to_owned() } else { said }
    }
}

/// The way out through a proxy is closed without a password.
pub(super) fn proxy_password() -> String {
    "the proxy of this machine wants a user and password (407): \
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
fn code(said: &Value) -> Option<String> {
    let error = &said["error"];
    let code = error["code"].as_str().or_else(|| error.as_str()).or_else(|| said["code"].as_str());
    code.map(str::to_ascii_lowercase)
}

/// Known codes are for good under any status.
fn gone(status: u16, code: &str) -> Option<EndReason> {
    match code {
        "refresh_token_expired" => Some(EndReason::Expired),
        "refresh_token_reused" => Some(EndReason::Reused),
        "refresh_token_invalidated" => Some(EndReason::Revoked),
        "invalid_grant" if status == 400 => Some(EndReason::Refused),
        _ => None,
    }
}

/// What it says to people, its code before it where there are both.
fn sentence(said: &Value) -> Option<String> {
    let error = &said["error"];
    let words = [&said["error_description"], &error["message"], &said["message"], &said["detail"]];
    let words = words.iter().find_map(|words| words.as_str());
    match (code(said), words) {
        (Some(code), Some(words)) => Some(format!("{code}: {words}")),
        (code, words) => code.or_else(|| words.map(str::to_owned)),
    }
}

impl Tokens {
    /// `date`: the issuer's clock.
    pub(super) fn of(json: &Value, date: Option<u64>) -> Result<Self, IssuerError> {
        let token = |name: &str| match &json[name] {
            Value::Null => Ok(None),
            Value::String(token) if token.is_empty() => Ok(None),
            Value::String(token) if is_token(token) => Ok(Some(Secret::new(token.clone()))),
            _ => Err(IssuerError::Malformed("holds something that is no token")),
        };
        Ok(Self {
            access: token("access_token")?,
            refresh: token("refresh_token")?,
            // It is read for its claims and dropped: no reason to lose what came with it.
            id: token("id_token").ok().flatten(),
            expires_in: seconds(&json["expires_in"]),
            date,
        })
    }
}

/// What can be kept in a file and sent as a header.
fn is_token(text: &str) -> bool {
    text.len() <= CREDENTIAL_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A number, or the text of one; some issuers write the one, some the other.
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

    fn of_refresh(answer: &IssuerAnswer) -> Option<IssuerError> {
        answer.json(&[&Secret::new(CANARY.to_owned())], true).err()
    }

    fn gone(why: EndReason, said: &str) -> Option<IssuerError> {
        Some(IssuerError::Gone { why, said: said.to_owned() })
    }

    fn refused(status: u16, said: &str) -> Option<IssuerError> {
        Some(IssuerError::Refused { status, said: said.to_owned() })
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
            (400, "", refused(400, "it did not say why")),
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
            assert_eq!(of_refresh(&answer(status, &[], body)), expected, "{status} {body}");
        }
    }

    #[test]
    fn a_code_that_was_refused_ends_no_login() {
        let body = r#"{"error":"invalid_grant","error_description":"used"}"#;
        let error = answer(400, &[], body).json(&[], false).err();
        assert_eq!(error, refused(400, "invalid_grant: used"));
    }

    #[test]
    fn who_stands_between_is_named() {
        let html = ("content-type", "text/html; charset=utf-8");
        let challenge = "<!DOCTYPE html><title>Just a moment...</title><script>window._cf_chl_opt";
        // Status, headers, body, and a word of what is said.
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
            let error = of_refresh(&answer(status, headers, body));
            let Some(IssuerError::Between(said)) = &error else { panic!("{status}: {error:?}") };
            assert!(said.contains(word), "{said}");
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
    fn what_is_no_token_is_not_taken_for_one() {
        let tokens = |json: Value| Tokens::of(&json, None).err();
        let malformed = Some(IssuerError::Malformed("holds something that is no token"));
        for wrong in [json!(7), json!("a b"), json!("a\nb"), json!("é"), json!({"x": 1})] {
            assert_eq!(tokens(json!({"access_token": wrong})), malformed, "{wrong}");
        }
        let long = "a".repeat(CREDENTIAL_BYTES + 1);
        assert_eq!(tokens(json!({"refresh_token": long})), malformed);
        let read = Tokens::of(&json!({"expires_in": "60", "refresh_token": ""}), None);
        let read = read.unwrap_or_else(|error| panic!("{error}"));
        assert!(read.access.is_none() && read.refresh.is_none());
        assert_eq!(read.expires_in, Some(60));
        for id in [json!(7), json!("a b"), json!("a".repeat(CREDENTIAL_BYTES + 1))] {
            let read = Tokens::of(&json!({"refresh_token": "rt-2", "id_token": id}), None);
            let read = read.unwrap_or_else(|error| panic!("{error}"));
            assert!(read.refresh.is_some() && read.id.is_none());
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_an_error_that_holds_the_token(
            status in 200_u16..600, before in ".{0,60}", after in ".{0,60}", name in "error|detail|code|message",
        ) {
            let said = format!("{before}{CANARY}{after}");
            for body in [json!({&name: &said}).to_string(), json!({"error": {&name: &said}}).to_string(), said] {
                if let Some(error) = of_refresh(&answer(status, &[], &body)) {
                    let shown = format!("{error} {error:?}");
                    prop_assert!(!shown.contains(CANARY) && shown.len() < 2_000, "{}", shown);
                }
            }
        }
    }
}
