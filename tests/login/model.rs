//! A backend without a default model: a person at a terminal chooses once, and the choice is kept
//! with the login. A program is told the names.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use airlock_tests::Rig;
use airlock_tests::backend::{self, Backend, answer, script};
use airlock_tests::engine::Engine;
use airlock_tests::images;
use airlock_tests::rig::{Live, Ran};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::machine::{Machine, unwrapped};

const KEY: &str = "sk-canary-0123456789abcdef0123456789-a1b2";
const PROMPT: &str = "a part of the name: ";

/// Four models that can be chosen, and two that would steer a terminal.
fn plain_list() -> Value {
    let names = ["dall-e-2", "gpt-5.5", "\u{1b}[2Jgpt-5.5", "gpt-4", "\u{202e}5-tpg", "tts-1"];
    let ids: Vec<Value> = names.iter().map(|id| json!({"id": id, "object": "model"})).collect();
    json!({"object": "list", "data": ids})
}

/// A machine with the login `team`, a key of a backend that lists models and has no default.
fn machine() -> Machine {
    let catalogue = plain_list();
    let backend = Backend::start(backend::Options { catalogue, ..backend::Options::default() });
    let machine = Machine { backend: Arc::new(backend), ..Machine::new() };
    machine.store(
        "team",
        &json!({
            "v": 2, "kind": "api_key", "base": machine.backend.url(), "api_key": KEY,
            "generation": 3,
        }),
    );
    machine
}

async fn engine() -> Engine {
    let engine = Engine::connect().await;
    images::ready(&engine).await;
    engine
}

/// A run at a terminal, up to its question.
async fn asked(machine: &Machine, rig: Rig) -> (Live, File) {
    let backend = Arc::clone(&machine.backend);
    let (mut live, person) =
        rig.in_words().prompt("x").start_at_a_terminal(engine().await, backend).await;
    live.until("question", |live| live.stderr().ends_with(PROMPT).then_some(())).await;
    (live, person)
}

fn team(machine: &Machine) -> Rig {
    machine.rig.beside().login("team")
}

fn types(mut person: &File, line: &str) {
    person.write_all(line.as_bytes()).expect("a terminal");
}

/// A run at a terminal that asks nothing, to its end.
async fn unasked(machine: &Machine, rig: Rig) -> Ran {
    machine.backend.then(script![answer("done")]);
    let backend = Arc::clone(&machine.backend);
    let (live, _person) =
        rig.in_words().prompt("x").start_at_a_terminal(engine().await, backend).await;
    let ran = live.end().await;
    assert_eq!((ran.exit, ran.stdout.as_str()), (Some(0), "done\n"), "{}", ran.stderr);
    assert!(!ran.stderr.contains(PROMPT), "{}", ran.stderr);
    ran
}

/// The models that were asked for, in order.
fn models(machine: &Machine) -> Vec<Value> {
    machine.backend.model_requests().iter().map(|asked| asked.json()["model"].clone()).collect()
}

#[tokio::test]
async fn a_model_is_chosen_once_and_kept_with_the_login() {
    let machine = machine();
    let before = machine.stored("team");
    let (mut live, person) = asked(&machine, team(&machine)).await;
    assert_eq!(live.containers().await, [""; 0], "a container waits for the answer");
    let question = live.stderr();
    for line in ["the backend lists 4 models and has no default", "2  gpt-5.5", "4  tts-1"] {
        assert!(question.contains(line), "{line}: {question}");
    }
    assert!(!question.contains("2J") && !question.contains("5-tpg"), "{question:?}");
    // A part that several have shows those; then a number means what is shown.
    types(&person, "GPT\n");
    let narrowed = |live: &Live| live.stderr()[question.len()..].ends_with(PROMPT).then_some(());
    live.until("shorter list", narrowed).await;
    machine.backend.then(script![answer("done")]);
    types(&person, "1\n");
    let ran = live.end().await.assert_nothing_left_behind().await;
    assert_eq!((ran.exit, ran.stdout.as_str()), (Some(0), "done\n"), "{}", ran.stderr);
    let said = unwrapped(&ran.stderr);
    let kept = "gpt-5.5 is kept with the login `team`; `airlock run -m ask …` asks again";
    assert!(said.contains(kept), "{said}");
    let mut expected = before;
    expected["model"] = json!("gpt-5.5");
    assert_eq!(machine.stored("team"), expected);
    let mode = std::fs::metadata(machine.file("team")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // Not asked again, here or elsewhere; what is named goes over it and changes nothing.
    unasked(&machine, team(&machine)).await;
    unasked(&machine, team(&machine).flags(&["-m", "tts-1"])).await;
    machine.backend.then(script![answer("done")]);
    let rig = team(&machine).prompt("x");
    let ran = rig.start_beside(engine().await, Arc::clone(&machine.backend)).await.end().await;
    assert_eq!(ran.events()[0]["model"], json!("gpt-5.5"), "{}", ran.stderr);
    let used = ["gpt-5.5", "gpt-5.5", "tts-1", "gpt-5.5"].map(|model| json!(model));
    assert_eq!(models(&machine), used);
    assert_eq!(machine.stored("team"), expected);

    // Shown, changed on request, gone with the login.
    let status = machine.said(&["status"]).await;
    assert!(unwrapped(&status.stdout).contains("· model gpt-5.5"), "{status:#?}");
    let (live, person) = asked(&machine, team(&machine).flags(&["-m", "ask"])).await;
    machine.backend.then(script![answer("done")]);
    types(&person, "gpt-4\n");
    assert_eq!(live.end().await.exit, Some(0));
    assert_eq!(machine.stored("team")["model"], json!("gpt-4"));
    assert_eq!(machine.said(&["logout", "team"]).await.exit, Some(0));
    assert_eq!(machine.stored("team"), Value::Null);
}

/// The end of the input, three wrong answers, Ctrl-C: each ends the run, and nothing is kept.
#[tokio::test]
async fn who_does_not_choose_is_told_the_names() {
    let machine = machine();
    let before = machine.stored("team");
    let names = "usage: no model was chosen: the backend lists dall-e-2, gpt-5.5, gpt-4, tts-1";
    // Ctrl-D is the end of a terminal's input.
    for typed in ["\u{4}", "claude\n\nclaude\n"] {
        let (live, person) = asked(&machine, team(&machine)).await;
        types(&person, typed);
        let ran = live.end().await.assert_nothing_left_behind().await;
        assert_eq!((ran.exit, ran.stdout.as_str()), (Some(2), ""), "{}", ran.stderr);
        assert!(unwrapped(&ran.stderr).contains(names), "{}", ran.stderr);
        assert!(ran.stderr.trim_end().ends_with("\nairlock run -m NAME …"), "{}", ran.stderr);
    }
    let (live, _person) = asked(&machine, team(&machine)).await;
    live.signal(Signal::INT);
    let ran = live.end().await.assert_nothing_left_behind().await;
    assert_eq!(ran.exit, Some(130), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("{PROMPT}\r\n")), "{:?}", ran.stderr);
    assert_eq!((models(&machine), machine.stored("team")), (Vec::new(), before));
}

