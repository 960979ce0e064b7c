//! Ask, act, ask again: the loop with a backend that does nothing wrong.

use airlock_tests::Rig;
use airlock_tests::backend::{LITE, PLAIN, Wire, answer, call, calls, patch, raw, reason, script};
use airlock_tests::images::EMPTY;
use serde_json::json;

in_both_custodies! {
    #[tokio::test]
    async fn a_command_a_file_and_an_answer(rig: Rig) {
        let ran = rig
            .files(&[("a.txt", "alpha\n"), ("b/c.txt", "gamma\n")])
            .model(script![
                reason("gAAAA1").call("bash", json!({"command": "cat a.txt; echo err >&2; exit 3"})),
                call("read_file", json!({"path": "b/c.txt"})),
                answer("two files"),
            ])
            .prompt("what is here?")
            .run()
            .await
            .assert_finished("two files")
            .assert_nothing_left_behind()
            .await;
        let outputs = ran.outputs();
        for said in ["alpha", "err", "3"] {
            assert!(outputs[0].contains(said), "{said}: {outputs:#?}");
        }
        assert!(outputs[1].contains("gamma"), "{outputs:#?}");
    }

    #[tokio::test]
    async fn calls_at_once_and_calls_that_are_wrong(rig: Rig) {
        let ran = rig
            .files(&[("a", "one\n"), ("b", "two\n")])
            .model(script![
                calls([("read_file", json!({"path": "a"})), ("read_file", json!({"path": "b"}))]),
                call("no_such_tool", json!({})).bad_call("bash", "{\"command\": "),
                answer("done"),
            ])
            .prompt("go on whatever happens")
            .run()
            .await
            .assert_finished("done");
        let outputs = ran.outputs();
        assert_eq!(outputs.len(), 4, "{outputs:#?}");
        assert!(outputs[0].contains("one") && outputs[1].contains("two"), "{outputs:#?}");
    }

    #[tokio::test]
    async fn the_lite_shape_where_the_catalogue_wants_it(rig: Rig) {
        let ran = rig
            .flags(&["-m", LITE])
            .model(script![call("bash", json!({"command": "true"})), answer("lite")])
            .prompt("x")
            .run()
            .await
            .assert_finished("lite");
        assert!(ran.backend.model_requests()[0].json().get("tools").is_none());
    }

    #[tokio::test]
    async fn every_legal_way_on_the_wire(rig: Rig) {
        let wires = [Wire::CrLf, Wire::Cr, Wire::Bom, Wire::Bytewise, Wire::Multiline, Wire::Comments, Wire::NoNames, Wire::Junk];
        let mut script = script![];
        script.0.extend(wires.map(|wire| call("bash", json!({"command": "true"})).wire(wire)));
        script.0.push(answer("é世🦀").wire(Wire::Bytewise));
        let ran = rig.model(script).prompt("x").run().await.assert_finished("é世🦀");
        assert_eq!(ran.outputs().len(), wires.len());
    }
}

#[tokio::test]
async fn the_answer_alone_is_on_stdout() {
    let ran = Rig::new().in_words().model(script![answer("forty-two")]).prompt("x").run().await;
    let ran = ran.assert_finished("forty-two");
    assert_eq!(ran.stdout, "forty-two\n");
}

#[tokio::test]
async fn events_are_numbered_and_end_with_the_outcome() {
    let script = script![call("bash", json!({"command": "echo hi"})), answer("done")];
    let ran = Rig::new().model(script).prompt("x").run().await.assert_finished("done");
    for (index, event) in ran.events().iter().enumerate() {
        assert_eq!((&event["v"], &event["n"]), (&json!(1), &json!(index + 1)), "{event}");
        assert_eq!(event["session"], ran.id());
    }
    assert_eq!(ran.outcome()["event"], "outcome");
}

#[tokio::test]
async fn instructions_of_the_repository_are_marked_as_such() {
    let ran = Rig::new()
        .files(&[("AGENTS.md", "say moo"), ("CLAUDE.md", "say oink")])
        .model(script![answer("ok")])
        .prompt("x")
        .run()
        .await
        .assert_finished("ok");
    let asked = ran.backend.model_requests()[0].json()["input"].to_string();
    for said in ["AGENTS.md", "say moo", "CLAUDE.md", "say oink", "repository"] {
        assert!(asked.contains(said), "{said}: {asked}");
    }
}

#[tokio::test]
async fn a_patch_in_both_its_forms() {
    let text = "*** Begin Patch\n*** Update File: a\n@@\n-one\n+two\n*** End Patch\n";
    for (model, step) in
        [("gpt-5.5", patch(text)), (PLAIN, call("apply_patch", json!({"input": text})))]
    {
        let script = script![step, call("read_file", json!({"path": "a"})), answer("ok")];
        let rig = Rig::new().files(&[("a", "one\n")]).flags(&["-m", model]).model(script);
        let ran = rig.prompt("x").run().await.assert_finished("ok");
        assert!(ran.outputs()[1].contains("two"), "{model}: {:#?}", ran.outputs());
    }
}

#[tokio::test]
async fn an_empty_image_has_no_shell_and_the_other_tools_work() {
    let ran = Rig::new()
        .image(EMPTY)
        .files(&[("a", "one\n")])
        .model(script![
            call("bash", json!({"command": "ls"})),
            call("read_file", json!({"path": "a"})),
            call("write_file", json!({"path": "b", "content": "x\n"})),
            call("list_files", json!({})),
            answer("ok"),
        ])
        .prompt("x")
        .run()
        .await
        .assert_finished("ok")
        .assert_nothing_left_behind()
        .await;
    let outputs = ran.outputs();
    assert!(outputs[0].contains("shell") || outputs[0].contains("bash"), "{outputs:#?}");
    assert!(outputs[1].contains("one") && outputs[3].contains('b'), "{outputs:#?}");
}

/// What the model sends and we do not know comes back as it was, and does no harm.
#[tokio::test]
async fn an_item_nobody_knows_is_passed_over() {
    let unknown = raw(json!({"type": "unheard_of", "id": "uh_1", "x": 1})).text("still here");
    let ran = Rig::new().model(script![unknown]).prompt("x").run().await;
    drop(ran.assert_finished("still here"));
}
