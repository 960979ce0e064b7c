//! Where a named file may be written: each attack beside its defence.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use super::*;

struct Rig {
    _held: tempfile::TempDir,
    tree: PathBuf,
    outside: PathBuf,
}

fn rig() -> Rig {
    let held = tempfile::tempdir().expect("a directory");
    let root = held.path().canonicalize().expect("a path");
    let (tree, outside) = (root.join("tree"), root.join("outside"));
    std::fs::create_dir_all(tree.join("sub")).expect("made");
    std::fs::create_dir(&outside).expect("made");
    std::fs::write(outside.join("rc"), "mine").expect("written");
    Rig { _held: held, tree, outside }
}

impl Rig {
    fn write(&self, path: impl AsRef<Path>) -> Result<(), String> {
        let output = Output::open(path.as_ref(), Some(&self.tree))?;
        output.write(b"answer", 0o666).map_err(|error| error.to_string())
    }
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).expect("a file")
}

#[test]
fn no_link_of_the_work_tree_is_followed() {
    let rig = rig();
    let rc = rig.outside.join("rc");
    symlink(&rc, rig.tree.join("answer.md")).expect("linked");
    symlink(&rig.outside, rig.tree.join("docs")).expect("linked");
    symlink("/dev/stdout", rig.tree.join("out")).expect("linked");
    symlink(&rig.tree, rig.outside.join("into")).expect("linked");
    let through = rig.outside.join("into");
    // Without our check the attack works: the name alone leads out of the tree.
    std::fs::write(rig.tree.join("answer.md"), "theirs").expect("written");
    assert_eq!(read(&rc), "theirs");
    std::fs::write(&rc, "mine").expect("written");
    for path in ["answer.md", "docs/rc", "docs/new", "out", "sub/../answer.md"] {
        for tree in [&rig.tree, &through] {
            let refused = rig.write(tree.join(path)).expect_err(path);
            assert!(refused.ends_with("those are not followed"), "{refused}");
        }
    }
    assert_eq!(read(&rc), "mine");
    assert!(!rig.outside.join("new").exists());
}

#[test]
fn no_link_of_the_repository_around_the_work_tree_is_followed() {
    let rig = rig();
    let (rc, work) = (rig.outside.join("rc"), rig.tree.join("sub/deep"));
    symlink(&rc, rig.tree.join("answer.md")).expect("linked");
    symlink(&rc, rig.tree.join("sub/answer.md")).expect("linked");
    std::fs::create_dir_all(&work).expect("made");
    let write = |path: &str| {
        let output = Output::open(&rig.tree.join(path), Some(&work))?;
        output.write(b"answer", 0o666).map_err(|error| error.to_string())
    };
    // Without a sign of a repository the attack works.
    write("answer.md").expect("written");
    assert_eq!(read(&rc), "answer");
    std::fs::write(&rc, "mine").expect("written");
    // A submodule in a repository: the outer repository counts.
    std::fs::write(rig.tree.join("sub/.git"), "gitdir: ../.git/modules/sub").expect("written");
    std::fs::create_dir(rig.tree.join(".git")).expect("made");
    for path in ["answer.md", "sub/answer.md", "sub/deep/../answer.md"] {
        let refused = write(path).expect_err(path);
        assert!(refused.ends_with("those are not followed"), "{refused}");
    }
    assert_eq!(read(&rc), "mine");
    write("report.md").expect("written");
    // A home that is kept in git, and the directories above it, do not count as a repository.
    for (home, top) in [
        (None, Some(&*rig.tree)),
        (Some(&*rig.tree), Some(&*rig.tree.join("sub"))),
        (Some(&*rig.tree.join("sub")), None),
    ] {
        assert_eq!(outermost_repository(&work, home).as_deref(), top, "{home:?}");
    }
}

