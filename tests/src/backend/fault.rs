//! The ways a backend fails, each a value.

use serde::Deserialize;
use serde_json::json;

use crate::wire::plain::Plain;

/// How a request fails. The first group answers in HTTP, the second breaks the connection, the
/// third breaks the stream after its head was fine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// `{"error":{…}}` with this status.
    Status { status: u16 },
    /// The same, with a `Retry-After` in seconds.
    RetryAfter { status: u16, seconds: u64 },
    /// Any body with any status.
    Body { status: u16, content_type: String, body: String },
    /// A 400 `{"detail":"…"}`.
    Detail(String),
    /// A 403 web page, as a content delivery network shows to programs.
    Html,
    /// A 307 to another place.
    Redirect { location: String },
    /// A 401, and the token that was sent is refused from now on.
    Unauthorized,
    /// A 429 of the account's plan.
    UsageLimit { resets_in_seconds: u64 },
    /// A 429: the plan has none of this.
    UsageNotIncluded,
    /// A 400 that says all our headers back.
    EchoHeaders,

    /// The connection is reset before an answer.
    Reset,
    /// The connection is closed before an answer.
    Close,
    /// Nothing ever comes.
    Silence,

    /// The stream ends after this many events, politely (`clean`) or in mid-chunk.
    Cut { events: usize, clean: bool },
    /// The stream ends inside an event.
    CutInside { events: usize },
    /// The connection is reset after this many events.
    ResetAfter { events: usize },
    /// Nothing more comes after this many events.
    Stall { events: usize },
    /// Only comments come after this many events.
    StallWithComments { events: usize },
    /// `response.failed` with this code.
    Failed { code: String, message: String },
    /// `response.incomplete` for this reason.
    Incomplete { reason: String },
    /// An `error` event.
    ErrorEvent { code: String, message: String },
    /// The completed event is not JSON, and the stream ends.
    MalformedEnd,
    /// 200 and not an event stream.
    WrongType,
    /// One event of this many bytes.
    HugeEvent { bytes: usize },
    /// Deltas without end.
    Endless,
}

impl Fault {
    /// A rate limit that says in its words when to come back.
    #[must_use]
    pub fn rate_limited(wait: &str) -> Self {
        Self::Failed {
            code: "rate_limit_exceeded".to_owned(),
            message: format!("Rate limit reached for this model. Please try again in {wait}."),
        }
    }

    /// `response.failed` with a code and a message of no meaning.
    #[must_use]
    pub fn failed(code: &str) -> Self {
        Self::Failed { code: code.to_owned(), message: format!("scripted: {code}") }
    }
}

impl Fault {
    /// The answer of a fault of the first group; `echo` is what came.
    #[must_use]
    pub fn plain(&self, echo: &str) -> Option<Plain> {
        let scripted = |status: u16| {
            Plain::error(status, "server_error", "scripted", &format!("scripted {status}"))
        };
        Some(match self {
            Self::Status { status } => scripted(*status),
            Self::RetryAfter { status, seconds } => {
                scripted(*status).with("retry-after", &seconds.to_string())
            }
            Self::Body { status, content_type, body } => Plain::of(*status, content_type, body),
            Self::Detail(detail) => Plain::detail(detail),
            Self::Html => Plain::challenge(),
            Self::Redirect { location } => scripted(307).with("location", location),
            Self::Unauthorized => Plain::error(
                401,
                "invalid_request_error",
                "token_expired",
                "Provided authentication token is expired. Please try signing in again.",
            ),
            Self::UsageLimit { resets_in_seconds } => Plain::json(
                429,
                &json!({"error": {
                    "type": "usage_limit_reached", "message": "The usage limit has been reached",
                    "plan_type": "plus", "resets_in_seconds": resets_in_seconds,
                }}),
            ),
            Self::UsageNotIncluded => Plain::json(
                429,
                &json!({"error": {"type": "usage_not_included", "message": "Not in your plan"}}),
            ),
            Self::EchoHeaders => Plain::error(
                400,
                "invalid_request_error",
                "scripted",
                &format!("we do not like what you sent:\n{echo}"),
            ),
            _ => return None,
        })
    }
}
