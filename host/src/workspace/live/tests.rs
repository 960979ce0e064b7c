//! What is named of a tree and what is not, made by hand.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use super::*;

struct LiveFixture(tempfile::TempDir);

impl LiveFixture {
    fn new(files: &[(&str, &str)]) -> Self {
        let trial = Self(tempfile::tempdir().unwrap());
        files.iter().for_each(|(path, text)| trial.put(path, text));
        trial
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn put(&self, path: &str, text: &str) {
        std::fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        std::fs::write(self.at(path), text).unwrap();
    }

    fn look(&self) -> Triggers {
        Triggers::look(self.0.path()).unwrap()
    }

    /// The paths that are named after this was done.
    fn found(&self, act: impl FnOnce(&Self)) -> Vec<String> {
        let before = self.look();
        act(self);
        self.look().since(&before).into_iter().map(|found| found.path).collect()
    }
}

const REPOSITORY: [(&str, &str); 7] = [
    (".git/HEAD", "ref: refs/heads/main\n"),
    (".git/config", "[core]\n\thooksPath = .husky\n[include]\n\tpath = ../more\n"),
    (".git/objects/ab/cd", "x"),
    (".git/modules/sub/HEAD", "x"),
    (".git/modules/sub/config", "[core]\n"),
    (".husky/pre-commit", "x\n"),
    ("more", "[user]\n"),
];

#[test]
fn ordinary_work_is_not_named() {
    let trial = LiveFixture::new(&REPOSITORY);
    let found = trial.found(|trial| {
        trial.put("src/main.rs", "fn main() {}\n");
        trial.put(".git/objects/ab/ef", "x");
        trial.put(".git/refs/heads/topic", "x");
        trial.put(".git/index", "x");
        trial.put(".gitignore", "target\n");
        trial.put("config", "[core]\n");
        symlink("src", trial.at("link")).unwrap();
    });
    assert_eq!(found, [""; 0]);
}

#[test]
fn what_git_runs_or_obeys_is_named() {
    let trial = LiveFixture::new(&REPOSITORY);
    for (path, text) in [
        (
            ".git/config",
            "[core]\n\tfsmonitor = evil\n\thooksPath = .husky\n[include]\n\tpath = ../more\n",
        ),
        (".git/config.worktree", "x"),
        (".git/hooks/post-checkout", "x"),
        (".git/info/attributes", "x"),
        (".git/modules/sub/config", "[core]\n\tfsmonitor = evil\n"),
        (".git/modules/sub/hooks/x", "x"),
        (".git/worktrees/w/HEAD", "x"),
        (".git/worktrees/w/config.worktree", "x"),
        (".husky/pre-commit", "other\n"),
        ("more", "[core]\n\tfsmonitor = evil\n"),
    ] {
        let found = trial.found(|trial| trial.put(path, text));
        let expected = if path.ends_with("/HEAD") { vec![] } else { vec![path.to_owned()] };
        assert_eq!(found, expected, "{path}");
    }
}

#[test]
fn repositories_that_come_go_or_lead_elsewhere_are_named() {
    let trial =
        LiveFixture::new(&[("sub/.git", "gitdir: ../store/sub\n"), ("store/sub/HEAD", "x")]);
    assert_eq!(trial.found(|trial| trial.put("store/sub/config", "x")), ["store/sub/config"]);
    assert_eq!(
        trial.found(|trial| trial.put("sub/.git", "gitdir: ../evil\n")),
        ["sub/.git", "store/sub/config"]
    );
    assert_eq!(
        trial.found(|trial| trial.put("evil/config", "x")),
        [""; 0],
        "no HEAD, no repository"
    );
    let new = trial.found(|trial| {
        trial.put("new/.GIT/config", "x");
        trial.put("new/.GIT/HEAD", "x");
        trial.put("new/.GIT/hooks/post-checkout", "x");
    });
    assert_eq!(new, ["new/.GIT"]);
    let bare = trial.found(|trial| {
        trial.put("bare/HEAD", "x");
        trial.put("bare/refs/x", "x");
        trial.put("bare/objects/x", "x");
        trial.put("bare/config", "x");
    });
    assert_eq!(bare, ["bare"]);
    let replaced = trial.found(|trial| {
        std::fs::rename(trial.at("new"), trial.at("old")).unwrap();
        trial.put("new/.GIT/HEAD", "x");
        trial.put("new/.GIT/config", "other");
    });
    assert_eq!(replaced, ["new/.GIT/config", "old/.GIT", "new/.GIT/hooks/post-checkout"]);
    let linked = trial.found(|trial| symlink("../bare", trial.at("evil/.git")).unwrap());
    assert_eq!(linked, ["evil/.git"]);
}

#[test]
fn what_runs_as_its_owner_and_what_leads_to_other_programs_is_named() {
    let trial = LiveFixture::new(&[("tool", "x"), ("secret/x", "x")]);
    let mode = |path: &str, mode: u32| {
        std::fs::set_permissions(trial.at(path), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    assert_eq!(trial.found(|_| mode("tool", 0o4755)), ["tool"]);
    let socket =
        |trial: &LiveFixture| drop(std::os::unix::net::UnixListener::bind(trial.at("s")).unwrap());
    assert_eq!(trial.found(socket), ["s"]);
}

#[test]
fn a_large_hook_that_changes_in_its_middle_is_named() {
    let trial = LiveFixture::new(&REPOSITORY);
    let large = vec![b'x'; 3 << 20];
    std::fs::create_dir(trial.at(".git/hooks")).unwrap();
    std::fs::write(trial.at(".git/hooks/h"), &large).unwrap();
    let found = trial.found(|trial| {
        let times = std::fs::metadata(trial.at(".git/hooks/h")).unwrap().modified().unwrap();
        let mut other = large.clone();
        other[2 << 20] = b'y';
        std::fs::write(trial.at(".git/hooks/h"), other).unwrap();
        let file = std::fs::File::options().write(true).open(trial.at(".git/hooks/h")).unwrap();
        file.set_modified(times).unwrap();
    });
    assert_eq!(found, [".git/hooks/h"]);
}

/// Files of programs other than git: first those that run by themselves, then those of tools.
#[test]
fn what_an_editor_an_agent_or_a_build_runs_is_named() {
    let trial = LiveFixture::new(&[
        ("Makefile", "all:\n"),
        (".claude/settings.json", "{}\n"),
        (".hg/hgrc", "[ui]\n"),
        (".hg/store/data/x", "x"),
        ("hooks/pre", "x\n"),
        ("agents/settings.json", "{}\n"),
    ]);
    symlink("agents", trial.at(".cursor")).unwrap();
    symlink("../hooks", trial.at(".claude/hooks")).unwrap();
    let all = |trial: &LiveFixture| -> Vec<(String, String)> {
        let before = trial.look();
        trial.put("Makefile", "all: evil\n");
        trial.put(".vscode/tasks.json", "{}\n");
        trial.put(".claude/settings.json", "{\"hooks\": 1}\n");
        trial.put(".hg/hgrc", "[hooks]\n");
        trial.put(".hg/store/data/x", "other");
        trial.put("hooks/pre", "evil\n");
        trial.put("agents/mcp.json", "{}\n");
        trial.put("src/main.rs", "fn main() {}\n");
        let found = trial.look().since(&before);
        found.into_iter().map(|it| (it.path, it.what)).collect()
    };
    let trigger = |path: &str, what: &str| (path.to_owned(), what.to_owned());
    let expected = [
        trigger(
            ".claude/settings.json",
            "Claude Code runs the hooks it names by itself; it changed",
        ),
        trigger(".hg/hgrc", "Mercurial obeys it, and it changed"),
        trigger(
            ".vscode/tasks.json",
            "VS Code runs its tasks and the programs it names when the folder is opened; it was \
             not there",
        ),
        trigger(
            "agents/mcp.json",
            "Cursor starts the servers it names when the folder is opened; it was not there",
        ),
        trigger("hooks/pre", "Claude Code runs such hooks by itself; it changed"),
        trigger("Makefile", "make runs it; it changed"),
    ];
    assert_eq!(all(&trial), expected);
    // As it is now it is as it was, and what goes runs nothing.
    assert_eq!(trial.found(|_| ()), [""; 0]);
    let gone = trial.found(|trial| std::fs::remove_file(trial.at(".vscode/tasks.json")).unwrap());
    assert_eq!(gone, [""; 0]);
}

#[test]
fn another_version_controls_repository_that_comes_or_goes_is_named() {
    let trial = LiveFixture::new(&[(".hg/hgrc", "[ui]\n")]);
    let found = trial.found(|trial| {
        std::fs::rename(trial.at(".hg"), trial.at("old")).unwrap();
        trial.put("sub/.jj/repo/config.toml", "x");
    });
    assert_eq!(found, ["sub/.jj", ".hg"]);
}

/// A folder of git's is found by its bytes, whatever they are.
#[test]
fn a_git_file_may_name_any_bytes() {
    use std::os::unix::ffi::OsStrExt as _;
    let trial = LiveFixture::new(&[("sub/x", "x")]);
    let store = trial.0.path().join(std::ffi::OsStr::from_bytes(b"store\xff"));
    std::fs::create_dir(&store).unwrap();
    std::fs::write(store.join("HEAD"), "x").unwrap();
    std::fs::write(trial.at("sub/.git"), b"gitdir: ../store\xff\n").unwrap();
    let found = trial.found(|_| std::fs::write(store.join("config"), "[core]\n").unwrap());
    assert_eq!(found, ["store%FF/config"]);
}

/// By an interpreter, by a configuration that another includes, by a hook that is a link.
#[test]
fn what_a_configuration_names_is_named() {
    let trial = LiveFixture::new(&[
        (".git/HEAD", "x"),
        (".git/config", "[filter \"f\"]\n\tclean = sh tools/clean.sh\n[include]\n\tpath = ../team"),
        ("team", "[diff \"d\"]\n\ttextconv = tools/conv.sh\n[core]\n\thooksPath = h/_\n"),
        ("tools/clean.sh", "x"),
        ("tools/other.sh", "x"),
        ("scripts/pre-commit", "x"),
        ("scripts/hooks/x", "x"),
        ("sub/.git/HEAD", "x"),
        ("h/_/pre-commit", "x"),
    ]);
    std::fs::create_dir(trial.at(".git/hooks")).unwrap();
    symlink("../../scripts/pre-commit", trial.at(".git/hooks/pre-commit")).unwrap();
    symlink("../../scripts/hooks", trial.at("sub/.git/hooks")).unwrap();
    let acts = [
        "h/pre-commit",
        "scripts/hooks/pre-commit",
        "scripts/pre-commit",
        "tools/clean.sh",
        "tools/conv.sh",
    ];
    let found = trial.found(|trial| {
        acts.iter().for_each(|path| trial.put(path, "agent\n"));
        trial.put("tools/other.sh", "agent\n");
    });
    assert_eq!(found, acts);
}
