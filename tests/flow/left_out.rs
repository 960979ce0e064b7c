//! What never enters a sandbox: our own state, and the file of the key that pays, whatever its name.

use airlock_tests::backend::{answer, call, script};
use airlock_tests::rig::Ran;
use airlock_tests::{Rig, tree};
use serde_json::{Value, json};

/// A login of ours and a record of an earlier run, as they lie in the state folder.
const STATE: [(&str, &str); 2] = [
    ("state/airlock/logins/me.json", "canary-refresh-token"),
    ("state/airlock/sessions/0123/events.jsonl", "canary-event"),
];
const LOOK: &str = "grep -rl -e canary -e sk- . ; ls -A state state/airlock; cat key; cat notes";

/// What was said, however it is wrapped.
fn said(ran: &Ran) -> String {
    ran.stderr.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn why(events: &[Value], why: &str) -> Value {
    let told = events.iter().find(|event| event["event"] == "workspace");
    told.map(|event| event["left_out_why"][why]["paths"].clone()).unwrap_or_default()
}

in_both_custodies! {
    /// The whole home is the directory: the state is in it, the key file, and second names of a
    /// login and of the install's id; and all of it was asked for.
    #[tokio::test]
    async fn our_state_and_the_key_file_are_left_out(rig: Rig) {
        let home = rig.home().to_owned();
        tree::write(&home, &STATE);
        std::fs::hard_link(home.join(STATE[0].0), home.join("notes")).expect("a second name");
        // The install's id, as the first command makes it.
        rig.command("sessions").await.output().await.expect("airlock can be started");
        std::fs::hard_link(home.join("state/airlock/install"), home.join("id")).expect("a name");
        let rig = rig.folder(&home).flags(&["--include", "**"]);
        let look = call("bash", json!({"command": LOOK}));
        let ran = rig.model(script![look, answer("done")]).prompt("x").run().await;
        let ran = ran.assert_finished("done").assert_nothing_left_behind().await;
        let seen = &ran.outputs()[0];
        assert!(!seen.contains("canary"), "{seen}");
        assert!(seen.contains("cat: can't open 'key'"), "{seen}");
        let events = ran.events();
        assert_eq!(why(&events, "own"), json!(["id", "state/airlock"]));
        assert_eq!(why(&events, "credential"), json!(["key", "notes"]));
    }
}

/// The control: what is in the same files under other names goes in, for no name says what it is.
#[tokio::test]
async fn a_stranger_with_the_same_content_goes_in() {
    let rig =
        Rig::new().files(&[("key", "sk-canary"), ("x/logins/me.json", "canary-refresh-token")]);
    let look = call("bash", json!({"command": "cat key x/logins/me.json"}));
    let ran = rig.model(script![look, answer("done")]).prompt("x").run().await;
    let ran = ran.assert_finished("done");
    assert!(ran.outputs()[0].contains("sk-canarycanary-refresh-token"), "{:#?}", ran.outputs());
}

#[tokio::test]
async fn a_directory_of_ours_is_refused_before_anything_is_begun() {
    let rig = Rig::new();
    tree::write(rig.home(), &STATE);
    let state = rig.home().join("state/airlock");
    for folder in [state.clone(), state.join("logins"), state.join("sessions/0123")] {
        let rig = rig.beside().folder(&folder).model(script![]);
        let ran = rig.prompt("x").run().await.assert_exit(1, "workspace: ");
        assert!(said(&ran).contains("where airlock keeps its own logins"), "{}", ran.stderr);
        assert!(ran.stderr.contains("airlock run -C DIR"), "{}", ran.stderr);
        let (events, last) = (ran.events(), ran.outcome());
        assert_eq!(
            (events.len(), &last["outcome"], &last["session"]),
            (1, &json!("failed"), &json!(""))
        );
        assert!(ran.backend.model_requests().is_empty());
    }
}

/// `--live` gives the directory itself, so nothing in it can be left out.
#[tokio::test]
async fn a_live_directory_with_something_private_in_it_is_refused() {
    let rig = Rig::new();
    let home = rig.home().to_owned();
    let live = rig.folder(&home).flags(&["--live"]).model(script![]);
    let ran = live.prompt("x").run().await.assert_exit(1, "workspace: ");
    assert!(said(&ran).contains("holds airlock's logins or records"), "{}", ran.stderr);
    assert!(ran.stderr.contains("leave out --live"), "{}", ran.stderr);
    let key = ran.rig.workspace().join("key");
    let live = ran.rig.beside().flags(&["--live"]).model(script![]);
    std::fs::hard_link(&key, live.workspace().join("key.txt")).expect("a second name");
    let ran = live.prompt("x").run().await.assert_exit(1, "workspace: ");
    assert!(said(&ran).contains("holds a login or key"), "{}", ran.stderr);
    assert!(ran.backend.model_requests().is_empty());
}

/// Commands read their environment: a variable that holds the key in use is refused, one that does
/// not is passed on (the control).
#[tokio::test]
async fn a_variable_with_the_key_in_use_is_refused() {
    let look = call("bash", json!({"command": "env | grep -c -e ^MYKEY=sk- -e ^OTHER="}));
    let rig = Rig::new().model(script![look, answer("done")]).prompt("x");
    let bearer = format!("Bearer {}", rig.key());
    let rig = rig.variable("MYKEY", &bearer).variable("OTHER", "sk-of-another-service-0123456789");
    let beside = rig.beside().variable("MYKEY", &bearer).flags(&["--env", "MYKEY"]).prompt("x");
    let refused = beside.run().await;
    let refused =
        refused.assert_exit(2, "--env MYKEY: its value has the key or token that is used");
    drop(refused.assert_nothing_left_behind().await);
    let ran = rig.flags(&["--env", "OTHER"]).run().await.assert_finished("done");
    assert!(ran.outputs()[0].contains("\n1\n"), "{:?}", ran.outputs());
}
