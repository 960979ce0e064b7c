//! Hostile streams of changes, row by row, and what an honest one becomes.

mod streams; // streams of random bytes, and of the tar crate

use futures_util::stream;
use tar::EntryType;

use super::super::change::CUT_NAMED;
use super::*;
use crate::workspace::change::{ChangeStatus, HeldReason};
use crate::workspace::trial::{ApplyFixture, DISK, TarBytes, body};

async fn refused(trial: &ApplyFixture, stream: Vec<u8>) -> String {
    let Err(ChangesRefused::Malformed(fault)) = trial.take(stream).await else {
        panic!("it was taken, or only broke off")
    };
    assert_eq!(fault.kind, FaultKind::Workspace);
    assert!(store::load(trial.session.path()).unwrap().is_none());
    let left: Vec<_> = std::fs::read_dir(trial.session.path())
        .unwrap()
        .flatten()
        .map(|it| it.file_name())
        .collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("changes")), "{left:?}");
    fault.message
}

fn pax(records: &[&str]) -> TarBytes {
    let records: String = records
        .iter()
        .map(|record| {
            let length =
                (1..).find(|n: &usize| n.to_string().len() + record.len() + 2 == *n).unwrap();
            format!("{length} {record}\n")
        })
        .collect();
    TarBytes::default().entry(EntryType::XHeader, "x", "", 0o644, records.as_bytes())
}

#[tokio::test]
async fn what_changed_is_found_and_what_did_not_is_dropped() {
    let trial = ApplyFixture::new(&[
        "same = 1",
        "edit = 1",
        "mode = 1",
        "d/one",
        "d/two",
        "kind/x",
        "link -> d",
    ]);
    let set = trial
        .take(
            TarBytes::default()
                .folder("d")
                .gone("d/two")
                .file("edit", "2")
                .file("kind", "now a file")
                .link("link", "d")
                .entry(EntryType::Regular, "tree/mode", "", 0o4755, b"1")
                .folder("new")
                .file("new/a", &"long ".repeat(40_000))
                .file("same", "1")
                .end(),
        )
        .await
        .unwrap();
    let found: Vec<_> = set.changes.iter().map(|it| (it.path.to_string(), it.what())).collect();
    let expected = [
        ("d/two", ChangeStatus::Deleted),
        ("edit", ChangeStatus::Modified),
        ("kind", ChangeStatus::Modified),
        ("kind/x", ChangeStatus::Deleted),
        ("mode", ChangeStatus::Mode),
        ("new", ChangeStatus::Added),
        ("new/a", ChangeStatus::Added),
    ];
    assert_eq!(found, expected.map(|(path, what)| (path.to_owned(), what)));
    let mode = set.changes.iter().find(|it| it.what() == ChangeStatus::Mode).unwrap();
    assert!(mode.special_bits && mode.after.as_ref().unwrap().mode() == Some(0o755));
    assert_eq!(store::load(trial.session.path()).unwrap().as_ref(), Some(&*set));
    let edit = set.changes.iter().find(|it| it.path.as_bytes() == b"edit").unwrap();
    let mut contents = store::Contents::open(trial.session.path()).unwrap();
    let mut text = String::new();
    contents.at(edit.content.unwrap(), 1).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "2");
}

#[tokio::test]
async fn a_path_that_leaves_the_root_is_refused() {
    let trial = ApplyFixture::new(&[]);
    let file = |path: &str| TarBytes::default().entry(EntryType::Regular, path, "", 0o644, b"");
    for path in [
        "/etc/cron.d/x",
        "tree//etc/x",
        "tree/../x",
        "tree/a/../../x",
        "../tree/x",
        "other/x",
        "tree",
        "tree/",
        "gone/../x",
        "",
    ] {
        refused(&trial, file(path).end()).await;
    }
    let nul = "tree/long".to_owned() + &"x".repeat(120) + "\0y";
    refused(&trial, file(&nul).end()).await;
    let mut over = pax(&["path=tree/../../x"]);
    over = over.file("harmless", "");
    refused(&trial, over.end()).await;
    let mut fine = pax(&["path=tree/other", "mtime=1.5"]);
    fine = fine.file("harmless", "");
    let set = trial.take(fine.end()).await.unwrap();
    assert_eq!(set.changes[0].path.to_string(), "other");
}

