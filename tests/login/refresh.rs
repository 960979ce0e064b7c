//! Refreshing: once for all processes that share a login, and no needless request.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use airlock_tests::issuer::{Fault, What};
use airlock_tests::rig::{Process, Said};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::machine::{Machine, digest, holder_output, run_to_end};

const RACERS: usize = 40;

/// Forty processes that want the token at the same time. All wait at a pipe; closing it releases
/// them together.
async fn race(machine: &Machine) -> Vec<Said> {
    let gate = machine.rig.home().join("gate");
    let made = Command::new("mkfifo").arg(&gate).status().await.expect("mkfifo(1) is there");
    assert!(made.success(), "no pipe could be made");
    let barrier = std::fs::OpenOptions::new().read(true).write(true).open(&gate).expect("a pipe");
    let start = |_| {
        let holder = machine.holder("me", &[]);
        let mut command = machine.rig.at_home("/bin/sh".as_ref());
        command.args(["-c", "echo ready; read _ < \"$0\"; exec \"$@\""]).arg(&gate);
        command.arg(holder.as_std().get_program()).args(holder.as_std().get_args());
        Process::start({
            command.stdin(Stdio::null());
            command
        })
    };
    let mut racers: Vec<Process> = (0..RACERS).map(start).collect();
    for racer in &mut racers {
        racer.until("racer at the barrier", |it| it.stdout().contains("ready").then_some(())).await;
    }
    drop(barrier);
    let mut ended = Vec::new();
    for racer in racers {
        let output = racer.end().await;
        ended.push(Said { stdout: output.stdout.replace("ready\n", ""), ..output });
    }
    ended
}

/// Whether all have the same new token after one request to the issuer.
fn one_refresh(machine: &Machine, racers: &[Said]) -> Result<(), String> {
    let refreshes = machine.refreshes();
    if refreshes != 1 {
        return Err(format!("{refreshes} refreshes"));
    }
    let stored = machine.stored("me");
    let bearer = digest(stored["access_token"].as_str().unwrap_or_default());
    let expected = json!({"generation": 1, "bearer": bearer});
    match racers.iter().find(|output| output.exit != Some(0) || holder_output(output) != expected) {
        Some(other) => Err(format!("not {expected}: {other:#?}")),
        None => Ok(()),
    }
}

fn stalled(ms: u64) -> Machine {
    let machine = Machine::new();
    machine.grant_login("me", -60);
    machine.issuer.fault(What::Refresh, Fault::Slow { ms });
    machine
}

#[tokio::test]
async fn forty_processes_refresh_once() {
    let machine = stalled(500);
    let racers = race(&machine).await;
    assert_eq!(racers.len(), RACERS);
    assert_eq!(one_refresh(&machine, &racers), Ok(()));
    machine.assert_no_complaints();
}

