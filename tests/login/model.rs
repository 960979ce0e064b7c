//! A backend without a default model: a person at a terminal chooses once, and the choice is stored
//! with the login. A program gets an error with the names.

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
const PROMPT: &str = "a part of its name: ";

/// Four models that can be chosen, and two whose names hold control characters.
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

/// A session at a terminal, up to the question.
async fn start_until_question(machine: &Machine, rig: Rig) -> (Live, File) {
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

/// A session at a terminal without a question, to its end.
async fn run_without_question(machine: &Machine, rig: Rig) -> Ran {
    machine.backend.then(script![answer("done")]);
    let backend = Arc::clone(&machine.backend);
    let (live, _person) =
        rig.in_words().prompt("x").start_at_a_terminal(engine().await, backend).await;
    let ran = live.end().await;
    assert_eq!((ran.exit, ran.stdout.as_str()), (Some(0), "done\n"), "{}", ran.stderr);
    assert!(!ran.stderr.contains(PROMPT), "{}", ran.stderr);
    ran
}

/// The models that were requested, in order.
fn models(machine: &Machine) -> Vec<Value> {
    machine.backend.model_requests().iter().map(|request| request.json()["model"].clone()).collect()
}

#[tokio::test]
async fn a_model_is_chosen_once_and_stored_with_the_login() {
    let machine = machine();
    let before = machine.stored("team");
    let (mut live, person) = start_until_question(&machine, team(&machine)).await;
    assert_eq!(live.containers().await, [""; 0], "a container waits for the answer");
    let question = live.stderr();
    for line in ["the backend lists 4 models and has no default", "2  gpt-5.5", "4  tts-1"] {
        assert!(question.contains(line), "{line}: {question}");
    }
    assert!(!question.contains("2J") && !question.contains("5-tpg"), "{question:?}");
    // A part of several names shows a shorter list; a number then refers to that list.
    types(&person, "GPT\n");
    let narrowed = |live: &Live| live.stderr()[question.len()..].ends_with(PROMPT).then_some(());
    live.until("shorter list", narrowed).await;
    machine.backend.then(script![answer("done")]);
    types(&person, "1\n");
    let ran = live.end().await.assert_nothing_left_behind().await;
    assert_eq!((ran.exit, ran.stdout.as_str()), (Some(0), "done\n"), "{}", ran.stderr);
    let screen = unwrapped(&ran.stderr);
    let kept = "gpt-5.5 is stored with the login `team`; to choose again: airlock run -m ask …";
    assert!(screen.contains(kept), "{screen}");
    let mut expected = before;
    expected["model"] = json!("gpt-5.5");
    assert_eq!(machine.stored("team"), expected);
    let mode = std::fs::metadata(machine.file("team")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // There is no second question. `-m` overrides the stored model and does not change it.
    run_without_question(&machine, team(&machine)).await;
    run_without_question(&machine, team(&machine).flags(&["-m", "tts-1"])).await;
    machine.backend.then(script![answer("done")]);
    let rig = team(&machine).prompt("x");
    let ran = rig.start_beside(engine().await, Arc::clone(&machine.backend)).await.end().await;
    assert_eq!(ran.events()[0]["model"], json!("gpt-5.5"), "{}", ran.stderr);
    let used = ["gpt-5.5", "gpt-5.5", "tts-1", "gpt-5.5"].map(|model| json!(model));
    assert_eq!(models(&machine), used);
    assert_eq!(machine.stored("team"), expected);

    // It is shown, can be changed, and is deleted with the login.
    let status = machine.run(&["status"]).await;
    assert!(unwrapped(&status.stdout).contains("· model gpt-5.5"), "{status:#?}");
    let (live, person) = start_until_question(&machine, team(&machine).flags(&["-m", "ask"])).await;
    machine.backend.then(script![answer("done")]);
    types(&person, "gpt-4\n");
    assert_eq!(live.end().await.exit, Some(0));
    assert_eq!(machine.stored("team")["model"], json!("gpt-4"));
    assert_eq!(machine.run(&["logout", "team"]).await.exit, Some(0));
    assert_eq!(machine.stored("team"), Value::Null);
}

/// The end of the input, three wrong answers or Ctrl-C end the session, and nothing is stored.
#[tokio::test]
async fn without_a_choice_the_error_lists_the_names() {
    let machine = machine();
    let before = machine.stored("team");
    let names = "usage: no model was chosen: the backend lists dall-e-2, gpt-5.5, gpt-4, tts-1";
    // Ctrl-D is the end of a terminal's input.
    for typed in ["\u{4}", "claude\n\nclaude\n"] {
        let (live, person) = start_until_question(&machine, team(&machine)).await;
        types(&person, typed);
        let ran = live.end().await.assert_nothing_left_behind().await;
        assert_eq!((ran.exit, ran.stdout.as_str()), (Some(2), ""), "{}", ran.stderr);
        assert!(unwrapped(&ran.stderr).contains(names), "{}", ran.stderr);
        assert!(ran.stderr.trim_end().ends_with("\nairlock run -m NAME …"), "{}", ran.stderr);
    }
    let (live, _person) = start_until_question(&machine, team(&machine)).await;
    live.signal(Signal::INT);
    let ran = live.end().await.assert_nothing_left_behind().await;
    assert_eq!(ran.exit, Some(130), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("{PROMPT}\r\n")), "{:?}", ran.stderr);
    assert_eq!((models(&machine), machine.stored("team")), (Vec::new(), before));
}

/// With `--json` or a pipe there is no question, because a program reads the output.
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

/// A stored model that the backend does not list any more is not used: a person chooses again, a
/// program gets an error.
#[tokio::test]
async fn a_stored_model_that_is_not_listed_any_more_is_chosen_again() {
    let machine = machine();
    machine.change("team", "model", json!("gpt-3"));
    let rig = team(&machine).in_words().prompt("x");
    let ran = rig.start_beside(engine().await, Arc::clone(&machine.backend)).await.end().await;
    assert_eq!(ran.exit, Some(2), "{}", ran.stderr);
    let reason = "gpt-3 is stored with the login, but the backend does not list it any more: it lists \
                  dall-e-2, gpt-5.5";
    assert!(unwrapped(&ran.stderr).contains(reason), "{}", ran.stderr);
    let (live, person) = start_until_question(&machine, team(&machine)).await;
    let screen = unwrapped(&live.stderr());
    assert!(
        screen.contains("gpt-3 is stored with the login, but the backend does not list"),
        "{screen}"
    );
    machine.backend.then(script![answer("done")]);
    types(&person, "4\n");
    assert_eq!(live.end().await.exit, Some(0));
    assert_eq!(machine.stored("team")["model"], json!("tts-1"));
    assert_eq!(models(&machine), [json!("tts-1")]);
}

/// A key that is not a login: the choice is for this session, and a hint says how to keep it.
#[tokio::test]
async fn a_model_for_a_key_file_is_for_one_session() {
    let machine = machine();
    let (live, person) = start_until_question(&machine, machine.rig.beside()).await;
    machine.backend.then(script![answer("done")]);
    types(&person, "2\n");
    let ran = live.end().await;
    assert_eq!((ran.exit, ran.stdout.as_str()), (Some(0), "done\n"), "{}", ran.stderr);
    let screen = unwrapped(&ran.stderr);
    let line = "gpt-5.5 is used for this session only; to keep it, write `model = \"gpt-5.5\"` into \
                config.toml, or give -m gpt-5.5 each time";
    assert!(screen.contains(line), "{screen}");
    assert_eq!(machine.stored("team")["model"], Value::Null);
    // The next session asks again.
    let (live, _person) = start_until_question(&machine, machine.rig.beside()).await;
    live.signal(Signal::TERM);
    assert_eq!(live.end().await.exit, Some(143));
}
