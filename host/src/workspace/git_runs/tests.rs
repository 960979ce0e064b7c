//! What is found of a tree, made by hand. `PATH` in a text is where the tree is.

use std::os::unix::fs::symlink;

use super::super::beneath::Root;
use super::*;

struct ApplyFixture(tempfile::TempDir);

impl ApplyFixture {
    /// `home/` and the tree `work/` in it.
    fn new(files: &[(&str, &str)]) -> Self {
        let trial = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(trial.0.path().join("home/work")).unwrap();
        for (path, text) in files {
            let at = trial.0.path().join("home").join(path);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            match text.strip_prefix("-> ") {
                Some(target) => symlink(target, at).unwrap(),
                None => fs::write(at, text.replace("PATH", &trial.tree().display().to_string()))
                    .unwrap(),
            }
        }
        trial
    }

    fn tree(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap().join("home/work")
    }

    fn runs(&self) -> GitRuns {
        let home = self.tree().parent().unwrap().to_owned();
        let user = UserConfig { files: vec![home.join(".gitconfig")], home: Some(home) };
        GitRuns::of(&Root::open(&self.tree()).unwrap(), &self.tree(), &user).unwrap()
    }

    /// The files, and the folders with a slash.
    fn found(&self) -> Vec<String> {
        let GitRuns { files, folders, is_cut } = self.runs();
        assert!(!is_cut);
        let folders = folders.iter().map(|path| format!("{path}/"));
        files.iter().map(ToString::to_string).chain(folders).collect()
    }
}

const HEAD: (&str, &str) = ("work/.git/HEAD", "ref: refs/heads/main\n");

fn of(config: &str, files: &[(&str, &str)]) -> Vec<String> {
    ApplyFixture::new(&[&[HEAD, ("work/.git/config", config)], files].concat()).found()
}

#[test]
fn programs_hooks_and_included_configurations_are_found() {
    for (config, files, expected) in [
        ("[core]\nhooksPath = tools/hooks", &[][..], &["tools/hooks/"][..]),
        ("[core]\nhooksPath = PATH/hk", &[("work/hk", "-> h"), ("work/h/x", "")], &["hk", "h/"]),
        ("[core]\nhooksPath = .config/husky/_", &[], &[".config/husky/", ".config/husky/_/"]),
        ("[core]\nfsmonitor = ./tools/fsm.sh", &[], &["tools/fsm.sh"]),
        (
            "[filter \"f\"]\nclean = sh tools/c %f",
            &[("work/tools/c", "")],
            &["%25f", "sh", "sh tools/c %25f", "tools/c"],
        ),
        (
            "[diff \"d\"]\ntextconv = \"$(git rev-parse --show-toplevel)/tools/conv\"",
            &[],
            &["$(git rev-parse --show-toplevel)/tools/conv", "git", "rev-parse", "tools/conv"],
        ),
        ("[includeIf \"gitdir:/x\"]\npath = ../.gitconfig", &[], &[".gitconfig"]),
        (
            "[include]\npath = ../a",
            &[
                ("work/a", "[include]\npath = d/b"),
                ("work/d/b", "[x]\ny = tools/x"),
                ("work/d/x", ""),
            ],
            &["a", "d/b", "tools/x"],
        ),
        // A folder is none, and neither are branches and addresses outside.
        (
            "[branch \"m\"]\nmerge = refs/heads/m\n[x]\ny = src/lib\n[user]\nname = me",
            &[("work/src/lib/x", "")],
            &[],
        ),
    ] {
        assert_eq!(of(config, files), expected, "{config}");
    }
    let all = of("[core]\nhooksPath = .", &[]);
    assert!(all.contains(&"pre-commit".to_owned()) && all.len() == HOOKS.len(), "{all:?}");
}

#[test]
fn hooks_that_are_links_are_followed() {
    let linked = [
        ("work/.git/hooks/pre-commit", "-> ../../scripts/pre-commit"),
        ("work/scripts/pre-commit", "x"),
        ("work/sub/.git/HEAD", "x"),
        ("work/sub/.git/hooks", "-> ../../scripts/hooks"),
        ("work/scripts/hooks/x", "-> ../y"),
        ("work/.git/info/attributes", "-> ../../attributes"),
    ];
    let expected = [
        ".git/hooks/pre-commit",
        ".git/info/attributes",
        "attributes",
        "scripts/hooks/x",
        "scripts/pre-commit",
        "scripts/y",
        "sub/.git/hooks",
        "scripts/hooks/",
    ];
    assert_eq!(of("", &linked), expected);
}

#[test]
fn every_repository_and_the_users_own_configuration_are_read() {
    let trial = ApplyFixture::new(&[
        (".gitconfig", "-> work/dots/gitconfig"),
        ("work/dots/gitconfig", "[core]\nhooksPath = ~/work/dots/hooks\n[x]\ny = tools/everywhere"),
        // Around the tree.
        (".git/HEAD", "x"),
        (".git/config", "[core]\nfsmonitor = work/tools/around"),
        // A submodule, a linked work tree of a repository elsewhere, a bare one.
        ("work/sub/.git", "gitdir: ../store/sub\n"),
        ("work/store/sub/HEAD", "x"),
        ("work/store/sub/config", "[core]\nworktree = ../../sub\n[a]\nb = ./of/sub"),
        ("work/linked/.git", "gitdir: ../../elsewhere/.git/worktrees/w\n"),
        ("elsewhere/.git/HEAD", "x"),
        ("elsewhere/.git/config", "[a]\nb = ./of/linked"),
        ("elsewhere/.git/worktrees/w/HEAD", "x"),
        ("elsewhere/.git/worktrees/w/commondir", "../..\n"),
        ("work/bare/HEAD", "x"),
        ("work/bare/objects/x", "x"),
        ("work/bare/refs/x", "x"),
        ("work/bare/config", "[a]\nb = ./of/bare"),
    ]);
    let expected = [
        "bare/of/bare",
        "bare/tools/everywhere",
        "dots/gitconfig",
        "linked/of/linked",
        "linked/tools/everywhere",
        "of/bare",
        "sub/of/sub",
        "sub/tools/everywhere",
        "tools/around",
        "tools/everywhere",
        "dots/hooks/",
    ];
    assert_eq!(trial.found(), expected);
}

#[test]
fn what_is_no_file_is_not_read() {
    let trial = ApplyFixture::new(&[
        HEAD,
        ("work/.git/config", "[include]\npath = ../fifo\npath = /dev/zero"),
    ]);
    let fifo = trial.tree().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert_eq!(trial.found(), ["fifo"]);
}

#[test]
fn a_configuration_of_many_words_ends() {
    let words = "a/b ".repeat(10) + "\nk = ";
    let many: String = (0..LOOKED_UP / 8).map(|n| format!("{words}a/{n} ")).collect();
    let trial = ApplyFixture::new(&[HEAD, ("work/.git/config", &format!("[x]\nk = {many}"))]);
    assert!(trial.runs().files.len() <= LOOKED_UP);
    let include = "[include]\npath = ../.git/config\n".repeat(10);
    assert_eq!(of(&include, &[]), [".git/config"]);
}
