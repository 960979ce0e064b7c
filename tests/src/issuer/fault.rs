//! The ways an issuer fails, each a value.

use crate::wire::plain::Plain;
use crate::wire::record::Recorded;

/// How a request fails. The first group did what it was asked, the second nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answers this many milliseconds late; what it says was true at once.
    Slow { ms: u64 },
    /// The connection ends before a byte of the answer.
    Lost,
    /// The answer ends in its middle.
    Cut,
    /// Somebody else's tokens.
    OtherAccount,
    /// The answer lacks the refresh token, and the one that came stays good.
    KeepsRefresh,
    /// No id token, and no word of how long.
    Terse,

    /// The connection is closed before an answer.
    Close,
    /// The connection is reset before an answer.
    Reset,
    /// Nothing ever comes.
    Silence,
    /// `{"error":{…}}` with this status.
    Status { status: u16 },
    /// The same with a code: what the issuer says of tokens that are gone.
    Code { status: u16, code: &'static str },
    /// A 429 that says when to come back.
    RetryAfter { seconds: u64 },
    /// A 400 with the OAuth word, and no object.
    InvalidGrant,
    /// A web page with this status.
    Html { status: u16 },
    /// The page of a content delivery network that takes us for a robot.
    Challenge,
    /// A 302 to a page of the house that has the network.
    Redirect { location: String },
    /// The page of the house itself, with 200.
    Captive,
    /// A proxy that wants a password.
    ProxyPassword,
    /// 200 and no JSON.
    Garbage,
    /// 200, JSON, and nothing in it.
    Nothing,
    /// More than anybody should read.
    Huge { bytes: usize },
    /// A 400 that says everything back: address, headers, body.
    Echo,
}

/// How an answer goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Whole,
    /// Half of it.
    Half,
    Close,
    Reset,
    Silence,
}

impl Fault {
    /// Whether the request is carried out all the same.
    pub(super) fn does_it(&self) -> bool {
        matches!(
            self,
            Self::Slow { .. }
                | Self::Lost
                | Self::Cut
                | Self::OtherAccount
                | Self::KeepsRefresh
                | Self::Terse
        )
    }

    pub(super) fn way(&self) -> Way {
        match self {
            Self::Lost | Self::Close => Way::Close,
            Self::Cut => Way::Half,
            Self::Reset => Way::Reset,
            Self::Silence => Way::Silence,
            _ => Way::Whole,
        }
    }

    pub(super) fn delay_ms(&self) -> u64 {
        if let Self::Slow { ms } = self { *ms } else { 0 }
    }

    /// The answer of a fault that did nothing.
    pub(super) fn plain(&self, request: &Recorded) -> Plain {
        let house = "<!DOCTYPE html><html><head><title>Hotel Wi-Fi</title></head><body>\
                     <form>Room number <input name=room></form></body></html>";
        let html = "text/html; charset=utf-8";
        match self {
            Self::Status { status } => {
                Plain::error(*status, "server_error", "scripted", &format!("scripted {status}"))
            }
            Self::Code { status, code } => {
                Plain::error(*status, "invalid_request_error", code, &format!("scripted: {code}"))
            }
            Self::RetryAfter { seconds } => {
                Plain::error(429, "rate_limit_error", "rate_limited", "slow down")
                    .with("retry-after", &seconds.to_string())
            }
            Self::InvalidGrant => Plain::json(
                400,
                &serde_json::json!({"error": "invalid_grant", "error_description": "scripted"}),
            ),
            Self::Html { status } => Plain::of(*status, html, "<html><h1>Oops</h1></html>"),
            Self::Challenge => Plain::challenge(),
            Self::Redirect { location } => Plain::of(302, html, "").with("location", location),
            Self::Captive => Plain::of(200, html, house),
            Self::ProxyPassword => Plain::of(407, html, "<html>proxy</html>")
                .with("proxy-authenticate", "Basic realm=\"house\""),
            Self::Garbage => Plain::of(200, "application/json", "}{ \u{1b}[2J"),
            Self::Nothing => Plain::of(200, "application/json", "{}"),
            Self::Huge { bytes } => {
                let body = format!("{{\"access_token\":\"{}\"}}", "x".repeat(*bytes));
                Plain::of(200, "application/json", &body)
            }
            Self::Echo => {
                let body = String::from_utf8_lossy(&request.body).into_owned();
                let (target, headers) = (&request.target, request.headers_as_text());
                let said = format!("we do not like what you sent: {target}\n{headers}\n\n{body}");
                Plain::json(
                    400,
                    &serde_json::json!({"error": "invalid_request", "error_description": said}),
                )
            }
            _ => Plain::of(500, html, "a fault that answers nothing"),
        }
    }
}
