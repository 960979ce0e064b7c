//! A process that is killed in a refresh loses no login, except between the issuer's answer and the
//! write to disk. In that case an error says what happened and what to do.

use airlock_tests::issuer::{Fault, What};
use airlock_tests::rig::Process;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::machine::{Machine, digest, holder_output, run_to_end};

/// Every step of a refresh, and what the next start does after a kill there.
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
/// More than a hundred kills in all.
const ROUNDS: usize = 12;

#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    /// The issuer was not asked: the next start asks with the stored token.
    Again,
    /// The answer is lost: the next start tries the old token once and reports it.
    Interrupted,
    /// The answer is on disk: the next start uses it.
    Finished,
}

async fn killed_at(machine: &Machine, step: &str) {
    let output = run_to_end(machine.holder("me", &["--die-at", step])).await;
    assert_eq!(
        (output.exit, output.stdout.as_str()),
        (None, ""),
        "not killed at {step}: {output:#?}"
    );
}

/// There are only the login and its lock, both private.
fn assert_tidy(machine: &Machine, step: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let entries = std::fs::read_dir(machine.logins()).expect("a directory").flatten();
    let mut found: Vec<(String, u32)> = entries
        .map(|entry| {
            let mode = entry.metadata().map_or(0, |about| about.permissions().mode() & 0o7777);
            (entry.file_name().to_string_lossy().into_owned(), mode)
        })
        .collect();
    found.sort();
    let expected = [("me.json".to_owned(), 0o600), ("me.lock".to_owned(), 0o600)];
    assert_eq!(found, expected, "{step}");
    assert_eq!(machine.stored("me")["intent"], Value::Null, "{step}");
}

#[tokio::test]
async fn a_refresh_killed_at_any_step_loses_no_login() {
    for round in 0..ROUNDS {
        for (step, after) in STEPS {
            let machine = Machine::new();
            let granted = machine.grant_login("me", -60);
            killed_at(&machine, step).await;
            let requests = usize::from(after != After::Again);
            assert_eq!(
                machine.refreshes(),
                requests,
                "round {round}, {step}: requests before it died"
            );
            let output = run_to_end(machine.holder("me", &[])).await;
            let stored = machine.stored("me");
            let bearer = digest(stored["access_token"].as_str().unwrap_or_default());
            let place = format!("round {round}, {step}: {output:#?}");
            match after {
                After::Again | After::Finished => {
                    assert_eq!(
                        holder_output(&output),
                        json!({"generation": 1, "bearer": bearer}),
                        "{place}"
                    );
                    assert_eq!(machine.refreshes(), 1, "{place}");
                    let refresh = stored["refresh_token"].as_str().unwrap_or_default();
                    assert!(machine.issuer.takes(refresh), "{place}");
                }
                After::Interrupted => {
                    assert_eq!(holder_output(&output)["error"], "ended: interrupted", "{place}");
                    assert_eq!(stored["ended"]["why"], "interrupted", "{place}");
                    assert_eq!(bearer, digest(&granted.access), "{place}");
                    // Tried once, and never again.
                    drop(run_to_end(machine.holder("me", &[])).await);
                    assert_eq!(machine.refreshes(), 2, "{place}");
                }
            }
            assert_tidy(&machine, step);
            machine.assert_no_complaints();
        }
    }
}

/// While the access token is valid, a lost answer does no harm. When it has expired, the old
/// refresh token is tried once.
#[tokio::test]
async fn a_valid_token_stays_in_use_after_a_kill() {
    for (step, after) in STEPS {
        let machine = Machine::new();
        let granted = machine.grant_login("me", 200);
        killed_at(&machine, step).await;
        let requests = machine.refreshes();
        let output = run_to_end(machine.holder("me", &[])).await;
        if after == After::Interrupted || step == "intended" || step == "asked" {
            let expected = json!({"generation": 0, "bearer": digest(&granted.access)});
            assert_eq!(holder_output(&output), expected, "{step}: {output:#?}");
            assert_eq!(machine.refreshes(), requests, "{step}: the issuer was asked");
        } else {
            assert_eq!(holder_output(&output)["generation"], 1, "{step}: {output:#?}");
        }
        let output = holder_output(&run_to_end(machine.holder("me", &["--ahead", "400"])).await);
        if after == After::Interrupted {
            assert_eq!(output["error"], "ended: interrupted", "{step}");
        } else {
            assert_eq!(output["generation"], 1, "{step}: {output}");
        }
        machine.assert_no_complaints();
    }
}

/// A process that is killed while it waits, or an answer that is lost in the network: the next
/// start notices it, and the error names the command that repairs the login.
#[tokio::test]
async fn a_lost_answer_is_reported() {
    for fault in [Fault::Slow { ms: 60_000 }, Fault::Lost, Fault::Cut] {
        let machine = Machine::new();
        machine.grant_login("default", -60);
        machine.issuer.fault(What::Refresh, fault.clone());
        let mut process = Process::start(machine.holder("default", &[]));
        if matches!(fault, Fault::Slow { .. }) {
            process.until("request", |_| (machine.refreshes() == 1).then_some(())).await;
            process.signal(Signal::KILL);
        }
        assert_ne!(process.end().await.exit, Some(0), "{fault:?}");
        assert_ne!(machine.stored("default")["intent"], Value::Null, "{fault:?}");
        let output = machine.run(&["secrets", "--json"]).await;
        assert_eq!((output.exit, output.stdout.as_str()), (Some(3), ""), "{fault:?}: {output:#?}");
        for part in ["sign-in needed", "interrupted", "airlock setup codex-auth"] {
            assert!(output.stderr.contains(part), "{fault:?}: {part}: {}", output.stderr);
        }
        assert_eq!(machine.refreshes(), 2, "{fault:?}");
        machine.assert_no_secret_in(&[&output.stderr]);
    }
}
