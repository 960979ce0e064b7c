//! `--live`: the folder itself in the sandbox, whatever is done there is done here.

use std::os::unix::fs::{MetadataExt as _, lchown, symlink};
use std::path::Path;

use airlock_tests::backend::{answer, call, script};
use airlock_tests::{Rig, tree};
use serde_json::json;

/// Somebody who is not root.
const ADA: u32 = 12_345;

/// Hands the folder to [`ADA`] where the tests are root's; else it is the user's own already.
fn handed_over(rig: Rig) -> Rig {
    if rustix::process::geteuid().is_root() {
        give(rig.workspace());
    }
    rig
}

fn give(path: &Path) {
    lchown(path, Some(ADA), Some(ADA)).expect("root may give away");
    if path.symlink_metadata().is_ok_and(|about| about.is_dir()) {
        for entry in std::fs::read_dir(path).expect("a folder of the test's").flatten() {
            give(&entry.path());
        }
    }
}

const WORK: &str = "id -u; echo new > edit; mkdir -p d; echo made > d/f; rm gone; \
    echo x >> .git/config; echo x > .git/hooks/post-checkout; echo x > .git/new; \
    mv .git moved; rm -rf .git; echo x > sub/.GIT/config; echo x > worktree/.git; \
    echo ended";

in_both_custodies! {
    #[tokio::test]
    async fn the_owner_works_in_the_folder_and_every_git_stays_as_it_was(rig: Rig) {
        let rig = handed_over(rig.files(&[
            ("edit", "old\n"),
            ("gone", "x\n"),
            (".git/config", "[core]\n"),
            (".git/hooks/sample", "x\n"),
            ("sub/.GIT/config", "[core]\n"),
            ("worktree/.git", "gitdir: ../.git/worktrees/w\n"),
        ]));
        let before = tree::read(rig.workspace());
        let owner = rig.workspace().metadata().expect("a folder");
        let script = script![
            call("bash", json!({"command": WORK})),
            call("write_file", json!({"path": "by-tool", "content": "x\n"})),
            call("write_file", json!({"path": ".git/by-tool", "content": "x\n"})),
            answer("done"),
        ];
        let ran = rig.flags(&["--live"]).model(script).prompt("x").run().await;
        let ran = ran.assert_finished("done").assert_nothing_left_behind().await;
        let outputs = ran.outputs();
        assert!(outputs[0].contains(&format!("{}\n", owner.uid())), "{outputs:#?}");
        assert!(outputs[0].contains("ended"), "{outputs:#?}");
        let after = tree::read(ran.rig.workspace());
        let in_git = |path: &Path| path.iter().any(|part| part.eq_ignore_ascii_case(".git"));
        let gits = |tree: &tree::Tree| -> tree::Tree {
            tree.clone().into_iter().filter(|(path, _)| in_git(path)).collect()
        };
        assert_eq!(gits(&after), gits(&before), "{outputs:#?}");
        let rest: Vec<String> = after.keys().filter(|path| !in_git(path)).map(|path| path.display().to_string()).collect();
        assert_eq!(rest, ["by-tool", "d", "d/f", "edit", "sub", "worktree"]);
        for made in ["by-tool", "d", "d/f", "edit"] {
            assert_eq!(after[Path::new(made)].owner, (owner.uid(), owner.gid()), "{made}");
        }
        assert_eq!(ran.events()[0]["live"], true);
        let record = ran.record().await;
        assert_eq!(record["live"], true);
        assert!(record["waivers"].to_string().contains("live directory"), "{record}");
        assert_eq!(record.get("triggers"), None, "nothing of git's changed: {record}");
        assert_eq!(ran.airlock("apply", &[]).await.exit, Some(1), "there is nothing to apply");
    }
}

#[tokio::test]
async fn a_folder_of_roots_is_refused() {
    let rig = Rig::new().folder(Path::new("/usr/lib")).flags(&["--live"]).model(script![]);
    let ran = rig.prompt("x").run().await.assert_exit(6, "belongs to root");
    assert!(ran.stderr.contains("leave out --live"), "{}", ran.stderr);
    let ran = ran.assert_nothing_left_behind().await;
    assert!(ran.backend.model_requests().is_empty());
}

/// A link for a `.git` cannot be kept read-only, so the folder is not mounted at all.
#[tokio::test]
async fn a_link_for_a_git_is_refused() {
    let rig = Rig::new().files(&[("real/config", "x\n")]);
    symlink("real", rig.workspace().join(".git")).expect("a link");
    let rig = handed_over(rig).flags(&["--live"]).model(script![]);
    let ran = rig.prompt("x").run().await.assert_exit(6, ".git");
    drop(ran.assert_nothing_left_behind().await);
}

/// A mount that nobody may write to does not close a socket: the tree is not mounted at all.
#[tokio::test]
async fn a_socket_in_the_tree_is_refused() {
    for at in ["service.sock", ".git/fsmonitor--daemon.ipc"] {
        let rig = Rig::new().files(&[(".git/config", "[core]\n")]);
        let socket = rig.workspace().join(at);
        let _listens = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok(), "blind: nobody listens");
        let rig = handed_over(rig).flags(&["--live"]).model(script![]);
        let ran = rig.prompt("x").run().await.assert_exit(6, "leave out --live");
        let message = ran.outcome()["message"].to_string();
        assert!(message.contains(&format!("{at} is a socket or a fifo")), "{message}");
        drop(ran.assert_nothing_left_behind().await);
    }
}

