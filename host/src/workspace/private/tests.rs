//! Our own folders and the files of credentials, met by another name, before they are there, and
//! after they were replaced.

use std::os::unix::fs::symlink;

use super::*;
use crate::workspace::trial::{ApplyFixture, DISK};

const LOGIN: &str = "home/.local/state/airlock/logins/default.json";
const KEY: &str = "sk-canary";

/// A home with a project in it, and all that we would keep there.
fn home() -> (ApplyFixture, Private) {
    let trial = ApplyFixture::new(&[
        &format!("{LOGIN} = {KEY}"),
        "home/.local/state/airlock/runs/r/events.jsonl",
        "home/.local/share/x",
        "home/project/main.rs",
    ]);
    let at = |path: &str| trial.root.join("home").join(path);
    let state = at(".local/state/airlock");
    let private = Private::default()
        .folder(&state)
        .folder(&at(".config/airlock"))
        .files_in(&state.join("logins"));
    (trial, private)
}

/// The paths that go in, and those that are left out as ours.
async fn copied(
    trial: &ApplyFixture,
    private: &Private,
    include: &[&str],
) -> (Vec<String>, Vec<String>) {
    let (stream, copied, _) = trial.copy_private(include, &[], DISK, private.clone()).await;
    let text = String::from_utf8_lossy(&stream).into_owned();
    assert!(!text.contains(KEY), "a credential went in");
    let left_out = copied.unwrap().left_out.into_iter();
    let left_out =
        left_out.filter(|it| matches!(it.why, LeftOutReason::Own | LeftOutReason::Credential));
    let left_out = left_out.map(|it| it.path.to_string()).collect();
    let mut archive = tar::Archive::new(stream.as_slice());
    let entries = archive.entries().unwrap().map(|entry| entry.unwrap());
    let inside = entries.filter(|entry| entry.header().entry_type() != tar::EntryType::new(b'O'));
    let inside = inside.map(|entry| entry.path().unwrap().display().to_string());
    (inside.collect(), left_out)
}

#[tokio::test]
async fn our_own_folders_never_go_in() {
    let (trial, private) = home();
    // Without the rule the login goes in, where its name is included.
    let (stream, ..) = trial.copy_with(&["**"], &[], DISK).await;
    assert!(String::from_utf8_lossy(&stream).contains(KEY));
    for include in [&[][..], &["**"], &["home/.local/state/airlock/logins/default.json"]] {
        let (inside, left_out) = copied(&trial, &private, include).await;
        assert_eq!(left_out, ["home/.local/state/airlock"], "{include:?}");
        assert!(inside.contains(&"home/project/main.rs".to_owned()), "{inside:?}");
        assert!(inside.contains(&"home/.local/share/x".to_owned()), "{inside:?}");
        assert!(!inside.iter().any(|path| path.contains("airlock")), "{inside:?}");
    }
}

/// What was not there when the session began is known by its place.
#[tokio::test]
async fn a_folder_that_appears_later_is_ours_too() {
    let (trial, private) = home();
    trial.put(&format!("home/.config/airlock/config.toml = {KEY}"));
    let (_, left_out) = copied(&trial, &private, &["**"]).await;
    assert_eq!(left_out, ["home/.config/airlock", "home/.local/state/airlock"]);
}

#[tokio::test]
async fn another_name_of_a_login_is_the_login() {
    let (trial, private) = home();
    std::fs::hard_link(trial.root.join(LOGIN), trial.root.join("home/project/notes")).unwrap();
    let (inside, left_out) = copied(&trial, &private, &["**"]).await;
    assert_eq!(left_out, ["home/.local/state/airlock", "home/project/notes"]);
    assert!(inside.contains(&"home/project/main.rs".to_owned()), "{inside:?}");
}

/// The key file lies in the tree under its own name, behind a link, and as a second name; and it
/// is still the key file after an editor has replaced it.
#[tokio::test]
async fn the_file_of_a_key_never_goes_in() {
    let trial = ApplyFixture::new(&[&format!("deep/key.txt = {KEY}"), "key -> deep/key.txt", "a"]);
    let (stream, ..) = trial.copy_with(&[], &[], DISK).await;
    assert!(String::from_utf8_lossy(&stream).contains(KEY), "an ordinary name");
    let private = Private::default().file(&trial.root.join("key"));
    std::fs::hard_link(trial.root.join("deep/key.txt"), trial.root.join("b")).unwrap();
    let (inside, left_out) = copied(&trial, &private, &["**"]).await;
    assert_eq!((inside, left_out), (paths(&["a", "key", "deep"]), paths(&["b", "deep/key.txt"])));
    let fresh = trial.root.join("deep/fresh");
    std::fs::write(&fresh, KEY).unwrap();
    std::fs::rename(fresh, trial.root.join("deep/key.txt")).unwrap();
    std::fs::remove_file(trial.root.join("b")).unwrap();
    let (_, left_out) = copied(&trial, &private, &["**"]).await;
    assert_eq!(left_out, ["deep/key.txt"]);
}

