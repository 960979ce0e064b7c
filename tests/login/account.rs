//! The account of a login, and the credential that is used: neither changes without notice.

use std::io::Write as _;
use std::process::Stdio;
use std::sync::Arc;

use airlock_tests::backend::{Backend, Options};
use airlock_tests::issuer::Account;
use airlock_tests::rig::{Process, terminal};
use serde_json::{Value, json};

use crate::machine::{Machine, run_to_end, run_with_stdin, unwrapped};

const KEY: &str = "sk-canary-0123456789abcdef0123456789-a1b2";

/// Ada's login has ended, and Bob signs in next.
fn adas_then_bob() -> Machine {
    let machine = Machine::new();
    let ada = machine.grant_login("default", -60);
    machine.issuer.end(&ada.refresh, "refresh_token_invalidated");
    machine.issuer.account(Account::named("bob"));
    machine
}

#[tokio::test]
async fn another_account_is_asked_about_before_anything_is_stored() {
    let machine = adas_then_bob();
    let kept = |before: &Value| {
        let now = machine.stored("default");
        let parts = ["access_token", "refresh_token", "account_id", "email"];
        parts.iter().all(|part| now[part] == before[part])
    };
    let before = machine.stored("default");
    // Without a person who can be asked.
    let output = run_to_end(machine.signing_in(&["--device", "--json"]).await).await;
    assert_eq!(output.exit, Some(1), "{output:#?}");
    let last: Value = output
        .stdout
        .lines()
        .last()
        .map(|l| serde_json::from_str(l).unwrap_or_default())
        .unwrap_or_default();
    assert_eq!((&last["event"], &last["headline"]), (&json!("failed"), &json!("another account")));
    assert!(kept(&before), "bob's tokens replaced ada's without a question");
    for part in ["ada@example.org", "bob@example.org", "--replace"] {
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
    }
    machine.assert_no_secret_in(&[&output.stdout, &output.stderr]);

    // A person who says no, and one who says yes.
    for (answer, exit, email) in [("n", 1, "ada"), ("", 1, "ada"), ("y", 0, "bob")] {
        let (mut person, theirs) = terminal();
        let mut command = machine.signing_in(&["--device"]).await;
        command.stdin(Stdio::from(theirs));
        let mut process = Process::start(command);
        let question = |it: &Process| it.stderr().contains("[y/N]").then_some(());
        process.until("question", question).await;
        assert!(kept(&before), "stored before the answer");
        person.write_all(format!("{answer}\n").as_bytes()).expect("a terminal");
        let output = process.end().await;
        assert_eq!(output.exit, Some(exit), "{answer}: {output:#?}");
        let expected = format!("{email}@example.org");
        assert_eq!(machine.stored("default")["email"], json!(expected), "{answer}");
    }
}

#[tokio::test]
async fn replace_replaces_another_account() {
    let machine = adas_then_bob();
    let output = machine.signed_in(&["--device", "--replace"]).await;
    assert!(unwrapped(&output.stderr).contains("signed in bob@example.org"), "{output:#?}");
    assert_eq!(machine.stored("default")["email"], json!("bob@example.org"));
}

#[tokio::test]
async fn the_same_account_is_not_asked_about() {
    let machine = adas_then_bob();
    machine.issuer.account(Account::named("ada"));
    let output = machine.signed_in(&["--device"]).await;
    assert!(!output.stderr.contains("[y/N]"), "{output:#?}");
}

/// A backend that accepts only this key.
fn backend(key: &str) -> Arc<Backend> {
    let tokens = vec![key.to_owned()];
    Arc::new(Backend::start(Options { tokens, ..Options::default() }))
}

#[tokio::test]
async fn a_key_is_tried_stored_and_shown_by_its_last_characters() {
    let machine = Machine::new();
    let backend = backend(KEY);
    for (requests, flag) in [(1, &["--api-key", "-"][..]), (2, &["--api-key"][..])] {
        let mut command = machine.airlock(&["setup", "codex-auth", "--name", "team"]).await;
        command.args(["--replace", "--base-url", &backend.url()]).args(flag);
        let output = run_with_stdin(command, KEY).await;
        assert_eq!((output.exit, output.stdout.as_str()), (Some(0), ""), "{flag:?}: {output:#?}");
        let screen = unwrapped(&output.stderr);
        let line = format!("team · API key …a1b2 · metered · {}", backend.url());
        assert!(screen.contains(&line), "{screen}");
        assert!(!output.stderr.contains(KEY), "{output:#?}");
        assert_eq!(backend.requests().len(), requests, "the service was asked twice");
    }
    let stored = machine.stored("team");
    assert_eq!((&stored["kind"], &stored["api_key"]), (&json!("api_key"), &json!(KEY)));
    let requests = backend.requests();
    assert_eq!(requests.first().and_then(|request| request.bearer()), Some(KEY));
    assert!(machine.issuer.asked().is_empty(), "an issuer was asked about a key");
}

