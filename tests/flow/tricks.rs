//! A repository that means harm, and a folder that changes meanwhile, through the whole command
//! line: what goes in, what `diff` shows, what `apply` writes.

use std::os::unix::fs::symlink;
use std::path::Path;

use airlock_tests::backend::{answer, call, script};
use airlock_tests::rig::Ran;
use airlock_tests::{Rig, tree};
use serde_json::json;

const SECRET: &str = "sk-not-for-the-sandbox";

/// `docs -> ~/.aws`, a fifo, a nested `.git/config`, a case-variant `.GIT`, an absolute link.
fn repository(rig: Rig) -> Rig {
    let rig = rig.files(&[
        ("plain", "same\n"),
        ("meanwhile", "old\n"),
        ("vendor/.git/config", "[core]\nfsmonitor = touch /tmp/pwned\n"),
        ("vendor/.git/HEAD", "ref: refs/heads/main\n"),
        ("other/.GIT/config", "[core]\nfsmonitor = touch /tmp/pwned\n"),
    ]);
    let aws = rig.home().join(".aws");
    tree::write(&aws, &[("credentials", SECRET)]);
    symlink(&aws, rig.workspace().join("docs")).expect("a link");
    symlink("/etc/hostname", rig.workspace().join("absolute")).expect("a link");
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    let fifo = rig.workspace().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0)
        .expect("a fifo");
    rig
}

const LOOK: &str = "find . -type p; ls -l docs absolute; cat docs/credentials; \
    cat vendor/.git/config other/.GIT/config; cat plain meanwhile";

/// Through every one of them something is written, and something harmless beside.
const WRITE: &str = "echo sandbox > meanwhile; echo fine > fine; \
    rm docs; mkdir docs; echo mine > docs/credentials; \
    ln -sfn /etc/shadow absolute; ln -s ../../etc out; ln -s plain inside; \
    echo '[core] fsmonitor = x' > vendor/.git/config; mkdir -p vendor/.git/hooks .Git/hooks; \
    echo x > vendor/.git/hooks/post-checkout; echo x > .Git/hooks/pre-commit; \
    mkdir -p other/.GIT; echo y > other/.GIT/config; \
    mkdir -p bare/objects bare/refs; echo 'ref: x' > bare/HEAD; echo z > bare/config; mkfifo pipe";

const HELD: [&str; 6] = [
    ".Git/hooks/pre-commit",
    "vendor/.git/hooks/post-checkout",
    "vendor/.git/config",
    "other/.GIT/config",
    "absolute",
    "out",
];

async fn ran(rig: Rig) -> Ran {
    let calls = [LOOK, WRITE].map(|command| call("bash", json!({"command": command})));
    let [look, write] = calls;
    let ran = repository(rig).model(script![look, write, answer("done")]).prompt("x").run().await;
    ran.assert_finished("done").assert_nothing_left_behind().await
}

in_both_custodies! {
    #[tokio::test]
    async fn each_trick_ends_as_written(rig: Rig) {
        let ran = ran(rig).await;
        let folder = ran.rig.workspace().to_owned();
        let before = tree::read(&folder);

        // In: links stay links and lead nowhere, the fifo and git's settings stayed at home.
        let seen = &ran.outputs()[0];
        let aws = ran.rig.home().join(".aws");
        assert!(seen.contains(&format!("docs -> {}", aws.display())), "{seen}");
        assert!(seen.contains("absolute -> /etc/hostname") && seen.contains("same\nold\n"), "{seen}");
        for hidden in [SECRET, "fsmonitor", "./fifo"] {
            assert!(!seen.contains(hidden), "{hidden} got in: {seen}");
        }

        // Out: diff shows what apply would write, diff --held the rest with its reasons.
        let (diff, held) = (ran.airlock("diff", &[]).await, ran.airlock("diff", &["--held"]).await);
        assert_eq!((diff.exit, held.exit), (Some(0), Some(0)), "{diff:#?}{held:#?}");
        for applied in ["fine", "meanwhile", "docs/credentials", "inside"] {
            assert!(diff.stdout.contains(applied), "{applied}: {diff:#?}");
        }
        for path in HELD {
            assert!(held.stdout.contains(path), "{path}: {held:#?}");
            assert!(!diff.stdout.contains(&format!("b/{path}\n")), "{path}: {diff:#?}");
        }

        // What changed meanwhile is a conflict, and then not one byte is written.
        tree::write(&folder, &[("meanwhile", "person\n")]);
        let changed = tree::read(&folder);
        let conflict = ran.airlock("apply", &[]).await;
        assert_eq!(conflict.exit, Some(1), "{conflict:#?}");
        assert!(conflict.stderr.contains("conflict   meanwhile (it changed here)"), "{conflict:#?}");
        assert!(conflict.stderr.contains("nothing    was written"), "{conflict:#?}");
        assert_eq!(tree::read(&folder), changed, "all or nothing");
        assert_eq!(ran.record().await["changes_are"], "kept");

        // Back as it was: content decides, and the rest is applied.
        tree::write(&folder, &[("meanwhile", "old\n")]);
        let applied = ran.airlock("apply", &[]).await;
        assert_eq!(applied.exit, Some(0), "{applied:#?}");
        assert!(applied.stderr.contains("held       "), "{applied:#?}");
        assert_eq!(ran.record().await["changes_are"], "applied");
        let after = tree::read(&folder);
        let what = |path: &str| after.get(Path::new(path)).map(|entry| entry.what.clone());
        let file = |content: &str| Some(tree::What::File(tree::sha256(content.as_bytes())));
        assert_eq!(what("meanwhile"), file("sandbox\n"));
        assert_eq!(what("fine"), file("fine\n"));
        assert_eq!(what("docs"), Some(tree::What::Folder), "the link was replaced, not followed");
        assert_eq!(what("docs/credentials"), file("mine\n"));
        assert_eq!(what("inside"), Some(tree::What::Link("plain".into())));
        let aws = std::fs::read_to_string(aws.join("credentials"));
        assert_eq!(aws.expect("a file of the test's"), SECRET, "the link was followed");
        for same in ["absolute", "fifo", "plain", "vendor/.git/config", "vendor/.git/HEAD", "other/.GIT/config"] {
            assert_eq!(after[Path::new(same)], before[Path::new(same)], "{same}");
        }
        let mut new: Vec<&str> = after.keys().filter(|path| !before.contains_key(*path)).filter_map(|path| path.to_str()).collect();
        new.sort_unstable();
        assert_eq!(new, ["docs/credentials", "fine", "inside"]);
    }
}