/// The control: a thread removes the lock file again and again, so that processes lock different
/// files. If there were still only one refresh, the test above would prove nothing.
#[tokio::test]
async fn without_the_lock_there_are_more() {
    // Enough time for the other processes, even on a busy machine.
    let machine = stalled(5_000);
    let lock = machine.logins().join("me.lock");
    let racing = Arc::new(AtomicBool::new(true));
    let remover = std::thread::spawn({
        let racing = Arc::clone(&racing);
        move || {
            while racing.load(Ordering::Relaxed) {
                // It does not always exist.
                drop(std::fs::remove_file(&lock));
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    });
    let racers = race(&machine).await;
    racing.store(false, Ordering::Relaxed);
    remover.join().expect("a thread that only removes a file");
    let found = one_refresh(&machine, &racers);
    assert!(found.as_ref().is_err_and(|why| why.contains("refreshes")), "{found:?}");
}

#[tokio::test]
async fn a_token_is_renewed_only_if_it_expires_soon() {
    for (ends_in, refreshes) in [(-60, 1), (0, 1), (250, 1), (400, 0), (864_000, 0)] {
        let machine = Machine::new();
        let granted = machine.grant_login("me", ends_in);
        let output = holder_output(&run_to_end(machine.holder("me", &[])).await);
        assert_eq!(machine.refreshes(), refreshes, "{ends_in}: {output}");
        assert_eq!(machine.issuer.takes(&granted.refresh), refreshes == 0, "{ends_in}: {output}");
        let stored = machine.stored("me");
        assert_eq!(stored["generation"], json!(refreshes), "{ends_in}");
        let bearer = digest(stored["access_token"].as_str().unwrap_or_default());
        assert_eq!(output, json!({"generation": refreshes, "bearer": bearer}), "{ends_in}");
    }
}

/// The request has the fields of the protocol and nothing else.
#[tokio::test]
async fn a_refresh_sends_three_fields_and_no_more() {
    let machine = Machine::new();
    let granted = machine.grant_login("me", -60);
    run_to_end(machine.holder("me", &[])).await;
    let request = machine.issuer.asked_for(What::Refresh).pop().expect("a refresh");
    let expected = json!({
        "client_id": airlock_tests::issuer::CLIENT_ID, "grant_type": "refresh_token",
        "refresh_token": granted.refresh,
    });
    assert_eq!(request.json(), expected);
    assert_eq!(request.header("content-type"), Some("application/json"));
    machine.assert_no_complaints();
}

#[tokio::test]
async fn fields_that_the_answer_leaves_out_stay() {
    let machine = Machine::new();
    let granted = machine.grant_login("me", -60);
    machine.issuer.fault(What::Refresh, Fault::KeepsRefresh);
    assert_eq!(holder_output(&run_to_end(machine.holder("me", &[])).await)["generation"], 1);
    let stored = machine.stored("me");
    assert_eq!(stored["refresh_token"].as_str(), Some(granted.refresh.as_str()));
    assert_ne!(stored["access_token"].as_str(), Some(granted.access.as_str()));
    machine.change("me", "expires_at", json!(1));
    machine.issuer.fault(What::Refresh, Fault::Terse);
    assert_eq!(holder_output(&run_to_end(machine.holder("me", &[])).await)["generation"], 2);
    let stored = machine.stored("me");
    assert_eq!(stored["email"], "ada@example.org");
    // The answer gives no lifetime, so it comes from the token.
    let left = stored["expires_at"].as_u64().map(|at| at.abs_diff(airlock_tests::clock::unix()));
    assert!(left.is_some_and(|left| left > 863_000), "{left:?}");
}

/// An early refresh can fail in many ways; the token stays in use.
#[tokio::test]
async fn a_failed_early_refresh_keeps_the_token() {
    let faults = [
        Fault::Close,
        Fault::Reset,
        Fault::Lost,
        Fault::Cut,
        Fault::Status { status: 500 },
        Fault::Status { status: 503 },
        Fault::RetryAfter { seconds: 3600 },
        Fault::Html { status: 502 },
        Fault::Challenge,
        Fault::Captive,
        Fault::Garbage,
        Fault::Nothing,
        Fault::Code { status: 401, code: "refresh_token_reused" },
        Fault::OtherAccount,
    ];
    for fault in faults {
        let machine = Machine::new();
        let granted = machine.grant_login("me", 200);
        machine.issuer.fault(What::Refresh, fault.clone());
        let output = run_to_end(machine.holder("me", &[])).await;
        assert_eq!(output.exit, Some(0), "{fault:?}: {output:#?}");
        assert_eq!(holder_output(&output)["bearer"], digest(&granted.access), "{fault:?}");
        machine.assert_no_secret_in(&[&output.stdout, &output.stderr]);
    }
}

/// The reason is stored for this refresh token, and the issuer is not asked again, neither before
/// nor after the access token has expired.
#[tokio::test]
async fn a_final_refusal_is_requested_once() {
    for (code, why) in [
        ("refresh_token_expired", "ended: expired"),
        ("refresh_token_reused", "ended: reused"),
        ("refresh_token_invalidated", "ended: revoked"),
    ] {
        let machine = Machine::new();
        let granted = machine.grant_login("me", 200);
        machine.issuer.end(&granted.refresh, code);
        for _ in 0..3 {
            let output = run_to_end(machine.holder("me", &[])).await;
            assert_eq!(
                holder_output(&output)["bearer"],
                digest(&granted.access),
                "{code}: {output:#?}"
            );
        }
        for flags in [&["--ahead", "400"][..], &["--refused", "0"][..], &["--ahead", "9999"][..]] {
            let output = run_to_end(machine.holder("me", flags)).await;
            assert_eq!(holder_output(&output)["error"], why, "{code} {flags:?}: {output:#?}");
        }
        assert_eq!(machine.refreshes(), 1, "{code}: the issuer was asked again");
        machine.assert_no_complaints();
        // A new sign-in gives a new token, and the stored reason does not apply to it.
        machine.grant_login("me", -60);
        let output = run_to_end(machine.holder("me", &[])).await;
        assert_eq!(holder_output(&output)["generation"], 1, "{code}: {output:#?}");
    }
}

#[tokio::test]
async fn an_invalid_grant_ends_the_login() {
    let machine = Machine::new();
    machine.grant_login("me", -60);
    machine.issuer.fault(What::Refresh, Fault::InvalidGrant);
    for _ in 0..2 {
        let output = run_to_end(machine.holder("me", &[])).await;
        assert_eq!(holder_output(&output)["error"], "ended: refused", "{output:#?}");
    }
    assert_eq!(machine.refreshes(), 1);
}

/// Tokens of another account are not used, and the issuer is not asked again.
#[tokio::test]
async fn another_accounts_tokens_are_not_used() {
    let machine = Machine::new();
    let granted = machine.grant_login("me", -60);
    machine.issuer.fault(What::Refresh, Fault::OtherAccount);
    let output = run_to_end(machine.holder("me", &[])).await;
    assert_eq!(holder_output(&output)["error"], "other_account", "{output:#?}");
    let stored = machine.stored("me");
    assert_eq!(stored["access_token"].as_str(), Some(granted.access.as_str()));
    assert_eq!(stored["ended"]["why"], "other_account");
    assert_ne!(run_to_end(machine.holder("me", &[])).await.exit, Some(0));
    assert_eq!(machine.refreshes(), 1);
}

/// A token that the backend refused is renewed before it expires. A later process uses the new one.
#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let machine = Machine::new();
    machine.grant_login("me", 864_000);
    for _ in 0..3 {
        let output = run_to_end(machine.holder("me", &["--refused", "0"])).await;
        assert_eq!(holder_output(&output)["generation"], 1, "{output:#?}");
    }
    assert_eq!(machine.refreshes(), 1);
}

/// A network fault does not end a login: the next start asks again.
#[tokio::test]
async fn a_network_fault_does_not_end_a_login() {
    for fault in [Fault::Close, Fault::Status { status: 503 }, Fault::Challenge, Fault::Captive] {
        let machine = Machine::new();
        machine.grant_login("me", -60);
        machine.issuer.fault(What::Refresh, fault.clone());
        let output = run_to_end(machine.holder("me", &[])).await;
        assert_eq!(holder_output(&output)["error"], "unreachable", "{fault:?}: {output:#?}");
        let stored = machine.stored("me");
        assert_eq!(stored["ended"], Value::Null, "{fault:?}");
        let output = run_to_end(machine.holder("me", &[])).await;
        assert_eq!(holder_output(&output)["generation"], 1, "{fault:?}: {output:#?}");
    }
}

/// Version 1 of the layout is read. Only a write makes it version 2.
#[tokio::test]
async fn a_login_of_version_1_is_read() {
    let machine = Machine::new();
    let granted = machine.issuer.grant();
    let first = json!({
        "v": 1, "kind": "chatgpt", "base": machine.backend.url(), "issuer": machine.issuer.url(),
        "access_token": granted.access, "account_id": granted.account.id,
    });
    machine.store("me", &first);
    let output = run_to_end(machine.holder("me", &[])).await;
    assert_eq!(holder_output(&output)["bearer"], digest(&granted.access));
    assert_eq!(machine.stored("me"), first, "reading changed the file");
    let newer = json!({"v": 3, "kind": "chatgpt", "base": machine.backend.url()});
    machine.store("me", &newer);
    let output = run_to_end(machine.holder("me", &[])).await;
    assert_eq!(holder_output(&output)["error"], "malformed", "{output:#?}");
    assert!(output.stdout.contains("version"), "{output:#?}");
}
