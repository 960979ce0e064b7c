//! No secret is shown, logged, or readable by another user of the machine.

use std::process::Stdio;

use airlock_tests::issuer::{Device, Fault, Options, What};
use airlock_tests::rig::{Process, Said};
use airlock_tests::scan::Scan;
use serde_json::json;

use crate::machine::{Machine, agreed, event, run_to_end, run_with_stdin};

/// A scan for every secret that the issuer gave or received.
fn scan(machine: &Machine) -> Scan {
    let secrets = machine.issuer.secrets();
    assert!(secrets.len() >= 4, "too few secrets: the scan proves nothing");
    Scan::for_values(secrets.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

/// A machine with the most verbose logging.
fn verbose(options: Options) -> Machine {
    Machine::with(options).variable("RUST_LOG", "trace").variable("RUST_BACKTRACE", "1")
}

#[tokio::test]
async fn no_output_holds_a_token_a_code_or_a_verifier() {
    let machine = verbose(Options::default());
    let mut all: Vec<(&str, Said)> = Vec::new();
    all.push(("device", run_to_end(machine.signing_in(&["--device"]).await).await));
    all.push(("again", run_to_end(machine.signing_in(&["--json"]).await).await));

    // With a pasted address. The printed address may hold the state; it is removed from the output.
    let mut command = machine.signing_in(&["--paste", "--json", "--replace"]).await;
    command.stdin(Stdio::piped());
    let mut process = Process::start(command);
    let url = event(&mut process, "paste").await["url"].as_str().unwrap_or_default().to_owned();
    process.line(&agreed(&url)).await;
    let output = process.end().await;
    let without = Said { stdout: output.stdout.replace(&url, ""), ..output };
    all.push(("paste", without));

    machine.change("default", "expires_at", json!(1));
    let refreshed = machine.run(&["secrets", "--json"]).await;
    all.push(("secrets", Said { stdout: String::new(), ..refreshed }));
    for fault in [Fault::Echo, Fault::Status { status: 500 }, Fault::Lost, Fault::Garbage] {
        machine.change("default", "expires_at", json!(1));
        machine.issuer.fault(What::Refresh, fault);
        all.push(("a fault", machine.run(&["secrets", "--json"]).await));
        // If that has ended the login, undo it, so that each fault gets a request with the token.
        machine.change("default", "ended", json!(null));
    }
    all.push(("status", machine.run(&["status"]).await));
    all.push(("status", machine.run(&["status", "--json"]).await));
    machine.issuer.fault(What::Revoke, Fault::Echo);
    all.push(("logout", machine.run(&["logout"]).await));
    machine.issuer.fault(What::Exchange, Fault::Echo);
    all.push(("exchange", run_to_end(machine.signing_in(&["--device"]).await).await));
    let granted = machine.issuer.grant();
    let command = machine.signing_in(&["--access-token", "-"]).await;
    all.push(("token", run_with_stdin(command, &granted.access).await));

    assert!(
        all.iter()
            .any(|(_, output)| output.stderr.contains("TRACE") || output.stderr.contains("DEBUG")),
        "RUST_LOG=trace has no effect: the scan proves nothing"
    );
    let mut scan = scan(&machine);
    for (name, output) in &all {
        scan.text(&format!("stdout of {name}"), &output.stdout);
        scan.text(&format!("stderr of {name}"), &output.stderr);
    }
    scan.assert_clean();
}

/// While a process waits for the issuer, the refresh token is only in its memory.
#[tokio::test]
async fn no_secret_is_in_arguments_or_environment() {
    let machine = verbose(Options { device: Device::Waits, ..Options::default() });
    machine.grant_login("default", -60);
    machine.issuer.fault(What::Refresh, Fault::Slow { ms: 60_000 });
    let mut refreshing = Process::start(machine.airlock(&["secrets", "--json"]).await);
    refreshing.until("request", |_| (machine.refreshes() == 1).then_some(())).await;
    let flags = ["--device", "--name", "other"];
    let mut waiting = Process::start(machine.signing_in(&flags).await);
    let polled = |_: &Process| (!machine.issuer.asked_for(What::Poll).is_empty()).then_some(());
    waiting.until("poll", polled).await;
    let mut scan = scan(&machine);
    scan.all_processes();
    scan.assert_clean();
    // Neither writes a core dump, which would hold tokens.
    for process in [&refreshing, &waiting] {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.pid()));
        let limits = limits.expect("the process of a child");
        let core = limits.lines().find(|line| line.starts_with("Max core file size"));
        let words: Vec<&str> = core.unwrap_or_default().split_whitespace().collect();
        assert_eq!(words[4..6], ["0", "0"], "{core:?}");
    }
    drop((waiting, refreshing));
}

/// The tokens are in the login's file and nowhere else in the home.
#[tokio::test]
async fn no_secret_is_in_the_home_except_in_the_login() {
    let machine = verbose(Options::default());
    machine.signed_in(&["--device"]).await;
    machine.change("default", "expires_at", json!(1));
    assert_eq!(machine.run(&["secrets", "--json"]).await.exit, Some(0));
    let stored = machine.stored("default");
    let parts = ["access_token", "refresh_token"];
    let newest = parts.map(|part| stored[part].as_str().unwrap_or_default().to_owned());
    let mut elsewhere = scan(&machine);
    std::fs::remove_file(machine.file("default")).expect("a login");
    elsewhere.folder("home", machine.rig.home());
    elsewhere.assert_clean();
    assert!(newest.iter().all(|token| token.len() > 16), "nothing was stored");
}

/// A program that wants a token for hours must not get a key that never expires.
#[tokio::test]
async fn an_api_key_is_not_handed_out() {
    let machine = Machine::new();
    let key = "sk-canary-0123456789abcdef0123456789-a1b2";
    machine.store(
        "default",
        &json!({
            "v": 2, "kind": "api_key", "base": "https://api.openai.com/v1", "generation": 0,
            "api_key": key,
        }),
    );
    let output = machine.run(&["secrets", "--json"]).await;
    assert_eq!((output.exit, output.stdout.as_str()), (Some(2), ""), "{output:#?}");
    assert!(!output.stderr.contains(key), "{output:#?}");
}
