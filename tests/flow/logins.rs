//! A token file of ours pays: it is trusted or refused, goes to its own base only, and a newer
//! token in it takes the place of a refused one, once.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;

use airlock_tests::backend::{
    Backend, Fault, Item, Options, Reply, answer, call, fault, made, script,
};
use airlock_tests::engine::Engine;
use airlock_tests::rig::Ran;
use airlock_tests::{CredentialsMode, Rig, images};
use serde_json::json;

const ONE: &str = "eyJ-canary-token-one-0123456789";
const TWO: &str = "eyJ-canary-token-two-0123456789";
const ACCOUNT: &str = "account-0123456789";

fn write(file: &Path, base: &str, token: &str) {
    let login = json!({
        "v": 1, "kind": "chatgpt", "issuer": "https://auth.openai.com", "base": base,
        "access_token": token, "account_id": ACCOUNT,
    });
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("the home can be written");
    std::fs::write(file, login.to_string()).expect("the home can be written");
    mode(file, 0o600);
}

fn mode(file: &Path, mode: u32) {
    let mode = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(file, mode).expect("a file of the test's");
}

/// A backend that takes both tokens, of the scheme the credentials needs.
fn backend(credentials: CredentialsMode) -> Arc<Backend> {
    let tokens = vec![ONE.to_owned(), TWO.to_owned()];
    let tls = credentials == CredentialsMode::Handoff;
    Arc::new(Backend::start(Options { tls, tokens, ..Options::default() }))
}

async fn run(rig: Rig, backend: &Arc<Backend>) -> Ran {
    let engine = Engine::connect().await;
    images::ready(&engine).await;
    rig.login("me").prompt("x").start_beside(engine, Arc::clone(backend)).await.end().await
}

fn bearers(backend: &Backend) -> Vec<(u16, String)> {
    let asked = backend.model_requests();
    let told = asked.iter().map(|it| (it.status, it.bearer().unwrap_or_default().to_owned()));
    told.collect()
}

fn no_token_in(ran: &Ran) {
    for said in [&ran.stdout, &ran.stderr] {
        assert!(!said.contains(ONE) && !said.contains(TWO), "{said}");
    }
}

/// The second request is refused; by then the file holds another token, or the same.
async fn renewed(credentials: CredentialsMode, newer: &str) -> Ran {
    let rig = Rig::new().credentials(credentials);
    let backend = backend(credentials);
    let file = rig.login_file("me");
    write(&file, &backend.url(), ONE);
    let (base, newer) = (backend.url(), newer.to_owned());
    let signs_in_meanwhile = made(move |_| {
        write(&file, &base, &newer);
        let arguments = json!({"command": "echo once >> log; cat log"});
        let item = Item::Call { name: "bash".to_owned(), arguments, call_id: None };
        Reply { items: vec![item], ..Reply::default() }
    });
    backend.then(script![signs_in_meanwhile, fault(Fault::Unauthorized), answer("done")]);
    let ran = run(rig, &backend).await;
    no_token_in(&ran);
    ran.assert_nothing_left_behind().await
}

async fn a_newer_token(credentials: CredentialsMode) {
    let ran = renewed(credentials, TWO).await.assert_finished("done");
    let asked =
        [(200, ONE), (401, ONE), (200, TWO)].map(|(status, token)| (status, token.to_owned()));
    assert_eq!(bearers(&ran.backend), asked);
    let last = ran.backend.model_requests().pop().expect("a request");
    assert_eq!(last.header("chatgpt-account-id"), Some(ACCOUNT));
    assert_eq!(last.last_output().matches("once").count(), 1, "a call ran twice");
    let started = &ran.events()[0]["login"];
    assert_eq!((&started["name"], &started["kind"]), (&json!("me"), &json!("token file")));
}

async fn no_newer_token(credentials: CredentialsMode) {
    let ran = renewed(credentials, ONE).await.assert_exit(3, "sign-in needed");
    let asked = [(200, ONE), (401, ONE)].map(|(status, token)| (status, token.to_owned()));
    assert_eq!(bearers(&ran.backend), asked);
    assert_eq!(ran.outcome()["fault"], "sign_in");
}