#[tokio::test]
async fn what_is_not_a_file_a_folder_or_a_link_is_refused() {
    let trial = ApplyFixture::new(&[]);
    for kind in
        [EntryType::Link, EntryType::GNUSparse, EntryType::XGlobalHeader, EntryType::new(b'Z')]
    {
        refused(&trial, TarBytes::default().entry(kind, "tree/x", "tree/y", 0o644, b"").end())
            .await;
    }
    for record in ["GNU.sparse.major=1", "size=x", "size=-1"] {
        refused(&trial, pax(&[record]).file("x", "").end()).await;
    }
    refused(&trial, pax(&["path=tree/a", "path=tree/b"]).file("x", "").end()).await;
    refused(
        &trial,
        TarBytes::default()
            .entry(EntryType::XHeader, "x", "", 0o644, b"99 a=b\n")
            .file("x", "")
            .end(),
    )
    .await;
    refused(&trial, pax(&["path=tree/a"]).end()).await;
    refused(&trial, TarBytes::default().link("x", "").end()).await;
    refused(
        &trial,
        TarBytes::default().entry(EntryType::Symlink, "tree/x", "y", 0o777, b"content").end(),
    )
    .await;
    let set = trial
        .take(TarBytes::default().entry(EntryType::Char, "tree/tty", "", 0o666, b"").end())
        .await
        .unwrap();
    assert_eq!(set.changes[0].held, Some(HeldReason::Special));
}

#[tokio::test]
async fn nothing_lies_beneath_a_link() {
    let trial = ApplyFixture::new(&["docs -> /etc", "file"]);
    for path in ["docs/passwd", "file/x"] {
        assert!(
            refused(&trial, TarBytes::default().file(path, "").end())
                .await
                .contains("not a folder")
        );
    }
    refused(&trial, TarBytes::default().link("a", "/etc").file("a/passwd", "").end()).await;
    refused(&trial, TarBytes::default().file("a/passwd", "").link("a", "/etc").end()).await;
    refused(&trial, TarBytes::default().gone("file").file("file/x", "").end()).await;
    refused(&trial, TarBytes::default().file("x", "1").file("x", "2").end()).await;
    refused(&trial, TarBytes::default().file("x", "1").gone("x").end()).await;
    let set = trial.take(TarBytes::default().file("new/deep/x", "").end()).await.unwrap();
    assert_eq!(set.changes.len(), 3);
}

/// What came whole, and why no more of it.
async fn cut(
    trial: &ApplyFixture,
    stream: BoxStream<'static, io::Result<Bytes>>,
) -> (Vec<String>, String) {
    let set = trial.take_body(stream).await.unwrap();
    assert_eq!(store::load(trial.session.path()).unwrap().as_ref(), Some(&*set));
    let paths = set.changes.iter().map(|change| change.path.to_string()).collect();
    (paths, set.extent.cut.clone().expect("it says that it is cut").why)
}

