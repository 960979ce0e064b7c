//! What can happen between a kill and the next apply: missing staged contents, edits, folders
//! without write permission. Each apply can be continued or given up, and the report is what is on
//! the disk.

use std::collections::BTreeSet;
use std::os::unix::fs::lchown;
use std::path::PathBuf;

use super::*;
use crate::workspace::apply::obstacle::Obstruction;
use crate::workspace::trial::{OTHER_UID, as_another_user};

/// Applies up to a step; true: it was killed there.
fn killed_at(trial: &ApplyFixture, step: usize) -> bool {
    let mut count = 0;
    let result = catch_unwind(AssertUnwindSafe(|| {
        apply_watched(&trial.session, &mut |_| {
            assert!(count != step, "killed");
            count += 1;
        })
    }));
    result.is_err()
}

fn staging(trial: &ApplyFixture) -> PathBuf {
    trial.root.join(format!(".airlock-apply-{}", trial.session.id()))
}

fn is_begun(trial: &ApplyFixture) -> bool {
    store::read_journal::<ApplyJournal>(trial.session.path()).unwrap().is_some()
}

#[tokio::test]
async fn contents_that_are_staged_no_more_are_written_again() {
    let mut rewritten = 0;
    for step in 0.. {
        let (trial, expected) = everything().await;
        if !killed_at(&trial, step) {
            break;
        }
        // What `git clean -fdx` takes: the staging folder, and a folder that was put in.
        let _before_it_was_made = std::fs::remove_dir_all(staging(&trial));
        if is_begun(&trial) && !store::is_applied(trial.session.path()) {
            let _before_it_was_made = std::fs::remove_dir_all(trial.root.join("closed"));
            rewritten += 1;
        }
        let applied = apply(&trial.session).unwrap();
        assert_eq!(applied.left, [], "killed at {step}");
        assert_eq!(tree(&trial.root), expected, "killed at {step}");
        assert!(matches!(apply(&trial.session), Err(ApplyError::AlreadyApplied)));
    }
    assert!(rewritten > 15, "{rewritten}");
}

#[tokio::test]
async fn what_was_edited_since_is_named_and_not_called_applied() {
    let mut named = 0;
    for step in 0.. {
        let (trial, mut expected) = everything().await;
        if !killed_at(&trial, step) {
            break;
        }
        let was_marked = store::is_applied(trial.session.path());
        let was_begun = is_begun(&trial);
        trial.put("edit = person");
        if !was_begun {
            assert_eq!(conflicts_after(&trial), ["edit"], "killed at {step}");
            continue;
        }
        expected.insert("edit".to_owned(), "644 person".to_owned());
        let applied = apply(&trial.session).unwrap();
        assert_eq!(tree(&trial.root), expected, "killed at {step}");
        assert!(!staging(&trial).exists() && !is_begun(&trial));
        if was_marked {
            assert_eq!(applied.left, []);
            continue;
        }
        named += 1;
        let edit = RelPath::parse(b"edit").unwrap();
        let left = Skipped { path: edit.clone(), why: SkipReason::Changed };
        assert_eq!((applied.left, applied.done.contains(&edit)), (vec![left], false));
        assert!(!store::is_applied(trial.session.path()), "killed at {step}");
        // What is left is a conflict like any other, and can be given up.
        assert_eq!(conflicts_after(&trial), ["edit"], "killed at {step}");
        assert_eq!(discard(&trial.session).unwrap(), None);
        assert_eq!(tree(&trial.root), expected);
    }
    assert!(named > 15, "{named}");
}

fn conflicts_after(trial: &ApplyFixture) -> Vec<String> {
    conflicts(trial).into_iter().map(|(path, _)| path).collect()
}

/// A folder that anybody may close, with edits in it and beside it.
async fn beside() -> (ApplyFixture, BTreeMap<String, String>) {
    let trial = ApplyFixture::new(&["d/x = 1", "d/y = 1", "e = 1", "f = 1"]);
    let stream = TarBytes::default()
        .file("d/x", "2")
        .gone("d/y")
        .file("d/z", "2")
        .file("e", "2")
        .file("f", "2");
    taken(&trial, stream).await;
    trial.give_away();
    let expected =
        [("d", "755/"), ("d/x", "644 2"), ("d/z", "644 2"), ("e", "644 2"), ("f", "644 2")];
    (trial, BTreeMap::from(expected.map(|(path, text)| (path.to_owned(), text.to_owned()))))
}

