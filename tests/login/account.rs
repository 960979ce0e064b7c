//! Whose login it becomes, and who pays: nothing changes hands unsaid.

use std::io::Write as _;
use std::process::Stdio;
use std::sync::Arc;

use airlock_tests::backend::{Backend, Options};
use airlock_tests::issuer::Account;
use airlock_tests::rig::{Process, terminal};
use serde_json::{Value, json};

use crate::machine::{Machine, ended, told, unwrapped};

const KEY: &str = "sk-canary-0123456789abcdef0123456789-a1b2";

/// A login of ada's that is gone, and bob who signs in next.
fn adas_then_bob() -> Machine {
    let machine = Machine::new();
    let ada = machine.hold("default", -60);
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
    // Nobody to ask.
    let said = ended(machine.signing_in(&["--device", "--json"]).await).await;
    assert_eq!(said.exit, Some(1), "{said:#?}");
    let last: Value = said
        .stdout
        .lines()
        .last()
        .map(|l| serde_json::from_str(l).unwrap_or_default())
        .unwrap_or_default();
    assert_eq!((&last["event"], &last["headline"]), (&json!("failed"), &json!("another account")));
    assert!(kept(&before), "bob's tokens took ada's place unasked");
    for part in ["ada@example.org", "bob@example.org", "--replace"] {
        assert!(said.stderr.contains(part), "{part}: {}", said.stderr);
    }
    machine.assert_no_secret_in(&[&said.stdout, &said.stderr]);

    // A person who says no, and one who says yes.
    for (answer, exit, email) in [("n", 1, "ada"), ("", 1, "ada"), ("y", 0, "bob")] {
        let (mut person, theirs) = terminal();
        let mut command = machine.signing_in(&["--device"]).await;
        command.stdin(Stdio::from(theirs));
        let mut process = Process::start(command);
        let asked = |it: &Process| it.stderr().contains("[y/N]").then_some(());
        process.until("question", asked).await;
        assert!(kept(&before), "stored before the answer");
        person.write_all(format!("{answer}\n").as_bytes()).expect("a terminal");
        let said = process.end().await;
        assert_eq!(said.exit, Some(exit), "{answer}: {said:#?}");
        let expected = format!("{email}@example.org");
        assert_eq!(machine.stored("default")["email"], json!(expected), "{answer}");
    }
}

#[tokio::test]
async fn an_account_may_be_replaced_when_that_was_said() {
    let machine = adas_then_bob();
    let said = machine.signed_in(&["--device", "--replace"]).await;
    assert!(unwrapped(&said.stderr).contains("signed in bob@example.org"), "{said:#?}");
    assert_eq!(machine.stored("default")["email"], json!("bob@example.org"));
}

#[tokio::test]
async fn the_same_account_is_not_asked_about() {
    let machine = adas_then_bob();
    machine.issuer.account(Account::named("ada"));
    let said = machine.signed_in(&["--device"]).await;
    assert!(!said.stderr.contains("[y/N]"), "{said:#?}");
}

/// A backend that takes this key alone.
fn backend(key: &str) -> Arc<Backend> {
    let tokens = vec![key.to_owned()];
    Arc::new(Backend::start(Options { tokens, ..Options::default() }))
}

#[tokio::test]
async fn a_key_is_tried_and_stored_and_shown_by_its_end() {
    let machine = Machine::new();
    let backend = backend(KEY);
    for (asked, flag) in [(1, &["--api-key", "-"][..]), (2, &["--api-key"][..])] {
        let mut command = machine.airlock(&["setup", "codex-auth", "--name", "team"]).await;
        command.args(["--replace", "--base-url", &backend.url()]).args(flag);
        let said = told(command, KEY).await;
        assert_eq!((said.exit, said.stdout.as_str()), (Some(0), ""), "{flag:?}: {said:#?}");
        let screen = unwrapped(&said.stderr);
        let line = format!("team · API key …a1b2 · metered · {}", backend.url());
        assert!(screen.contains(&line), "{screen}");
        assert!(!said.stderr.contains(KEY), "{said:#?}");
        assert_eq!(backend.requests().len(), asked, "the service was asked twice");
    }
    let stored = machine.stored("team");
    assert_eq!((&stored["kind"], &stored["api_key"]), (&json!("api_key"), &json!(KEY)));
    let asked = backend.requests();
    assert_eq!(asked.first().and_then(|request| request.bearer()), Some(KEY));
    assert!(machine.issuer.asked().is_empty(), "an issuer was asked about a key");
}

