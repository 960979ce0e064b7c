//! Faults of the issuer and of the network: each has its own message and exit code, and no message
//! holds what was sent.

use airlock_tests::issuer::{Device, Fault, Options, What};
use serde_json::{Value, json};

use crate::machine::{Machine, run_to_end, unwrapped};

/// Each fault with the part of the message that is specific to it.
fn faults() -> Vec<(Fault, &'static str)> {
    vec![
        (Fault::Close, "the connection broke"),
        (Fault::Reset, "the connection broke"),
        (Fault::Status { status: 500 }, "it answered 500"),
        (Fault::Status { status: 503 }, "it answered 503"),
        (Fault::RetryAfter { seconds: 60 }, "it answered 429"),
        (Fault::Html { status: 200 }, "a web page came instead of its answer (200)"),
        (Fault::Html { status: 403 }, "a web page came instead of its answer (403)"),
        (Fault::Challenge, "Cloudflare"),
        (Fault::Captive, "this network may need its own sign-in first"),
        (Fault::Redirect { location: "http://127.0.0.1:1/portal".to_owned() }, "a redirect came"),
        (Fault::ProxyPassword, "the proxy of this machine needs a user and a password (407)"),
        (Fault::Garbage, "is not JSON"),
        (Fault::Huge { bytes: 1 << 20 }, "is too long"),
        (Fault::Echo, "it refused (400)"),
    ]
}

/// The text has no control characters.
#[track_caller]
fn assert_plain(text: &str) {
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
}

#[tokio::test]
async fn each_fault_of_a_refresh_has_its_message() {
    let echo = |fault: &Fault| matches!(fault, Fault::Echo);
    for (fault, message) in faults().into_iter().filter(|(fault, _)| !echo(fault)) {
        let machine = Machine::new();
        machine.grant_login("default", -60);
        machine.issuer.fault(What::Refresh, fault.clone());
        let output = machine.run(&["secrets", "--json"]).await;
        assert_eq!((output.exit, output.stdout.as_str()), (Some(1), ""), "{fault:?}: {output:#?}");
        let words = unwrapped(&output.stderr);
        assert!(
            words.starts_with("no usable answer from the issuer: 127.0.0.1"),
            "{fault:?}: {words}"
        );
        assert!(words.contains(message), "{fault:?}: {words}");
        assert_plain(&output.stderr);
        machine.assert_no_secret_in(&[&output.stderr]);
        assert_eq!(machine.stored("default")["ended"], Value::Null, "{fault:?}");
    }
}

/// After an unknown refusal of an expired token, the person must sign in again, and the issuer is
/// not asked again. Its message about the token is not shown.
#[tokio::test]
async fn an_unknown_refusal_ends_a_login_whose_token_has_expired() {
    let machine = Machine::new();
    machine.grant_login("default", -60);
    machine.issuer.fault(What::Refresh, Fault::Echo);
    for _ in 0..2 {
        let output = machine.run(&["secrets", "--json"]).await;
        assert_eq!((output.exit, output.stdout.as_str()), (Some(3), ""), "{output:#?}");
        let words = unwrapped(&output.stderr);
        assert!(words.contains("the issuer does not renew it any more"), "{words}");
        assert_plain(&output.stderr);
        machine.assert_no_secret_in(&[&output.stderr]);
    }
    assert_eq!(machine.refreshes(), 1);
    assert_eq!(machine.stored("default")["ended"]["why"], json!("refused"));
}

/// The same for the exchange of a code.
#[tokio::test]
async fn each_fault_of_an_exchange_has_its_message() {
    for (fault, message) in faults() {
        let machine = Machine::new();
        machine.issuer.fault(What::Exchange, fault.clone());
        let output = run_to_end(machine.signing_in(&["--device"]).await).await;
        assert_ne!(output.exit, Some(0), "{fault:?}: {output:#?}");
        assert!(unwrapped(&output.stderr).contains(message), "{fault:?}: {output:#?}");
        assert_eq!(machine.stored("default"), Value::Null, "{fault:?}");
        assert_plain(&output.stderr);
        machine.assert_no_secret_in(&[&output.stdout, &output.stderr]);
    }
}

