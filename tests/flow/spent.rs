//! The budget is spent: the run ends, what was done comes out, and who pays is told for what.

use airlock_tests::Rig;
use airlock_tests::backend::{Fault, answer, call, fault, script};
use serde_json::json;

use crate::blocked::STUBBORN;

in_both_custodies! {
    #[tokio::test]
    async fn seconds_end_a_command_that_hangs_and_its_changes_are_kept(rig: Rig) {
        let script = script![call("bash", json!({"command": STUBBORN})), answer("never said")];
        // The time begins before the sandbox is made, and the command is to have come to where it blocks.
        let ran = rig.flags(&["--seconds", "6"]).model(script).prompt("x").run().await;
        let ran = ran.assert_exit(5, "no seconds left").assert_nothing_left_behind().await;
        let outcome = ran.outcome();
        let told = ["outcome", "reason", "spent", "changes"].map(|name| outcome[name].clone());
        assert_eq!(told, ["stopped", "budget", "seconds", "kept"], "{outcome}");
        assert_eq!(outcome["answer"], json!(null), "{outcome}");
        let applied = ran.airlock("apply", &[]).await;
        assert_eq!(applied.exit, Some(0), "{applied:#?}");
        let made = std::fs::read_to_string(ran.rig.workspace().join("made"));
        assert_eq!(made.expect("a file that was applied"), "kept\n");
    }

    #[tokio::test]
    async fn seconds_end_a_backend_that_is_silent(rig: Rig) {
        let silent = fault(Fault::Stall { events: 2 });
        let ran = rig.flags(&["--seconds", "3"]).model(script![silent]).prompt("x").run().await;
        let ran = ran.assert_exit(5, "no seconds left").assert_nothing_left_behind().await;
        // None where the sandbox took that long.
        assert!(ran.backend.model_requests().len() <= 1, "it was asked again");
    }

    #[tokio::test]
    async fn tokens_are_counted_as_reported_and_the_changes_are_kept(rig: Rig) {
        let step = |n: u32| call("bash", json!({"command": format!("echo {n} >> log")})).usage(900, 500, 100);
        let script = script![step(1), step(2), step(3), answer("never said")];
        let ran = rig.flags(&["--tokens", "1500"]).model(script).prompt("x").run().await;
        let ran = ran.assert_exit(5, "no tokens left").assert_nothing_left_behind().await;
        let outcome = ran.outcome();
        assert_eq!((&outcome["reason"], &outcome["spent"]), (&json!("budget"), &json!("tokens")));
        assert_eq!(outcome["usage"]["input"], 1800, "{outcome}");
        assert_eq!(outcome["usage"]["output"], 200, "{outcome}");
        assert_eq!(ran.backend.model_requests().len(), 2);
        assert_eq!(outcome["changes"], "kept", "{outcome}");
        assert_eq!(ran.record().await["usage"], outcome["usage"]);
    }

    /// An answer that broke off is no step: the last one is still the model's to answer in.
    #[tokio::test]
    async fn a_cut_stream_costs_no_step(rig: Rig) {
        let cut = fault(Fault::Cut { events: 2, clean: true });
        let script = script![cut, call("bash", json!({"command": "true"})), answer("so far")];
        let ran = rig.flags(&["--steps", "2"]).model(script).prompt("x").run().await;
        let ran = ran.assert_exit(5, "no requests left").assert_nothing_left_behind().await;
        assert_eq!(ran.outcome()["answer"], "so far");
    }

    /// A model that calls a tool though it was offered none has no answer, and the run ends.
    #[tokio::test]
    async fn a_call_at_the_last_step_is_not_carried_out(rig: Rig) {
        let step = |n: u32| call("bash", json!({"command": format!("echo {n} >> log")}));
        let ran = rig.flags(&["--steps", "2"]).model(script![step(1), step(2), step(3)]);
        let ran = ran.prompt("x").run().await.assert_exit(5, "no requests left");
        let ran = ran.assert_nothing_left_behind().await;
        assert_eq!(ran.backend.model_requests().len(), 2);
        let diff = ran.airlock("diff", &[]).await;
        assert!(diff.stdout.contains("+1") && !diff.stdout.contains("+2"), "{diff:#?}");
    }
}

/// One step: the model answers at once, without a tool, and the exit says that it was cut short.
#[tokio::test]
async fn one_step_is_an_answer() {
    let rig = Rig::new().in_words().flags(&["--steps", "1"]).model(script![answer("at once")]);
    let ran = rig.prompt("x").run().await;
    assert!(ran.backend.model_requests()[0].tools().is_empty());
    assert_eq!((ran.exit, ran.stdout.as_str()), (Some(5), "at once\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("the model still answered"), "{}", ran.stderr);
}