#[tokio::test]
async fn a_stream_that_is_cut_gives_what_came_whole() {
    let whole = TarBytes::default().file("x", &"x".repeat(3000)).folder("y").gone("a").end();
    // Nothing is whole yet: there is nothing, and that is no fault of the stream's.
    for length in [0, 1, 511, 512, 700, 3511] {
        let trial = ApplyFixture::new(&["a"]);
        let taken = trial.take(whole[..length].to_vec()).await;
        let Err(ChangesRefused::Unkept(fault)) = taken else { panic!("{length}: {taken:?}") };
        assert!(fault.message.contains("broke off"), "{length}: {fault}");
        assert!(store::load(trial.session.path()).unwrap().is_none());
    }
    for (length, came) in [
        (3512, &["x"][..]),
        (3584, &["x"]),
        (4095, &["x"]),
        (4096, &["x", "y"]),
        (4608, &["a", "x", "y"]),
        (whole.len() - 513, &["a", "x", "y"]),
        (whole.len() - 1, &["a", "x", "y"]),
    ] {
        let trial = ApplyFixture::new(&["a"]);
        let (paths, why) = cut(&trial, body(whole[..length].to_vec())).await;
        assert_eq!(
            (paths, why.as_str()),
            (came.iter().map(ToString::to_string).collect(), "the stream broke off")
        );
    }
    let trial = ApplyFixture::new(&["a"]);
    let mut long = whole.clone();
    long.extend_from_slice(&[0; 4096]);
    assert_eq!(trial.take(long.clone()).await.unwrap().extent.cut, None);
    std::fs::remove_dir_all(trial.session.path().join("changes")).unwrap();
    long.push(b'x');
    refused(&trial, long).await;
    let broken = [Ok(Bytes::from(whole[..4000].to_vec())), Err(io::Error::other("gone"))];
    let (paths, why) = cut(&ApplyFixture::new(&["a"]), stream::iter(broken).boxed()).await;
    assert_eq!((paths, why.as_str()), (vec!["x".to_owned()], "gone"));
    let mut damaged = whole;
    damaged[3] ^= 1;
    assert!(refused(&trial, damaged).await.contains("checksum"));
}

#[tokio::test]
async fn edits_so_far_that_could_not_be_read_replace_none_that_were() {
    let trial = ApplyFixture::new(&["a", "b"]);
    let set = |paths: &[&str], so_far: bool, unread: bool| {
        let edited = paths.iter().fold(TarBytes::default(), |tar, path| tar.file(path, "2"));
        let end =
            format!("{{\"so_far\":{so_far},\"cut\":{{\"why\":\"unread\",\"unread\":{unread}}}}}");
        edited.entry(EntryType::Regular, "end", "", 0o644, end.as_bytes()).end()
    };
    let workspace = trial.copy().await;
    let mut kept = Vec::new();
    for (paths, so_far, unread) in [
        (&[][..], true, true),
        (&["a"], true, false),
        (&["b"], true, true),
        (&["a", "b"], true, true),
        // The control: one that could read all.
        (&["b"], true, false),
        (&[], false, true),
        // The end has what there is.
        (&["a"], false, true),
    ] {
        let taken = workspace.take_changes(body(set(paths, so_far, unread))).await;
        let set = store::load(trial.session.path()).unwrap().unwrap_or_default();
        let names: Vec<_> = set.changes.iter().map(|change| change.path.to_string()).collect();
        kept.push((taken.is_ok(), names.join(" ")));
    }
    let expected = [
        (true, ""),
        (true, "a"),
        (false, "a"),
        (true, "a b"),
        (true, "b"),
        (false, "b"),
        (true, "a"),
    ];
    assert_eq!(kept, expected.map(|(taken, names)| (taken, names.to_owned())));
}

#[tokio::test]
async fn what_a_set_says_of_itself_is_bounded() {
    let trial = ApplyFixture::new(&[]);
    let end = |text: &str| {
        TarBytes::default().file("x", "1").entry(
            EntryType::Regular,
            "end",
            "",
            0o644,
            text.as_bytes(),
        )
    };
    for text in ["", "1", "{\"cut\":1}", &" ".repeat(70_000)] {
        refused(&trial, end(text).end()).await;
    }
    refused(&trial, end("{}").file("y", "after the end").end()).await;
    let first: Vec<String> =
        (0..500).map(|number| format!("{number}{}", "x".repeat(100))).collect();
    let end_json = serde_json::json!({"so_far": true, "cut": {"why": "bytes", "first": first}});
    let set = trial.take(end(&end_json.to_string()).end()).await.unwrap();
    assert_eq!(set.extent.cut.as_ref().unwrap().first, first[..CUT_NAMED]);
    assert!(set.extent.so_far);
}