#[tokio::test]
async fn a_key_the_service_refuses_is_not_stored() {
    let machine = Machine::new();
    let backend = backend("sk-another-key-0123456789");
    let mut command = machine.airlock(&["setup", "codex-auth", "--api-key", "-"]).await;
    command.args(["--base-url", &backend.url()]);
    let output = run_with_stdin(command, KEY).await;
    assert_eq!(output.exit, Some(3), "{output:#?}");
    assert_eq!(machine.stored("default"), Value::Null);
    assert!(!output.stderr.contains(KEY), "{output:#?}");
}

/// Every user of this machine can read a key in the arguments.
#[tokio::test]
async fn a_key_in_the_arguments_is_refused() {
    let machine = Machine::new();
    for flag in ["--api-key", "--access-token"] {
        let output = machine.run(&["setup", "codex-auth", flag, KEY]).await;
        assert_eq!(output.exit, Some(2), "{output:#?}");
        assert!(!output.stderr.contains(KEY), "{output:#?}");
        assert_eq!(machine.stored("default"), Value::Null);
    }
}

#[tokio::test]
async fn an_access_token_given_alone_is_not_renewed() {
    let machine = Machine::new();
    let granted = machine.issuer.grant();
    let mut command = machine.signing_in(&["--access-token", "-"]).await;
    command.stdin(Stdio::piped());
    let output = run_with_stdin(command, &granted.access).await;
    assert_eq!(output.exit, Some(0), "{output:#?}");
    assert!(unwrapped(&output.stderr).contains("never renewed"), "{output:#?}");
    let stored = machine.stored("default");
    assert_eq!(
        (&stored["email"], &stored["refresh_token"]),
        (&json!("ada@example.org"), &Value::Null)
    );
    machine.assert_no_secret_in(&[&output.stdout, &output.stderr]);
    machine.change("default", "expires_at", json!(1));
    let output = machine.run(&["secrets", "--json"]).await;
    assert_eq!(output.exit, Some(3), "{output:#?}");
    assert_eq!(machine.refreshes(), 0);
}

/// If a login with a plan has ended, a metered key is not used instead.
#[tokio::test]
async fn a_key_is_not_used_instead_of_an_ended_plan() {
    let machine = Machine::new().variable("OPENAI_API_KEY", KEY);
    let mut command =
        machine.airlock(&["setup", "codex-auth", "--api-key", "-", "--name", "team"]).await;
    let metered = backend(KEY);
    command.args(["--base-url", &metered.url()]);
    assert_eq!(run_with_stdin(command, KEY).await.exit, Some(0));
    let requests = metered.requests().len();
    let ada = machine.grant_login("default", -60);
    machine.issuer.end(&ada.refresh, "refresh_token_reused");
    let output = machine.run(&["run", "x", "--base-url", &machine.backend.url()]).await;
    assert_eq!(output.exit, Some(3), "{output:#?}");
    let screen = unwrapped(&output.stderr);
    let reason = "sign-in needed: the login was used up by another program (refresh_token_reused)";
    assert!(screen.contains(reason), "{screen}");
    assert!(screen.ends_with("airlock setup codex-auth"), "{screen}");
    assert_eq!(metered.requests().len(), requests, "the key was used");
    assert!(machine.backend.model_requests().is_empty());
}

/// The hint for a refused key works.
#[tokio::test]
async fn the_hint_for_a_refused_key_replaces_it() {
    let machine = Machine::new();
    let metered = backend(KEY);
    machine.store(
        "team",
        &json!({
            "v": 2, "kind": "api_key", "base": metered.url(), "generation": 0,
            "api_key": "sk-canary-of-last-year-0123456789",
        }),
    );
    let output = machine.run(&["run", "x", "--login", "team"]).await;
    assert_eq!(output.exit, Some(3), "{output:#?}");
    let hint = format!("setup codex-auth --name team --base-url {} --api-key -", metered.url());
    assert!(output.stderr.trim_end().ends_with(&format!("airlock {hint} < FILE")), "{output:#?}");
    let line: Vec<&str> = hint.split(' ').collect();
    let output = run_with_stdin(machine.airlock(&line).await, KEY).await;
    assert_eq!(output.exit, Some(0), "{output:#?}");
    assert_eq!(machine.stored("team")["api_key"], json!(KEY));
}
