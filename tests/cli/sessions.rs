//! Commands on sessions that are over: list, show, diff, apply, discard, by any prefix of their id
//! that only they have.

use airlock_tests::backend::{answer, call, script};
use airlock_tests::{Rig, tree};
use serde_json::{Value, json};

use super::{run_cli, succeed, unwrapped};

#[tokio::test]
async fn a_session_is_listed_shown_compared_and_applied() {
    let rig = Rig::new().files(&[("edit", "old\nkept\n"), ("gone", "x\n")]);
    let none = run_cli(&rig, &["sessions"]).await;
    assert_eq!((none.exit, none.stdout.as_str()), (Some(0), "no sessions yet\n"));
    let command = "printf 'new\\nkept\\n' > edit; rm gone; mkdir d; echo made > d/f";
    let ran = rig.model(script![call("bash", json!({"command": command})), answer("done")]);
    let ran = ran.prompt("tidy up").run().await.assert_finished("done");
    let id = ran.id();
    assert_eq!(id.len(), 36);

    let table = succeed(&ran, &["sessions"]).await;
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows[0].starts_with("ID    OUTCOME"), "{table}");
    assert!(rows[1].starts_with(&format!("{}  finished", &id[..4])), "{table}");
    assert!(rows[1].ends_with("tidy up"), "{table}");
    let listed: Value =
        serde_json::from_str(&succeed(&ran, &["sessions", "--json"]).await).expect("JSON");
    assert_eq!((&listed["v"], &listed["session"]), (&json!(1), &json!(id)));

    let shown = succeed(&ran, &["show", &id]).await;
    for part in [
        &format!("session    {id}"),
        "outcome    finished · exit 0",
        "prompt     tidy up",
        "login      key",
        "network none",
        "\ndone\n",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let record: Value =
        serde_json::from_str(&succeed(&ran, &["show", &id, "--json"]).await).expect("JSON");
    assert_eq!((&record["answer"], &record["exit"]), (&json!("done"), &json!(0)));
    assert_eq!(record["changes_are"], "kept");

    let diff = succeed(&ran, &["diff", &id[..4]]).await;
    for line in ["-old", "+new", " kept", "+made", "-x"] {
        assert!(diff.lines().any(|found| found == line), "{line}: {diff}");
    }
    let stat = succeed(&ran, &["diff", &id, "--stat"]).await;
    for path in ["d/f", "edit", "gone"] {
        assert!(stat.contains(path), "{path}: {stat}");
    }
    assert!(!stat.contains("made"), "{stat}");

    let applied = run_cli(&ran.rig, &["apply", &id]).await;
    assert_eq!(applied.exit, Some(0), "{applied:?}");
    assert!(applied.stderr.starts_with("applied    "), "{applied:?}");
    assert!(
        applied.stderr.contains("changed in ~/workspace; edited ones keep their mode"),
        "{applied:?}"
    );
    let text = std::fs::read_to_string(ran.rig.workspace().join("edit")).unwrap_or_default();
    assert_eq!(text, "new\nkept\n");
    let diff_now = run_cli(&ran.rig, &["diff", &id]).await;
    let expected =
        "nothing    to show: its changes are already applied, and are in your directory\n";
    assert_eq!((diff_now.exit, &*diff_now.stdout, &*diff_now.stderr), (Some(0), "", expected));
    for name in ["apply", "discard"] {
        let again = run_cli(&ran.rig, &[name, &id]).await;
        let expected = format!(
            "nothing to {name}: its changes are already applied, and are in your directory\n\
             airlock show {}\n",
            &id[..4]
        );
        assert_eq!((again.exit, again.stderr), (Some(1), expected));
    }
    let shown = succeed(&ran, &["show", &id]).await;
    assert!(shown.contains("d/f ") && shown.contains("applied: they are in your"), "{shown}");
}

/// After an apply, `discard` deletes only what was held; what was applied stays.
#[tokio::test]
async fn after_an_apply_only_what_was_held_is_discarded() {
    let command = json!({"command": "echo x > f; mkdir .vscode; echo '{}' > .vscode/tasks.json"});
    let ran = Rig::new().model(script![call("bash", command), answer("done")]).prompt("x");
    let ran = ran.run().await.assert_finished("done");
    let id = ran.id();
    succeed(&ran, &["apply", &id]).await;
    let stat = succeed(&ran, &["diff", &id, "--stat"]).await;
    assert!(stat.contains("more held by apply"), "{stat}");
    let discarded = unwrapped(&succeed(&ran, &["discard", &id]).await);
    assert!(discarded.contains("that apply held of session"), "{discarded}");
    assert!(discarded.ends_with("what was applied stays in your directory"), "{discarded}");
    assert!(ran.rig.workspace().join("f").exists());
    let record: Value =
        serde_json::from_str(&succeed(&ran, &["show", &id, "--json"]).await).expect("JSON");
    assert_eq!(record["changes_are"], "applied");
    let again = run_cli(&ran.rig, &["discard", &id]).await;
    assert!(
        again.stderr.starts_with("nothing to discard: its changes are already applied"),
        "{again:?}"
    );
}

