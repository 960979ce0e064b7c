//! What the backend does wrong, and how a run ends or goes on.

use airlock_tests::Rig;
use airlock_tests::backend::{Backend, Fault, answer, call, fault, script};
use serde_json::json;

in_both_custodies! {
    #[tokio::test]
    async fn errors_and_cut_streams_are_retried_and_no_call_runs_twice(rig: Rig) {
        let ran = rig
            .model(script![
                fault(Fault::Status { status: 503 }),
                fault(Fault::Reset),
                call("bash", json!({"command": "echo once >> log"})),
                fault(Fault::Cut { events: 4, clean: false }).call("bash", json!({"command": "echo never >> log"})),
                fault(Fault::ResetAfter { events: 2 }),
                call("bash", json!({"command": "cat log"})),
                answer("done"),
            ])
            .prompt("x")
            .run()
            .await
            .assert_finished("done")
            .assert_nothing_left_behind()
            .await;
        let log = ran.outputs().pop().unwrap_or_default();
        assert_eq!((log.matches("once").count(), log.matches("never").count()), (1, 0), "{log}");
        assert!(ran.events_named("retry").len() >= 4, "{}", ran.stdout);
    }

    #[tokio::test]
    async fn a_permanent_error_ends_after_five_retries(rig: Rig) {
        let ran = rig.model(script![fault(Fault::Status { status: 500 }).times(99)]).prompt("x").run().await;
        let ran = ran.assert_exit(1, "").assert_no_complaints().assert_nothing_left_behind().await;
        assert_eq!(ran.backend.model_requests().len(), 6);
    }

    #[tokio::test]
    async fn a_usage_limit_is_told_and_not_retried(rig: Rig) {
        let script = script![fault(Fault::UsageLimit { resets_in_seconds: 6720 })];
        let ran = rig.model(script).prompt("x").run().await.assert_exit(4, "usage limit");
        assert_eq!(ran.backend.model_requests().len(), 1);
    }

    #[tokio::test]
    async fn a_refused_key_needs_a_sign_in(rig: Rig) {
        let ran = rig.model(script![fault(Fault::Unauthorized)]).prompt("x").run().await;
        let ran = ran.assert_exit(3, "").assert_nothing_left_behind().await;
        assert_eq!(ran.backend.model_requests().len(), 1);
    }

    #[tokio::test]
    async fn a_web_page_is_not_printed(rig: Rig) {
        let ran = rig.model(script![fault(Fault::Html)]).prompt("x").run().await.assert_exit(1, "403");
        assert!(!ran.stderr.contains("<html>") && ran.stderr.len() < 4096, "{}", ran.stderr);
        assert_eq!(ran.backend.model_requests().len(), 1);
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed(rig: Rig) {
        let thief = Backend::scripted(script![answer("stolen")]);
        let location = format!("{}/responses", thief.url());
        let ran = rig.model(script![fault(Fault::Redirect { location })]).prompt("x").run().await;
        drop(ran.assert_exit(1, ""));
        assert!(thief.requests().is_empty(), "it went there");
    }

    #[tokio::test]
    async fn the_last_step_has_no_tools(rig: Rig) {
        let ran = rig
            .flags(&["--steps", "2"])
            .model(script![call("bash", json!({"command": "true"})), answer("as far as I came")])
            .prompt("x")
            .run()
            .await
            .assert_exit(5, "");
        let requests = ran.backend.model_requests();
        assert_eq!(requests.len(), 2);
        assert!(!requests[0].tools().is_empty() && requests[1].tools().is_empty());
        assert_eq!(ran.answer(), "as far as I came");
    }

    #[tokio::test]
    async fn tokens_are_a_budget(rig: Rig) {
        let step = || call("bash", json!({"command": "true"})).usage(900, 0, 200);
        let ran = rig.flags(&["--tokens", "2000"]).model(script![step(), step(), step(), step()]);
        let ran = ran.prompt("x").run().await.assert_exit(5, "");
        assert!(ran.backend.model_requests().len() <= 3);
    }

    #[tokio::test]
    async fn seconds_are_a_budget(rig: Rig) {
        let script = script![call("bash", json!({"command": "sleep 60"})), answer("late")];
        let ran = rig.flags(&["--seconds", "2"]).model(script).prompt("x").run().await;
        drop(ran.assert_exit(5, "").assert_nothing_left_behind().await);
    }
}

#[tokio::test]
async fn a_context_that_is_full_is_said() {
    let script = script![fault(Fault::failed("context_length_exceeded"))];
    let ran = Rig::new().model(script).prompt("x").run().await.assert_exit(1, "");
    assert_eq!(ran.backend.model_requests().len(), 1);
}

#[tokio::test]
async fn a_backend_that_is_not_there_is_named_and_said_once() {
    let rig = Rig::new().in_words().backend(|backend| backend.catalogue = serde_json::Value::Null);
    let ran = rig.model(script![]).prompt("x").run().await.assert_nothing_left_behind().await;
    let url = ran.backend.url();
    let origin = url.split("/backend-api").next().unwrap_or_default().to_owned();
    let ran = ran.assert_exit(1, &format!("the backend cannot be used: {origin}: no answer"));
    assert_eq!(ran.stderr.matches(" be used").count(), 1, "{}", ran.stderr);
}

#[tokio::test]
async fn a_huge_event_ends_at_once() {
    let ran = Rig::new().model(script![fault(Fault::HugeEvent { bytes: 20 << 20 })]).prompt("x");
    let ran = ran.run().await.assert_exit(1, "").assert_nothing_left_behind().await;
    assert_eq!(ran.outcome()["fault"], "context", "{}", ran.outcome());
    assert_eq!(ran.backend.model_requests().len(), 1);
}

#[tokio::test]
async fn an_endless_stream_ends_with_its_bytes_or_its_seconds() {
    let rig = Rig::new().flags(&["--seconds", "3"]).model(script![fault(Fault::Endless)]);
    let ran = rig.prompt("x").run().await.assert_nothing_left_behind().await;
    let outcome = ran.outcome();
    let (budget, bytes) = (outcome["spent"] == "seconds", outcome["fault"] == "context");
    let expected = if bytes { 1 } else { 5 };
    assert!((budget || bytes) && ran.exit == Some(expected), "{:?}: {outcome}", ran.exit);
    // None where the sandbox took that long.
    assert!(ran.backend.model_requests().len() <= 1, "it was asked again");
}
