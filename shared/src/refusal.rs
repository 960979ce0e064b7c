//! What a failed model request means for a turn. Pure.
//!
//! Both halves use this code: the sandbox decides by it whether to try again, and the host checks
//! by it what the sandbox reports of the backend.

use std::time::Duration;

use http::{HeaderMap, header};

use crate::limits;
use crate::link;
use crate::outcome::{Fault, FaultKind, Stop};
use crate::stream::Refusal;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The account's usage limit.
    Limit(Stop),
    /// Trying again would not help.
    Fault(Fault),
    /// Trying again may help. `asked`: the wait that the backend asks for.
    Passing { why: String, asked: Option<Duration> },
}

impl Meaning {
    /// The meaning of an answer other than 2xx.
    #[must_use]
    pub fn of_status(status: u16, refusal: &Refusal, retry_after: Option<Duration>) -> Self {
        if let Some(known) = known(refusal) {
            return known;
        }
        let why = format!("{status}: {}", refusal.message);
        match status {
            401 => fault(FaultKind::SignIn, format!("the backend refused the login: {why}")),
            408 | 425 | 429 | 500..=599 => {
                let asked = refusal.wait_ms().map(Duration::from_millis);
                Self::Passing { why, asked: retry_after.or(asked) }
            }
            _ => fault(FaultKind::Refused, format!("the backend refused the request: {why}")),
        }
    }

    /// The meaning of a failure that is reported within a stream.
    #[must_use]
    pub fn of_stream(refusal: &Refusal) -> Self {
        if let Some(known) = known(refusal) {
            return known;
        }
        match refusal.code.as_str() {
            "invalid_prompt"
            | "cyber_policy"
            | "invalid_request_error"
            | "incomplete_max_output_tokens"
            | "incomplete_content_filter" => fault(
                FaultKind::Refused,
                format!("the backend refused the request: {}", refusal.message),
            ),
            _ => Self::Passing {
                why: refusal.message.clone(),
                asked: refusal.wait_ms().map(Duration::from_millis),
            },
        }
    }

    /// The meaning of a backend that sends nothing for too long.
    #[must_use]
    pub fn of_silence() -> Self {
        let why = format!("nothing came for {} s", limits::STREAM_IDLE_SECONDS);
        Self::Passing { why, asked: None }
    }

    /// The meaning of a request that the host did not pass on. `None`: a budget is spent.
    #[must_use]
    pub fn of_host(refusal: link::HostRefusal, why: &str) -> Option<Self> {
        use link::HostRefusal as R;
        let kind = match refusal {
            R::Budget => return None,
            R::Unreachable => return Some(Self::Passing { why: why.to_owned(), asked: None }),
            R::Policy => FaultKind::Policy,
            R::Recording => FaultKind::Recording,
            R::SignIn => FaultKind::SignIn,
            R::TooLarge => FaultKind::Context,
            R::Key | R::Route => FaultKind::Link,
        };
        Some(fault(kind, why))
    }
}

/// The wait of an answer's `Retry-After` header, in seconds. A date is not supported and counts as
/// absent.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

/// Whether a backend asks for a longer wait than we accept.
#[must_use]
pub fn is_too_long(asked: Option<Duration>) -> bool {
    asked.is_some_and(|asked| asked > Duration::from_secs(limits::RETRY_AFTER_SECONDS))
}

/// The fault after so many tries. `why` is how the last one failed.
#[must_use]
pub fn given_up(tries: u32, why: &str, asked: Option<Duration>) -> Fault {
    let message = match asked {
        Some(asked) if is_too_long(Some(asked)) => {
            format!("the backend asks to wait {} s: {why}", asked.as_secs())
        }
        _ if tries == 1 => format!("the backend failed: {why}"),
        _ => format!("the backend failed {tries} times, the last time with: {why}"),
    };
    Fault::new(FaultKind::Backend, message)
}

/// Refusals that mean the same in a status and in a stream.
fn known(refusal: &Refusal) -> Option<Meaning> {
    if refusal.is_usage_limit() {
        let message = match (refusal.resets_at, refusal.resets_in_seconds) {
            (None, Some(seconds)) => format!("{} (resets in {seconds} s)", refusal.message),
            _ => refusal.message.clone(),
        };
        let (plan, resets_at) = (refusal.plan.clone(), refusal.resets_at);
        return Some(Meaning::Limit(Stop::UsageLimit { plan, resets_at, message }));
    }
    let lower = refusal.message.to_ascii_lowercase();
    let model = lower.contains("model is not supported")
        || lower.contains("model not found")
        || (lower.contains(" model ") && lower.contains("does not exist"));
    match refusal.code.as_str() {
        "context_length_exceeded" => Some(fault(
            FaultKind::Context,
            "the conversation no longer fits the model's context".to_owned(),
        )),
        "model_not_found" => Some(fault(FaultKind::Model, refusal.message.clone())),
        _ if model => Some(fault(FaultKind::Model, refusal.message.clone())),
        _ => None,
    }
}

fn fault(kind: FaultKind, message: impl Into<String>) -> Meaning {
    Meaning::Fault(Fault::new(kind, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_a_number_of_seconds() {
        let header = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().expect("a value"));
            retry_after(&headers)
        };
        assert_eq!(header("3"), Some(Duration::from_secs(3)));
        assert_eq!(header(" 0.5 "), Some(Duration::from_millis(500)));
        for bad in ["-1", "nan", "inf", "1e300", "Fri, 31 Dec 1999 23:59:59 GMT", ""] {
            assert_eq!(header(bad), None, "{bad}");
        }
    }
}
