//! The events are as documented: fields, limits, and the last line of each outcome.

use airlock_shared::outcome::{FaultKind, Outcome, Spent, Stop};
use serde_json::json;

use super::*;
use crate::exit::Exit;

fn as_json(what: PublicEvent) -> serde_json::Value {
    serde_json::from_str(&EventLine::new(4, "7c41", 3_120, what).json()).expect("one line of JSON")
}

#[test]
fn hearsay_is_limited_and_numbered_by_the_host() {
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
    let public = PublicEvent::of_hearsay(&event).expect("shown");
    assert_eq!(
        as_json(public),
        json!({
            "v": 1, "n": 4, "session": "7c41", "at_ms": 3_120, "event": "call_ended",
            "call_id": "c1", "tool": "bash", "title": "ls", "ok": true, "exit": 0, "ms": 104,
            "note": "", "output": "é".repeat(2_048), "output_cut": true,
        })
    );
}

#[test]
fn tokens_and_forged_outcomes_are_not_shown() {
    assert_eq!(PublicEvent::of_hearsay(&Event::Unauthorized), None);
    let forged = Event::Outcome { outcome: Outcome::Finished { answer: "mine".into() } };
    assert_eq!(PublicEvent::of_hearsay(&forged), None);
}

#[test]
fn the_last_line_of_each_outcome() {
    let usage = Usage { input: 41_210, cached: 36_000, output: 1_034, reasoning: 12 };
    let line = |outcome: Outcome, changes| {
        let ended = OutcomeEvent::of(&outcome, Exit::of(&outcome), 6, usage, changes);
        let mut line = as_json(PublicEvent::Outcome(ended));
        for common in ["v", "n", "session", "at_ms", "event", "usage", "requests"] {
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
    let fault = airlock_shared::outcome::Fault::new(FaultKind::SandboxDied, "out of memory");
    assert_eq!(
        line(Outcome::Failed { fault }, ChangesAre::Lost),
        json!({"outcome": "failed", "fault": "sandbox_died", "message": "out of memory",
               "answer": null, "changes": "lost", "exit": 1})
    );
}

#[test]
fn no_event_repeats_the_fields_of_its_line() {
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
        let line =
            EventLine::new(4, "7c41", 0, PublicEvent::of_hearsay(&event).expect("shown")).json();
        for field in ["v", "n", "session", "at_ms", "event"] {
            let says = line.matches(&format!("\"{field}\":")).count();
            assert_eq!(says, 1, "{field}: {line}");
        }
    }
}

/// One of each event, with every field it can have.
fn one_of_each() -> Vec<PublicEvent> {
    let text = || "x".to_owned();
    let image = Image { name: text(), digest: text() };
    let login = LoginEvent { name: text(), kind: text(), plan: None, base: text() };
    let limits = Limits { memory: 1, cpus: 1.0, pids: 1, disk: 1, disk_on: text() };
    let reason = Stop::UsageLimit { plan: None, resets_at: Some(1), message: text() };
    let stopped = Outcome::Stopped { reason, answer: Some(text()) };
    let ended = OutcomeEvent::of(&stopped, Exit::UsageLimit, 1, Usage::default(), ChangesAre::None);
    vec![
        PublicEvent::Started(Started {
            login,
            model: text(),
            effort: None,
            credentials: text(),
            image,
            network: text(),
            live: false,
            budget: Budget::default(),
            limits,
            waivers: vec![],
        }),
        PublicEvent::Workspace(Workspace {
            dir: text(),
            files: 1,
            bytes: 1,
            git: true,
            live: false,
            left_out: vec![],
            left_out_count: 0,
            left_out_why: BTreeMap::new(),
            special: 0,
        }),
        PublicEvent::SandboxUp { entries: 1, bytes: 2 },
        PublicEvent::Docs { path: text(), bytes: 1, cut: false },
        PublicEvent::Note { text: text(), by: By::Host },
        PublicEvent::Request { request: 1 },
        PublicEvent::Retry { attempt: 1, of: 5, wait_ms: 200, why: text() },
        PublicEvent::Text { text: text(), cut: false },
        PublicEvent::CallStarted { call_id: text(), tool: text(), title: text() },
        PublicEvent::CallEnded(CallEnded {
            call_id: text(),
            tool: text(),
            title: text(),
            ok: true,
            exit: None,
            ms: 1,
            note: text(),
            output: text(),
            output_cut: false,
        }),
        PublicEvent::Plan { steps: vec![] },
        PublicEvent::Usage { usage: Usage::default() },
        PublicEvent::Refused { what: text() },
        PublicEvent::Changes(ChangesEvent::default()),
        PublicEvent::Triggers { list: vec![], more: 0 },
        PublicEvent::Outcome(OutcomeEvent {
            spent: Some(Spent::Steps),
            fault: Some(FaultKind::Sandbox),
            estimated: true,
            ..ended
        }),
    ]
}

/// The variants of `PublicEvent`, in the order of its source file.
fn variants() -> Vec<String> {
    let source =
        include_str!("../public.rs").split("pub enum PublicEvent {").nth(1).unwrap_or_default();
    let source = source.split("\n}").next().unwrap_or_default();
    let names = source.lines().filter_map(|line| line.strip_prefix("    "));
    let names = names.filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()));
    let name = |line: &str| -> String {
        line.chars().take_while(char::is_ascii_alphanumeric).collect::<String>()
    };
    let snake = |name: String| -> String {
        let parts = name.chars().enumerate().map(|(at, letter)| match letter {
            letter if letter.is_ascii_uppercase() && at > 0 => {
                format!("_{}", letter.to_ascii_lowercase())
            }
            letter => letter.to_ascii_lowercase().to_string(),
        });
        parts.collect()
    };
    names.map(name).map(snake).collect()
}

/// Fails if an event or a field is not documented.
#[test]
fn every_event_and_every_field_is_in_the_readme_and_every_event_in_the_help() {
    let readme = include_str!("../../../../README.md");
    let help = include_str!("../../cli/help.rs");
    let events: Vec<_> = one_of_each().into_iter().map(as_json).collect();
    let names: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(names, variants(), "one_of_each() misses an event");
    let listed = help.split("\\\"event\\\":…,…}: ").nth(1).unwrap_or_default();
    let listed = listed.split('.').next().unwrap_or_default();
    assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), names);
    for event in &events {
        let name = event["event"].as_str().unwrap_or_default();
        let row = readme.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("README.md has no row for {name}"));
        let said: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        for field in event.as_object().into_iter().flatten().map(|(field, _)| field.as_str()) {
            let is_common = ["v", "n", "session", "at_ms", "event"].contains(&field);
            assert!(is_common || said.contains(&field), "README.md: {name} has no {field}");
        }
    }
}
