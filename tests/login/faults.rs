//! What goes wrong at the issuer or on the way to it: each fault in its own sentence, with its exit
//! code, and never with what was sent.

use airlock_tests::issuer::{Device, Fault, Options, What};
use serde_json::{Value, json};

use crate::machine::{Machine, ended, unwrapped};

/// What of a sentence tells the fault apart from the others.
fn faults() -> Vec<(Fault, &'static str)> {
    vec![
        (Fault::Close, "cut"),
        (Fault::Reset, "cut"),
        (Fault::Status { status: 500 }, "it answered 500"),
        (Fault::Status { status: 503 }, "it answered 503"),
        (Fault::RetryAfter { seconds: 60 }, "it answered 429"),
        (Fault::Html { status: 200 }, "a web page came in place of its answer (200)"),
        (Fault::Html { status: 403 }, "a web page came in place of its answer (403)"),
        (Fault::Challenge, "Cloudflare"),
        (Fault::Captive, "this network may want a sign-in of its own first"),
        (Fault::Redirect { location: "http://127.0.0.1:1/portal".to_owned() }, "a redirect came"),
        (Fault::ProxyPassword, "the proxy of this machine wants a user and password (407)"),
        (Fault::Garbage, "is not JSON"),
        (Fault::Huge { bytes: 1 << 20 }, "is too long"),
        (Fault::Echo, "it refused (400)"),
    ]
}

/// Nothing of a terminal's own in what is shown.
#[track_caller]
fn assert_plain(text: &str) {
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
}

#[tokio::test]
async fn each_fault_has_its_sentence() {
    let echo = |fault: &Fault| matches!(fault, Fault::Echo);
    for (fault, sentence) in faults().into_iter().filter(|(fault, _)| !echo(fault)) {
        let machine = Machine::new();
        machine.hold("default", -60);
        machine.issuer.fault(What::Refresh, fault.clone());
        let said = machine.said(&["secrets", "--json"]).await;
        assert_eq!((said.exit, said.stdout.as_str()), (Some(1), ""), "{fault:?}: {said:#?}");
        let words = unwrapped(&said.stderr);
        assert!(words.starts_with("the issuer cannot be asked: 127.0.0.1"), "{fault:?}: {words}");
        assert!(words.contains(sentence), "{fault:?}: {words}");
        assert_plain(&said.stderr);
        machine.assert_no_secret_in(&[&said.stderr]);
        assert_eq!(machine.stored("default")["ended"], Value::Null, "{fault:?}");
    }
}

/// A refusal is the issuer's word, whatever it says: once the token has ended, only signing in
/// mends it, and it is not asked again. What it said of the token is nowhere.
#[tokio::test]
async fn a_refusal_that_nobody_knows_ends_a_login_whose_token_has_ended() {
    let machine = Machine::new();
    machine.hold("default", -60);
    machine.issuer.fault(What::Refresh, Fault::Echo);
    for _ in 0..2 {
        let said = machine.said(&["secrets", "--json"]).await;
        assert_eq!((said.exit, said.stdout.as_str()), (Some(3), ""), "{said:#?}");
        let words = unwrapped(&said.stderr);
        assert!(words.contains("its issuer renews it no more"), "{words}");
        assert_plain(&said.stderr);
        machine.assert_no_secret_in(&[&said.stderr]);
    }
    assert_eq!(machine.refreshes(), 1);
    assert_eq!(machine.stored("default")["ended"]["why"], json!("refused"));
}

/// The same while signing in, when a code is exchanged.
#[tokio::test]
async fn each_fault_of_an_exchange_has_its_sentence() {
    for (fault, sentence) in faults() {
        let machine = Machine::new();
        machine.issuer.fault(What::Exchange, fault.clone());
        let said = ended(machine.signing_in(&["--device"]).await).await;
        assert_ne!(said.exit, Some(0), "{fault:?}: {said:#?}");
        assert!(unwrapped(&said.stderr).contains(sentence), "{fault:?}: {said:#?}");
        assert_eq!(machine.stored("default"), Value::Null, "{fault:?}");
        assert_plain(&said.stderr);
        machine.assert_no_secret_in(&[&said.stdout, &said.stderr]);
    }
}

