//! A backend behind a certificate: `--ca` is believed beside the usual authorities, nobody else
//! is, by the host in relay and by the sandbox in handoff.

use airlock_tests::backend::{Backend, Fault, Options, answer, call, fault, script};
use airlock_tests::{CredentialsMode, Rig};
use serde_json::json;

fn tls(credentials: CredentialsMode) -> Rig {
    Rig::new().credentials(credentials).backend(|options| options.tls = true)
}

#[tokio::test]
async fn relay_speaks_tls_with_an_authority_that_was_given() {
    let script = script![call("bash", json!({"command": "echo hi"})), answer("done")];
    let ran = tls(CredentialsMode::Relay).model(script).prompt("x").run().await;
    let ran = ran.assert_finished("done").assert_nothing_left_behind().await;
    assert!(
        ran.events()[0]["login"]["base"].as_str().is_some_and(|base| base.starts_with("https://"))
    );
}

/// Somebody else's authority: the connection is refused, no request is made, and it is said why.
async fn refused(credentials: CredentialsMode, flags: &[&str]) {
    let other = Backend::start(Options { tls: true, ..Options::default() });
    let rig = tls(credentials).trusting(other.ca().expect("it speaks TLS")).flags(flags);
    let ran = rig.model(script![answer("never said")]).prompt("x").run().await;
    let said = ran.stderr.replace('\n', " ");
    assert_eq!(ran.exit, Some(1), "{said}");
    assert!(said.contains("certificate"), "{said}");
    // What the sandbox meets in handoff is its own word.
    let fault = if credentials == CredentialsMode::Relay { "backend" } else { "claimed" };
    assert_eq!(ran.outcome()["fault"], fault, "{}", ran.stdout);
    let ran = ran.assert_nothing_left_behind().await;
    assert!(ran.backend.requests().is_empty(), "it was asked");
}

#[tokio::test]
async fn the_wrong_authority_is_refused_by_the_host() {
    refused(CredentialsMode::Relay, &[]).await;
}

#[tokio::test]
async fn the_wrong_authority_is_refused_in_relay_where_the_model_is_named() {
    refused(CredentialsMode::Relay, &["-m", "gpt-5.5"]).await;
}

/// The host asks for no catalogue it could not do without, so the sandbox is the first to connect.
#[tokio::test]
async fn the_wrong_authority_is_refused_by_the_sandbox() {
    refused(CredentialsMode::Handoff, &["-m", "gpt-5.5"]).await;
}

#[tokio::test]
async fn a_file_that_holds_no_authority_is_refused() {
    let rig = tls(CredentialsMode::Relay).trusting("not a certificate\n").model(script![]);
    let ran = rig.prompt("x").run().await;
    assert_eq!(ran.exit, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("ca.pem"), "{}", ran.stderr);
}

in_both_custodies! {
    /// To the same host over the same scheme, even: an answer that sends us elsewhere is a fault.
    #[tokio::test]
    async fn no_redirect_is_followed_over_tls(rig: Rig) {
        let thief = Backend::start(Options { tls: true, script: script![answer("stolen")], ..Options::default() });
        let location = format!("{}/responses", thief.url());
        let script = script![fault(Fault::Redirect { location: location.clone() }), answer("never said")];
        let ran = rig.backend(|options| options.tls = true).model(script).prompt("x").run().await;
        let ran = ran.assert_exit(1, "").assert_nothing_left_behind().await;
        assert!(thief.requests().is_empty(), "it went there");
        assert_eq!(ran.backend.model_requests().len(), 1, "and asked again");
        assert!(ran.stderr.contains("307"), "{}", ran.stderr);
    }
}
