//! Requests to the issuer of logins: exchange, refresh, revoke, and its own kind of device code
//! (codex protocol, A and B). The size of an answer is limited, and no error holds a code, a token
//! or a verifier.

mod url; // the issuer's URL
mod answer; // from an answer to a value or an error
mod message; // the issuer's messages, made safe to show
mod transport_error; // why there was no answer
mod grant; // the exchange of a code, with the OAuth library
mod device; // the code that a person types on another device
#[cfg(test)]
pub(super) mod script; // a scripted issuer, for tests
#[cfg(test)]
mod tests; // requests to a real server

use std::time::Duration;

use airlock_shared::defaults;
use airlock_shared::secret::Secret;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use self::answer::{BODY_BYTES, IssuerAnswer};
pub use self::device::{DeviceCode, DeviceGrant};
pub(super) use self::message::sanitized;
pub use self::url::IssuerUrl;
use super::reach::{Reach, client};
use super::store::EndReason;

/// The issuer of ChatGPT logins.
pub const ISSUER: &str = "https://auth.openai.com";
/// The id of the public client (A.1).
pub const CLIENT_ID: &str = "app_EMoamEEZ73f0CkXaXp7hrann";

/// The timeout for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout for a request and its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The tokens that the issuer gave. A refresh may leave some out: those stay as they were.
pub struct Tokens {
    pub access: Option<Secret>,
    pub refresh: Option<Secret>,
    pub id: Option<Secret>,
    /// The lifetime, seconds.
    pub expires_in: Option<u64>,
    /// The issuer's clock (`Date`), Unix seconds.
    pub date: Option<u64>,
}

/// Why a request to the issuer failed. One variant for each consequence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// Nothing was sent: the name, the connection or TLS failed. A later try may succeed.
    #[error("{0}")]
    Unreachable(String),
    /// The request may have arrived, but no complete answer came: a timeout, or a broken
    /// connection. The issuer may have carried it out.
    #[error("{0}")]
    Lost(String),
    /// 408, 429, 5xx. A later try may succeed.
    #[error("it is busy or broken (it answered {status})")]
    Busy { status: u16 },
    /// Another server answered: a Cloudflare challenge, a captive portal, a proxy that needs a
    /// password. A later try may succeed.
    #[error("{0}")]
    Intercepted(String),
    /// It does not accept the token any more.
    #[error("{message}")]
    Gone { why: EndReason, message: String },
    /// It refused this request: a used code, an unknown state, no sign-in by device code (404).
    #[error("it refused ({status}): {message}")]
    Refused { status: u16, message: String },
    /// The answer does not follow the protocol.
    #[error("its answer {0}")]
    Malformed(&'static str),
}

/// One issuer and a client for it.
#[derive(Clone)]
pub struct Issuer {
    pub url: IssuerUrl,
    client: reqwest::Client,
    /// The timeout for a request and its answer.
    timeout: Duration,
}

impl Issuer {
    /// Makes the client; sends nothing yet. `ca`: PEM.
    ///
    /// # Errors
    /// `Unreachable`: the client cannot be made.
    pub fn open(url: IssuerUrl, ca: Option<&str>) -> Result<Self, IssuerError> {
        let reach = Reach {
            origin: url.origin(),
            is_loopback: url.is_loopback(),
            ca,
            connect: CONNECT_TIMEOUT,
        };
        let client = client(reach).map_err(IssuerError::Unreachable)?;
        Ok(Self { url, client, timeout: REQUEST_TIMEOUT })
    }

    /// `grant_type=authorization_code` (A.5). Gives all three tokens.
    ///
    /// # Errors
    /// The request failed, or a token is missing.
    pub async fn exchange(
        &self,
        code: &Secret,
        verifier: &Secret,
        redirect: &str,
    ) -> Result<Tokens, IssuerError> {
        grant::exchange(self, code, verifier, redirect).await
    }

    /// `grant_type=refresh_token` (B.3). Gives an access token, a refresh token, or both.
    ///
    /// # Errors
    /// The request failed, or there is neither token.
    pub async fn refresh(&self, token: &Secret) -> Result<Tokens, IssuerError> {
        let body = json!({
            "client_id": CLIENT_ID,
            "grant_type": "refresh_token",
            "refresh_token": token.reveal(),
        });
        let answer = self.ask_json("/oauth/token", &body).await?;
        let tokens = Tokens::parse(&answer.json(&[token], true)?, answer.date())?;
        // A refresh token alone must be stored, because the old one is used up.
        if tokens.access.is_none() && tokens.refresh.is_none() {
            return Err(IssuerError::Malformed("holds no access token"));
        }
        Ok(tokens)
    }

    /// Revokes a refresh token, or an access token if there is no refresh token (A.10).
    ///
    /// # Errors
    /// The request failed.
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

    /// Sends a POST request, and reads the answer up to its limit.
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
        // Headers and body are not logged: the body holds secrets.
        tracing::debug!(url, "sending a request to the issuer");
        // The body is wiped when its last owner drops it.
        let body = Bytes::from_owner(body);
        let request = self.client.request(Method::POST, &url).headers(headers).body(body);
        let exchange = async {
            let mut answer =
                request.send().await.map_err(|error| transport_error::classify(&error))?;
            // Enough capacity from the start: a buffer that grows leaves copies of a token in
            // memory.
            let mut body = Zeroizing::new(Vec::with_capacity(BODY_BYTES + 1));
            loop {
                match answer.chunk().await {
                    Ok(Some(piece)) => {
                        let room = BODY_BYTES + 1 - body.len();
                        body.extend_from_slice(&piece[..piece.len().min(room)]);
                    }
                    Ok(None) => break,
                    Err(error) => return Err(transport_error::classify(&error)),
                }
                // THREAT: a server that answers instead of the issuer fills our memory. Tried by
                // auth::issuer::tests::an_endless_answer_is_cut.
                if body.len() > BODY_BYTES {
                    break;
                }
            }
            tracing::debug!(status = answer.status().as_u16(), "the issuer answered");
            Ok(IssuerAnswer { status: answer.status(), headers: answer.headers().clone(), body })
        };
        // THREAT: an issuer accepts the connection and does not answer. Meanwhile the login's lock
        // is held, and every session waits. Tried by
        // auth::issuer::tests::a_silent_issuer_causes_a_timeout.
        tokio::time::timeout(self.timeout, exchange).await.unwrap_or_else(|_| {
            Err(IssuerError::Lost(format!("no answer within {} s", self.timeout.as_secs())))
        })
    }
}
