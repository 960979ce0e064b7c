//! Edits come before derived files, and bounds cut the tail.

use airlock_shared::limits;
use airlock_shared::link::{Cut, CutWhy};
use airlock_shared::scrub::Needles;
use airlock_shared::secret::Secret;

use super::*;

#[tokio::test]
async fn edits_come_before_ignored_files_and_new_paths_before_deleted_ones() {
    let user = user(60);
    let dir = workspace(user);
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
    let result = unpacked(dir.path(), user, &tar).await.expect("a good tar");
    acting(user, dir.path(), |root| {
        let write =
            |path: &str, content: &str| std::fs::write(root.join(path), content).expect("write");
        std::fs::create_dir_all(root.join("sub/target")).expect("directory");
        std::fs::create_dir(root.join(".git/objects")).expect("directory");
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
    let baseline = Arc::new(result.baseline);
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
    let whole = out(dir.path(), user, &baseline, all()).await.expect("it is wanted");
    let mut first = paths(&whole);
    let mut rest = first.split_off(edits.len());
    assert_eq!(first, edits);
    rest.sort();
    let mut derived = derived.map(str::to_owned).to_vec();
    derived.sort();
    assert_eq!((rest, &whole.end), (derived, &ChangesEnd::default()));
    // Room for the small edits alone: the move is not half done, and the end names what is missing.
    let tight = ChangesRequest { bytes: 1000, ..all() };
    let cut = out(dir.path(), user, &baseline, tight).await.expect("it is wanted");
    assert_eq!(paths(&cut)[..5], edits[..5]);
    assert!(!paths(&cut).contains(&"gone/moved".to_owned()), "{:?}", paths(&cut));
    let end = cut.end.cut.expect("it says that it is cut");
    let expected = Cut {
        why: CutWhy::Bytes,
        edits: true,
        paths: 2,
        unread: false,
        unseen: false,
        first: vec!["aaa-large".to_owned(), "moved".to_owned()],
    };
    assert_eq!(end, expected);
    // During the turn: only the edits, and the same set is not sent again.
    let so_far = out(dir.path(), user, &baseline, ChangesRequest { last: false, ..all() })
        .await
        .expect("it is wanted");
    assert_eq!((paths(&so_far), so_far.end.so_far), (edits.map(str::to_owned).to_vec(), true));
    let again = ChangesRequest { last: false, sent: Some(so_far.digest), ..all() };
    assert!(out(dir.path(), user, &baseline, again.clone()).await.is_none());
    acting(user, dir.path(), |root| std::fs::write(root.join("z"), "other").expect("write")).await;
    assert!(out(dir.path(), user, &baseline, again).await.is_some());
}

#[tokio::test]
async fn a_short_time_cuts_the_tail() {
    let user = user(61);
    let dir = workspace(user);
    let result =
        unpacked(dir.path(), user, &tar_of(&["fix=1", "gone=1"])).await.expect("a good tar");
    let baseline = Arc::new(result.baseline);
    acting(user, dir.path(), |root| {
        std::fs::write(root.join("fix"), "2").expect("write");
        std::fs::remove_file(root.join("gone")).expect("remove");
        std::fs::write(root.join("large"), vec![0; 32 << 20]).expect("write");
    })
    .await;
    // No time to scan: no path is sent, also not as deleted.
    let wanted = all();
    wanted.stop_scan.cancel();
    let nothing = out(dir.path(), user, &baseline, wanted).await.expect("it is wanted");
    let cut = nothing.end.cut.expect("it says that it is cut");
    assert_eq!((nothing.lines, cut.edits, cut.unseen), (vec![], true, true));
    // No time to send: the stream ends well, and names what is missing.
    let wanted = all();
    wanted.stop_stream.cancel();
    let nothing = out(dir.path(), user, &baseline, wanted).await.expect("it is wanted");
    let cut = nothing.end.cut.expect("it says that it is cut");
    assert_eq!(
        (nothing.lines, cut.first),
        (vec![], vec!["fix".to_owned(), "large".to_owned(), "gone".to_owned()])
    );
    // The time ends in the middle of a file: the entries before it are complete.
    let wanted = all();
    let stop_stream = wanted.stop_stream.clone();
    let stream = changes(dir.path(), user.uid(), user.gid(), baseline, wanted).await.expect("root");
    let (mut stream, _) = stream.expect("it is wanted");
    let (mut tar, mut broke) = (Vec::new(), false);
    while let Some(piece) = stream.next().await {
        stop_stream.cancel();
        match piece {
            Ok(piece) => tar.extend_from_slice(&piece),
            Err(_) => broke = true,
        }
    }
    assert!(broke && lines(&tar) == ["tree/fix 755 2"], "{:?}", lines(&tar));
}

/// Paths beyond the host's limits are named as missing. The rest is sent.
#[tokio::test]
async fn too_deep_and_too_many_paths_cut_only_the_tail() {
    let user = user(62);
    let dir = workspace(user);
    let result = unpacked(dir.path(), user, &tar_of(&["fix=1"])).await.expect("a good tar");
    acting(user, dir.path(), |root| {
        std::fs::write(root.join("fix"), "2").expect("write");
        let deep = root.join(vec!["d"; limits::PATH_COMPONENTS + 44].join("/"));
        std::fs::create_dir_all(&deep).expect("directories");
        std::fs::write(deep.join("x"), "").expect("write");
        std::fs::create_dir(root.join("many")).expect("directory");
        for number in 0..1000 {
            let link = root.join(format!("many/{number}"));
            std::os::unix::fs::symlink("x", link).expect("link");
        }
    })
    .await;
    let wanted = ChangesRequest { paths: 1000, ..all() };
    let out =
        out(dir.path(), user, &Arc::new(result.baseline), wanted).await.expect("it is wanted");
    assert_eq!((out.lines[0].as_str(), out.lines.len()), ("tree/fix 755 2", 1000));
    assert!(
        out.omitted.len() == 1 && out.omitted[0].ends_with("it lies too deep"),
        "{:?}",
        out.omitted
    );
    let cut = out.end.cut.expect("it says that it is cut");
    // The deep paths, `fix` and `many`.
    let deep = limits::PATH_COMPONENTS as u64;
    assert_eq!((cut.edits, cut.paths, cut.unseen), (true, deep + 2, false));
    assert_eq!(cut.why, CutWhy::Paths);
}

/// A fifo that replaced a file of the baseline cannot be copied out, and is named.
#[tokio::test]
async fn a_file_that_a_fifo_replaced_is_named() {
    let user = user(63);
    let dir = workspace(user);
    let result = unpacked(dir.path(), user, &tar_of(&["a=1", "b=1"])).await.expect("a good tar");
    acting(user, dir.path(), |root| {
        std::fs::remove_file(root.join("a")).expect("it was there");
        let fifo = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::from_raw_mode(0o644);
        rustix::fs::mknodat(rustix::fs::CWD, root.join("a"), fifo, mode, 0).expect("a fifo");
    })
    .await;
    let (lines, omitted) = changed(dir.path(), user, result.baseline).await;
    assert_eq!(lines, [""; 0]);
    assert_eq!(omitted, ["a: a fifo, a socket or a device is in its place"]);
}

/// A file that git tracks is an edit even if a pattern matches it. The control: untracked files.
#[tokio::test]
async fn what_git_tracks_is_not_ignored() {
    let user = user(64);
    let dir = workspace(user);
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
    let result = unpacked(dir.path(), user, &tar).await.expect("a good tar");
    acting(user, dir.path(), |root| {
        for path in ["out/a", "out/b", "c"] {
            std::fs::write(root.join(path), "fixed").expect("write");
        }
    })
    .await;
    let so_far = ChangesRequest { last: false, ..all() };
    let out = out(dir.path(), user, &Arc::new(result.baseline), so_far).await;
    assert_eq!(out.expect("it is wanted").lines, ["tree/out/a 644 fixed"]);
}

/// During the turn, locked paths are named as missing, and no path is sent as deleted. At the end,
/// they are unlocked.
#[tokio::test]
async fn what_cannot_be_read_is_missing() {
    let user = user(65);
    let dir = workspace(user);
    let tar = tar_of(&["a=1", "b=1", "d/", "d/c=1", "gone=1"]);
    let result = unpacked(dir.path(), user, &tar).await.expect("a good tar");
    let baseline = Arc::new(result.baseline);
    acting(user, dir.path(), |root| {
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
    let so_far = out(dir.path(), user, &baseline, so_far).await.expect("it is wanted");
    let missing = Cut {
        why: CutWhy::Unread,
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
    let (lines, omitted) = changed(dir.path(), user, Baseline::clone(&baseline)).await;
    assert_eq!(
        lines,
        ["tree/a 644 2", "tree/b 0 2", "tree/d/ 644", "tree/d/c 755 2", "gone/gone 644 "]
    );
    assert_eq!(omitted, Vec::<String>::new());
}

#[test]
fn a_cut_name_says_that_it_is_cut() {
    let key = "sk-canary-0123456789-0123456789";
    let path = format!("{}{key}", "x".repeat(180));
    let named = read::named(path.as_bytes());
    assert_eq!(named, format!("{}sk-canary-0123456789…", "x".repeat(180)));
    let needles = Needles::for_texts(&[Secret::new(key.to_owned())]);
    let left = format!("{}[secret removed]…", "x".repeat(180));
    assert_eq!(needles.text(&named), left);
    // The control: without the mark the part stays.
    let unmarked = named.trim_end_matches('…');
    assert_eq!(needles.text(unmarked), unmarked);
    assert_eq!(read::named(b"short"), "short");
}
