//! What comes out of a sandbox, and what of it is applied.

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
    let command = "echo sandbox > a; echo sandbox > b";
    let ran = rig.model(script![call("bash", json!({"command": command})), answer("done")]);
    let ran = ran.prompt("x").run().await.assert_finished("done");
    tree::write(ran.rig.workspace(), &[("a", "person\n")]);
    let before = tree::read(ran.rig.workspace());
    let applied = ran.rig.command("apply").await.arg(ran.id()).output().await.expect("airlock");
    let said = String::from_utf8_lossy(&applied.stderr).into_owned();
    assert_eq!(applied.status.code(), Some(1), "{said}");
    assert!(said.contains("conflict   a (it changed here)"), "{said}");
    assert!(!said.contains("conflict   b"), "{said}");
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
        (".env", "SECRET=sk-not-for-the-sandbox\n"),
    ]);
    let aws = rig.home().join(".aws");
    tree::write(&aws, &[("credentials", "aws_secret_access_key = sk-not-for-the-sandbox\n")]);
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
    for hidden in ["sk-not-for-the-sandbox", "fsmonitor", "fifo", "post-checkout"] {
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
    assert!(said.contains("held       "), "{said}");
}

/// What the agent plants for other programs than git: held where it runs by itself, named where its
/// tool is started, and none of it is in the way of the rest. The control: git runs what lies behind
/// a link in place of `.husky`.
#[tokio::test]
async fn what_runs_by_itself_is_held_and_the_rest_is_named() {
    let rig = Rig::new().files(&[(".hg/store/x", "x\n"), ("target/mine", "x\n"), ("a", "old\n")]);
    let plant = "printf '[hooks]\\npre-status = touch /tmp/pwned\\n' > .hg/hgrc; \
        mkdir -p .vscode .cargo tools target && echo '{}' > .vscode/tasks.json; \
        echo x > .cargo/config.toml; echo 'all:' > Makefile; ln -s tools .husky; \
        echo x > tools/pre-commit; echo x > target/mine; echo x > .npmrc; echo new > a";
    assert!(a_linked_hook_runs(&rig.home().join("control")).await, "the control did not run it");
    let ran = rig.model(script![call("bash", json!({"command": plant})), answer("done")]);
    let ran = ran.prompt("x").flags(&["--exclude", "target"]).run().await.assert_finished("done");
    let said = |output: std::process::Output| {
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let diff = ran.rig.command("diff").await.arg(ran.id()).output().await.expect("airlock");
    let diff = said(diff);
    let show = ran.rig.command("show").await.args([&ran.id(), "--json"]).output().await;
    let show = said(show.expect("airlock"));
    let applied = ran.rig.command("apply").await.arg(ran.id()).output().await.expect("airlock");
    assert!(applied.status.success(), "{applied:?}");
    let applied = said(applied);
    for said in [&diff, &show, &applied] {
        for held in [".hg", ".vscode", ".husky", "target"] {
            assert!(said.contains(held), "{held} is not named: {said}");
        }
        for named in [".cargo/config.toml", "Makefile", ".npmrc"] {
            assert!(said.contains(named), "{named} is not named: {said}");
        }
    }
    let there = |path: &str| ran.rig.workspace().join(path).symlink_metadata().is_ok();
    for held in [".hg/hgrc", ".vscode", ".husky"] {
        assert!(!there(held), "{held} was applied: {applied}");
    }
    for path in [".cargo/config.toml", "Makefile", "tools/pre-commit"] {
        assert!(there(path), "{path} was not applied: {applied}");
    }
    let text =
        |path: &str| std::fs::read_to_string(ran.rig.workspace().join(path)).unwrap_or_default();
    assert_eq!((text("a"), text("target/mine")), ("new\n".to_owned(), "x\n".to_owned()));
    let content = ran.rig.command("diff").await.args([&ran.id(), "--content", ".hg/hgrc"]).output();
    let content = content.await.expect("airlock");
    assert_eq!(content.stdout, b"[hooks]\npre-status = touch /tmp/pwned\n", "{content:?}");
}

async fn a_linked_hook_runs(folder: &Path) -> bool {
    let hook = folder.join("tools/pre-commit");
    tree::write(folder, &[("tools/pre-commit", "#!/bin/sh\ntouch ran\n")]);
    let program = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&hook, program).expect("a mode");
    symlink("tools", folder.join(".husky")).expect("a link");
    let who =
        ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "core.hooksPath=.husky"];
    for command in [&["init", "-q"][..], &["commit", "-qm", "x", "--allow-empty"]] {
        let mut git = tokio::process::Command::new("git");
        git.args(who).args(command).current_dir(folder).output().await.expect("git");
    }
    folder.join("ran").exists()
}