/// And when a code for another device is asked for.
#[tokio::test]
async fn each_fault_of_a_device_code_has_its_sentence() {
    for (fault, sentence) in faults() {
        let machine = Machine::new();
        machine.issuer.fault(What::UserCode, fault.clone());
        let said = ended(machine.signing_in(&["--device"]).await).await;
        assert_ne!(said.exit, Some(0), "{fault:?}: {said:#?}");
        assert!(unwrapped(&said.stderr).contains(sentence), "{fault:?}: {said:#?}");
        assert_plain(&said.stderr);
    }
    let machine = Machine::with(Options { device: Device::Off, ..Options::default() });
    let said = ended(machine.signing_in(&["--device"]).await).await;
    assert_eq!(said.exit, Some(3), "{said:#?}");
    assert_eq!(machine.issuer.asked_for(What::UserCode).len(), 1);
}

/// Trouble between two polls is not the end of fifteen minutes.
#[tokio::test]
async fn polling_survives_trouble() {
    for fault in [Fault::Close, Fault::Status { status: 502 }, Fault::RetryAfter { seconds: 1 }] {
        let device = Device::Types { after_polls: 3 };
        let machine = Machine::with(Options { device, ..Options::default() });
        machine.issuer.fault(What::Poll, fault.clone());
        let said = ended(machine.signing_in(&["--device"]).await).await;
        assert_eq!(said.exit, Some(0), "{fault:?}: {said:#?}");
        machine.assert_no_complaints();
    }
}

/// A redirect is never followed: a token goes to its issuer and to nobody else.
#[tokio::test]
async fn a_redirect_is_not_followed() {
    let machine = Machine::new();
    let elsewhere = airlock_tests::issuer::Issuer::default();
    machine.hold("default", -60);
    for status in 0..2 {
        let path = ["/oauth/token", "/"][status];
        let location = format!("{}{path}", elsewhere.url());
        machine.issuer.fault(What::Refresh, Fault::Redirect { location });
        assert_eq!(machine.said(&["secrets", "--json"]).await.exit, Some(1));
    }
    assert!(elsewhere.asked().is_empty(), "somebody else was told");
    assert_eq!(machine.refreshes(), 2);
}

/// A certificate of nobody's is refused and named; with `--ca` it is trusted.
#[tokio::test]
async fn a_certificate_authority_can_be_named() {
    let machine = Machine::with(Options { tls: true, ..Options::default() });
    machine.hold("default", -60);
    let said = machine.said(&["secrets", "--json"]).await;
    assert_eq!(said.exit, Some(1), "{said:#?}");
    assert!(unwrapped(&said.stderr).contains("--ca FILE"), "{said:#?}");
    assert_eq!(machine.issuer.asked().len(), 0, "a stranger was told");
    let ca = machine.rig.home().join("ca.pem");
    std::fs::write(&ca, machine.issuer.ca().unwrap_or_default()).expect("the home can be written");
    let ca = ca.display().to_string();
    let said = machine.said(&["secrets", "--json", "--ca", &ca]).await;
    assert_eq!(said.exit, Some(0), "{said:#?}");
    machine.hold("other", -60);
    let said = machine.signed_in(&["--device", "--name", "third", "--ca", &ca]).await;
    assert!(said.stderr.contains("signed in"), "{said:#?}");
    assert_eq!(machine.stored("third")["email"], json!("ada@example.org"));
}

/// One whom nobody answers does not wait for ever, and says whom it waited for.
#[tokio::test]
async fn silence_ends() {
    let machine = Machine::new();
    machine.hold("default", -60);
    machine.issuer.fault(What::Refresh, Fault::Silence);
    let said = machine.said(&["secrets", "--json"]).await;
    assert_eq!(said.exit, Some(1), "{said:#?}");
    assert!(unwrapped(&said.stderr).contains("no answer within"), "{said:#?}");
}
