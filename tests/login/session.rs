//! Sessions that use a login, in real containers, with both places for credentials: the token is
//! renewed before the session, within it, and after the backend refused it.

use std::sync::Arc;

use airlock_tests::backend::{self, Backend, answer, call, made, script};
use airlock_tests::backend::{Item, Reply};
use airlock_tests::engine::Engine;
use airlock_tests::issuer::{Fault, What};
use airlock_tests::rig::Ran;
use airlock_tests::{CredentialsMode, Rig, images};
use serde_json::{Value, json};

use crate::machine::Machine;

/// A machine whose backend accepts only the newest token. Handoff needs TLS.
fn machine(credentials: CredentialsMode) -> Machine {
    let machine = Machine::new();
    let options = backend::Options {
        taken: Some(machine.issuer.newest()),
        tls: credentials == CredentialsMode::Handoff,
        ..backend::Options::default()
    };
    let rig = Rig::new().credentials(credentials);
    Machine { rig, backend: Arc::new(Backend::start(options)), ..machine }
}

/// Runs one session to its end.
async fn run(
    machine: Machine,
    script: backend::Script,
) -> (Ran, Arc<airlock_tests::issuer::Issuer>) {
    let engine = Engine::connect().await;
    images::ready(&engine).await;
    machine.backend.then(script);
    let Machine { rig, issuer, backend } = machine;
    let rig = rig.login("me").prompt("x");
    (rig.start_beside(engine, backend).await.end().await, issuer)
}

fn stored(ran: &Ran) -> Value {
    let text = std::fs::read(ran.rig.login_file("me")).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or(Value::Null)
}

fn bearers(backend: &Backend) -> Vec<(u16, String)> {
    let requests = backend.model_requests();
    requests
        .iter()
        .map(|request| (request.status, request.bearer().unwrap_or_default().to_owned()))
        .collect()
}

#[track_caller]
fn assert_no_token(ran: &Ran, issuer: &airlock_tests::issuer::Issuer) {
    let secrets = issuer.secrets();
    let values = secrets.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut scan = airlock_tests::scan::Scan::for_values(values);
    scan.text("stdout", &ran.stdout);
    scan.text("stderr", &ran.stderr);
    scan.assert_clean();
}

/// A step of the model during which something else happens.
fn meanwhile(action: impl Fn() + Send + Sync + 'static) -> backend::Step {
    made(move |_| {
        action();
        let arguments = json!({"command": "echo once >> log; cat log"});
        let item = Item::Call { name: "bash".to_owned(), arguments, call_id: None };
        Reply { items: vec![item], ..Reply::default() }
    })
}

/// Another process renews the login in the middle of a session. The backend refuses the session's
/// old token with 401, and the session uses the stored one, without a request to the issuer.
async fn adopts(credentials: CredentialsMode) {
    let machine = machine(credentials);
    let old = machine.grant_login("me", 864_000);
    let (issuer, file) = (Arc::clone(&machine.issuer), machine.file("me"));
    let renewed = meanwhile(move || {
        // As another process does: gets new tokens and stores them.
        let fresh = issuer.rotate(&old.refresh).expect("a living login");
        let text = std::fs::read(&file).expect("a login");
        let mut login: Value = serde_json::from_slice(&text).expect("a login");
        login["access_token"] = json!(fresh.access);
        login["refresh_token"] = json!(fresh.refresh);
        login["generation"] = json!(1);
        std::fs::write(&file, login.to_string()).expect("a login");
    });
    let (ran, issuer) = run(machine, script![renewed, answer("done")]).await;
    assert_no_token(&ran, &issuer);
    let ran = ran.assert_finished("done").assert_nothing_left_behind().await;
    let statuses: Vec<u16> = bearers(&ran.backend).iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [200, 401, 200], "{}", ran.stderr);
    assert!(issuer.asked_for(What::Refresh).is_empty(), "the issuer was asked");
}

/// The backend refuses the token, and the file holds no other: the session renews it, and no call
/// runs twice.
async fn refreshes(credentials: CredentialsMode) {
    let machine = machine(credentials);
    let old = machine.grant_login("me", 864_000);
    let backend = Arc::clone(&machine.backend);
    let refused = meanwhile({
        let (backend, token) = (Arc::downgrade(&backend), old.access.clone());
        // In a thread, because the backend is locked while it answers.
        move || {
            let (backend, token) = (backend.clone(), token.clone());
            std::thread::spawn(move || backend.upgrade().map(|backend| backend.refuse(&token)));
        }
    });
    drop(backend);
    let (ran, issuer) = run(machine, script![refused, answer("done")]).await;
    assert_no_token(&ran, &issuer);
    let ran = ran.assert_finished("done").assert_nothing_left_behind().await;
    let sent = bearers(&ran.backend);
    let fresh = stored(&ran)["access_token"].as_str().unwrap_or_default().to_owned();
    assert_eq!(sent, [(200, old.access.clone()), (401, old.access), (200, fresh)]);
    assert_eq!(issuer.asked_for(What::Refresh).len(), 1);
    assert_eq!(stored(&ran)["generation"], json!(1));
    let last = ran.backend.model_requests().pop().expect("a request");
    assert_eq!(last.last_output().matches("once").count(), 1, "a call ran twice");
    assert_eq!(last.header("chatgpt-account-id"), Some(old.account.id.as_str()));
}

