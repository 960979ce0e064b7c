//! Edits before what is derived, and what a bound cuts.

use airlock_shared::limits;
use airlock_shared::link::Cut;

use super::*;

#[tokio::test]
async fn edits_come_before_what_git_ignores_and_moves_before_what_they_leave() {
    let user = user(60);
    let folder = workspace(user);
    let tar = tar_of(&[
        ".git/",
        ".git/info/",
        ".git/info/exclude=private\n",
        ".gitignore=target/\n*.o\n",
        "a=1",
        "moved=1",
        "target/",
        "target/old=1",
        "z=1",
    ]);
    let came = unpacked(folder.path(), user, &tar).await.expect("a good tar");
    acting(user, folder.path(), |root| {
        let write =
            |path: &str, content: &str| std::fs::write(root.join(path), content).expect("write");
        std::fs::create_dir_all(root.join("sub/target")).expect("folder");
        std::fs::create_dir(root.join(".git/objects")).expect("folder");
        write("sub/target/deep", "derived");
        write("sub/.gitignore", "*.tmp\n!kept.o\n");
        write("sub/x.tmp", "derived");
        write("sub/kept.o", "an edit");
        write("sub/x.o", "derived");
        write(".git/objects/o", "git's");
        write("private", "derived");
        write("target/old", "derived again");
        write("target/new", "derived");
        write("aaa-large", &"x".repeat(2 << 20));
        write("z", "fixed");
        std::fs::rename(root.join("moved"), root.join("sub/moved")).expect("rename");
    })
    .await;
    let baseline = Arc::new(came.baseline);
    let paths = |out: &CollectedTar| -> Vec<String> {
        out.lines.iter().map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
    };
    let edits = [
        "tree/z",
        "tree/sub/",
        "tree/sub/.gitignore",
        "tree/sub/kept.o",
        "tree/sub/moved",
        "tree/aaa-large",
        "gone/moved",
    ];
    let derived = [
        "tree/target/old",
        "tree/.git/objects/",
        "tree/.git/objects/o",
        "tree/private",
        "tree/sub/target/",
        "tree/sub/target/deep",
        "tree/sub/x.o",
        "tree/sub/x.tmp",
        "tree/target/new",
    ];
    let whole = out(folder.path(), user, &baseline, all()).await.expect("it is wanted");
    let mut first = paths(&whole);
    let mut rest = first.split_off(edits.len());
    assert_eq!(first, edits);
    rest.sort();
    let mut derived = derived.map(str::to_owned).to_vec();
    derived.sort();
    assert_eq!((rest, &whole.end), (derived, &ChangesEnd::default()));
    // Room for the small edits alone: the move is not half done, and the end says what is missing.
    let tight = ChangesRequest { bytes: 1000, ..all() };
    let cut = out(folder.path(), user, &baseline, tight).await.expect("it is wanted");
    assert_eq!(paths(&cut)[..5], edits[..5]);
    assert!(!paths(&cut).contains(&"gone/moved".to_owned()), "{:?}", paths(&cut));
    let said = cut.end.cut.expect("it says that it is cut");
    let expected = Cut {
        why: "they are larger than what may come out".to_owned(),
        edits: true,
        paths: 2,
        unread: false,
        unseen: false,
        first: vec!["aaa-large".to_owned(), "moved".to_owned()],
    };
    assert_eq!(said, expected);
    // So far: the edits, and nothing a second time.
    let so_far = out(folder.path(), user, &baseline, ChangesRequest { last: false, ..all() })
        .await
        .expect("it is wanted");
    assert_eq!((paths(&so_far), so_far.end.so_far), (edits.map(str::to_owned).to_vec(), true));
    let again = ChangesRequest { last: false, out: Some(so_far.digest), ..all() };
    assert!(out(folder.path(), user, &baseline, again.clone()).await.is_none());
    acting(user, folder.path(), |root| std::fs::write(root.join("z"), "other").expect("write"))
        .await;
    assert!(out(folder.path(), user, &baseline, again).await.is_some());
}

