//! A record as a row, as text and as JSON.

use super::*;
use crate::session::public::{Change, ChangeKind};

fn view() -> SessionView {
    SessionView {
        v: 1,
        session: "7c41".repeat(8),
        short: "7c41".into(),
        started: "2026-11-21T09:14:00Z".into(),
        ended: Some("2026-11-21T09:14:22Z".into()),
        ms: 22_300,
        prompt: "make the tests pass;\nsay what was wrong\u{1b}[2J".into(),
        dir: "/home/ada/src/left-pad-ng".into(),
        login: LoginEvent {
            name: "key".into(),
            kind: "api key".into(),
            plan: None,
            base: "https://api.openai.com/v1".into(),
        },
        model: "gpt-5.6-luna".into(),
        effort: Some("low".into()),
        credentials: "relay".into(),
        image: Image { name: "airlock-base:6f1c02".into(), digest: "sha256:6f1c".into() },
        network: "none".into(),
        live: false,
        budget: Budget::default(),
        limits: Limits {
            memory: 2 << 30,
            cpus: 2.0,
            pids: 512,
            disk: 2 << 30,
            disk_on: "tmpfs".into(),
        },
        waivers: vec![],
        triggers: vec![],
        left_out: 1,
        requests: 6,
        estimated: false,
        usage: Usage { input: 41_210, cached: 36_300, output: 1_034, reasoning: 0 },
        outcome: "finished".into(),
        message: None,
        answer: Some("The failing case was `pad(\"\", 3)`.\n".into()),
        exit: Some(0),
        changes_are: ChangesAre::Kept,
        changes: ChangesEvent {
            files: 1,
            added: 3,
            removed: 1,
            list: vec![Change {
                path: "src/pad.js".into(),
                kind: ChangeKind::Modified,
                added: 3,
                removed: 1,
                binary: false,
                bytes: None,
            }],
            ..ChangesEvent::default()
        },
        changes_note: None,
    }
}

#[test]
fn the_table() {
    let limit = SessionView {
        short: "7e13".into(),
        outcome: "usage_limit".into(),
        ms: 131_000,
        requests: 0,
        usage: Usage::default(),
        login: LoginEvent { name: "ops".into(), ..view().login },
        prompt: "x".repeat(200),
        ..view()
    };
    let expected = "\
ID    OUTCOME       TIME  REQS  TOKENS (cached)  LOGIN  WHAT
7c41  finished     22.3s      6  42.2k (88%)      key      make the tests pass; say what was wr…
7e13  usage_limit  2m11s      0  –                ops      xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…
";
    let table = table(&[view(), limit]);
    assert_eq!(table.lines().next(), expected.lines().next());
    assert!(table.lines().all(|line| text::width(line) <= COLUMNS), "{table}");
    assert!(!table.chars().any(sanitize::is_unsafe));
    assert!(table.contains("42.2k (88%)"), "{table}");
    assert_eq!(super::table(&[]), "no sessions yet\n");
}

#[test]
fn a_record_as_text() {
    let expected = "\
session    7c417c417c417c417c417c417c417c41
outcome    finished · exit 0
time       2026-11-21T09:14:00Z · 22.3s of 1h00m
prompt     make the tests pass; say what was wrong␛[2J
directory  /home/ada/src/left-pad-ng
login      key (api key) · https://api.openai.com/v1
model      gpt-5.6-luna low · credentials relay
image      airlock-base:6f1c02 · sha256:6f1c
limits     memory 2 GiB · cpus 2 · pids 512 · disk 2 GiB on tmpfs · network none
left out   1 path
used       6 of 100 requests · 42,244 of 4,000,000 tokens: 41,210 in (88% cached), 1,034 out
changes    src/pad.js | 4 +++-
next       airlock diff 7c41    airlock apply 7c41    airlock discard 7c41

The failing case was `pad(\"\", 3)`.
";
    assert_eq!(shown(&view(), Style::default()), expected);
}

#[test]
fn a_session_that_failed_early_has_no_empty_rows() {
    let none = || String::new();
    let early = SessionView {
        login: LoginEvent { name: none(), kind: none(), plan: None, base: none() },
        model: none(),
        effort: None,
        image: Image { name: none(), digest: none() },
        requests: 0,
        usage: Usage::default(),
        outcome: "failed".into(),
        message: Some("the image cannot be fetched".into()),
        answer: None,
        exit: Some(6),
        changes_are: ChangesAre::None,
        changes: ChangesEvent::default(),
        ..view()
    };
    let shown = shown(&early, Style::default());
    let labels: Vec<&str> = shown.lines().filter_map(|line| line.split("  ").next()).collect();
    let expected = [
        "session",
        "outcome",
        "time",
        "prompt",
        "directory",
        "limits",
        "left out",
        "used",
        "changes",
    ];
    assert_eq!(labels, expected, "{shown}");
}

#[test]
fn the_changes_of_a_live_directory() {
    let live = SessionView {
        live: true,
        changes_are: ChangesAre::Live,
        changes: ChangesEvent::default(),
        answer: None,
        ..view()
    };
    let last = |view: &SessionView| {
        let shown = shown(view, Style::default());
        let lines: Vec<String> = shown.lines().rev().take(2).map(str::to_owned).collect();
        format!("{}\n{}", lines[1], lines[0])
    };
    let there = "changes    in the directory itself (--live): there is nothing to apply\n";
    let git = "next       git status and git diff, if the directory is a git repository";
    let look =
        "next       look at the directory, but not with git: something there may run by itself";
    assert_eq!(last(&live), format!("{there}{git}"));
    let trigger = Trigger { path: "new/.git".into(), what: "a repository".into() };
    let triggers = SessionView { triggers: vec![trigger], ..live.clone() };
    assert_eq!(last(&triggers), format!("{there}{look}"));
    // The airlock process died, so it never compared the directory.
    assert_eq!(last(&SessionView { exit: None, ..live }), format!("{there}{look}"));
}

#[test]
fn applied_changes_are_shown_with_their_place() {
    let applied = SessionView { changes_are: ChangesAre::Applied, ..view() };
    let shown = |view: &SessionView| shown(view, Style::default());
    let expected =
        "changes    src/pad.js | 4 +++-\n           applied: they are in your directory\n";
    assert!(shown(&applied).contains(expected), "{}", shown(&applied));
    let gone = SessionView { changes: ChangesEvent::default(), ..applied };
    let expected = "changes    applied: they are in your directory\n";
    assert!(shown(&gone).contains(expected), "{}", shown(&gone));
}

#[test]
fn the_json_has_no_short_and_no_newline_inside() {
    let line = json(&view());
    assert_eq!(line.matches('\n').count(), 1);
    let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(value.get("short"), None);
    assert_eq!(value["changes_are"], "kept");
    assert_eq!(value["changes"]["list"][0]["kind"], "modified");
}