#[test]
fn a_file_of_the_work_tree_is_replaced_as_a_whole() {
    let rig = rig();
    let file = rig.tree.join("sub/answer.md");
    rig.write(&file).expect("written");
    // A second name of the file, outside the tree, keeps its content.
    std::fs::remove_file(&file).expect("removed");
    std::fs::hard_link(rig.outside.join("rc"), &file).expect("linked");
    rig.write(&file).expect("written");
    let (answer, rc) = (read(&file), read(rig.outside.join("rc")));
    assert_eq!((answer.as_str(), rc.as_str()), ("answer", "mine"));
    let mode = PermissionsExt::from_mode(0o640);
    std::fs::set_permissions(&file, mode).expect("a mode");
    rig.write(&file).expect("written");
    assert_eq!(file.metadata().expect("there").permissions().mode() & 0o777, 0o640);
    assert_eq!(std::fs::read_dir(rig.tree.join("sub")).expect("a directory").count(), 1);
}

#[test]
fn a_link_outside_the_tree_is_followed() {
    let rig = rig();
    symlink("rc", rig.outside.join("latest")).expect("linked");
    symlink("not-yet", rig.outside.join("next")).expect("linked");
    symlink("/dev/null", rig.outside.join("nowhere")).expect("linked");
    symlink("loop", rig.outside.join("loop")).expect("linked");
    std::fs::hard_link(rig.outside.join("rc"), rig.outside.join("second")).expect("linked");
    for name in ["latest", "next", "nowhere"] {
        rig.write(rig.outside.join(name)).expect(name);
        assert!(rig.outside.join(name).is_symlink());
    }
    assert_eq!(read(rig.outside.join("second")), "answer", "both names are still one file");
    assert_eq!(
        (read(rig.outside.join("rc")), read(rig.outside.join("not-yet"))),
        ("answer".into(), "answer".into())
    );
    assert_eq!(rig.write(rig.outside.join("loop")), Err("too many links".into()));
    Output::open(Path::new("/dev/null"), Some(&rig.tree)).expect("taken");
}

#[test]
fn what_is_not_a_file_is_refused_at_once() {
    let rig = rig();
    for place in [&rig.tree, &rig.outside] {
        let fifo = place.join("fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).expect("a fifo");
        assert_eq!(rig.write(&fifo), Err("it is a fifo".into()));
        let _socket = UnixListener::bind(place.join("socket")).expect("a socket");
        assert_eq!(rig.write(place.join("socket")), Err("it is a socket".into()));
        assert_eq!(rig.write(place), Err("it is a directory".into()));
        assert!(rig.write(place.join("new/")).is_err());
        assert!(rig.write(place.join("none/file")).is_err());
    }
    assert_eq!(rig.write("/dev/zero"), Err("it is a device".into()));
    assert_eq!(rig.write("/"), Err("it is a directory".into()));
}

#[test]
fn only_descriptors_that_were_given_are_written_to() {
    use std::os::fd::AsRawFd as _;
    let rig = rig();
    let ours = File::create(rig.outside.join("lock")).expect("a file");
    let named = |file: &File| format!("/dev/fd/{}", file.as_raw_fd());
    let refused = rig.write(named(&ours)).expect_err("it is ours");
    assert!(refused.ends_with("is not open for writing"), "{refused}");
    // As a shell passes one: without close-on-exec, and already written to.
    let mut given = File::create(rig.outside.join("given")).expect("a file");
    given.write_all(b"an ").expect("written");
    rustix::io::fcntl_setfd(&given, rustix::io::FdFlags::empty()).expect("no close-on-exec");
    rig.write(named(&given)).expect("written");
    assert_eq!(read(rig.outside.join("given")), "an answer");
    let read_only = File::open(rig.outside.join("given")).expect("a file");
    rustix::io::fcntl_setfd(&read_only, rustix::io::FdFlags::empty()).expect("no close-on-exec");
    assert!(rig.write(named(&read_only)).is_err());
    assert!(rig.write("/dev/fd/99999").is_err());
}
