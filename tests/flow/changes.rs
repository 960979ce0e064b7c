//! What comes out of a box, and what of it is applied.

use std::os::unix::fs::symlink;
use std::path::Path;

use airlock_tests::backend::{answer, call, script};
use airlock_tests::{Rig, tree};
use serde_json::json;

in_both_custodies! {
    #[tokio::test]
    async fn nothing_changes_before_apply_and_all_of_it_after(rig: Rig) {
        let rig = rig.files(&[("keep", "same\n"), ("edit", "old\n"), ("gone", "x\n")]);
        let before = tree::read(rig.workspace());
        let command = "echo new > edit; rm gone; mkdir d; echo made > d/f; chmod 755 d/f; ln -s ../keep d/l";
        let ran = rig.model(script![call("bash", json!({"command": command})), answer("done")]);
        let ran = ran.prompt("x").run().await.assert_finished("done").assert_nothing_left_behind().await;
        assert_eq!(tree::read(ran.rig.workspace()), before);

        let applied = ran.rig.command("apply").await.arg(ran.id()).output().await.expect("airlock");
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        let after = tree::read(ran.rig.workspace());
        let text = |path: &str| std::fs::read_to_string(ran.rig.workspace().join(path)).unwrap_or_default();
        assert_eq!((text("edit"), text("d/f"), text("keep")), ("new\n".into(), "made\n".into(), "same\n".into()));
        assert!(!after.contains_key(Path::new("gone")));
        assert_eq!(after[Path::new("d/f")].mode, 0o755);
        assert_eq!(after[Path::new("d/l")].what, tree::What::Link("../keep".into()));
        assert_eq!(after[Path::new("keep")], before[Path::new("keep")]);
        assert_eq!(after[Path::new("d/f")].owner, before[Path::new("keep")].owner);
    }
}

#[tokio::test]
async fn what_changed_meanwhile_is_a_conflict() {
    let rig = Rig::new().files(&[("a", "old\n"), ("b", "old\n")]);
    let command = "echo box > a; echo box > b";
    let ran = rig.model(script![call("bash", json!({"command": command})), answer("done")]);
    let ran = ran.prompt("x").run().await.assert_finished("done");
    tree::write(ran.rig.workspace(), &[("a", "person\n")]);
    let before = tree::read(ran.rig.workspace());
    let applied = ran.rig.command("apply").await.arg(ran.id()).output().await.expect("airlock");
    let said = String::from_utf8_lossy(&applied.stderr).into_owned();
    assert_eq!(applied.status.code(), Some(1), "{said}");
    assert!(said.contains('a'), "{said}");
    assert_eq!(tree::read(ran.rig.workspace()), before, "all or nothing");
}

/// A repository that means harm: each of its tricks ends as the README says.
#[tokio::test]
async fn links_fifos_and_git_folders_end_as_written() {
    let rig = Rig::new().files(&[
        ("plain", "x\n"),
        (".git/config", "[core]\nfsmonitor = touch /tmp/pwned\n"),
        (".git/hooks/post-checkout", "#!/bin/sh\n"),
        ("vendor/.git/config", "[core]\nfsmonitor = touch /tmp/pwned\n"),
        (".env", "SECRET=sk-not-for-the-box\n"),
    ]);
    let aws = rig.home().join(".aws");
    tree::write(&aws, &[("credentials", "aws_secret_access_key = sk-not-for-the-box\n")]);
    symlink(&aws, rig.workspace().join("docs")).expect("a link");
    symlink("/etc/passwd", rig.workspace().join("absolute")).expect("a link");
    let fifo = rig.workspace().join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0)
        .expect("a fifo");
    let look =
        "ls -la; cat docs/credentials .env; cat .git/config vendor/.git/config; ls .git/hooks";
    let plant = "mkdir -p .GIT/hooks vendor/.git/hooks bare/objects bare/refs; echo x > .GIT/hooks/pre-commit; \
                 echo x > vendor/.git/hooks/post-checkout; echo 'ref: x' > bare/HEAD; ln -s / out; echo ok > fine";
    let ran = rig
        .model(script![
            call("bash", json!({"command": look})),
            call("bash", json!({"command": plant})),
            answer("done"),
        ])
        .prompt("x")
        .run()
        .await
        .assert_finished("done");
    let seen = ran.outputs()[0].clone();
    assert!(seen.contains("docs ->") && seen.contains("absolute ->"), "links stay links: {seen}");
    for hidden in ["sk-not-for-the-box", "fsmonitor", "fifo", "post-checkout"] {
        assert!(!seen.contains(hidden), "{hidden} got in: {seen}");
    }
    let before = tree::read(ran.rig.workspace());
    let applied = ran.rig.command("apply").await.arg(ran.id()).output().await.expect("airlock");
    let said = String::from_utf8_lossy(&applied.stderr).into_owned();
    let after = tree::read(ran.rig.workspace());
    let new: Vec<String> = after
        .keys()
        .filter(|path| !before.contains_key(*path))
        .map(|path| path.display().to_string())
        .collect();
    assert_eq!(new, ["fine"], "{said}");
    assert!(said.contains("kept back"), "{said}");
}