/// What stayed at home is not overwritten by what the sandbox put in its place.
#[tokio::test]
async fn what_was_not_copied_is_not_overwritten() {
    let rig = repository(Rig::new()).files(&[(".env", SECRET)]);
    let command = "echo sandbox > fifo; echo sandbox > .env";
    let ran = rig.model(script![call("bash", json!({"command": command})), answer("done")]);
    let ran = ran.prompt("x").run().await.assert_finished("done");
    let before = tree::read(ran.rig.workspace());
    let applied = ran.airlock("apply", &[]).await;
    assert_eq!(applied.exit, Some(0), "{applied:#?}");
    assert!(applied.stderr.contains("all changes are held"), "{applied:#?}");
    assert!(applied.stderr.contains(".env (") && applied.stderr.contains("fifo ("), "{applied:#?}");
    assert_eq!(tree::read(ran.rig.workspace()), before);
    let discarded = ran.airlock("discard", &[]).await;
    assert_eq!(discarded.exit, Some(0), "{discarded:#?}");
    assert_eq!(ran.record().await["changes_are"], "discarded");
    assert_eq!(ran.airlock("apply", &[]).await.exit, Some(1));
    assert_eq!(tree::read(ran.rig.workspace()), before);
}

/// Each way in which a folder can change meanwhile.
#[tokio::test]
async fn every_change_on_the_host_is_a_conflict() {
    type Meanwhile = fn(&Path);
    let cases: [(&str, Meanwhile); 5] = [
        ("edited", |root| tree::write(root, &[("f", "person\n")])),
        ("gone", |root| std::fs::remove_file(root.join("f")).expect("a file of the test's")),
        ("new too", |root| tree::write(root, &[("made", "person\n")])),
        ("a link now", |root| {
            std::fs::remove_file(root.join("f")).expect("a file of the test's");
            symlink("/etc/passwd", root.join("f")).expect("a link");
        }),
        ("its folder is a link now", |root| {
            std::fs::rename(root.join("d"), root.join("e")).expect("a folder of the test's");
            symlink("e", root.join("d")).expect("a link");
        }),
    ];
    for (name, meanwhile) in cases {
        let rig = Rig::new().files(&[("f", "old\n"), ("d/g", "old\n"), ("last", "old\n")]);
        let command = "for f in f d/g last made; do echo sandbox > $f; done";
        let ran = rig.model(script![call("bash", json!({"command": command})), answer("done")]);
        let ran = ran.prompt("x").run().await.assert_finished("done");
        meanwhile(ran.rig.workspace());
        let before = tree::read(ran.rig.workspace());
        let applied = ran.airlock("apply", &[]).await;
        assert_eq!(applied.exit, Some(1), "{name}: {applied:#?}");
        assert!(applied.stderr.contains("conflict"), "{name}: {applied:#?}");
        assert_eq!(tree::read(ran.rig.workspace()), before, "{name}");
    }
}
