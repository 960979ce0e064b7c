//! Nothing that is worth anything to a thief is shown, logged, or stands where another user of the
//! machine could read it.

use std::process::Stdio;

use airlock_tests::issuer::{Device, Fault, Options, What};
use airlock_tests::rig::{Process, Said};
use airlock_tests::scan::Scan;
use serde_json::json;

use crate::machine::{Machine, agreed, ended, event, told};

/// Everything the issuer gave or was told, looked for in these texts.
fn scan(machine: &Machine) -> Scan {
    let secrets = machine.issuer.secrets();
    assert!(secrets.len() >= 4, "hardly anything to look for: the scan is blind");
    Scan::for_values(secrets.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

/// With every word that the program can say about itself.
fn talkative(options: Options) -> Machine {
    Machine::with(options).variable("RUST_LOG", "trace").variable("RUST_BACKTRACE", "1")
}

#[tokio::test]
async fn nothing_says_a_token_a_code_or_a_verifier() {
    let machine = talkative(Options::default());
    let mut all: Vec<(&str, Said)> = Vec::new();
    all.push(("device", ended(machine.signing_in(&["--device"]).await).await));
    all.push(("again", ended(machine.signing_in(&["--json"]).await).await));

    // By a pasted address. The state in the printed address is for this terminal; a code is not.
    let mut command = machine.signing_in(&["--paste", "--json", "--replace"]).await;
    command.stdin(Stdio::piped());
    let mut process = Process::start(command);
    let url = event(&mut process, "paste").await["url"].as_str().unwrap_or_default().to_owned();
    process.line(&agreed(&url)).await;
    let said = process.end().await;
    let without = Said { stdout: said.stdout.replace(&url, ""), ..said };
    all.push(("paste", without));

    machine.change("default", "expires_at", json!(1));
    let refreshed = machine.said(&["secrets", "--json"]).await;
    all.push(("secrets", Said { stdout: String::new(), ..refreshed }));
    for fault in [Fault::Echo, Fault::Status { status: 500 }, Fault::Lost, Fault::Garbage] {
        machine.change("default", "expires_at", json!(1));
        machine.issuer.fault(What::Refresh, fault);
        all.push(("a fault", machine.said(&["secrets", "--json"]).await));
        // Where it took that for the end, as if it had not: each is to be asked with the token.
        machine.change("default", "ended", json!(null));
    }
    all.push(("status", machine.said(&["status"]).await));
    all.push(("status", machine.said(&["status", "--json"]).await));
    machine.issuer.fault(What::Revoke, Fault::Echo);
    all.push(("logout", machine.said(&["logout"]).await));
    machine.issuer.fault(What::Exchange, Fault::Echo);
    all.push(("exchange", ended(machine.signing_in(&["--device"]).await).await));
    let granted = machine.issuer.grant();
    let command = machine.signing_in(&["--access-token", "-"]).await;
    all.push(("token", told(command, &granted.access).await));

    assert!(
        all.iter().any(|(_, said)| said.stderr.contains("TRACE") || said.stderr.contains("DEBUG")),
        "RUST_LOG=trace says nothing: what is looked at is not all there is"
    );
    let mut scan = scan(&machine);
    for (name, said) in &all {
        scan.text(&format!("stdout of {name}"), &said.stdout);
        scan.text(&format!("stderr of {name}"), &said.stderr);
    }
    scan.assert_clean();
}

/// While it waits for the issuer, a refresh token is in its memory and nowhere else.
#[tokio::test]
async fn nothing_stands_in_arguments_or_environment() {
    let machine = talkative(Options { device: Device::Waits, ..Options::default() });
    machine.hold("default", -60);
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
    // Neither leaves a core: no tokens on the disk when it falls over.
    for process in [&refreshing, &waiting] {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.pid()));
        let limits = limits.expect("the process of a child");
        let core = limits.lines().find(|line| line.starts_with("Max core file size"));
        let words: Vec<&str> = core.unwrap_or_default().split_whitespace().collect();
        assert_eq!(words[4..6], ["0", "0"], "{core:?}");
    }
    drop((waiting, refreshing));
}

/// What is on the disk is the login, in its file, and nowhere else in the home.
#[tokio::test]
async fn nothing_is_left_in_the_home_but_the_login() {
    let machine = talkative(Options::default());
    machine.signed_in(&["--device"]).await;
    machine.change("default", "expires_at", json!(1));
    assert_eq!(machine.said(&["secrets", "--json"]).await.exit, Some(0));
    let stored = machine.stored("default");
    let parts = ["access_token", "refresh_token"];
    let newest = parts.map(|part| stored[part].as_str().unwrap_or_default().to_owned());
    let mut elsewhere = scan(&machine);
    std::fs::remove_file(machine.file("default")).expect("a login");
    elsewhere.folder("home", machine.rig.home());
    elsewhere.assert_clean();
    assert!(newest.iter().all(|token| token.len() > 16), "nothing was stored");
}

/// A host that meant to hand over a token for hours must not hand over a key that never ends.
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
    let said = machine.said(&["secrets", "--json"]).await;
    assert_eq!((said.exit, said.stdout.as_str()), (Some(2), ""), "{said:#?}");
    assert!(!said.stderr.contains(key), "{said:#?}");
}
