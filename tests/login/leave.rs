//! `status`, `logout`, `import codex` and `secrets`.

use std::io::Read as _;
use std::process::Stdio;

use airlock_tests::issuer::{Account, Fault, Issuer, What};
use airlock_tests::rig::{Process, terminal};
use serde_json::{Value, json};

use crate::machine::{Machine, run_to_end, unwrapped};

#[tokio::test]
async fn logout_reports_the_revocation_and_the_deletion() {
    let machine = Machine::new();
    let ada = machine.grant_login("default", 864_000);
    let output = machine.run(&["logout"]).await;
    assert_eq!(output.exit, Some(0), "{output:#?}");
    let screen = unwrapped(&output.stderr);
    assert!(screen.starts_with("revoked by 127.0.0.1"), "{screen}");
    assert!(
        screen.contains("deleted ~/state/airlock/logins/default.json")
            || screen.contains("default.json"),
        "{screen}"
    );
    assert!(!machine.issuer.takes(&ada.refresh), "it was not revoked");
    assert_eq!(machine.stored("default"), Value::Null);
    let request = machine.issuer.asked_for(What::Revoke).pop().expect("a revocation");
    let expected = json!({
        "token": ada.refresh, "token_type_hint": "refresh_token",
        "client_id": airlock_tests::issuer::CLIENT_ID,
    });
    assert_eq!(request.json(), expected);
    machine.assert_no_complaints();
    machine.assert_no_secret_in(&[&output.stdout, &output.stderr]);
    // A second logout finds no login.
    let output = machine.run(&["logout"]).await;
    assert_eq!(output.exit, Some(2), "{output:#?}");
    assert_eq!(machine.issuer.asked_for(What::Revoke).len(), 1);
}

#[tokio::test]
async fn a_login_is_deleted_even_if_its_issuer_does_not_answer() {
    for fault in [Fault::Close, Fault::Status { status: 500 }, Fault::Challenge, Fault::Captive] {
        let machine = Machine::new();
        let ada = machine.grant_login("me", 864_000);
        machine.issuer.fault(What::Revoke, fault.clone());
        let output = machine.run(&["logout", "me"]).await;
        assert_eq!(output.exit, Some(1), "{fault:?}: {output:#?}");
        let screen = unwrapped(&output.stderr);
        assert!(
            screen.contains("not revoked") && screen.contains("deleted"),
            "{fault:?}: {screen}"
        );
        assert!(machine.issuer.takes(&ada.refresh));
        assert_eq!(machine.stored("me"), Value::Null, "{fault:?}");
        machine.assert_no_secret_in(&[&output.stdout, &output.stderr]);
    }
    let machine = Machine::new();
    machine.grant_login("me", 864_000);
    machine.change("me", "issuer", json!(Issuer::default().url()));
    let output = machine.run(&["logout", "me"]).await;
    assert_eq!(output.exit, Some(1), "{output:#?}");
    assert_eq!(machine.stored("me"), Value::Null);
}

#[tokio::test]
async fn status_shows_every_login_and_which_is_used() {
    let machine = Machine::new();
    let ada = machine.grant_login("default", 863_900);
    let gone = machine.grant_login("old", -60);
    machine.issuer.end(&gone.refresh, "refresh_token_invalidated");
    drop(machine.run(&["secrets", "--json", "--login", "old"]).await);
    machine.store(
        "team",
        &json!({
            "v": 2, "kind": "api_key", "base": "https://api.openai.com/v1", "generation": 0,
            "api_key": "sk-canary-0123456789abcdef0123456789-a1b2",
        }),
    );
    let output = machine.run(&["status"]).await;
    assert_eq!(output.exit, Some(0), "{output:#?}");
    let screen = unwrapped(&output.stdout);
    for part in [
        "login default · ada@example.org · plus · account ",
        "token good for 9 d 23 h · in use",
        "5h window 4% · week 11%",
        "login old · ada@example.org",
        "signed out in another place",
        "airlock setup codex-auth --name old",
        "login team · API key …a1b2 · metered · https://api.openai.com",
    ] {
        assert!(screen.contains(part), "{part}: {screen}");
    }
    assert!(output.stdout.lines().all(|line| line.chars().count() <= 96), "{}", output.stdout);
    let usage =
        machine.backend.requests().into_iter().find(|it| it.path().ends_with("/wham/usage"));
    assert_eq!(usage.and_then(|it| it.bearer().map(str::to_owned)), Some(ada.access.clone()));

    let output = machine.run(&["status", "--json"]).await;
    let lines: Vec<Value> = output.stdout.lines().flat_map(serde_json::from_str).collect();
    let states: Vec<_> =
        lines.iter().map(|line| (&line["login"], &line["state"], &line["pays"])).collect();
    assert_eq!(
        states,
        [
            (&json!("default"), &json!("good"), &json!(true)),
            (&json!("old"), &json!("gone"), &json!(false)),
            (&json!("team"), &json!("good"), &json!(false)),
        ],
        "{output:#?}"
    );
    assert_eq!(lines[0]["usage"]["windows"][0]["percent"], json!(4), "{output:#?}");
    machine.assert_no_secret_in(&[&output.stdout, &output.stderr]);
    assert!(!output.stdout.contains("sk-canary-0"), "{output:#?}");
}

