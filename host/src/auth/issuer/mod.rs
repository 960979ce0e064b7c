//! The issuer of logins, as it is asked: exchange, refresh, revoke, and the device code of its own
//! shape (codex protocol, A and B). Everything it says is bounded, and no error holds a code, a
//! token or a verifier.

mod url; // where it is
mod answer; // what an answer means, and nothing else is looked at
mod said; // what it said, fit to be shown
mod reached; // why no answer came
mod grant; // the exchange of a code, as the OAuth library speaks it
mod device; // the code that a person types on another device
#[cfg(test)]
pub(super) mod script; // an issuer on the wire, for tests
#[cfg(test)]
mod tests; // before a real server

use std::time::Duration;

use airlock_shared::defaults;
use airlock_shared::secret::Secret;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use self::answer::{BODY_BYTES, IssuerAnswer};
pub use self::device::{DeviceCode, DeviceGrant};
pub(super) use self::said::shown;
pub use self::url::IssuerUrl;
use super::reach::{Reach, client};
use super::store::EndReason;

/// The issuer of ChatGPT logins.
pub const ISSUER: &str = "https://auth.openai.com";
/// The public client (A.1).
pub const CLIENT_ID: &str = "app_EMoamEEZ73f0CkXaXp7hrann";

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the whole of a question may take.
const WHOLE: Duration = Duration::from_secs(30);

/// What the issuer gave. A refresh may leave parts out: what is missing stays as it was.
pub struct Tokens {
    pub access: Option<Secret>,
    pub refresh: Option<Secret>,
    pub id: Option<Secret>,
    /// Seconds.
    pub expires_in: Option<u64>,
    /// The issuer's clock (`Date`), Unix seconds.
    pub date: Option<u64>,
}

/// Why the issuer did not do it. One variant for each consequence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// Nothing was sent: name, connection, TLS (with the clock named where that is why). Trying
    /// again later may do.
    #[error("{0}")]
    Unreachable(String),
    /// It was, or may have been, and no whole answer came: timeout, cut. The issuer may have
    /// obeyed.
    #[error("{0}")]
    Lost(String),
    /// 408, 429, 5xx. Trying again later may do.
    #[error("it is busy or broken (it answered {status})")]
    Busy { status: u16 },
    /// Somebody between us and it answered: a Cloudflare challenge, a captive portal, a proxy that
    /// wants a password. Trying again later may do.
    #[error("{0}")]
    Between(String),
    /// It refused the token for good.
    #[error("{said}")]
    Gone { why: EndReason, said: String },
    /// It refused this request: a code that was used, a state it does not know, device login not
    /// enabled (404 of the user code).
    #[error("it refused ({status}): {said}")]
    Refused { status: u16, said: String },
    /// An answer that is not what was agreed.
    #[error("its answer {0}")]
    Malformed(&'static str),
}

/// One issuer, and the way to it.
#[derive(Clone)]
pub struct Issuer {
    pub url: IssuerUrl,
    client: reqwest::Client,
    /// The time limit of the whole of a question.
    whole: Duration,
}

impl Issuer {
    /// Nothing is asked yet. `ca`: PEM.
    ///
    /// # Errors
    /// `Unreachable` where no connection can ever be made.
    pub fn open(url: IssuerUrl, ca: Option<&str>) -> Result<Self, IssuerError> {
        let reach =
            Reach { origin: url.origin(), is_loopback: url.is_loopback(), ca, connect: CONNECT };
        let client = client(reach).map_err(IssuerError::Unreachable)?;
        Ok(Self { url, client, whole: WHOLE })
    }

    /// `grant_type=authorization_code` (A.5). All three tokens, or an error.
    ///
    /// # Errors
    /// As it is.
    pub async fn exchange(
        &self,
        code: &Secret,
        verifier: &Secret,
        redirect: &str,
    ) -> Result<Tokens, IssuerError> {
        grant::exchange(self, code, verifier, redirect).await
    }

