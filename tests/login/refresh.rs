//! Staying signed in: one refresher for all who share a login, and nothing asked in vain.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use airlock_tests::issuer::{Fault, What};
use airlock_tests::rig::{Process, Said};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::machine::{Machine, digest, ended, held};

const RACERS: usize = 40;

/// Forty operating-system processes that want the token at once: they wait at a pipe, all have said
/// that they do, and its end releases them together.
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
        let said = racer.end().await;
        ended.push(Said { stdout: said.stdout.replace("ready\n", ""), ..said });
    }
    ended
}

/// Everybody has the same new token, and the issuer was asked once.
fn one_refresh(machine: &Machine, racers: &[Said]) -> Result<(), String> {
    let asked = machine.refreshes();
    if asked != 1 {
        return Err(format!("{asked} refreshes"));
    }
    let stored = machine.stored("me");
    let bearer = digest(stored["access_token"].as_str().unwrap_or_default());
    let expected = json!({"generation": 1, "bearer": bearer});
    match racers.iter().find(|said| said.exit != Some(0) || held(said) != expected) {
        Some(other) => Err(format!("not {expected}: {other:#?}")),
        None => Ok(()),
    }
}

fn stalled(ms: u64) -> Machine {
    let machine = Machine::new();
    machine.hold("me", -60);
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

/// The control: the lock's file is taken away without pause, so that each locks another one. If
/// this passed for one refresh, the test above would be blind.
#[tokio::test]
async fn without_the_lock_there_are_more() {
    // Time for the others to come, however busy the machine is.
    let machine = stalled(5_000);
    let lock = machine.logins().join("me.lock");
    let racing = Arc::new(AtomicBool::new(true));
    let thief = std::thread::spawn({
        let racing = Arc::clone(&racing);
        move || {
            while racing.load(Ordering::Relaxed) {
                // It is there only now and then.
                drop(std::fs::remove_file(&lock));
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    });
    let racers = race(&machine).await;
    racing.store(false, Ordering::Relaxed);
    thief.join().expect("a thread that only removes a file");
    let found = one_refresh(&machine, &racers);
    assert!(found.as_ref().is_err_and(|why| why.contains("refreshes")), "{found:?}");
}

#[tokio::test]
async fn a_token_near_its_end_is_renewed_and_one_far_from_it_is_not() {
    for (ends_in, asked) in [(-60, 1), (0, 1), (250, 1), (400, 0), (864_000, 0)] {
        let machine = Machine::new();
        let granted = machine.hold("me", ends_in);
        let said = held(&ended(machine.holder("me", &[])).await);
        assert_eq!(machine.refreshes(), asked, "{ends_in}: {said}");
        assert_eq!(machine.issuer.takes(&granted.refresh), asked == 0, "{ends_in}: {said}");
        let stored = machine.stored("me");
        assert_eq!(stored["generation"], json!(asked), "{ends_in}");
        let bearer = digest(stored["access_token"].as_str().unwrap_or_default());
        assert_eq!(said, json!({"generation": asked, "bearer": bearer}), "{ends_in}");
    }
}

/// The request is what was agreed, and nobody else's tokens stand in it.
#[tokio::test]
async fn a_refresh_sends_three_fields_and_no_more() {
    let machine = Machine::new();
    let granted = machine.hold("me", -60);
    ended(machine.holder("me", &[])).await;
    let asked = machine.issuer.asked_for(What::Refresh).pop().expect("a refresh");
    let expected = json!({
        "client_id": airlock_tests::issuer::CLIENT_ID, "grant_type": "refresh_token",
        "refresh_token": granted.refresh,
    });
    assert_eq!(asked.json(), expected);
    assert_eq!(asked.header("content-type"), Some("application/json"));
    machine.assert_no_complaints();
}

#[tokio::test]
async fn what_the_answer_leaves_out_stays() {
    let machine = Machine::new();
    let granted = machine.hold("me", -60);
    machine.issuer.fault(What::Refresh, Fault::KeepsRefresh);
    assert_eq!(held(&ended(machine.holder("me", &[])).await)["generation"], 1);
    let stored = machine.stored("me");
    assert_eq!(stored["refresh_token"].as_str(), Some(granted.refresh.as_str()));
    assert_ne!(stored["access_token"].as_str(), Some(granted.access.as_str()));
    machine.change("me", "expires_at", json!(1));
    machine.issuer.fault(What::Refresh, Fault::Terse);
    assert_eq!(held(&ended(machine.holder("me", &[])).await)["generation"], 2);
    let stored = machine.stored("me");
    assert_eq!(stored["email"], "ada@example.org");
    // No word of how long: the token itself says it.
    let left = stored["expires_at"].as_u64().map(|at| at.abs_diff(airlock_tests::clock::unix()));
    assert!(left.is_some_and(|left| left > 863_000), "{left:?}");
}

/// Every way an early refresh can fail, and the token goes on.
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
        let granted = machine.hold("me", 200);
        machine.issuer.fault(What::Refresh, fault.clone());
        let said = ended(machine.holder("me", &[])).await;
        assert_eq!(said.exit, Some(0), "{fault:?}: {said:#?}");
        assert_eq!(held(&said)["bearer"], digest(&granted.access), "{fault:?}");
        machine.assert_no_secret_in(&[&said.stdout, &said.stderr]);
    }
}

/// Told apart, kept against that very token, and never asked again: neither by a token that is
/// still good nor by one that has ended.
#[tokio::test]
async fn what_is_gone_for_good_is_asked_once() {
    for (code, why) in [
        ("refresh_token_expired", "ended: expired"),
        ("refresh_token_reused", "ended: reused"),
        ("refresh_token_invalidated", "ended: revoked"),
    ] {
        let machine = Machine::new();
        let granted = machine.hold("me", 200);
        machine.issuer.end(&granted.refresh, code);
        for _ in 0..3 {
            let said = ended(machine.holder("me", &[])).await;
            assert_eq!(held(&said)["bearer"], digest(&granted.access), "{code}: {said:#?}");
        }
        for flags in [&["--ahead", "400"][..], &["--refused", "0"][..], &["--ahead", "9999"][..]] {
            let said = ended(machine.holder("me", flags)).await;
            assert_eq!(held(&said)["error"], why, "{code} {flags:?}: {said:#?}");
        }
        assert_eq!(machine.refreshes(), 1, "{code}: the issuer is hammered");
        machine.assert_no_complaints();
        // Another sign-in, another token: what was said of the old one says nothing of it.
        machine.hold("me", -60);
        let said = ended(machine.holder("me", &[])).await;
        assert_eq!(held(&said)["generation"], 1, "{code}: {said:#?}");
    }
}

#[tokio::test]
async fn a_grant_that_is_invalid_is_gone_too() {
    let machine = Machine::new();
    machine.hold("me", -60);
    machine.issuer.fault(What::Refresh, Fault::InvalidGrant);
    for _ in 0..2 {
        let said = ended(machine.holder("me", &[])).await;
        assert_eq!(held(&said)["error"], "ended: refused", "{said:#?}");
    }
    assert_eq!(machine.refreshes(), 1);
}

/// Somebody else's tokens are not used, and never asked for again.
#[tokio::test]
async fn another_accounts_tokens_are_not_used() {
    let machine = Machine::new();
    let granted = machine.hold("me", -60);
    machine.issuer.fault(What::Refresh, Fault::OtherAccount);
    let said = ended(machine.holder("me", &[])).await;
    assert_eq!(held(&said)["error"], "other_account", "{said:#?}");
    let stored = machine.stored("me");
    assert_eq!(stored["access_token"].as_str(), Some(granted.access.as_str()));
    assert_eq!(stored["ended"]["why"], "other_account");
    assert_ne!(ended(machine.holder("me", &[])).await.exit, Some(0));
    assert_eq!(machine.refreshes(), 1);
}

/// A token the backend refused is renewed though its time is not over; who comes late takes what
/// is there.
#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let machine = Machine::new();
    machine.hold("me", 864_000);
    for _ in 0..3 {
        let said = ended(machine.holder("me", &["--refused", "0"])).await;
        assert_eq!(held(&said)["generation"], 1, "{said:#?}");
    }
    assert_eq!(machine.refreshes(), 1);
}