/// `--json` is read by a program, and so is a pipe: neither is asked, though it is a terminal.
#[tokio::test]
async fn a_program_is_not_asked() {
    let machine = machine();
    let reasons = [
        (None, "no model was named, and the backend has no default: it lists dall-e-2, gpt-5.5"),
        (Some("ask"), "a model can only be chosen at a terminal, without --json"),
    ];
    for (model, reason) in reasons {
        let rig = || match model {
            Some(model) => team(&machine).prompt("x").flags(&["-m", model]),
            None => team(&machine).prompt("x"),
        };
        let backend = || Arc::clone(&machine.backend);
        let (live, _person) = rig().start_at_a_terminal(engine().await, backend()).await;
        let piped = rig().in_words().start_beside(engine().await, backend()).await;
        for ran in [live.end().await, piped.end().await] {
            assert_eq!(ran.exit, Some(2), "{}", ran.stderr);
            assert!(unwrapped(&ran.stderr).contains(reason), "{}", ran.stderr);
        }
    }
    assert_eq!(machine.stored("team")["model"], Value::Null);
}

/// What was kept and is listed no more is never asked for: a person chooses again, a program ends.
#[tokio::test]
async fn a_kept_model_that_is_listed_no_more_is_asked_about_again() {
    let machine = machine();
    machine.change("team", "model", json!("gpt-3"));
    let rig = team(&machine).in_words().prompt("x");
    let ran = rig.start_beside(engine().await, Arc::clone(&machine.backend)).await.end().await;
    assert_eq!(ran.exit, Some(2), "{}", ran.stderr);
    let reason = "gpt-3 is kept with the login, and the backend does not list it any more: it lists \
                  dall-e-2, gpt-5.5";
    assert!(unwrapped(&ran.stderr).contains(reason), "{}", ran.stderr);
    let (live, person) = asked(&machine, team(&machine)).await;
    let said = unwrapped(&live.stderr());
    assert!(
        said.contains("gpt-3 was kept with the login, and the backend does not list"),
        "{said}"
    );
    machine.backend.then(script![answer("done")]);
    types(&person, "4\n");
    assert_eq!(live.end().await.exit, Some(0));
    assert_eq!(machine.stored("team")["model"], json!("tts-1"));
    assert_eq!(models(&machine), [json!("tts-1")]);
}

/// A key that is in no login: the choice is for this run, and the person is told what keeps it.
#[tokio::test]
async fn a_model_for_a_key_file_is_for_one_run() {
    let machine = machine();
    let (live, person) = asked(&machine, machine.rig.beside()).await;
    machine.backend.then(script![answer("done")]);
    types(&person, "2\n");
    let ran = live.end().await;
    assert_eq!((ran.exit, ran.stdout.as_str()), (Some(0), "done\n"), "{}", ran.stderr);
    let said = unwrapped(&ran.stderr);
    let line = "gpt-5.5 is chosen for this run; `model = \"gpt-5.5\"` in config.toml keeps it, or name \
                it each time: -m gpt-5.5";
    assert!(said.contains(line), "{said}");
    assert_eq!(machine.stored("team")["model"], Value::Null);
    // So the next run asks again.
    let (live, _person) = asked(&machine, machine.rig.beside()).await;
    live.signal(Signal::TERM);
    assert_eq!(live.end().await.exit, Some(143));
}