#[tokio::test]
async fn a_folder_that_was_closed_since_is_named_and_the_rest_is_done() {
    let (mut stuck_once, mut given_up) = (0, 0);
    for step in 0.. {
        let (trial, expected) = beside().await;
        if !as_another_user(|| killed_at(&trial, step)) {
            break;
        }
        let was_begun = is_begun(&trial);
        let was_marked = store::is_applied(trial.session.path());
        chmod(&trial.root.join("d"), 0o555);
        let closed = as_another_user(|| apply(&trial.session));
        chmod(&trial.root.join("d"), 0o755);
        match closed {
            Err(ApplyError::Obstacles(found)) => {
                assert!(!was_begun, "killed at {step}");
                let path = RelPath::parse(b"d").unwrap();
                assert_eq!(found, [Obstacle { path, why: Obstruction::Closed }]);
            }
            Err(ApplyError::CutShort(stuck)) => {
                assert!(was_begun && !stuck.is_empty());
                assert!(stuck.iter().all(|it| it.path.to_string().starts_with("d/")), "{stuck:?}");
                assert!(is_begun(&trial) && !store::is_applied(trial.session.path()));
                let now = tree(&trial.root);
                assert_eq!((&now["e"], &now["f"]), (&expected["e"], &expected["f"]));
                stuck_once += 1;
                if step % 2 == 0 {
                    // Given up: what is done stays, and nothing of ours is left.
                    assert_eq!(
                        as_another_user(|| discard(&trial.session)).unwrap(),
                        Some(Vec::new())
                    );
                    assert!(!staging(&trial).exists() && !is_begun(&trial));
                    given_up += 1;
                    continue;
                }
            }
            Ok(applied) => assert!(applied.left.is_empty() && was_begun),
            Err(other) => panic!("{other:?}"),
        }
        if !was_marked && is_begun(&trial) || !was_begun {
            assert!(as_another_user(|| apply(&trial.session)).unwrap().left.is_empty());
        }
        assert_eq!(tree(&trial.root), expected, "killed at {step}");
        assert!(matches!(apply(&trial.session), Err(ApplyError::AlreadyApplied)));
    }
    assert!(stuck_once > 2 && given_up > 0, "{stuck_once} {given_up}");
}

#[tokio::test]
async fn every_step_is_checked_before_the_first() {
    let trial = ApplyFixture::new(&[
        "closed/x = 1",
        "closed/deep/x = 1",
        "a = 1",
        "run = 1",
        "sticky/x = 1",
    ]);
    let stream = TarBytes::default()
        .file("a", "2")
        .file("closed/new", "2")
        .gone("closed/deep")
        .entry(tar::EntryType::Regular, "tree/run", "", 0o755, b"1")
        .file("sticky/x", "2");
    taken(&trial, stream).await;
    trial.give_away();
    chmod(&trial.root.join("closed"), 0o555);
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        for others in ["run", "sticky", "sticky/x"] {
            lchown(trial.root.join(others), Some(0), Some(0)).unwrap();
        }
        chmod(&trial.root.join("sticky"), 0o1777);
    }
    let before = tree(&trial.root);
    let Err(ApplyError::Obstacles(found)) = as_another_user(|| apply(&trial.session)) else {
        panic!("nothing was in the way");
    };
    let found: Vec<_> = found.into_iter().map(|it| (it.path.to_string(), it.why)).collect();
    let mut expected = vec![("closed".to_owned(), Obstruction::Closed)];
    if is_root {
        expected.push(("run".to_owned(), Obstruction::NotOwner));
        expected.push(("sticky/x".to_owned(), Obstruction::Sticky));
    }
    assert_eq!(found, expected);
    assert_eq!(tree(&trial.root), before);
    chmod(&trial.root.join("closed"), 0o755);
    if is_root {
        // The control: who may do all of it does.
        assert!(apply(&trial.session).unwrap().left.is_empty());
        assert_eq!(tree(&trial.root)["sticky/x"], "644 2");
    }
}

#[tokio::test]
async fn a_staging_folder_of_another_user_is_not_used() {
    let trial = ApplyFixture::new(&["a = 1", "b = 1"]);
    taken(&trial, TarBytes::default().file("a", "2").file("b", "2")).await;
    // Both are staged, and the first is about to be put in.
    assert!(killed_at(&trial, 5) && is_begun(&trial));
    let theirs = staging(&trial);
    let numbers: BTreeSet<_> =
        std::fs::read_dir(&theirs).unwrap().map(|it| it.unwrap().file_name()).collect();
    for number in &numbers {
        std::fs::write(theirs.join(number), "evil").unwrap();
    }
    chmod(&theirs, 0o777);
    if rustix::process::geteuid().is_root() {
        lchown(&theirs, Some(OTHER_UID), Some(OTHER_UID)).unwrap();
    }
    assert!(matches!(apply(&trial.session), Err(ApplyError::CutShort(stuck)) if stuck.len() == 2));
    assert_eq!((&*tree(&trial.root)["a"], &*tree(&trial.root)["b"]), ("644 1", "644 1"));
    std::fs::remove_dir_all(&theirs).unwrap();
    assert!(apply(&trial.session).unwrap().left.is_empty());
    assert_eq!(tree(&trial.root)["a"], "644 2");
}

#[tokio::test]
async fn an_unreadable_journal_can_be_given_up() {
    let trial = ApplyFixture::new(&["a = 1"]);
    taken(&trial, TarBytes::default().file("a", "2")).await;
    std::fs::write(trial.session.path().join("apply.journal"), "{").unwrap();
    assert!(matches!(apply(&trial.session), Err(ApplyError::Store(_))));
    assert_eq!(discard(&trial.session).unwrap(), Some(Vec::new()));
    assert!(matches!(apply(&trial.session), Err(ApplyError::NoChanges)));
}
