//! What is printed is what is promised: fields, bounds, and the last line of each end.

use airlock_shared::outcome::{FaultKind, Outcome, Spent, Stop};
use serde_json::json;

use super::*;
use crate::exit::Exit;

fn as_json(what: Public) -> serde_json::Value {
    serde_json::from_str(&Line::new(4, "7c41", 3_120, what).json()).expect("one line of JSON")
}

#[test]
fn hearsay_is_bounded_and_numbered_by_us() {
    let event = Event::CallEnded {
        call_id: "c1".into(),
        tool: "bash".into(),
        title: "ls".into(),
        ok: true,
        exit: Some(0),
        ms: 104,
        note: String::new(),
        output: "é".repeat(4_000),
    };
    let public = Public::of_hearsay(&event).expect("shown");
    assert_eq!(
        as_json(public),
        json!({
            "v": 1, "n": 4, "run": "7c41", "at_ms": 3_120, "event": "call_ended",
            "call_id": "c1", "tool": "bash", "title": "ls", "ok": true, "exit": 0, "ms": 104,
            "note": "", "output": "é".repeat(2_048), "output_cut": true,
        })
    );
}

#[test]
fn what_is_not_for_showing_is_not_shown() {
    assert_eq!(Public::of_hearsay(&Event::Unauthorized), None);
    let forged = Event::Outcome { outcome: Outcome::Finished { answer: "mine".into() } };
    assert_eq!(Public::of_hearsay(&forged), None);
}

#[test]
fn the_last_line_of_each_end() {
    let usage = Usage { input: 41_210, cached: 36_000, output: 1_034, reasoning: 12 };
    let line = |outcome: Outcome, changes| {
        let ended = Ended::of(&outcome, Exit::of(&outcome), 6, usage, changes);
        let mut line = as_json(Public::Outcome(ended));
        for common in ["v", "n", "run", "at_ms", "event", "usage", "requests"] {
            line.as_object_mut().expect("an object").remove(common);
        }
        line
    };
    let finished = Outcome::Finished { answer: "done".into() };
    assert_eq!(
        line(finished, ChangesAre::Kept),
        json!({"outcome": "finished", "answer": "done", "changes": "kept", "exit": 0})
    );
    let spent = Stop::Budget { spent: Spent::Steps };
    let stopped = Outcome::Stopped { reason: spent, answer: Some("so far".into()) };
    assert_eq!(
        line(stopped, ChangesAre::None),
        json!({"outcome": "stopped", "reason": "budget", "spent": "steps", "answer": "so far",
               "changes": "none", "exit": 5})
    );
    let fault = airlock_shared::outcome::Fault::new(FaultKind::BoxDied, "out of memory");
    assert_eq!(
        line(Outcome::Failed { fault }, ChangesAre::Lost),
        json!({"outcome": "failed", "fault": "box_died", "message": "out of memory",
               "answer": null, "changes": "lost", "exit": 1})
    );
}

#[test]
fn no_event_says_the_fields_of_its_line_again() {
    let plan = PlanStep { step: "look".into(), status: StepStatus::Pending };
    let (why, path, text) = ("503".to_owned(), "AGENTS.md".to_owned(), "hm".to_owned());
    for event in [
        Event::Up { entries: 1, bytes: 2 },
        Event::Docs { path, bytes: 1, cut: false },
        Event::Request { n: 1 },
        Event::Retry { attempt: 1, of: 5, wait_ms: 200, why },
        Event::Text { text: text.clone() },
        Event::Plan { steps: vec![plan] },
        Event::Usage { usage: Usage::default() },
        Event::Note { text },
    ] {
        let line = Line::new(4, "7c41", 0, Public::of_hearsay(&event).expect("shown")).json();
        for field in ["v", "n", "run", "at_ms", "event"] {
            let says = line.matches(&format!("\"{field}\":")).count();
            assert_eq!(says, 1, "{field}: {line}");
        }
    }
}