#[tokio::test]
async fn a_short_time_cuts_the_tail() {
    let user = user(61);
    let folder = workspace(user);
    let came =
        unpacked(folder.path(), user, &tar_of(&["fix=1", "gone=1"])).await.expect("a good tar");
    let baseline = Arc::new(came.baseline);
    acting(user, folder.path(), |root| {
        std::fs::write(root.join("fix"), "2").expect("write");
        std::fs::remove_file(root.join("gone")).expect("remove");
        std::fs::write(root.join("large"), vec![0; 32 << 20]).expect("write");
    })
    .await;
    // No time to look: nothing is claimed, least of all that something is gone.
    let wanted = all();
    wanted.looked.cancel();
    let nothing = out(folder.path(), user, &baseline, wanted).await.expect("it is wanted");
    let cut = nothing.end.cut.expect("it says that it is cut");
    assert_eq!((nothing.lines, cut.edits, cut.unseen), (vec![], true, true));
    // No time to send: the stream ends well, and says what is missing.
    let wanted = all();
    wanted.enough.cancel();
    let nothing = out(folder.path(), user, &baseline, wanted).await.expect("it is wanted");
    let cut = nothing.end.cut.expect("it says that it is cut");
    assert_eq!(
        (nothing.lines, cut.first),
        (vec![], vec!["fix".to_owned(), "large".to_owned(), "gone".to_owned()])
    );
    // Out of time in the middle of a file: what came before it is whole.
    let wanted = all();
    let enough = wanted.enough.clone();
    let stream =
        changes(folder.path(), user.uid(), user.gid(), baseline, wanted).await.expect("root");
    let (mut stream, _) = stream.expect("it is wanted");
    let (mut tar, mut broke) = (Vec::new(), false);
    while let Some(piece) = stream.next().await {
        enough.cancel();
        match piece {
            Ok(piece) => tar.extend_from_slice(&piece),
            Err(_) => broke = true,
        }
    }
    assert!(broke && lines(&tar) == ["tree/fix 755 2"], "{:?}", lines(&tar));
}

/// What the host takes no more of is left out by name; the rest comes out.
#[tokio::test]
async fn too_deep_and_too_many_cost_only_the_tail() {
    let user = user(62);
    let folder = workspace(user);
    let came = unpacked(folder.path(), user, &tar_of(&["fix=1"])).await.expect("a good tar");
    acting(user, folder.path(), |root| {
        std::fs::write(root.join("fix"), "2").expect("write");
        let deep = root.join(vec!["d"; limits::PATH_COMPONENTS + 44].join("/"));
        std::fs::create_dir_all(&deep).expect("folders");
        std::fs::write(deep.join("x"), "").expect("write");
        std::fs::create_dir(root.join("many")).expect("folder");
        for number in 0..1000 {
            let link = root.join(format!("many/{number}"));
            std::os::unix::fs::symlink("x", link).expect("link");
        }
    })
    .await;
    let wanted = ChangesRequest { paths: 1000, ..all() };
    let out =
        out(folder.path(), user, &Arc::new(came.baseline), wanted).await.expect("it is wanted");
    assert_eq!((out.lines[0].as_str(), out.lines.len()), ("tree/fix 755 2", 1000));
    assert!(
        out.left_out.len() == 1 && out.left_out[0].ends_with("it lies too deep"),
        "{:?}",
        out.left_out
    );
    let cut = out.end.cut.expect("it says that it is cut");
    // The deep ones, the fix and the folder.
    let deep = limits::PATH_COMPONENTS as u64;
    assert_eq!((cut.edits, cut.paths, cut.unseen), (true, deep + 2, false));
    assert_eq!(cut.why, "there are more than a set of changes may have");
}