#[tokio::test]
async fn a_key_the_service_refuses_is_not_stored() {
    let machine = Machine::new();
    let backend = backend("sk-another-key-0123456789");
    let mut command = machine.airlock(&["setup", "codex-auth", "--api-key", "-"]).await;
    command.args(["--base-url", &backend.url()]);
    let said = told(command, KEY).await;
    assert_eq!(said.exit, Some(3), "{said:#?}");
    assert_eq!(machine.stored("default"), Value::Null);
    assert!(!said.stderr.contains(KEY), "{said:#?}");
}

/// A key that is typed is seen by everybody on this machine.
#[tokio::test]
async fn a_typed_key_is_refused() {
    let machine = Machine::new();
    for flag in ["--api-key", "--access-token"] {
        let said = machine.said(&["setup", "codex-auth", flag, KEY]).await;
        assert_eq!(said.exit, Some(2), "{said:#?}");
        assert!(!said.stderr.contains(KEY), "{said:#?}");
        assert_eq!(machine.stored("default"), Value::Null);
    }
}

#[tokio::test]
async fn an_access_token_given_alone_is_not_renewed() {
    let machine = Machine::new();
    let granted = machine.issuer.grant();
    let mut command = machine.signing_in(&["--access-token", "-"]).await;
    command.stdin(Stdio::piped());
    let said = told(command, &granted.access).await;
    assert_eq!(said.exit, Some(0), "{said:#?}");
    assert!(unwrapped(&said.stderr).contains("nothing renews it"), "{said:#?}");
    let stored = machine.stored("default");
    assert_eq!(
        (&stored["email"], &stored["refresh_token"]),
        (&json!("ada@example.org"), &Value::Null)
    );
    machine.assert_no_secret_in(&[&said.stdout, &said.stderr]);
    machine.change("default", "expires_at", json!(1));
    let said = machine.said(&["secrets", "--json"]).await;
    assert_eq!(said.exit, Some(3), "{said:#?}");
    assert_eq!(machine.refreshes(), 0);
}

/// A plan that is gone is not quietly replaced by a key that costs.
#[tokio::test]
async fn no_switch_from_a_plan_to_a_key() {
    let machine = Machine::new().variable("OPENAI_API_KEY", KEY);
    let mut command =
        machine.airlock(&["setup", "codex-auth", "--api-key", "-", "--name", "team"]).await;
    let metered = backend(KEY);
    command.args(["--base-url", &metered.url()]);
    assert_eq!(told(command, KEY).await.exit, Some(0));
    let asked = metered.requests().len();
    let ada = machine.hold("default", -60);
    machine.issuer.end(&ada.refresh, "refresh_token_reused");
    let said = machine.said(&["run", "x", "--base-url", &machine.backend.url()]).await;
    assert_eq!(said.exit, Some(3), "{said:#?}");
    let screen = unwrapped(&said.stderr);
    let reason = "sign-in needed: the login was used up by another program (refresh_token_reused)";
    assert!(screen.contains(reason), "{screen}");
    assert!(screen.ends_with("airlock setup codex-auth"), "{screen}");
    assert_eq!(metered.requests().len(), asked, "the key was used");
    assert!(machine.backend.model_requests().is_empty());
}

/// What a run says to do about a key that is refused does it.
#[tokio::test]
async fn a_refused_key_is_given_again_by_the_command_that_is_told() {
    let machine = Machine::new();
    let metered = backend(KEY);
    machine.store(
        "team",
        &json!({
            "v": 2, "kind": "api_key", "base": metered.url(), "generation": 0,
            "api_key": "sk-canary-of-last-year-0123456789",
        }),
    );
    let said = machine.said(&["run", "x", "--login", "team"]).await;
    assert_eq!(said.exit, Some(3), "{said:#?}");
    let told_to = format!("setup codex-auth --name team --base-url {} --api-key -", metered.url());
    assert!(said.stderr.trim_end().ends_with(&format!("airlock {told_to} < FILE")), "{said:#?}");
    let line: Vec<&str> = told_to.split(' ').collect();
    let said = told(machine.airlock(&line).await, KEY).await;
    assert_eq!(said.exit, Some(0), "{said:#?}");
    assert_eq!(machine.stored("team")["api_key"], json!(KEY));
}
