//! What edited files keep, what new ones get, and the notes about it.

use std::os::unix::fs::{PermissionsExt, chown, lchown};

use rustix::fs::{XattrFlags, getxattr, setxattr};
use tar::EntryType;

use super::*;
use crate::workspace::apply::attributes::NoteKind;
use crate::workspace::trial::{OTHER_UID, as_another_user};

fn remarks(applied: &Applied) -> Vec<(String, NoteKind)> {
    applied.remarks.iter().map(|it| (it.path.to_string(), it.what)).collect()
}

fn mode(trial: &ApplyFixture, path: &str) -> u32 {
    std::fs::metadata(trial.root.join(path)).unwrap().permissions().mode() & 0o7777
}

/// The umask of this process, without changing it.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap();
    u32::from_str_radix(line.trim(), 8).unwrap()
}

#[tokio::test]
async fn new_files_and_folders_are_within_the_umask() {
    assert_ne!(umask() & 0o022, 0, "a umask that takes something is needed");
    let trial = ApplyFixture::new(&["shared/"]);
    let shared = trial.root.join("shared");
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        chown(&shared, None, Some(OTHER_UID)).unwrap();
        chmod(&shared, 0o2775);
    }
    let stream = TarBytes::default()
        .entry(EntryType::Regular, "tree/open", "", 0o666, b"x")
        .entry(EntryType::Regular, "tree/tool", "", 0o777, b"x")
        .entry(EntryType::Regular, "tree/private", "", 0o600, b"x")
        .entry(EntryType::Directory, "tree/drop", "", 0o1777, b"")
        .entry(EntryType::Regular, "tree/drop/root", "", 0o4755, b"x")
        .file("shared/new", "x")
        .folder("shared/deep")
        .file("shared/deep/new", "x");
    taken(&trial, stream).await;
    let applied = apply(&trial.session).unwrap();
    let (file, program) = (0o666 & !umask(), 0o777 & !umask());
    assert_eq!((mode(&trial, "open"), mode(&trial, "private")), (file, file));
    assert_eq!((mode(&trial, "tool"), mode(&trial, "drop/root")), (program, program));
    assert_eq!(mode(&trial, "drop"), program);
    let special = |path: &str| (path.to_owned(), NoteKind::SpecialBits);
    assert_eq!(remarks(&applied), [special("drop"), special("drop/root")]);
    if is_root {
        assert_eq!(mode(&trial, "shared/deep"), 0o2000 | program);
        for new in ["shared/new", "shared/deep/new"] {
            assert_eq!(std::fs::metadata(trial.root.join(new)).unwrap().gid(), OTHER_UID, "{new}");
        }
    }
}

/// An access list: its owner, the user 1000 and the group may read.
fn access_list() -> Vec<u8> {
    let entries = [(1_u16, 6_u16, u32::MAX), (2, 4, 1000), (4, 4, u32::MAX), (16, 4, u32::MAX)];
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, may, id) in entries.into_iter().chain([(32, 0, u32::MAX)]) {
        value.extend([tag.to_le_bytes(), may.to_le_bytes()].concat());
        value.extend(id.to_le_bytes());
    }
    value
}