/// A repository of the agent's, one in place of another, a file that runs as its owner. None can be
/// prevented in a tree that is the person's own; git really runs what the first names.
const LEAVES: &str = "mkdir -p new/.git/objects new/.git/refs; \
    echo 'ref: refs/heads/main' > new/.git/HEAD; \
    printf '[core]\\n\\tfsmonitor = \"touch ran; false\"\\n' > new/.git/config; \
    mv sub moved; mkdir -p sub/.git; echo x > sub/.git/HEAD; printf '[alias]\\n' > sub/.git/config; \
    echo x > tool; chmod 4755 tool; echo work > ordinary; echo ended";

#[tokio::test]
async fn what_git_would_run_is_named() {
    let rig = handed_over(Rig::new().files(&[
        (".git/HEAD", "ref: refs/heads/main\n"),
        (".git/config", "[core]\n"),
        ("sub/.git/HEAD", "x\n"),
        ("sub/.git/config", "[core]\n"),
    ]));
    let script = script![call("bash", json!({"command": LEAVES})), answer("done")];
    let ran = rig.flags(&["--live"]).model(script).prompt("x").run().await;
    let ran = ran.assert_finished("done").assert_nothing_left_behind().await;
    assert!(ran.outputs()[0].contains("ended"), "{:?}", ran.outputs());
    let events = ran.events();
    let told = events.iter().find(|event| event["event"] == "triggers").expect("it is told");
    let paths = |list: &serde_json::Value| -> Vec<String> {
        let list = list.as_array().expect("a list").iter();
        list.map(|it| it["path"].as_str().expect("a path").to_owned()).collect()
    };
    let expected = ["moved/.git", "new/.git", "sub/.git/config", "tool"];
    assert_eq!(paths(&told["list"]), expected, "{told}");
    assert_eq!(paths(&ran.record().await["triggers"]), expected);
    // The attack is real: git on the host runs what the new repository names.
    let mut git = tokio::process::Command::new("git");
    git.args(["-c", "safe.directory=*", "status"]).current_dir(ran.rig.workspace().join("new"));
    drop(git.env("HOME", ran.rig.home()).output().await.expect("git on this machine"));
    assert!(ran.rig.workspace().join("new/ran").exists(), "blind: git ran nothing");
}

/// What a person at a terminal gets to read.
#[tokio::test]
async fn what_git_would_run_is_said_in_words() {
    let rig = handed_over(Rig::new().files(&[(".git/HEAD", "x\n"), (".git/config", "[core]\n")]));
    let command = "mkdir d; echo x > d/HEAD; mkdir d/objects d/refs; echo x > d/config";
    let script = script![call("bash", json!({"command": command})), answer("done")];
    let ran = rig.flags(&["--live"]).in_words().model(script).prompt("x").run().await;
    assert_eq!(ran.exit, Some(0), "{}", ran.stderr);
    let said = ran.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("look d: a repository that was not there"), "{said}");
    assert!(said.contains("before you run git or anything else there, read them"), "{said}");
}

/// The same of other programs, those that somebody must start last. The control: what a program
/// writes in an ordinary place is not named.
#[tokio::test]
async fn what_an_editor_or_a_build_would_run_is_named() {
    let rig = handed_over(Rig::new().files(&[("Makefile", "all:\n"), ("opencode.json", "{}\n")]));
    let command = "mkdir .vscode src; echo '{}' > .vscode/tasks.json; echo x > src/tasks.json; \
        echo 'all: evil' > Makefile; echo '{\"mcp\":{}}' > opencode.json";
    let script = script![call("bash", json!({"command": command})), answer("done")];
    let ran = rig.flags(&["--live"]).model(script).prompt("x").run().await;
    let ran = ran.assert_finished("done").assert_nothing_left_behind().await;
    let expected = json!([
        {"path": ".vscode/tasks.json", "what": "VS Code runs its tasks and the programs it names \
            when the folder is opened; it was not there"},
        {"path": "opencode.json", "what": "opencode starts the servers, formatters and plugins it \
            names by itself; it changed"},
        {"path": "Makefile", "what": "make runs it; it changed"},
    ]);
    assert_eq!(ran.events_named("triggers")[0]["list"], expected);
    assert_eq!(ran.record().await["triggers"], expected);
}

/// The changes of a live run are in the directory itself, and git shows them, where git runs nothing
/// that the agent left.
#[tokio::test]
async fn git_is_named_only_where_it_runs_nothing_new() {
    for leaves in ["", "; echo x > tool; chmod 4755 tool"] {
        let files = [(".git/HEAD", "x\n"), (".git/config", "[core]\n")];
        let command = json!({"command": format!("echo work > made{leaves}")});
        let rig = handed_over(Rig::new().files(&files)).flags(&["--live"]);
        let ran = rig.model(script![call("bash", command), answer("done")]).prompt("x").run().await;
        let ran = ran.assert_finished("done");
        assert_eq!(ran.outcome()["changes"], "live", "{}", ran.outcome());
        let show = ran.airlock("show", &[]).await.stdout;
        assert!(show.contains("changes    in the directory itself (--live)"), "{show}");
        assert_eq!(show.contains("git diff"), leaves.is_empty(), "{show}");
        let diff = ran.airlock("diff", &[]).await;
        let why = "it worked in the directory itself (--live), so its changes are there\n";
        let expected = format!("nothing    to show: {why}");
        assert_eq!((diff.exit, &*diff.stdout, &*diff.stderr), (Some(0), "", &*expected));
        for name in ["apply", "discard"] {
            let said = ran.airlock(name, &[]).await;
            let expected = format!("nothing to {name}: {why}airlock show {}\n", &ran.id()[..4]);
            assert_eq!((said.exit, said.stderr), (Some(1), expected));
        }
    }
}
