//! A process that is killed in a refresh loses no login, but for the one moment that nobody can
//! close: between the issuer's answer and our disk. What then happens is said, with what to do.

use airlock_tests::issuer::{Fault, What};
use airlock_tests::rig::Process;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::machine::{Machine, digest, ended, held};

/// Every step of a refresh, and how it goes on after a death there.
const STEPS: [(&str, After); 9] = [
    ("locked", After::Again),
    ("read", After::Again),
    ("reserved", After::Again),
    ("intended", After::Again),
    ("asked", After::Again),
    ("answered", After::Interrupted),
    ("written", After::Finished),
    ("renamed", After::Finished),
    ("done", After::Finished),
];
/// A hundred deaths and a few.
const ROUNDS: usize = 12;

#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    /// The issuer was not asked: the next start asks, with the token that is there.
    Again,
    /// It answered, and the answer is lost: the next start tries the old token once and says so.
    Interrupted,
    /// The answer is on disk: the next start takes it.
    Finished,
}

async fn killed_at(machine: &Machine, step: &str) {
    let said = ended(machine.holder("me", &["--die-at", step])).await;
    assert_eq!((said.exit, said.stdout.as_str()), (None, ""), "not killed at {step}: {said:#?}");
}

/// The login and its lock, whole and ours alone, and nothing else.
fn assert_tidy(machine: &Machine, step: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let entries = std::fs::read_dir(machine.logins()).expect("a folder").flatten();
    let mut found: Vec<(String, u32)> = entries
        .map(|entry| {
            let mode = entry.metadata().map_or(0, |about| about.permissions().mode() & 0o7777);
            (entry.file_name().to_string_lossy().into_owned(), mode)
        })
        .collect();
    found.sort();
    let meant = [("me.json".to_owned(), 0o600), ("me.lock".to_owned(), 0o600)];
    assert_eq!(found, meant, "{step}");
    assert_eq!(machine.stored("me")["intent"], Value::Null, "{step}");
}

#[tokio::test]
async fn a_refresh_killed_at_any_step_loses_no_login() {
    for round in 0..ROUNDS {
        for (step, after) in STEPS {
            let machine = Machine::new();
            let granted = machine.hold("me", -60);
            killed_at(&machine, step).await;
            let asked = usize::from(after != After::Again);
            assert_eq!(
                machine.refreshes(),
                asked,
                "round {round}, {step}: requests before it died"
            );
            let said = ended(machine.holder("me", &[])).await;
            let stored = machine.stored("me");
            let bearer = digest(stored["access_token"].as_str().unwrap_or_default());
            let place = format!("round {round}, {step}: {said:#?}");
            match after {
                After::Again | After::Finished => {
                    assert_eq!(held(&said), json!({"generation": 1, "bearer": bearer}), "{place}");
                    assert_eq!(machine.refreshes(), 1, "{place}");
                    let refresh = stored["refresh_token"].as_str().unwrap_or_default();
                    assert!(machine.issuer.takes(refresh), "{place}");
                }
                After::Interrupted => {
                    assert_eq!(held(&said)["error"], "ended: interrupted", "{place}");
                    assert_eq!(stored["ended"]["why"], "interrupted", "{place}");
                    assert_eq!(bearer, digest(&granted.access), "{place}");
                    // Tried once, and never again.
                    drop(ended(machine.holder("me", &[])).await);
                    assert_eq!(machine.refreshes(), 2, "{place}");
                }
            }
            assert_tidy(&machine, step);
            machine.assert_no_complaints();
        }
    }
}

/// While the access token is good a lost answer costs nothing; only at its end the old refresh
/// token is tried, once.
#[tokio::test]
async fn a_token_that_is_good_goes_on_after_a_death() {
    for (step, after) in STEPS {
        let machine = Machine::new();
        let granted = machine.hold("me", 200);
        killed_at(&machine, step).await;
        let asked = machine.refreshes();
        let said = ended(machine.holder("me", &[])).await;
        if after == After::Interrupted || step == "intended" || step == "asked" {
            let expected = json!({"generation": 0, "bearer": digest(&granted.access)});
            assert_eq!(held(&said), expected, "{step}: {said:#?}");
            assert_eq!(machine.refreshes(), asked, "{step}: the issuer was asked");
        } else {
            assert_eq!(held(&said)["generation"], 1, "{step}: {said:#?}");
        }
        let said = held(&ended(machine.holder("me", &["--ahead", "400"])).await);
        if after == After::Interrupted {
            assert_eq!(said["error"], "ended: interrupted", "{step}");
        } else {
            assert_eq!(said["generation"], 1, "{step}: {said}");
        }
        machine.assert_no_complaints();
    }
}

/// Killed from outside while it waits for the answer, and an answer that the network ate: both are
/// noticed by the next start, and what a person reads names the repairing command.
#[tokio::test]
async fn an_answer_that_was_lost_is_said() {
    for fault in [Fault::Slow { ms: 60_000 }, Fault::Lost, Fault::Cut] {
        let machine = Machine::new();
        machine.hold("default", -60);
        machine.issuer.fault(What::Refresh, fault.clone());
        let mut process = Process::start(machine.holder("default", &[]));
        if matches!(fault, Fault::Slow { .. }) {
            process.until("request", |_| (machine.refreshes() == 1).then_some(())).await;
            process.signal(Signal::KILL);
        }
        assert_ne!(process.end().await.exit, Some(0), "{fault:?}");
        assert_ne!(machine.stored("default")["intent"], Value::Null, "{fault:?}");
        let said = machine.said(&["secrets", "--json"]).await;
        assert_eq!((said.exit, said.stdout.as_str()), (Some(3), ""), "{fault:?}: {said:#?}");
        for part in ["sign-in needed", "cut off", "airlock setup codex-auth"] {
            assert!(said.stderr.contains(part), "{fault:?}: {part}: {}", said.stderr);
        }
        assert_eq!(machine.refreshes(), 2, "{fault:?}");
        machine.assert_no_secret_in(&[&said.stderr]);
    }
}