/// The same for the request of a device code.
#[tokio::test]
async fn each_fault_of_a_device_code_has_its_message() {
    for (fault, message) in faults() {
        let machine = Machine::new();
        machine.issuer.fault(What::UserCode, fault.clone());
        let output = run_to_end(machine.signing_in(&["--device"]).await).await;
        assert_ne!(output.exit, Some(0), "{fault:?}: {output:#?}");
        assert!(unwrapped(&output.stderr).contains(message), "{fault:?}: {output:#?}");
        assert_plain(&output.stderr);
    }
    let machine = Machine::with(Options { device: Device::Off, ..Options::default() });
    let output = run_to_end(machine.signing_in(&["--device"]).await).await;
    assert_eq!(output.exit, Some(3), "{output:#?}");
    assert_eq!(machine.issuer.asked_for(What::UserCode).len(), 1);
}

/// A fault of one poll does not end the sign-in.
#[tokio::test]
async fn polling_goes_on_after_a_fault() {
    for fault in [Fault::Close, Fault::Status { status: 502 }, Fault::RetryAfter { seconds: 1 }] {
        let device = Device::Types { after_polls: 3 };
        let machine = Machine::with(Options { device, ..Options::default() });
        machine.issuer.fault(What::Poll, fault.clone());
        let output = run_to_end(machine.signing_in(&["--device"]).await).await;
        assert_eq!(output.exit, Some(0), "{fault:?}: {output:#?}");
        machine.assert_no_complaints();
    }
}

/// A redirect is never followed: a token goes only to its issuer.
#[tokio::test]
async fn a_redirect_is_not_followed() {
    let machine = Machine::new();
    let elsewhere = airlock_tests::issuer::Issuer::default();
    machine.grant_login("default", -60);
    for status in 0..2 {
        let path = ["/oauth/token", "/"][status];
        let location = format!("{}{path}", elsewhere.url());
        machine.issuer.fault(What::Refresh, Fault::Redirect { location });
        assert_eq!(machine.run(&["secrets", "--json"]).await.exit, Some(1));
    }
    assert!(elsewhere.asked().is_empty(), "another server got a request");
    assert_eq!(machine.refreshes(), 2);
}

/// A certificate of an unknown authority is refused; with `--ca` it is trusted.
#[tokio::test]
async fn a_certificate_authority_can_be_named() {
    let machine = Machine::with(Options { tls: true, ..Options::default() });
    machine.grant_login("default", -60);
    let output = machine.run(&["secrets", "--json"]).await;
    assert_eq!(output.exit, Some(1), "{output:#?}");
    assert!(unwrapped(&output.stderr).contains("--ca FILE"), "{output:#?}");
    assert_eq!(machine.issuer.asked().len(), 0, "an untrusted server got a request");
    let ca = machine.rig.home().join("ca.pem");
    std::fs::write(&ca, machine.issuer.ca().unwrap_or_default()).expect("the home can be written");
    let ca = ca.display().to_string();
    let output = machine.run(&["secrets", "--json", "--ca", &ca]).await;
    assert_eq!(output.exit, Some(0), "{output:#?}");
    machine.grant_login("other", -60);
    let output = machine.signed_in(&["--device", "--name", "third", "--ca", &ca]).await;
    assert!(output.stderr.contains("signed in"), "{output:#?}");
    assert_eq!(machine.stored("third")["email"], json!("ada@example.org"));
}

/// A request without an answer ends after a timeout.
#[tokio::test]
async fn a_silent_issuer_causes_a_timeout() {
    let machine = Machine::new();
    machine.grant_login("default", -60);
    machine.issuer.fault(What::Refresh, Fault::Silence);
    let output = machine.run(&["secrets", "--json"]).await;
    assert_eq!(output.exit, Some(1), "{output:#?}");
    assert!(unwrapped(&output.stderr).contains("no answer within"), "{output:#?}");
}
