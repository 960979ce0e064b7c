//! `apply` killed on its way: each file is whole, old or new, and the next apply finishes.

use std::path::Path;

use airlock_tests::backend::{answer, call, script};
use airlock_tests::rig::{PATIENCE, Ran};
use airlock_tests::{Rig, clock, tree};
use serde_json::json;
use tokio::process::Command;

const FILES: usize = 400;
/// Whether a kill comes in the middle is the scheduler's choice: it is tried anew until it did.
const KILLS: usize = 200;

/// Changes each file, moves a folder, makes a link.
async fn changed() -> Ran {
    let rig = Rig::new().files(&[("d/e/f", "moved\n")]);
    for n in 0..FILES {
        tree::write(rig.workspace(), &[(&format!("many/{n}"), "old\n")]);
    }
    let command = "for f in many/*; do echo sandbox $f > $f; done; mv d g; ln -s many/1 link";
    let ran = rig.model(script![call("bash", json!({"command": command})), answer("done")]);
    ran.prompt("x").run().await.assert_finished("done")
}

/// The run and its directory as they were before any apply.
struct Before {
    kept: tempfile::TempDir,
}

impl Before {
    async fn of(ran: &Ran) -> Self {
        let before = Self { kept: tempfile::tempdir().expect("a temporary folder can be made") };
        for folder in [ran.rig.workspace(), &ran.rig.home().join("state")] {
            copy(folder, &before.copy_of(folder)).await;
        }
        before
    }

    fn copy_of(&self, folder: &Path) -> std::path::PathBuf {
        self.kept.path().join(folder.file_name().expect("a name"))
    }

    async fn again(&self, ran: &Ran) {
        for folder in [ran.rig.workspace(), &ran.rig.home().join("state")] {
            std::fs::remove_dir_all(folder).expect("a folder of the test's");
            copy(&self.copy_of(folder), folder).await;
        }
    }
}

async fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().await;
    assert!(copied.expect("cp is everywhere").success());
}

fn text(ran: &Ran, path: &str) -> String {
    std::fs::read_to_string(ran.rig.workspace().join(path)).unwrap_or_default()
}

/// Kills an apply as soon as one of its files is the new one; how many are by then.
async fn killed_at(ran: &Ran, file: usize) -> usize {
    let new = |n: usize| format!("sandbox many/{n}\n");
    let mut command = ran.rig.command("apply").await;
    let mut child = command.arg(ran.id()).kill_on_drop(true).spawn().expect("airlock");
    let deadline = clock::now() + PATIENCE;
    // Without a pause: what is to be hit lasts for milliseconds.
    while text(ran, &format!("many/{file}")) == "old\n" {
        assert!(clock::now() < deadline, "apply does not get as far as many/{file}");
    }
    child.kill().await.expect("a child of ours");
    let now: Vec<String> = (0..FILES).map(|n| text(ran, &format!("many/{n}"))).collect();
    let is_whole = |(n, it): (usize, &String)| *it == "old\n" || *it == new(n);
    assert!(now.iter().enumerate().all(is_whole), "a file in part: {now:#?}");
    now.iter().enumerate().filter(|(n, it)| **it == new(*n)).count()
}

#[tokio::test]
async fn an_apply_that_was_killed_is_finished_by_the_next() {
    let ran = changed().await;
    let before = Before::of(&ran).await;
    for file in [0, FILES / 4, 8] {
        let mut count = FILES;
        for _ in 0..KILLS {
            before.again(&ran).await;
            count = killed_at(&ran, file).await;
            if count < FILES {
                break;
            }
        }
        assert!(count < FILES, "no kill came in the middle: nothing was tried");

        let applied = ran.airlock("apply", &[]).await;
        assert_eq!(applied.exit, Some(0), "after {count} files: {applied:#?}");
        for n in 0..FILES {
            let new = format!("sandbox many/{n}\n");
            assert_eq!(text(&ran, &format!("many/{n}")), new, "after {count}: {applied:#?}");
        }
        let after = tree::read(ran.rig.workspace());
        assert_eq!(text(&ran, "g/e/f"), "moved\n");
        assert!(!after.contains_key(Path::new("d")));
        assert_eq!(after.len(), FILES + 5, "something of apply's own is left: {applied:#?}");
        assert_eq!(ran.record().await["changes_are"], "applied");
    }
}
