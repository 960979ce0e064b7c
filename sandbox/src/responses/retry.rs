//! What to do if a model request fails. Pure, so that tests can list every case.
//!
//! All failures count together: at most [`limits::RETRIES`] tries after the first. What the backend
//! would refuse again is not tried again.

use std::time::Duration;

use airlock_shared::limits;
use airlock_shared::link;
use airlock_shared::outcome::{Fault, FaultKind, Stop};
use airlock_shared::refusal::{self, Meaning};
use airlock_shared::stream::Refusal;

/// How one try failed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RequestFailure {
    /// No connection, or one that broke before an answer.
    Connection(String),
    /// The stream ended, or broke, before `response.completed`.
    Cut(String),
    /// Nothing came for [`limits::STREAM_IDLE_SECONDS`].
    Idle,
    /// An answer other than 2xx.
    Status { status: u16, refusal: Refusal, retry_after: Option<Duration> },
    /// 3xx, and where it points.
    Redirect { status: u16, location: String },
    /// `response.failed`, `response.incomplete` or an `error` event within the stream.
    InStream(Refusal),
    /// The host did not pass it on.
    Host { refusal: link::HostRefusal, why: String },
    /// The answer, or the request, is larger than its bound.
    TooLarge(&'static str),
    /// Another try cannot help.
    Fault(Fault),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RetryDecision {
    Again { wait: Duration, why: String },
    End(GiveUp),
}

/// Why the model is not asked again.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum GiveUp {
    Fault(Fault),
    /// The account's usage limit.
    Stop(Stop),
    /// The host says that the turn's budget is spent.
    Budget,
}

/// `retries`: how often the request was tried again so far. `jitter`: a random number from 0 to 1.
pub(crate) fn decide(failure: &RequestFailure, retries: u32, jitter: f64) -> RetryDecision {
    let (why, asked) = match classify(failure) {
        None => return RetryDecision::End(GiveUp::Budget),
        Some(Meaning::Limit(stop)) => return RetryDecision::End(GiveUp::Stop(stop)),
        Some(Meaning::Fault(fault)) => return RetryDecision::End(GiveUp::Fault(fault)),
        Some(Meaning::Passing { why, asked }) => (why, asked),
    };
    if retries >= limits::RETRIES || refusal::is_too_long(asked) {
        return RetryDecision::End(GiveUp::Fault(refusal::given_up(retries + 1, &why, asked)));
    }
    RetryDecision::Again { wait: asked.unwrap_or_else(|| pause(retries, jitter)), why }
}

/// `None`: the host says that a budget is spent.
fn classify(failure: &RequestFailure) -> Option<Meaning> {
    let passing = |why: String| Meaning::Passing { why, asked: None };
    let fault = |kind, message: String| Meaning::Fault(Fault::new(kind, message));
    Some(match failure {
        RequestFailure::Connection(why) | RequestFailure::Cut(why) => passing(why.clone()),
        RequestFailure::Idle => Meaning::of_silence(),
        RequestFailure::Status { status, refusal, retry_after } => {
            Meaning::of_status(*status, refusal, *retry_after)
        }
        RequestFailure::Redirect { status, location } => fault(
            FaultKind::Refused,
            format!(
                "the backend redirects ({status}) to {location}, and redirects are not followed"
            ),
        ),
        RequestFailure::InStream(refusal) => Meaning::of_stream(refusal),
        RequestFailure::Host { refusal, why } => return Meaning::of_host(*refusal, why),
        RequestFailure::TooLarge(what) => {
            fault(FaultKind::Context, format!("{what} is larger than its bound"))
        }
        RequestFailure::Fault(fault) => Meaning::Fault(fault.clone()),
    })
}