#[tokio::test]
async fn status_quiet_gives_an_exit_code() {
    let machine = Machine::new();
    let quiet = async || {
        let output = machine.run(&["status", "--quiet"]).await;
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""), "{output:#?}");
        output.exit
    };
    assert_eq!(quiet().await, Some(3), "there is no login");
    let ada = machine.grant_login("default", 864_000);
    assert_eq!(quiet().await, Some(0));
    // The token has expired, but it can be renewed, so the login is good.
    machine.change("default", "expires_at", json!(1));
    assert_eq!(quiet().await, Some(0));
    assert!(machine.issuer.asked().is_empty() && machine.backend.requests().is_empty());
    machine.issuer.end(&ada.refresh, "refresh_token_reused");
    drop(machine.run(&["secrets", "--json"]).await);
    assert_eq!(quiet().await, Some(3), "the login has ended");
}

#[tokio::test]
async fn status_quiet_checks_the_key_of_the_environment() {
    let key =
        |key: &str| Machine::new().variable("AIRLOCK_LOGIN", "env").variable("OPENAI_API_KEY", key);
    for (machine, exit) in [(key(""), 3), (key("sk-canary"), 0)] {
        let output = machine.run(&["status", "--quiet"]).await;
        assert_eq!(output.exit, Some(exit), "{output:#?}");
    }
}

/// If the usage is not known, that is a note, not an error.
#[tokio::test]
async fn status_works_without_the_service() {
    let machine = Machine::new();
    machine.grant_login("default", 864_000);
    machine.change("default", "base", json!("http://127.0.0.1:1/backend-api/codex"));
    let output = machine.run(&["status"]).await;
    assert_eq!(output.exit, Some(0), "{output:#?}");
    assert!(unwrapped(&output.stdout).contains("ada@example.org · plus"), "{output:#?}");
}

#[tokio::test]
async fn secrets_gives_a_valid_token_and_the_account() {
    let machine = Machine::new();
    machine.grant_login("default", -60);
    let output = machine.run(&["secrets", "--json"]).await;
    assert_eq!((output.exit, output.stderr.as_str()), (Some(0), ""), "{output:#?}");
    let given: Value = serde_json::from_str(&output.stdout).expect("one object");
    let stored = machine.stored("default");
    let expected = json!({
        "CODEX_ACCESS_TOKEN": stored["access_token"], "CODEX_ACCOUNT_ID": stored["account_id"],
    });
    assert_eq!(given, expected);
    let bearer = given["CODEX_ACCESS_TOKEN"].as_str().unwrap_or_default();
    assert!((machine.issuer.newest().0)(bearer), "it is not the newest token");
    assert_eq!(machine.refreshes(), 1);
    let again = machine.run(&["secrets", "--json"]).await;
    assert_eq!((again.stdout, machine.refreshes()), (output.stdout, 1));
}

#[tokio::test]
async fn secrets_never_go_to_a_terminal() {
    let machine = Machine::new();
    let ada = machine.grant_login("default", 864_000);
    let (mut screen, theirs) = terminal();
    let mut command = machine.airlock(&["secrets", "--json"]).await;
    command.stdout(Stdio::from(theirs)).stderr(Stdio::piped());
    let child = command.spawn().expect("airlock can be started");
    let output = child.wait_with_output().await.expect("its output");
    // The child had the only other descriptor of the terminal, so reading now ends.
    drop(command);
    let mut shown = Vec::new();
    drop(screen.read_to_end(&mut shown));
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(!shown.contains(&ada.access[..20]), "{shown}");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(unwrapped(&stderr).contains("terminal"), "{stderr}");
    assert_eq!(machine.refreshes(), 0);
}

/// Processes that ask at the same time get the same token.
#[tokio::test]
async fn secrets_at_the_same_time_are_the_same() {
    let machine = Machine::new();
    machine.grant_login("default", -60);
    machine.issuer.fault(What::Refresh, Fault::Slow { ms: 500 });
    let mut processes = Vec::new();
    for _ in 0..12 {
        processes.push(Process::start(machine.airlock(&["secrets", "--json"]).await));
    }
    let mut given = Vec::new();
    for process in processes {
        let output = process.end().await;
        assert_eq!(output.exit, Some(0), "{output:#?}");
        given.push(output.stdout);
    }
    given.dedup();
    assert_eq!((given.len(), machine.refreshes()), (1, 1));
}