    /// `grant_type=refresh_token` (B.3). An access token, a refresh token, or both.
    ///
    /// # Errors
    /// As it is.
    pub async fn refresh(&self, token: &Secret) -> Result<Tokens, IssuerError> {
        let body = json!({
            "client_id": CLIENT_ID,
            "grant_type": "refresh_token",
            "refresh_token": token.reveal(),
        });
        let answer = self.ask_json("/oauth/token", &body).await?;
        let tokens = Tokens::of(&answer.json(&[token], true)?, answer.date())?;
        // A refresh token alone is to be kept: the one before it is used up.
        if tokens.access.is_none() && tokens.refresh.is_none() {
            return Err(IssuerError::Malformed("holds no access token"));
        }
        Ok(tokens)
    }

    /// Revokes a refresh token, or an access token where there is no other (A.10).
    ///
    /// # Errors
    /// As it is.
    pub async fn revoke(&self, token: &Secret, is_refresh: bool) -> Result<(), IssuerError> {
        let body = if is_refresh {
            json!({
                "token": token.reveal(),
                "token_type_hint": "refresh_token",
                "client_id": CLIENT_ID,
            })
        } else {
            json!({ "token": token.reveal(), "token_type_hint": "access_token" })
        };
        let answer = self.ask_json("/oauth/revoke", &body).await?;
        answer.success(&[token], false)
    }

    async fn ask_json(&self, path: &str, body: &Value) -> Result<IssuerAnswer, IssuerError> {
        let kind = HeaderValue::from_static("application/json");
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, kind)]);
        self.ask(path, headers, Zeroizing::new(body.to_string().into_bytes())).await
    }

    /// Posts it, and reads the answer to its end or its bound.
    async fn ask(
        &self,
        path: &str,
        mut headers: HeaderMap,
        body: Zeroizing<Vec<u8>>,
    ) -> Result<IssuerAnswer, IssuerError> {
        let agent = defaults::user_agent(defaults::ORIGINATOR, defaults::CLIENT_VERSION);
        if let Ok(agent) = HeaderValue::from_str(&agent) {
            headers.insert(header::USER_AGENT, agent);
        }
        let originator = HeaderValue::from_static(defaults::ORIGINATOR);
        headers.insert(HeaderName::from_static("originator"), originator);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let url = format!("{}{path}", self.url);
        // Neither headers nor body: the body is the secret.
        tracing::debug!(url, "asking the issuer");
        // Wiped when the last who has a part of it lets go.
        let body = Bytes::from_owner(body);
        let request = self.client.request(Method::POST, &url).headers(headers).body(body);
        let asking = async {
            let mut answer = request.send().await.map_err(|error| reached::unreachable(&error))?;
            // The room is there before, so that growing leaves no copy of a token behind.
            let mut body = Zeroizing::new(Vec::with_capacity(BODY_BYTES + 1));
            loop {
                match answer.chunk().await {
                    Ok(Some(piece)) => {
                        let room = BODY_BYTES + 1 - body.len();
                        body.extend_from_slice(&piece[..piece.len().min(room)]);
                    }
                    Ok(None) => break,
                    Err(error) => return Err(reached::unreachable(&error)),
                }
                // THREAT: whoever answers in the issuer's place fills our memory. Tried by
                // auth::issuer::an_endless_answer_is_left.
                if body.len() > BODY_BYTES {
                    break;
                }
            }
            tracing::debug!(status = answer.status().as_u16(), "the issuer answered");
            Ok(IssuerAnswer { status: answer.status(), headers: answer.headers().clone(), body })
        };
        // THREAT: an issuer that accepts and is silent holds the login's lock, and with it every
        // run. Tried by auth::issuer::an_issuer_that_is_silent_is_left.
        tokio::time::timeout(self.whole, asking).await.unwrap_or_else(|_| {
            Err(IssuerError::Lost(format!("no answer within {} s", self.whole.as_secs())))
        })
    }
}