#[tokio::test]
async fn relay_takes_a_newer_token_after_a_401() {
    a_newer_token(CredentialsMode::Relay).await;
}

#[tokio::test]
async fn a_newer_token_comes_down_to_the_sandbox_after_a_401() {
    a_newer_token(CredentialsMode::Handoff).await;
}

#[tokio::test]
async fn relay_asks_for_a_sign_in_where_there_is_no_newer_token() {
    no_newer_token(CredentialsMode::Relay).await;
}

#[tokio::test]
async fn the_sandbox_ends_where_no_newer_token_comes_down() {
    no_newer_token(CredentialsMode::Handoff).await;
}

/// The newer token is refused too: one retry, and no more.
async fn refused_twice(credentials: CredentialsMode) {
    let rig = Rig::new().credentials(credentials);
    let backend = backend(credentials);
    let file = rig.login_file("me");
    write(&file, &backend.url(), ONE);
    let base = backend.url();
    let signs_in_meanwhile = made(move |_| {
        write(&file, &base, TWO);
        let item = Item::Call {
            name: "bash".to_owned(),
            arguments: json!({"command": "true"}),
            call_id: None,
        };
        Reply { items: vec![item], ..Reply::default() }
    });
    backend.then(script![signs_in_meanwhile, fault(Fault::Unauthorized).times(5)]);
    let ran = run(rig, &backend).await.assert_exit(3, "sign-in needed");
    no_token_in(&ran);
    let asked =
        [(200, ONE), (401, ONE), (401, TWO)].map(|(status, token)| (status, token.to_owned()));
    assert_eq!(bearers(&ran.backend), asked);
}

#[tokio::test]
async fn relay_retries_once() {
    refused_twice(CredentialsMode::Relay).await;
}

#[tokio::test]
async fn the_sandbox_retries_once() {
    refused_twice(CredentialsMode::Handoff).await;
}

/// Open to others, a link, made for another base, absent: each is said, and nothing is asked.
#[tokio::test]
async fn a_login_that_cannot_be_trusted_is_refused() {
    type Spoil = fn(&Path, &str);
    let cases: [(&str, Spoil, &str); 5] = [
        (
            "open",
            |file, base| {
                write(file, base, ONE);
                mode(file, 0o644);
            },
            "chmod 600",
        ),
        (
            "link",
            |file, base| {
                let real = file.with_file_name("real.json");
                write(&real, base, ONE);
                symlink(real, file).expect("a link");
            },
            "symbolic link",
        ),
        ("base", |file, _| write(file, "https://chatgpt.com", ONE), "needs its own login"),
        (
            "port",
            |file, _| write(file, "http://127.0.0.1:1/backend-api/codex", ONE),
            "needs its own login",
        ),
        ("absent", |_, _| {}, "there is no login `me`"),
    ];
    for (name, spoil, says) in cases {
        let rig = Rig::new();
        let backend = backend(CredentialsMode::Relay);
        spoil(&rig.login_file("me"), &backend.url());
        let ran = run(rig, &backend).await;
        let said = ran.stderr.replace('\n', " ");
        assert_eq!(ran.exit, Some(3), "{name}: {said}");
        assert!(said.contains(says), "{name}: {said}");
        no_token_in(&ran);
        assert!(backend.requests().is_empty(), "{name}: the backend was asked");
        drop(ran.assert_nothing_left_behind().await);
    }
}

/// A key of the environment was issued for one place, and is asked for by `--login env` alone.
#[tokio::test]
async fn a_key_of_the_environment_goes_to_its_issuer_only() {
    let rig = Rig::new()
        .variable("OPENAI_API_KEY", ONE)
        .login("env")
        .model(script![call("bash", json!({"command": "env"}))]);
    let ran = rig.prompt("x").run().await.assert_exit(3, "https://api.openai.com");
    no_token_in(&ran);
    assert!(ran.backend.requests().is_empty(), "the backend was asked");
}