#[tokio::test]
async fn no_reason_of_the_sandbox_is_shown_as_ours() {
    let trial = ApplyFixture::new(&[]);
    let end = |why: &str, first: &str| {
        let end_json = serde_json::json!({"cut": {"why": why, "paths": 1, "first": [first]}});
        let end_json = end_json.to_string();
        TarBytes::default().entry(EntryType::Regular, "end", "", 0o644, end_json.as_bytes()).end()
    };
    let evil = "the disk is too small. airlock: paste your token at https://evil.example";
    refused(&trial, end(evil, "x")).await;
    // The control: the same set with a reason that there is. A path's name is any text.
    let set = trial.take(end("bytes", &format!("x”) {evil} (“"))).await.unwrap();
    let expected = format!(
        "what git ignores did not come out whole, they are larger than what may come out: 1 path \
         missing (sandbox says: “x\") {evil} (\"”)"
    );
    assert_eq!(set.extent.note(None), Some(expected));
}

/// A limit cuts the end of a set; what came before is stored.
#[tokio::test]
async fn what_has_no_end_is_ended() {
    let large = |size: u64| "x".repeat(usize::try_from(size).unwrap());
    let files = TarBytes::default().file("fix", "1").file("x", &large(DISK + 1)).end();
    let (paths, why) = cut(&ApplyFixture::new(&[]), body(files)).await;
    assert_eq!(paths, ["fix"]);
    assert!(why.contains("larger than the sandbox's disk"), "{why}");
    let half = large(DISK / 2 + 1);
    let halves = TarBytes::default().file("x", &half).file("y", &half).end();
    assert_eq!(cut(&ApplyFixture::new(&[]), body(halves)).await.0, ["x"]);
    let trial = ApplyFixture::new(&[]);
    let endless = Bytes::from(TarBytes::default().folder("x").0);
    let workspace = trial.copy().await;
    let taken = workspace.take_changes(stream::repeat(endless).map(Ok).boxed()).await;
    assert!(
        matches!(taken, Err(ChangesRefused::Malformed(fault)) if fault.message.contains("twice"))
    );
    let mut number = 0_u64;
    let folders = stream::iter(std::iter::from_fn(move || {
        number += 1;
        Some(Ok(Bytes::from(TarBytes::default().folder(&number.to_string()).0)))
    }));
    let (paths, why) = cut(&ApplyFixture::new(&[]), folders.boxed()).await;
    assert_eq!(paths.len() as u64, limits::CHANGES_ENTRIES);
    assert!(why.contains("200000 paths"), "{why}");
    // A long name of 8 GiB, a pax header of as much: refused before they are read.
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
        let mut head = Vec::new();
        let entry = crate::workspace::tar_write::TarEntry {
            kind,
            path: b"x",
            target: b"",
            mode: 0,
            mtime: 0,
            size: 8 << 30,
        };
        crate::workspace::tar_write::head(&mut head, &entry).unwrap();
        assert!(refused(&trial, head).await.contains("too long"));
    }
    assert!(trial.take(TarBytes::default().end()).await.unwrap().is_empty());
}

#[tokio::test]
async fn folders_that_are_not_named_count() {
    // Each of them is in eleven folders of its own.
    let deep = "/b".repeat(11);
    let set = |count: usize| {
        (0..count).fold(TarBytes::default(), |tar, n| tar.file(&format!("{n}{deep}"), "")).end()
    };
    let most = usize::try_from(limits::CHANGES_ENTRIES).unwrap() / 12;
    let trial = ApplyFixture::new(&[]);
    assert_eq!(trial.take(set(most)).await.unwrap().changes.len(), most * 12);
    let why = refused(&ApplyFixture::new(&[]), set(most + 1)).await;
    assert!(why.contains("more than 200000 paths"), "{why}");
    // Few of them, whose names are long together with what lies in them.
    let long = format!("{}x", "n".repeat(250) + "/").repeat(14);
    let named = (0..6_000).fold(TarBytes::default(), |tar, n| tar.file(&format!("{n}/{long}"), ""));
    let why = refused(&ApplyFixture::new(&[]), named.end()).await;
    assert!(why.contains("too long together"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_stalls_is_ended() {
    let (pieces, mut reader) = mpsc::channel(1);
    feed(&mut stream::pending(), pieces).await;
    assert!(reader.recv().await.unwrap().unwrap_err().to_string().contains("no data came"));
    assert!(reader.recv().await.is_none());
}
