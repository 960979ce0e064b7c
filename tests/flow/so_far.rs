//! Killed while the model thinks: what was edited until then is on the host's disk.

use airlock_tests::Rig;
use airlock_tests::backend::{answer, call, script};
use airlock_tests::rig::Live;
use rustix::process::Signal;
use serde_json::{Value, json};

/// A run whose edits so far are on the host's disk while the model thinks on.
async fn kept_so_far(rig: Rig) -> Live {
    let write = json!({"command": "echo fixed > a; mkdir target; echo derived > target/x"});
    let script = script![call("bash", write), answer("never said").after(600_000)];
    let mut live = rig
        .files(&[("a", "broken\n"), (".gitignore", "target\n")])
        .model(script)
        .prompt("x")
        .start()
        .await;
    let runs = live.rig().home().join("state/airlock/sessions");
    live.until("the edits so far", |_| {
        let mut runs = std::fs::read_dir(&runs).ok()?.flatten();
        runs.any(|run| run.path().join("changes/list.jsonl").exists()).then_some(())
    })
    .await;
    live
}

in_both_custodies! {
    /// What was edited up to half a minute before the end survives it, and says what it is.
    #[tokio::test]
    async fn edits_so_far_survive_a_sandbox_that_is_killed(rig: Rig) {
        let mut live = kept_so_far(rig).await;
        let (id, engine) = (live.container().await, live.engine.clone());
        let killed = engine.post(&format!("/containers/{id}/kill"), &Value::Null).await;
        drop(killed.done("kill a container"));
        let ran = live.end().await.assert_exit(1, "the sandbox ended early");
        assert_eq!(ran.outcome()["changes"], "kept", "{}", ran.outcome());
        let record = ran.record().await;
        let note = record["changes_note"].as_str().unwrap_or_default();
        assert!(note.contains("s before the end, without what git ignores"), "{record}");
        let applied = ran.airlock("apply", &[]).await;
        assert!(applied.stderr.contains("before the end"), "{applied:#?}");
        let here = |name: &str| std::fs::read_to_string(ran.rig.workspace().join(name)).ok();
        assert_eq!((here("a").as_deref(), here("target/x")), (Some("fixed\n"), None));
    }

    #[tokio::test]
    async fn edits_so_far_survive_a_host_that_is_killed(rig: Rig) {
        let live = kept_so_far(rig).await;
        live.signal(Signal::KILL);
        let ran = live.end().await;
        let record = ran.record().await;
        assert_eq!((&record["outcome"], &record["changes_are"]), (&json!("lost"), &json!("kept")));
        let diff = ran.airlock("diff", &[]).await;
        assert!(diff.stdout.contains("+fixed") && !diff.stdout.contains("derived"), "{diff:#?}");
        let applied = ran.airlock("apply", &[]).await;
        assert_eq!(applied.exit, Some(0), "{applied:#?}");
        let here = std::fs::read_to_string(ran.rig.workspace().join("a"));
        assert_eq!(here.expect("a file of the test's"), "fixed\n");
        let next = ran.rig.beside().model(script![answer("swept")]).prompt("y").run().await;
        drop(next.assert_finished("swept").assert_nothing_left_behind().await);
    }
}

/// A command that locks the workspace's root ends neither the calls after it nor the way out.
#[tokio::test]
async fn a_root_that_was_locked_costs_no_edits() {
    let locks = "echo fixed > a; mkdir d; echo new > d/b; chmod -R 644 .";
    let ran = Rig::new()
        .files(&[("a", "broken\n")])
        .model(script![
            call("bash", json!({"command": locks})),
            call("bash", json!({"command": "echo still here; chmod 0 $PWD"})),
            answer("done"),
        ])
        .prompt("x")
        .run()
        .await
        .assert_finished("done");
    assert!(ran.outputs()[1].contains("still here"), "{:?}", ran.outputs());
    assert_eq!(ran.outcome()["changes"], "kept", "{}", ran.outcome());
    let applied = ran.airlock("apply", &[]).await;
    assert_eq!(applied.exit, Some(0), "{applied:#?}");
    let here = |name: &str| std::fs::read_to_string(ran.rig.workspace().join(name)).ok();
    assert_eq!((here("a").as_deref(), here("d/b").as_deref()), (Some("fixed\n"), Some("new\n")));
}