#[tokio::test]
async fn discarded_changes_are_deleted_and_the_record_stays() {
    let command = json!({"command": "echo x > f"});
    let ran = Rig::new().model(script![call("bash", command), answer("done")]).prompt("x");
    let ran = ran.run().await.assert_finished("done");
    let id = ran.id();
    let short = &id[..4];
    let discarded = run_cli(&ran.rig, &["discard", short]).await;
    let expected = format!(
        "discarded  1 changed file of session {short}; its record stays: airlock show {short}\n"
    );
    assert_eq!((discarded.exit, discarded.stderr), (Some(0), expected));
    for name in ["apply", "discard"] {
        let again = run_cli(&ran.rig, &[name, short]).await;
        let expected =
            format!("nothing to {name}: its changes were discarded\nairlock show {short}\n");
        assert_eq!((again.exit, again.stderr), (Some(1), expected));
    }
    let diff = run_cli(&ran.rig, &["diff", short]).await;
    let expected = "nothing    to show: its changes were discarded\n";
    assert_eq!((diff.exit, &*diff.stdout, &*diff.stderr), (Some(0), "", expected));
    let content = run_cli(&ran.rig, &["diff", short, "--content", "f"]).await;
    let expected = format!("no content: f: its changes were discarded\nairlock show {short}\n");
    assert_eq!((content.exit, content.stderr), (Some(1), expected));
    assert!(!ran.rig.workspace().join("f").exists());
    assert!(succeed(&ran, &["show", short]).await.contains("changes    discarded"));
}

#[tokio::test]
async fn an_agent_that_changed_nothing_has_nothing_to_apply() {
    let ran = Rig::new().model(script![answer("done")]).prompt("x").run().await;
    let ran = ran.assert_finished("done");
    let id = ran.id();
    for name in ["apply", "discard"] {
        let none = run_cli(&ran.rig, &[name, &id]).await;
        let expected =
            format!("nothing to {name}: it changed nothing\nairlock show {}\n", &id[..4]);
        assert_eq!((none.exit, none.stderr), (Some(1), expected));
    }
}

#[tokio::test]
async fn a_conflict_is_shown_and_nothing_is_written() {
    let rig = Rig::new().files(&[("a", "old\n"), ("b", "old\n")]);
    let command = json!({"command": "echo sandbox > a; echo sandbox > b"});
    let ran = rig.model(script![call("bash", command), answer("done")]).prompt("x");
    let ran = ran.run().await.assert_finished("done");
    tree::write(ran.rig.workspace(), &[("a", "person\n")]);
    let id = ran.id();
    let apply = run_cli(&ran.rig, &["apply", &id]).await;
    assert_eq!(apply.exit, Some(1), "{apply:?}");
    let lines: Vec<&str> = apply.stderr.lines().collect();
    assert!(lines[0].starts_with("conflict   a ("), "{apply:?}");
    let next = format!("nothing    was written to ~/workspace: airlock diff {}", &id[..4]);
    assert_eq!(lines[1..], [next]);
    assert_eq!(std::fs::read_to_string(ran.rig.workspace().join("b")).unwrap_or_default(), "old\n");
}

/// Two sessions whose ids begin with the same digits.
#[tokio::test]
async fn a_prefix_names_one_session_or_none() {
    let rig = Rig::new();
    let ran = rig.model(script![answer("ok")]).prompt("x").run().await.assert_finished("ok");
    let id = ran.id();
    let sessions = ran.rig.home().join("state/airlock/sessions");
    let other = if &id[5..8] == "000" { "111" } else { "000" };
    let twin = format!("{}{other}{}", &id[..5], &id[8..]);
    copy(&sessions.join(&id), &sessions.join(&twin));
    let at = (5..8).find(|at| id.as_bytes()[*at] != twin.as_bytes()[*at]).expect("they differ");

    let common = run_cli(&ran.rig, &["show", &id[..at]]).await;
    assert_eq!(common.exit, Some(2), "{common:?}");
    assert!(common.stderr.starts_with("which session: "), "{common:?}");
    assert!(common.stderr.contains(&id) || common.stderr.contains(&twin), "{common:?}");
    for own in [&id[..=at], &id, &id.to_uppercase(), &id.replace('-', "")] {
        let shown = run_cli(&ran.rig, &["show", own]).await;
        assert!(shown.stdout.starts_with(&format!("session    {id}\n")), "{own}: {shown:?}");
    }
    let unknown = if id.starts_with("ffff") { "eeee" } else { "ffff" };
    let none = run_cli(&ran.rig, &["show", unknown]).await;
    let expected =
        format!("which session: no session's id begins with {unknown}\nairlock sessions\n");
    assert_eq!((none.exit, none.stderr), (Some(2), expected));
    for wrong in ["abc", "zzzz", "../../etc", &"a".repeat(33)] {
        assert_eq!(run_cli(&ran.rig, &["show", wrong]).await.exit, Some(2), "{wrong}");
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a session's directory").flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
        }
    }
}
