//! `apply` killed on its way: each file is whole, old or new, and the next apply finishes.

use std::time::Duration;

use airlock_tests::backend::{answer, call, script};
use airlock_tests::rig::Ran;
use airlock_tests::{Rig, clock, tree};
use serde_json::json;

const FILES: usize = 400;

/// Changes each file, moves a folder, makes a link.
async fn changed() -> Ran {
    let rig = Rig::new().files(&[("d/e/f", "moved\n")]);
    for n in 0..FILES {
        tree::write(rig.workspace(), &[(&format!("many/{n}"), "old\n")]);
    }
    let command = "for f in many/*; do echo box $f > $f; done; mv d g; ln -s many/1 link";
    let ran = rig.model(script![call("bash", json!({"command": command})), answer("done")]);
    ran.prompt("x").run().await.assert_finished("done")
}

fn text(ran: &Ran, path: &str) -> String {
    std::fs::read_to_string(ran.rig.workspace().join(path)).unwrap_or_default()
}

/// Kills an apply as soon as one of its files is the new one.
async fn killed_at(ran: &Ran, file: usize) {
    let mut command = ran.rig.command("apply").await;
    let mut child = command.arg(ran.id()).kill_on_drop(true).spawn().expect("airlock");
    let deadline = clock::now() + Duration::from_secs(60);
    // Without a pause: what is to be hit lasts for milliseconds.
    while text(ran, &format!("many/{file}")) == "old\n" {
        assert!(clock::now() < deadline, "apply does not get as far as many/{file}");
    }
    child.kill().await.expect("a child of ours");
}

#[tokio::test]
async fn an_apply_that_was_killed_is_finished_by_the_next() {
    let new = |n: usize| format!("box many/{n}\n");
    let mut in_part = 0;
    for file in [0, FILES / 4, 8] {
        let ran = changed().await;
        killed_at(&ran, file).await;
        let now: Vec<String> = (0..FILES).map(|n| text(&ran, &format!("many/{n}"))).collect();
        let is_new: Vec<bool> = now.iter().enumerate().map(|(n, it)| *it == new(n)).collect();
        let is_whole = |(n, it): (usize, &String)| *it == "old\n" || *it == new(n);
        assert!(now.iter().enumerate().all(is_whole), "a file in part: {now:#?}");
        let count = is_new.iter().filter(|new| **new).count();
        in_part += usize::from(count < FILES);

        let applied = ran.airlock("apply", &[]).await;
        let is_done = applied.exit == Some(0) || applied.stderr.contains("already");
        assert!(is_done, "after {count} files: {applied:#?}");
        for n in 0..FILES {
            assert_eq!(text(&ran, &format!("many/{n}")), new(n), "after {count}: {applied:#?}");
        }
        let after = tree::read(ran.rig.workspace());
        assert_eq!(text(&ran, "g/e/f"), "moved\n");
        assert!(!after.contains_key(std::path::Path::new("d")));
        assert_eq!(after.len(), FILES + 5, "something of apply's own is left: {applied:#?}");
        assert_eq!(ran.record().await["changes_are"], "applied");
    }
    assert!(in_part > 0, "no kill came in the middle: nothing was tried");
}
