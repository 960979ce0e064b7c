//! Applying: the whole, the conflicts, the traps, and a kill at every step.

mod left_out; // what the agent never got
mod links; // trees of links at random
mod modes; // modes, owners, hard links
mod open; // what a program writes into a file it had open before
mod named_in_git; // what the person's git runs
mod resume; // what happens between a kill and the next apply
mod saved; // what a person saves while an apply goes on

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;

use super::*;
use crate::workspace::change::HeldReason;
use crate::workspace::trial::{ApplyFixture, TarBytes, chmod, tree};

async fn taken(trial: &ApplyFixture, stream: TarBytes) {
    trial.take(stream.end()).await.unwrap();
}

fn names(paths: &[RelPath]) -> Vec<String> {
    paths.iter().map(ToString::to_string).collect()
}

fn conflicts(trial: &ApplyFixture) -> Vec<(String, FoundInstead)> {
    let before = tree(&trial.root);
    let error = apply(&trial.session).unwrap_err();
    assert_eq!(tree(&trial.root), before);
    match error {
        ApplyError::Conflicts(all) => {
            all.into_iter().map(|it| (it.path.to_string(), it.found)).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// Edits, modes, kinds and folders, each in both directions.
async fn everything() -> (ApplyFixture, BTreeMap<String, String>) {
    let trial = ApplyFixture::new(&[
        "edit = 1",
        "mode = 1",
        "gone/a/b",
        "gone/c",
        "to_file/x",
        "to_folder = x",
        "link -> edit",
        "to_link = x",
        "same = 1",
        "kept/.env = secret",
        "kept/x",
    ]);
    let stream = TarBytes::default()
        .file("edit", "2")
        .entry(tar::EntryType::Regular, "tree/mode", "", 0o755, b"1")
        .gone("gone")
        .gone("kept")
        .file("to_file", "now a file")
        .folder("to_folder")
        .file("to_folder/x", "y")
        .link("link", "same")
        .link("to_link", "same")
        .entry(tar::EntryType::Directory, "tree/closed", "", 0o555, b"")
        .file("closed/x", "z")
        .file("same", "1");
    taken(&trial, stream).await;
    let expected = [
        ("edit", "644 2"),
        ("mode", "755 1"),
        ("to_file", "644 now a file"),
        ("to_folder", "755/"),
        ("to_folder/x", "644 y"),
        ("link", "-> same"),
        ("to_link", "-> same"),
        ("closed", "755/"),
        ("closed/x", "644 z"),
        ("same", "644 1"),
        ("kept", "755/"),
        ("kept/.env", "644 secret"),
    ];
    let expected = expected.map(|(path, text)| (path.to_owned(), text.to_owned()));
    (trial, BTreeMap::from(expected))
}

#[tokio::test]
async fn what_was_made_in_the_sandbox_is_what_is_applied() {
    let (trial, expected) = everything().await;
    let untouched = std::fs::metadata(trial.root.join("same")).unwrap();
    let applied = apply(&trial.session).unwrap();
    assert_eq!(tree(&trial.root), expected);
    assert_eq!(names(&applied.stayed), ["kept"]);
    assert!(!applied.finished && applied.left.is_empty() && applied.held.is_empty());
    let now = std::fs::metadata(trial.root.join("same")).unwrap();
    assert_eq!((now.ino(), now.ctime_nsec()), (untouched.ino(), untouched.ctime_nsec()));
    assert!(matches!(apply(&trial.session), Err(ApplyError::AlreadyApplied)));
    assert_eq!(std::fs::read_dir(trial.session.path()).unwrap().count(), 3);
}

#[tokio::test]
async fn an_apply_that_was_killed_at_any_step_is_finished() {
    let (mut killed, mut finished) = (0, false);
    while !finished {
        let (trial, expected) = everything().await;
        let before = tree(&trial.root);
        let mut count = 0;
        let result = catch_unwind(AssertUnwindSafe(|| {
            apply_watched(&trial.session, &mut |_| {
                assert!(count != killed, "killed");
                count += 1;
            })
        }));
        finished = result.is_ok();
        if !finished && store::read_journal::<ApplyJournal>(trial.session.path()).unwrap().is_none()
        {
            let mut now = tree(&trial.root);
            now.retain(|path, _| !path.starts_with(crate::workspace::walk::STAGING));
            assert_eq!(now, before, "killed at {killed}");
        }
        if !finished {
            let applied = apply(&trial.session).unwrap();
            assert!(applied.left.is_empty(), "killed at {killed}: {:?}", applied.left);
        }
        assert_eq!(tree(&trial.root), expected, "killed at {killed}");
        assert!(store::read_journal::<ApplyJournal>(trial.session.path()).unwrap().is_none());
        assert!(matches!(apply(&trial.session), Err(ApplyError::AlreadyApplied)));
        killed += 1;
    }
    assert!(killed > 25, "{killed}");
}

#[tokio::test]
async fn what_changed_here_meanwhile_is_a_conflict_and_nothing_is_written() {
    let trial = ApplyFixture::new(&[
        "edit = 1",
        "mode = 1",
        "gone = 1",
        "was = 1",
        "touched = 1",
        "d/x",
        "full/x",
        "went/x",
    ]);
    let stream = TarBytes::default()
        .file("edit", "sandbox")
        .file("mode", "sandbox")
        .gone("gone")
        .file("was", "sandbox")
        .file("touched", "sandbox")
        .file("new", "sandbox")
        .file("agreed", "both")
        .file("d/new", "sandbox")
        .file("full", "now a file")
        .file("went/new", "sandbox");
    taken(&trial, stream).await;
    trial.put("edit = 2");
    chmod(&trial.root.join("mode"), 0o600);
    trial.put("gone = 2");
    std::fs::remove_file(trial.root.join("was")).unwrap();
    trial.put("touched = 1");
    trial.put("new = host");
    trial.put("agreed = both");
    std::fs::rename(trial.root.join("d"), trial.root.join("elsewhere")).unwrap();
    symlink("elsewhere", trial.root.join("d")).unwrap();
    trial.put("full/mine = host");
    std::fs::remove_dir_all(trial.root.join("went")).unwrap();
    let expected = [
        ("d/new", FoundInstead::Folder),
        ("edit", FoundInstead::Different),
        ("full", FoundInstead::NotEmpty),
        ("gone", FoundInstead::Different),
        ("mode", FoundInstead::Mode),
        ("new", FoundInstead::Here),
        ("was", FoundInstead::Gone),
        ("went/new", FoundInstead::Folder),
    ];
    assert_eq!(conflicts(&trial), expected.map(|(path, found)| (path.to_owned(), found)));
    assert!(!trial.root.join(format!(".airlock-apply-{}", trial.session.id())).exists());
}

/// The repository of the attacks: each part ends as written.
#[tokio::test]
async fn a_repository_full_of_traps_does_no_harm() {
    let trial = ApplyFixture::new(&[
        "docs -> /root/.aws",
        "abs -> /etc/passwd",
        "sub/.git/config = [core]",
        "pad.js = 1",
    ]);
    let fifo = trial.root.join("fifo");
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, rustix::fs::Mode::RWXU, 0).unwrap();
    let before = tree(&trial.root);
    let stream = TarBytes::default()
        .file("pad.js", "2")
        .folder(".GIT")
        .file(".GIT/config", "[core] fsmonitor = x")
        .file("sub/.git/config", "[core] fsmonitor = x")
        .file("sub/.git/hooks/post-checkout", "x")
        .link("evil", "/etc/shadow")
        .link("through", "docs/credentials")
        .file(".envrc", "x")
        .file(".vscode/tasks.json", "{}")
        .entry(tar::EntryType::Fifo, "tree/pipe", "", 0o644, b"");
    taken(&trial, stream).await;
    let applied = apply(&trial.session).unwrap();
    let (by_itself, held): (Vec<_>, Vec<_>) = applied
        .held
        .iter()
        .map(|it| (it.path.to_string(), it.held.clone().unwrap()))
        .partition(|(_, held)| matches!(held, HeldReason::RunsByItself { .. }));
    let by_itself: Vec<_> = by_itself.into_iter().map(|(path, _)| path).collect();
    assert_eq!(by_itself, [".vscode", ".vscode/tasks.json"]);
    let expected = [
        (".GIT", HeldReason::Git),
        (".GIT/config", HeldReason::Git),
        ("evil", HeldReason::LinkOutside),
        ("pipe", HeldReason::Special),
        ("sub/.git/config", HeldReason::Git),
        ("sub/.git/hooks", HeldReason::Git),
        ("sub/.git/hooks/post-checkout", HeldReason::Git),
        ("through", HeldReason::LinkOutside),
    ];
    assert_eq!(held, expected.map(|(path, held)| (path.to_owned(), held)));
    let named: Vec<_> = applied.run_by_themselves.iter().map(|it| it.path.to_string()).collect();
    assert_eq!(named, [".envrc"]);
    let mut after = before;
    after.insert("pad.js".to_owned(), "644 2".to_owned());
    after.insert(".envrc".to_owned(), "644 x".to_owned());
    assert_eq!(tree(&trial.root), after);
}

#[tokio::test]
async fn a_link_through_one_that_was_left_out_is_held() {
    let trial = ApplyFixture::new(&["docs -> /etc", "objects/x", "refs/x", "d/x"]);
    let (_, copied, workspace) = trial.copy_with(&[], &["docs", "objects"], 1 << 20).await;
    copied.unwrap();
    let stream = TarBytes::default()
        .folder("n")
        .link("n/l", "../docs/passwd")
        .file("HEAD", "x")
        .link("in", "d/x");
    workspace.take_changes(crate::workspace::trial::body(stream.end())).await.unwrap();
    let applied = apply(&trial.session).unwrap();
    // All of it lies in what is a repository once HEAD is there; the link was held before.
    let link = applied.held.iter().position(|it| it.held == Some(HeldReason::LinkOutside));
    let held = applied.held.iter().filter(|it| it.held == Some(HeldReason::Repository));
    assert_eq!(
        (link.map(|at| applied.held[at].path.to_string()), held.count()),
        (Some("n/l".to_owned()), 3)
    );

    let trial = ApplyFixture::new(&["docs -> /etc", "d/x"]);
    let (_, copied, workspace) = trial.copy_with(&[], &["docs"], 1 << 20).await;
    copied.unwrap();
    let stream = TarBytes::default().folder("n").link("n/l", "../docs/passwd").link("in", "d/x");
    workspace.take_changes(crate::workspace::trial::body(stream.end())).await.unwrap();
    let applied = apply(&trial.session).unwrap();
    let held: Vec<_> = applied.held.iter().map(|it| it.path.to_string()).collect();
    assert_eq!(held, ["n/l"]);
    assert_eq!(names(&applied.done), ["in", "n"]);
}

#[tokio::test]
async fn a_session_is_applied_by_one_and_discarded_once() {
    let trial = ApplyFixture::new(&["a = 1"]);
    assert!(matches!(apply(&trial.session), Err(ApplyError::NoChanges)));
    taken(&trial, TarBytes::default().file("a", "2")).await;
    let other =
        SessionFolder::found(trial.session.id().to_owned(), trial.session.path().to_owned());
    assert!(matches!(apply(&other), Err(ApplyError::Busy)));
    assert!(matches!(discard(&other), Err(ApplyError::Busy)));
    discard(&trial.session).unwrap();
    assert!(matches!(discard(&trial.session), Err(ApplyError::NoChanges)));
    assert!(matches!(apply(&trial.session), Err(ApplyError::NoChanges)));
    assert_eq!(tree(&trial.root)["a"], "644 1");
}

#[tokio::test]
async fn hard_links_of_one_file_are_both_applied() {
    let trial = ApplyFixture::new(&["a = 1"]);
    std::fs::hard_link(trial.root.join("a"), trial.root.join("b")).unwrap();
    taken(&trial, TarBytes::default().file("a", "2").file("b", "3").file("a2", "")).await;
    assert!(apply(&trial.session).unwrap().left.is_empty());
    let now = tree(&trial.root);
    assert_eq!(
        (now["a"].as_str(), now["b"].as_str(), now["a2"].as_str()),
        ("644 2", "644 3", "644 ")
    );
}

/// A tree of a few names: none is a folder and a file at once.
fn trees() -> impl Strategy<Value = BTreeMap<String, Option<String>>> {
    let name = proptest::sample::select(vec!["a", "b", "c"]);
    let path = proptest::collection::vec(name, 1..4).prop_map(|names| names.join("/"));
    let content = proptest::option::of("[xy]{0,3}");
    proptest::collection::btree_map(path, content, 0..8).prop_map(|mut tree| {
        for path in tree.keys().cloned().collect::<Vec<_>>() {
            for (at, _) in path.match_indices('/') {
                tree.insert(path[..at].to_owned(), None);
            }
        }
        tree
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn applying_the_changes_between_two_trees_makes_one_of_the_other(from in trees(), to in trees()) {
        let line = |(path, content): (&String, &Option<String>)| match content {
            Some(content) => format!("{path} = {content}"),
            None => format!("{path}/"),
        };
        let trial = ApplyFixture::new(&[]);
        from.iter().for_each(|entry| trial.put(&line(entry)));
        let wanted = ApplyFixture::new(&[]);
        to.iter().for_each(|entry| wanted.put(&line(entry)));
        let mut stream = TarBytes::default();
        for (path, content) in to.iter().filter(|(path, content)| from.get(*path) != Some(*content)) {
            stream = match content {
                Some(content) => stream.file(path, content),
                None => stream.folder(path),
            };
        }
        for path in from.keys().filter(|path| !to.contains_key(*path)) {
            stream = stream.gone(path);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(taken(&trial, stream));
        match apply(&trial.session) {
            Err(ApplyError::NoChanges) => prop_assert_eq!(&from, &to),
            applied => drop(applied.unwrap()),
        }
        prop_assert_eq!(tree(&trial.root), tree(&wanted.root));
    }
}
