//! Each fault is the fault it says.

use airlock_shared::stream::{Refusal, StreamEvent};
use airlock_tests::backend::{Backend, Fault, answer, fault, script};
use serde_json::json;

use crate::client::{Came, End, good, post, post_with, posted, send_until, user};

fn hit(what: Fault) -> Came {
    post(&Backend::scripted(script![fault(what)]), &good(json!([user("hi")])))
}

/// The same for one that goes silent after so many events; none: before the head.
fn silenced(what: Fault, events: Option<usize>) -> Came {
    let backend = Backend::scripted(script![fault(what)]);
    let enough = |came: &Came| {
        events.is_none_or(|events| came.status() == 200 && came.events().len() >= events)
    };
    send_until(&backend, &posted(&good(json!([user("hi")])), "sk-1"), enough)
}

fn last(came: &Came) -> StreamEvent {
    let last = came.events().pop().map(|event| StreamEvent::parse(&event.to_string()));
    last.unwrap_or(StreamEvent::Other)
}

#[test]
fn answers_that_are_no_stream() {
    let status = |what: Fault| hit(what).status();
    assert_eq!(status(Fault::Status { status: 503 }), 503);
    assert_eq!(status(Fault::Html), 403);
    assert_eq!(status(Fault::UsageNotIncluded), 429);
    assert_eq!(status(Fault::Detail("no".into())), 400);
    let late = hit(Fault::RetryAfter { status: 429, seconds: 3 });
    assert!(late.text().contains("retry-after: 3"));
    let moved = hit(Fault::Redirect { location: "http://127.0.0.1:1/x".into() });
    assert!(moved.text().contains("location: http://127.0.0.1:1/x"));
    let echoed = hit(Fault::EchoHeaders);
    assert_eq!(echoed.status(), 400);
    assert!(echoed.text().contains("authorization: Bearer sk-1"));
    let limit = hit(Fault::UsageLimit { resets_in_seconds: 60 });
    let body = limit.text().split("\r\n\r\n").nth(1).unwrap_or_default().to_owned();
    assert!(Refusal::of_body(body.as_bytes()).is_usage_limit());
}

#[test]
fn connections_that_break() {
    assert_eq!(hit(Fault::Reset).end, End::Reset);
    assert_eq!(hit(Fault::Close).end, End::Closed);
    let silent = silenced(Fault::Silence, None);
    assert_eq!((silent.end, silent.bytes.len()), (End::Silent, 0));
}

#[test]
fn streams_that_break() {
    for (what, end, events) in [
        (Fault::Cut { events: 3, clean: true }, End::Whole, 3),
        (Fault::Cut { events: 3, clean: false }, End::Closed, 3),
        (Fault::CutInside { events: 3 }, End::Whole, 3),
        (Fault::ResetAfter { events: 3 }, End::Reset, 3),
        (Fault::Stall { events: 0 }, End::Silent, 0),
        (Fault::Stall { events: 3 }, End::Silent, 3),
    ] {
        let came = match end {
            End::Silent => silenced(what.clone(), Some(events)),
            _ => hit(what.clone()),
        };
        assert_eq!((came.status(), &came.end), (200, &end), "{what:?}");
        assert_eq!(came.events().len(), events, "{what:?}");
        assert!(!matches!(last(&came), StreamEvent::Completed { .. }), "{what:?}");
    }
}

#[test]
fn streams_that_say_no() {
    let failed = |came: Came| match last(&came) {
        StreamEvent::Failed(refusal) => refusal,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        failed(hit(Fault::failed("context_length_exceeded"))).code,
        "context_length_exceeded"
    );
    assert_eq!(failed(hit(Fault::rate_limited("350ms"))).wait_ms(), Some(350));
    let incomplete = Fault::Incomplete { reason: "max_output_tokens".into() };
    assert_eq!(failed(hit(incomplete)).code, "incomplete_max_output_tokens");
    let error = Fault::ErrorEvent { code: "x".into(), message: "y".into() };
    assert_eq!(failed(hit(error)).message, "y");
    let malformed = hit(Fault::MalformedEnd);
    assert!(!matches!(last(&malformed), StreamEvent::Completed { .. }));
    assert!(hit(Fault::WrongType).text().contains("content-type: text/html"));
}

#[test]
fn streams_that_are_too_much() {
    let came = hit(Fault::HugeEvent { bytes: 1 << 20 });
    assert!(came.body().len() > 1 << 20);
    assert!(matches!(last(&came), StreamEvent::Completed { .. }), "it goes on afterwards");
}

#[test]
fn a_fault_passes_and_the_script_goes_on() {
    let backend =
        Backend::scripted(script![fault(Fault::Status { status: 500 }).times(2), answer("ok")]);
    let status = || post(&backend, &good(json!([user("hi")]))).status();
    assert_eq!([status(), status(), status(), status()], [500, 500, 200, 400]);
    let statuses: Vec<u16> = backend.requests().iter().map(|request| request.status).collect();
    assert_eq!(statuses, [500, 500, 200, 400]);
    let complaints = backend.complaints();
    assert_eq!(
        complaints.last().map(String::as_str),
        Some("a request after the end of the script")
    );
}

#[test]
fn a_refused_token_stays_refused_and_another_is_taken() {
    let backend = Backend::scripted(script![fault(Fault::Unauthorized), answer("ok")]);
    let status = |token: &str| post_with(&backend, &good(json!([user("hi")])), token).status();
    assert_eq!([status("sk-1"), status("sk-1"), status("sk-2")], [401, 401, 200]);
}