#[tokio::test]
async fn relay_refreshes_after_a_401() {
    refreshes(CredentialsMode::Relay).await;
}

#[tokio::test]
async fn the_fresh_token_reaches_a_running_sandbox() {
    refreshes(CredentialsMode::Handoff).await;
}

#[tokio::test]
async fn relay_takes_what_another_process_renewed() {
    adopts(CredentialsMode::Relay).await;
}

#[tokio::test]
async fn a_sandbox_is_given_what_another_process_renewed() {
    adopts(CredentialsMode::Handoff).await;
}

/// The token expires soon at the start: it is renewed before the first request to the backend.
async fn at_the_start(credentials: CredentialsMode) {
    let machine = machine(credentials);
    machine.grant_login("me", 100);
    let (ran, issuer) = run(machine, script![answer("done")]).await;
    let ran = ran.assert_finished("done").assert_nothing_left_behind().await;
    let fresh = stored(&ran)["access_token"].as_str().unwrap_or_default().to_owned();
    assert_eq!(bearers(&ran.backend), [(200, fresh)]);
    assert_eq!(issuer.asked_for(What::Refresh).len(), 1);
    assert_no_token(&ran, &issuer);
}

#[tokio::test]
async fn relay_renews_at_the_start() {
    at_the_start(CredentialsMode::Relay).await;
}

#[tokio::test]
async fn handoff_renews_at_the_start() {
    at_the_start(CredentialsMode::Handoff).await;
}

/// The token is due within the session: a timer renews it, without a 401.
async fn in_a_long_session(credentials: CredentialsMode) {
    let machine = machine(credentials);
    // Renewed 300 s before its end: eight seconds from now, while the command waits.
    machine.grant_login("me", 308);
    let wait = call("bash", json!({"command": "sleep 14"}));
    let (ran, issuer) = run(machine, script![wait, answer("done")]).await;
    let ran = ran.assert_finished("done").assert_nothing_left_behind().await;
    let statuses: Vec<u16> = bearers(&ran.backend).iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [200, 200], "a token expired in the session: {}", ran.stderr);
    assert_eq!(issuer.asked_for(What::Refresh).len(), 1);
    assert_no_token(&ran, &issuer);
}

#[tokio::test]
async fn relay_renews_in_a_long_session() {
    in_a_long_session(CredentialsMode::Relay).await;
}

#[tokio::test]
async fn a_sandbox_gets_a_new_token_in_a_long_session() {
    in_a_long_session(CredentialsMode::Handoff).await;
}

/// The login ends in the middle of a session: the session fails with one command as a hint.
async fn ended_in_the_middle(credentials: CredentialsMode) {
    let machine = machine(credentials);
    let old = machine.grant_login("me", 864_000);
    let issuer = Arc::clone(&machine.issuer);
    let gone = meanwhile(move || issuer.end(&old.refresh, "refresh_token_reused"));
    let (ran, issuer) = run(machine, script![gone, answer("never said")]).await;
    assert_no_token(&ran, &issuer);
    let ran = ran.assert_exit(3, "sign-in needed").assert_nothing_left_behind().await;
    assert_eq!(ran.outcome()["fault"], "sign_in");
    assert!(ran.stderr.contains("airlock setup codex-auth --name me"), "{}", ran.stderr);
    assert_eq!(issuer.asked_for(What::Refresh).len(), 1, "the issuer was asked again");
}

#[tokio::test]
async fn relay_fails_with_one_command_if_the_login_has_ended() {
    ended_in_the_middle(CredentialsMode::Relay).await;
}

#[tokio::test]
async fn handoff_fails_with_one_command_if_the_login_has_ended() {
    ended_in_the_middle(CredentialsMode::Handoff).await;
}

/// The issuer does not answer and the token is valid: the session goes on.
#[tokio::test]
async fn an_unreachable_issuer_ends_no_session() {
    let machine = machine(CredentialsMode::Relay);
    machine.grant_login("me", 200);
    machine.issuer.fault_times(What::Refresh, Fault::Status { status: 503 }, 50);
    let (ran, issuer) = run(machine, script![answer("done")]).await;
    let ran = ran.assert_finished("done").assert_nothing_left_behind().await;
    assert_no_token(&ran, &issuer);
    assert!(issuer.asked_for(What::Refresh).len() < 5, "too many requests");
    drop(ran);
}

/// Two sessions with one login and an expired token: one refresh for both.
#[tokio::test]
async fn two_sessions_share_one_refresh() {
    let machine = machine(CredentialsMode::Relay);
    machine.grant_login("me", -60);
    machine.issuer.fault(What::Refresh, Fault::Slow { ms: 500 });
    let engine = Engine::connect().await;
    images::ready(&engine).await;
    let Machine { rig, issuer, backend: first } = machine;
    first.then(script![answer("one"), answer("one")]);
    let second = rig.beside().login("me").prompt("y");
    let rig = rig.login("me").prompt("x");
    let one = rig.start_beside(engine.clone(), Arc::clone(&first)).await;
    let two = second.start_beside(engine, Arc::clone(&first)).await;
    let (one, two) = (one.end().await, two.end().await);
    assert_eq!((one.exit, two.exit), (Some(0), Some(0)), "{}\n{}", one.stderr, two.stderr);
    assert_eq!(issuer.asked_for(What::Refresh).len(), 1);
    drop((one.assert_nothing_left_behind().await, two));
}