/// `~/.config/airlock/config.toml` is a link, as `stow` makes it.
#[tokio::test]
async fn settings_behind_a_link_are_ours() {
    let (trial, private) = home();
    trial.put("home/dotfiles/airlock/config.toml = model = \"x\"");
    trial.put("home/dotfiles/vimrc");
    trial.put("home/.config/airlock/config.toml -> ../../dotfiles/airlock/config.toml");
    let at = |path: &str| trial.root.join("home").join(path);
    // The folder alone does not know it.
    private.admits(&at("dotfiles"), true).unwrap();
    let (inside, _) = copied(&trial, &private, &[]).await;
    assert!(inside.contains(&"home/dotfiles/airlock/config.toml".to_owned()), "{inside:?}");
    let private = private.settings(&at(".config/airlock/config.toml"));
    let refused = private.admits(&at("dotfiles"), true).unwrap_err();
    assert!(matches!(refused, NotAllowed::LiveSettings { .. }), "{refused}");
    private.admits(&at("dotfiles"), false).unwrap();
    private.admits(&at("project"), true).unwrap();
    let (inside, left_out) = copied(&trial, &private, &["**"]).await;
    assert!(left_out.contains(&"home/dotfiles/airlock/config.toml".to_owned()), "{left_out:?}");
    assert!(inside.contains(&"home/dotfiles/vimrc".to_owned()), "{inside:?}");
    std::fs::hard_link(at("dotfiles/airlock/config.toml"), at("project/second")).unwrap();
    let refused = private.admits(&at("project"), true).unwrap_err();
    assert!(matches!(refused, NotAllowed::LiveSettings { .. }), "{refused}");
}

fn paths(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|&path| path.to_owned()).collect()
}

#[test]
fn our_own_folders_are_refused() {
    let (trial, private) = home();
    let at = |path: &str| trial.root.join("home").join(path);
    symlink(at(".local/state/airlock"), at("project/state")).unwrap();
    for own in [".local/state/airlock", ".local/state/airlock/runs/r", ".config/airlock"] {
        for live in [false, true] {
            let refused = private.admits(&at(own), live).unwrap_err();
            assert!(matches!(refused, NotAllowed::Own { .. }), "{own}: {refused}");
            assert_eq!(refused.hint(), "airlock run -C DIR …");
        }
    }
    for fine in ["project", ".local/share", ".local", ""] {
        private.admits(&at(fine), false).unwrap();
    }
    // A link in the tree goes in as a link, and leads nowhere there.
    private.admits(&at("project"), true).unwrap();
}

#[test]
fn what_holds_something_private_is_not_given_live() {
    let (trial, private) = home();
    let at = |path: &str| trial.root.join("home").join(path);
    for holds in ["", ".local", ".local/state"] {
        let refused = private.admits(&at(holds), true).unwrap_err();
        assert!(matches!(refused, NotAllowed::LiveOwn { .. }), "{holds}: {refused}");
        assert_eq!(refused.hint(), "leave out --live");
    }
    private.admits(&at("project"), true).unwrap();
    std::fs::hard_link(trial.root.join(LOGIN), at("project/notes")).unwrap();
    let refused = private.admits(&at("project"), true).unwrap_err();
    assert!(matches!(refused, NotAllowed::LiveCredential { .. }), "{refused}");
    // The official client's folder, which may not be there.
    let private = Private::default().file(&at("project/.codex/auth.json"));
    private.admits(&at("project"), true).unwrap();
    trial.put("home/project/.codex/auth.json = {}");
    let private = Private::default().file(&at("project/.codex/auth.json"));
    assert!(private.admits(&at("project"), true).is_err());
    // A pipe is not a file.
    Private::default().file(Path::new("/dev/null")).admits(Path::new("/dev"), true).unwrap();
}