/// One that is not ended is not refused for a day's trouble: the next start asks again.
#[tokio::test]
async fn trouble_on_the_way_is_not_the_end() {
    for fault in [Fault::Close, Fault::Status { status: 503 }, Fault::Challenge, Fault::Captive] {
        let machine = Machine::new();
        machine.hold("me", -60);
        machine.issuer.fault(What::Refresh, fault.clone());
        let said = ended(machine.holder("me", &[])).await;
        assert_eq!(held(&said)["error"], "unreachable", "{fault:?}: {said:#?}");
        let stored = machine.stored("me");
        assert_eq!(stored["ended"], Value::Null, "{fault:?}");
        let said = ended(machine.holder("me", &[])).await;
        assert_eq!(held(&said)["generation"], 1, "{fault:?}: {said:#?}");
    }
}

/// The first layout there was is read, and becomes the second when it is written.
#[tokio::test]
async fn a_login_of_the_first_layout_goes_on() {
    let machine = Machine::new();
    let granted = machine.issuer.grant();
    let first = json!({
        "v": 1, "kind": "chatgpt", "base": machine.backend.url(), "issuer": machine.issuer.url(),
        "access_token": granted.access, "account_id": granted.account.id,
    });
    machine.store("me", &first);
    let said = ended(machine.holder("me", &[])).await;
    assert_eq!(held(&said)["bearer"], digest(&granted.access));
    assert_eq!(machine.stored("me"), first, "what was only read has changed");
    let newer = json!({"v": 3, "kind": "chatgpt", "base": machine.backend.url()});
    machine.store("me", &newer);
    let said = ended(machine.holder("me", &[])).await;
    assert_eq!(held(&said)["error"], "malformed", "{said:#?}");
    assert!(said.stdout.contains("version"), "{said:#?}");
}