/// A fifo in the place of a file that came in cannot go out, and is not passed over in silence.
#[tokio::test]
async fn what_a_fifo_took_the_place_of_is_named() {
    let user = user(63);
    let folder = workspace(user);
    let came = unpacked(folder.path(), user, &tar_of(&["a=1", "b=1"])).await.expect("a good tar");
    acting(user, folder.path(), |root| {
        std::fs::remove_file(root.join("a")).expect("it was there");
        let fifo = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::from_raw_mode(0o644);
        rustix::fs::mknodat(rustix::fs::CWD, root.join("a"), fifo, mode, 0).expect("a fifo");
    })
    .await;
    let (lines, left_out) = changed(folder.path(), user, came.baseline).await;
    assert_eq!(lines, [""; 0]);
    assert_eq!(left_out, ["a: a fifo, a socket or a device is in its place"]);
}

/// Git sees a file that it tracks, whatever the patterns say. The control: what it does not track.
#[tokio::test]
async fn what_git_tracks_is_not_ignored() {
    let user = user(64);
    let folder = workspace(user);
    let index = [b"DIRC\0\0\0\x02\0\0\0\x01", &[0; 61][..], b"\x05out/a\0\0\0\0\0"].concat();
    let mut tar = tar::Builder::new(Vec::new());
    for path in ["", ".git/", "out/"] {
        let mut header = header(tar::EntryType::Directory, 0o755, 0);
        tar.append_data(&mut header, format!("./{path}"), std::io::empty()).expect("tar");
    }
    for (path, content) in
        [(".git/index", &index[..]), (".gitignore", b"*\n"), ("out/a", b"1"), ("out/b", b"1")]
    {
        let mut header = header(tar::EntryType::Regular, 0o644, content.len());
        tar.append_data(&mut header, path, content).expect("tar");
    }
    let tar = tar.into_inner().expect("tar");
    let came = unpacked(folder.path(), user, &tar).await.expect("a good tar");
    acting(user, folder.path(), |root| {
        for path in ["out/a", "out/b", "c"] {
            std::fs::write(root.join(path), "fixed").expect("write");
        }
    })
    .await;
    let so_far = ChangesRequest { last: false, ..all() };
    let out = out(folder.path(), user, &Arc::new(came.baseline), so_far).await;
    assert_eq!(out.expect("it is wanted").lines, ["tree/out/a 644 fixed"]);
}

/// What is locked is said to be missing, and nothing is said to be gone. At the end it is opened.
#[tokio::test]
async fn what_cannot_be_read_is_missing() {
    let user = user(65);
    let folder = workspace(user);
    let tar = tar_of(&["a=1", "b=1", "d/", "d/c=1", "gone=1"]);
    let came = unpacked(folder.path(), user, &tar).await.expect("a good tar");
    let baseline = Arc::new(came.baseline);
    acting(user, folder.path(), |root| {
        let lock = |path: &str, mode| {
            std::fs::set_permissions(root.join(path), PermissionsExt::from_mode(mode))
                .expect("mode");
        };
        for path in ["a", "b", "d/c"] {
            std::fs::write(root.join(path), "2").expect("write");
        }
        std::fs::remove_file(root.join("gone")).expect("remove");
        lock("a", 0o644);
        lock("b", 0);
        lock("d", 0o644);
        lock("", 0o644);
    })
    .await;
    let so_far = ChangesRequest { last: false, ..all() };
    let so_far = out(folder.path(), user, &baseline, so_far).await.expect("it is wanted");
    let missing = Cut {
        why: "some of it could not be read".to_owned(),
        edits: true,
        paths: 3,
        unread: true,
        unseen: false,
        first: ["d/c", "b", "gone"].map(str::to_owned).to_vec(),
    };
    assert_eq!(
        (so_far.lines, so_far.end.cut),
        (vec!["tree/a 644 2".to_owned(), "tree/d/ 644".to_owned()], Some(missing))
    );
    let (lines, left_out) = changed(folder.path(), user, Baseline::clone(&baseline)).await;
    assert_eq!(
        lines,
        ["tree/a 644 2", "tree/b 0 2", "tree/d/ 644", "tree/d/c 755 2", "gone/gone 644 "]
    );
    assert_eq!(left_out, Vec::<String>::new());
}