/// 200 ms, 400 ms, 800 ms, …, give or take a tenth.
fn pause(retries: u32, jitter: f64) -> Duration {
    let base = Duration::from_millis(limits::RETRY_FIRST_MS << retries.min(16));
    base.mul_f64(0.9 + 0.2 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, body: &str) -> RequestFailure {
        let refusal = Refusal::of_body(body.as_bytes());
        RequestFailure::Status { status, refusal, retry_after: None }
    }

    fn in_stream(code: &str, message: &str) -> RequestFailure {
        RequestFailure::InStream(Refusal {
            code: code.into(),
            message: message.into(),
            ..Refusal::default()
        })
    }

    fn kind(failure: &RequestFailure) -> Option<FaultKind> {
        match decide(failure, 0, 0.5) {
            RetryDecision::End(GiveUp::Fault(fault)) => Some(fault.kind),
            _ => None,
        }
    }

    fn wait(failure: &RequestFailure, retries: u32) -> Option<u64> {
        match decide(failure, retries, 0.5) {
            RetryDecision::Again { wait, .. } => u64::try_from(wait.as_millis()).ok(),
            RetryDecision::End(_) => None,
        }
    }

    #[test]
    fn a_permanent_refusal_is_not_tried_again() {
        let cases = [
            (status(400, r#"{"detail":"Store must be set to false"}"#), FaultKind::Refused),
            (
                status(
                    400,
                    r#"{"detail":"The 'x' model is not supported when using Codex with a ChatGPT account."}"#,
                ),
                FaultKind::Model,
            ),
            (status(404, r#"{"error":{"message":"Model not found x"}}"#), FaultKind::Model),
            (
                status(
                    404,
                    r#"{"error":{"message":"The model `x` does not exist","code":"model_not_found"}}"#,
                ),
                FaultKind::Model,
            ),
            (
                status(400, r#"{"error":{"message":"long","code":"context_length_exceeded"}}"#),
                FaultKind::Context,
            ),
            (status(403, "<html>Just a moment"), FaultKind::Refused),
            (status(404, "no"), FaultKind::Refused),
            (status(401, ""), FaultKind::SignIn),
            (in_stream("context_length_exceeded", "x"), FaultKind::Context),
            (in_stream("invalid_prompt", "x"), FaultKind::Refused),
            (in_stream("incomplete_max_output_tokens", "x"), FaultKind::Refused),
            (
                RequestFailure::Redirect { status: 307, location: "https://x".into() },
                FaultKind::Refused,
            ),
            (
                RequestFailure::Host { refusal: link::HostRefusal::Policy, why: "x".into() },
                FaultKind::Policy,
            ),
            (
                RequestFailure::Host { refusal: link::HostRefusal::Recording, why: "x".into() },
                FaultKind::Recording,
            ),
            (
                RequestFailure::Host { refusal: link::HostRefusal::SignIn, why: "x".into() },
                FaultKind::SignIn,
            ),
        ];
        for (failure, expected) in cases {
            assert_eq!(kind(&failure), Some(expected), "{failure:?}");
        }
        let budget =
            RequestFailure::Host { refusal: link::HostRefusal::Budget, why: "spent".into() };
        assert_eq!(decide(&budget, 0, 0.5), RetryDecision::End(GiveUp::Budget));
    }

    #[test]
    fn a_temporary_failure_is_tried_again_with_longer_waits() {
        let cut = RequestFailure::Cut("closed".into());
        let waits: Vec<_> = (0..6).map(|retries| wait(&cut, retries)).collect();
        assert_eq!(waits, [Some(200), Some(400), Some(800), Some(1_600), Some(3_200), None]);
        assert_eq!(
            decide(&cut, 5, 0.5),
            RetryDecision::End(GiveUp::Fault(Fault::new(
                FaultKind::Backend,
                "the backend failed 6 times, the last time with: closed"
            )))
        );
        for failure in [
            status(500, ""),
            status(503, r#"{"error":{"code":"server_is_overloaded","message":"busy"}}"#),
            status(529, ""),
            status(408, ""),
            status(429, r#"{"error":{"message":"slow","type":"rate"}}"#),
            RequestFailure::Idle,
            RequestFailure::Connection("refused".into()),
            in_stream("server_error", "x"),
            in_stream("", "x"),
            RequestFailure::Host { refusal: link::HostRefusal::Unreachable, why: "x".into() },
        ] {
            assert_eq!(wait(&failure, 0), Some(200), "{failure:?}");
        }
    }

    #[test]
    fn jitter_stays_within_a_tenth() {
        assert_eq!(pause(0, 0.0), Duration::from_millis(180));
        assert_eq!(pause(0, 7.0), Duration::from_millis(220));
        assert_eq!(pause(0, f64::NAN.max(0.5)), Duration::from_millis(200));
    }

    #[test]
    fn a_wait_the_backend_asks_for_is_kept_up_to_its_bound() {
        let limited = |after: u64| RequestFailure::Status {
            status: 429,
            refusal: Refusal { message: "slow".into(), ..Refusal::default() },
            retry_after: Some(Duration::from_secs(after)),
        };
        assert_eq!(wait(&limited(2), 0), Some(2_000));
        assert_eq!(wait(&limited(120), 4), Some(120_000));
        assert_eq!(kind(&limited(121)), Some(FaultKind::Backend));
        assert_eq!(
            wait(&in_stream("rate_limit_exceeded", "Please try again in 1.5s."), 0),
            Some(1_500)
        );
    }

    #[test]
    fn a_usage_limit_stops_the_turn() {
        let body = r#"{"error":{"type":"usage_limit_reached","message":"full","plan_type":"plus","resets_at":5}}"#;
        let stop = Stop::UsageLimit {
            plan: Some("plus".into()),
            resets_at: Some(5),
            message: "full".into(),
        };
        assert_eq!(decide(&status(429, body), 0, 0.5), RetryDecision::End(GiveUp::Stop(stop)));
    }
}