fn write_codex(machine: &Machine, auth: &Value) -> std::path::PathBuf {
    let file = machine.rig.home().join(".codex/auth.json");
    std::fs::create_dir_all(file.parent().expect("a directory")).expect("the home can be written");
    std::fs::write(&file, auth.to_string()).expect("the home can be written");
    use std::os::unix::fs::PermissionsExt as _;
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&file, private).expect("a file of the test's");
    file
}

#[tokio::test]
async fn a_codex_login_is_read_and_not_written() {
    let machine = Machine::new();
    let ada = machine.issuer.grant();
    let auth = json!({
        "auth_mode": "chatgpt", "OPENAI_API_KEY": null, "last_refresh": "2026-11-20T09:00:00Z",
        "tokens": {
            "id_token": ada.id, "access_token": ada.access, "refresh_token": ada.refresh,
            "account_id": ada.account.id,
        },
    });
    let file = write_codex(&machine, &auth);
    let before = std::fs::read(&file).expect("a file of the test's");
    let line = |flags: &[&'static str]| {
        let peers = [
            "--issuer".to_owned(),
            machine.issuer.url(),
            "--base-url".to_owned(),
            machine.backend.url(),
        ];
        let own = ["import", "codex"].iter().chain(flags).map(|&flag| flag.to_owned());
        own.chain(peers).collect::<Vec<_>>()
    };
    let import = async |flags: &[&'static str]| {
        let line = line(flags);
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        machine.run(&line).await
    };
    // Two programs with one refresh token lock each other out, so there is a warning.
    let warned = import(&[]).await;
    assert_ne!(warned.exit, Some(0), "{warned:#?}");
    assert_eq!(machine.stored("default"), Value::Null);
    let screen = unwrapped(&warned.stderr);
    assert!(screen.contains("lock"), "{screen}");
    let taken = import(&["--yes", "--name", "mine"]).await;
    assert_eq!(taken.exit, Some(0), "{taken:#?}");
    let stored = machine.stored("mine");
    assert_eq!(stored["refresh_token"].as_str(), Some(ada.refresh.as_str()), "{stored}");
    assert_eq!(stored["email"], json!("ada@example.org"));
    assert!(!stored.to_string().contains(&ada.id), "the id token was kept");
    assert_eq!(std::fs::read(&file).expect("it is there"), before, "auth.json was written");
    // A second login with the same token is refused. The same name again is accepted.
    let twice = import(&["--yes", "--name", "again"]).await;
    assert_eq!(twice.exit, Some(2), "{twice:#?}");
    assert!(unwrapped(&twice.stderr).contains("login `mine` already has this refresh token"));
    assert_eq!(machine.stored("again"), Value::Null);
    assert_eq!(import(&["--yes", "--name", "mine"]).await.exit, Some(0));
    assert_eq!(machine.refreshes(), 0);
    machine.assert_no_secret_in(&[&warned.stdout, &warned.stderr, &taken.stdout, &taken.stderr]);
}

/// The token belongs to the official client too, so it is not revoked if it is not stored here.
#[tokio::test]
async fn an_import_that_is_not_stored_leaves_codex_signed_in() {
    let machine = Machine::new();
    machine.grant_login("default", 864_000);
    machine.issuer.account(Account::named("bob"));
    let bob = machine.issuer.grant();
    let tokens = json!({
        "id_token": bob.id, "access_token": bob.access, "refresh_token": bob.refresh,
        "account_id": bob.account.id,
    });
    write_codex(&machine, &json!({"tokens": tokens}));
    let peers = [machine.issuer.url(), machine.backend.url()];
    let line = [
        "import",
        "codex",
        "--yes",
        "--issuer",
        peers[0].as_str(),
        "--base-url",
        peers[1].as_str(),
    ];
    let output = machine.run(&line).await;
    assert_eq!(output.exit, Some(1), "{output:#?}");
    assert!(output.stderr.contains("another account"), "{output:#?}");
    assert!(machine.issuer.takes(&bob.refresh), "codex was signed out");
    assert_eq!(machine.issuer.asked_for(What::Revoke).len(), 0);
}

#[tokio::test]
async fn a_file_that_is_not_a_codex_login_is_refused() {
    let machine = Machine::new();
    let missing = run_to_end(machine.airlock(&["import", "codex", "--yes"]).await).await;
    assert!(missing.exit != Some(0) && missing.stderr.contains("auth.json"), "{missing:#?}");
    for auth in [json!("x"), json!({}), json!({"tokens": {"access_token": 7}})] {
        write_codex(&machine, &auth);
        let output = machine.run(&["import", "codex", "--yes"]).await;
        assert_ne!(output.exit, Some(0), "{auth}: {output:#?}");
        assert_eq!(machine.stored("default"), Value::Null, "{auth}");
    }
}