#[tokio::test]
async fn an_edited_file_keeps_its_mode_owner_and_attributes() {
    let trial = ApplyFixture::new(&["edit = 1", "kept = 1", "less = 1", "root = 1", "rw = 1"]);
    let at = |path: &str| trial.root.join(path);
    chmod(&at("edit"), 0o640);
    chmod(&at("less"), 0o755);
    chmod(&at("root"), 0o4755);
    let set = |path: &str, name: &str, value: &[u8]| {
        setxattr(at(path), name, value, XattrFlags::empty()).is_ok()
    };
    let value = |path: &str, name: &str| {
        let mut value = [0; 256];
        getxattr(at(path), name, &mut value[..]).ok().map(|length| value[..length].to_vec())
    };
    assert!(set("edit", "user.note", b"mine"), "user attributes are needed");
    let listed = set("kept", "system.posix_acl_access", &access_list());
    // What makes a program of a file is not for another content.
    let capability = [&[0, 0, 0, 2][..], &[0, 4, 0, 0], &[0; 12]].concat();
    let capable = set("edit", "security.capability", &capability);
    let is_root = rustix::process::geteuid().is_root();
    let stream = TarBytes::default()
        .entry(EntryType::Regular, "tree/edit", "", 0o777, b"2")
        .entry(EntryType::Regular, "tree/kept", "", 0o644, b"2")
        .entry(EntryType::Regular, "tree/less", "", 0o600, b"1")
        .entry(EntryType::Regular, "tree/root", "", 0o755, b"2")
        .entry(EntryType::Regular, "tree/rw", "", 0o600, b"1");
    let workspace = trial.copy().await;
    if is_root {
        lchown(at("edit"), Some(OTHER_UID), Some(OTHER_UID)).unwrap();
        assert!(!capable || set("edit", "security.capability", &capability));
    }
    workspace.take_changes(crate::workspace::trial::body(stream.end())).await.unwrap();
    let kept_before = mode(&trial, "kept");
    let applied = apply(&trial.session).unwrap();
    let changed = |path: &str, from, to| (path.to_owned(), NoteKind::Mode { from, to });
    assert_eq!(
        remarks(&applied),
        [
            changed("edit", 0o640, 0o750),
            changed("less", 0o755, 0o644),
            ("root".to_owned(), NoteKind::SpecialBits),
            ("rw".to_owned(), NoteKind::ModeKept),
        ]
    );
    assert_eq!((mode(&trial, "edit"), mode(&trial, "less")), (0o750, 0o644));
    assert_eq!((mode(&trial, "root"), mode(&trial, "rw")), (0o755, 0o644));
    assert_eq!(mode(&trial, "kept"), kept_before);
    assert_eq!(value("edit", "user.note").as_deref(), Some(&b"mine"[..]));
    assert!(!capable || value("edit", "security.capability").is_none());
    if listed {
        assert_eq!(value("kept", "system.posix_acl_access"), Some(access_list()));
    }
    if is_root {
        let now = std::fs::metadata(at("edit")).unwrap();
        assert_eq!((now.uid(), now.gid()), (OTHER_UID, OTHER_UID));
    }
}

#[tokio::test]
async fn an_owner_who_cannot_be_kept_is_named() {
    let trial = ApplyFixture::new(&["theirs = 1", "mine = 1"]);
    taken(&trial, TarBytes::default().file("theirs", "2").file("mine", "2")).await;
    trial.give_away();
    if !rustix::process::geteuid().is_root() {
        // Only root can give a file to another user.
        return;
    }
    lchown(trial.root.join("theirs"), Some(0), Some(0)).unwrap();
    let applied = as_another_user(|| apply(&trial.session)).unwrap();
    assert_eq!(remarks(&applied), [("theirs".to_owned(), NoteKind::Owner)]);
    assert_eq!(std::fs::metadata(trial.root.join("theirs")).unwrap().uid(), OTHER_UID);
}

#[tokio::test]
async fn a_hard_link_is_broken_and_named() {
    let elsewhere = |trial: &ApplyFixture| {
        let outside = trial.root.parent().unwrap().join("outside");
        std::fs::write(&outside, "1").unwrap();
        std::fs::hard_link(&outside, trial.root.join("a")).unwrap();
        outside
    };
    let trial = ApplyFixture::new(&[]);
    let outside = elsewhere(&trial);
    taken(&trial, TarBytes::default().file("a", "2")).await;
    let applied = apply(&trial.session).unwrap();
    assert_eq!(remarks(&applied), [("a".to_owned(), NoteKind::HardLink)]);
    assert_eq!(tree(&trial.root)["a"], "644 2");
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "1");

    // The control: written through, it would be changed outside.
    let trial = ApplyFixture::new(&[]);
    let outside = elsewhere(&trial);
    trial.put("a = 2");
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "2");
}

#[tokio::test]
async fn a_mode_that_is_not_applied_is_said() {
    let trial = ApplyFixture::new(&["d/x = 1", "rw = 1"]);
    let stream = TarBytes::default()
        .entry(EntryType::Directory, "tree/d", "", 0o700, b"")
        .entry(EntryType::Regular, "tree/rw", "", 0o600, b"1")
        .file("new", "x");
    taken(&trial, stream).await;
    let applied = apply(&trial.session).unwrap();
    let kept = |path: &str| (path.to_owned(), NoteKind::ModeKept);
    assert_eq!(remarks(&applied), [kept("d"), kept("rw")]);
    assert_eq!((mode(&trial, "d"), mode(&trial, "rw")), (0o755, 0o644));
    assert!(matches!(apply(&trial.session), Err(ApplyError::AlreadyApplied)));
}
