//! A directory is copied in: what is in the stream, what is left out, what is recorded.

use std::os::unix::ffi::OsStrExt;

use proptest::prelude::*;

use super::*;
use crate::workspace::base::Base;
use crate::workspace::bounds::PAGE_BYTES;
use crate::workspace::tar_read::EntryKind;
use crate::workspace::trial::{ApplyFixture, DISK, chmod, tree};
use crate::workspace::{CopyStarted, WorkspaceLink};

/// What is in a stream: path, and content or target; and which paths are named as left out.
fn unpacked(stream: &[u8]) -> Vec<(String, EntryKind, String)> {
    let mut archive = tar::Archive::new(stream);
    let mut found = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let kind = match entry.header().entry_type() {
            EntryType::Directory => EntryKind::Folder,
            EntryType::Symlink => EntryKind::Link,
            EntryType::Regular => EntryKind::File,
            kind if kind == EntryType::new(LEFT_OUT) => continue,
            kind => panic!("{kind:?}"),
        };
        let mut text = Vec::new();
        entry.read_to_end(&mut text).unwrap();
        if kind == EntryKind::Link {
            text = entry.link_name_bytes().unwrap().into_owned();
        }
        let path = crate::workspace::rel_path::encode(&entry.path_bytes());
        found.push((path, kind, String::from_utf8_lossy(&text).into_owned()));
    }
    found
}

fn paths(stream: &[u8]) -> Vec<String> {
    unpacked(stream).into_iter().map(|(path, ..)| path).collect()
}

#[tokio::test]
async fn secrets_are_left_out() {
    let trial = ApplyFixture::new(&[
        ".env",
        "a/.env.local",
        "a/main.rs",
        "a/id_rsa",
        ".aws/config",
        ".aws/sso/cache",
        "x.pem = -----BEGIN PRIVATE KEY-----",
        "ca.pem = -----BEGIN CERTIFICATE-----",
        ".gitignore = *",
        "ignored",
        "target/debug/x",
    ]);
    let (stream, copied, _) = trial.copy_with(&[], &[], DISK).await;
    assert_eq!(
        paths(&stream),
        [
            ".gitignore",
            "ca.pem",
            "ignored",
            "a",
            "a/main.rs",
            "target",
            "target/debug",
            "target/debug/x",
        ]
    );
    let copied = copied.unwrap();
    let named: Vec<_> = copied.left_out.iter().map(|it| it.path.to_string()).collect();
    assert_eq!(named, [".aws", ".env", "x.pem", "a/.env.local", "a/id_rsa"]);
    assert_eq!(copied.left_out_count, HashMap::from([(LeftOutReason::Secret, 5)]));
    assert_eq!((copied.entries, copied.files, copied.git), (8, 5, false));

    let (stream, copied, _) = trial.copy_with(&[".aws/sso", "*.pem"], &["target"], DISK).await;
    let brought = [
        ".gitignore",
        "ca.pem",
        "ignored",
        "x.pem",
        ".aws",
        ".aws/sso",
        ".aws/sso/cache",
        "a",
        "a/main.rs",
    ];
    assert_eq!(paths(&stream), brought);
    assert_eq!(
        copied.unwrap().left_out_count,
        HashMap::from([(LeftOutReason::Secret, 4), (LeftOutReason::Excluded, 1)])
    );
}

#[tokio::test]
async fn gits_configuration_and_hooks_are_left_out() {
    let secret = "[remote \"o\"]\n\turl = https://token@host/";
    let trial = ApplyFixture::new(&[
        ".git/HEAD = ref: refs/heads/main",
        ".git/hooks/pre-commit",
        ".git/credentials = https://me:token@host",
        ".git/remotes/old = URL: https://me:token@host",
        ".git/git-crypt/keys/default = token",
        ".git/info/attributes",
        ".git/refs/heads/config",
        ".git/modules/sub/HEAD",
        ".git/modules/sub/objects/",
        ".git/modules/sub/refs/",
        ".git/modules/sub/hooks/x",
        "sub/.git = gitdir: ../.git/modules/sub",
        ".git/config.worktree",
        "deep/er/.GIT/hooks/x",
        "bare.x/HEAD",
        "bare.x/objects/",
        "bare.x/refs/",
        "deep/config",
    ]);
    for path in [".git/config", ".git/modules/sub/config", "deep/er/.GIT/config", "bare.x/config"] {
        trial.put(&format!("{path} = {secret}"));
    }
    let (stream, copied, _) = trial.copy_with(&["**"], &[], DISK).await;
    let found = unpacked(&stream);
    let has = |path: &str| found.iter().any(|(other, ..)| other == path);
    assert!(found.iter().all(|(path, _, text)| !path.contains("hooks") && !text.contains("token")));
    for path in [".git/info/attributes", ".git/refs/heads/config", "sub/.git", "deep/config"] {
        assert!(has(path), "{path}");
    }
    assert!(!has(".git/config.worktree"));
    let config = |path: &str| found.iter().find(|(other, ..)| other == path).unwrap().2.clone();
    let stand_in = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n";
    assert_eq!(config(".git/config"), stand_in);
    assert_eq!(config(".git/modules/sub/config"), stand_in);
    assert_eq!(config("deep/er/.GIT/config"), stand_in);
    assert_eq!(config("bare.x/config"), stand_in.replace("false", "true"));
    let copied = copied.unwrap();
    assert!(copied.git);
    assert_eq!(copied.left_out_count, HashMap::from([(LeftOutReason::Git, 11)]));
}

/// Wherever they lie in a `.git`, and no branch or submodule of such a name.
#[tokio::test]
async fn copies_of_gits_configuration_are_left_out() {
    let at_home = [
        ".git/annex/creds/x",
        ".git/config.bak",
        ".git/config~",
        ".git/FETCH_HEAD",
        ".git/more/config.local",
        ".git/worktrees/w/config.worktree",
        "refs/.git/more/config",
    ];
    let goes_in = [
        "config~",
        ".git/HEAD",
        ".git/annex/objects/x",
        ".git/modules/config/HEAD",
        ".git/objects/x",
        ".git/refs/heads/config",
        ".git/worktrees/w/HEAD",
    ];
    let trial = ApplyFixture::new(&[at_home.as_slice(), &goes_in].concat());
    let (stream, copied, _) = trial.copy_with(&[], &[], DISK).await;
    let copied = copied.unwrap();
    let files = unpacked(&stream).into_iter().filter(|(_, kind, _)| *kind == EntryKind::File);
    assert_eq!(files.map(|(path, ..)| path).collect::<Vec<_>>(), goes_in);
    assert_eq!(copied.left_out_count, HashMap::from([(LeftOutReason::Git, at_home.len() as u64)]));
}

#[tokio::test]
async fn gits_logs_and_stored_credentials_are_left_out() {
    let log = "0 1 me <me@x> 1 +0000\tpull https://bot:ghp_canary@host/: Fast-forward\n";
    let trial = ApplyFixture::new(&[
        ".git/HEAD = ref: refs/heads/main",
        ".git/refs/heads/logs",
        ".git/worktrees/w/HEAD",
        ".git/worktrees/w/commondir = ../..",
        "logs/app",
    ]);
    for path in [".git/logs/HEAD", ".git/logs/refs/heads/main", ".git/worktrees/w/logs/HEAD"] {
        trial.put(&format!("{path} = {log}"));
    }
    let inside = |stream: &[u8]| String::from_utf8_lossy(stream).contains("ghp_canary");
    let (stream, copied, _) = trial.copy_with(&["**"], &[], DISK).await;
    assert!(!inside(&stream));
    let there = paths(&stream);
    for path in [".git/refs/heads/logs", "logs/app", ".git/worktrees/w/HEAD"] {
        assert!(there.contains(&path.to_owned()), "{there:?}");
    }
    assert_eq!(copied.unwrap().left_out_count, HashMap::from([(LeftOutReason::Git, 2)]));
    // Elsewhere in the repository it would go in.
    trial.put(&format!(".git/description = {log}"));
    assert!(inside(&trial.copy_with(&[], &[], DISK).await.0));
}

/// A repository is known by its shape, whatever its name.
#[tokio::test]
async fn no_repository_goes_in_without_its_history() {
    let trial =
        ApplyFixture::new(&["main.rs", ".git = gitdir: ./.bare", "sub/.git/HEAD", "objects/x"]);
    for repository in [".bare", "deep/backup.git"] {
        for part in ["HEAD", "objects/12/34 = canary", "refs/heads/main", "packed-refs"] {
            trial.put(&format!("{repository}/{part}"));
        }
    }
    trial.put(".bare/worktrees/w/HEAD");
    trial.put(".bare/worktrees/w/commondir = ../..");
    let copy = async |root: &std::path::Path, rules: LeaveOutRules| {
        let CopyStarted { workspace, copied, .. } =
            WorkspaceLink::copy(root, rules, DISK, &trial.session);
        let pieces = workspace.stream_in().map(|piece| piece.unwrap());
        let stream = pieces.collect::<Vec<_>>().await.concat();
        (paths(&stream), copied.await.unwrap().unwrap())
    };
    let rules = || LeaveOutRules::new(&["**".to_owned()], &[]).unwrap();
    let (inside, _) = copy(&trial.root, rules()).await;
    assert!(inside.contains(&"deep/backup.git/objects/12/34".to_owned()), "{inside:?}");
    let (inside, copied) = copy(&trial.root, rules().without_history()).await;
    assert_eq!(inside, ["main.rs", "deep", "objects", "objects/x", "sub"]);
    assert_eq!(copied.left_out_count, HashMap::from([(LeftOutReason::History, 4)]));
    // The directory itself may be one.
    let (inside, _) = copy(&trial.root.join(".bare"), rules().without_history()).await;
    assert_eq!(inside, ["HEAD", "worktrees"]);
}

#[tokio::test]
async fn links_stay_links_and_special_files_are_left_out() {
    let trial =
        ApplyFixture::new(&["docs -> /root/.aws", "in -> a/b", "a/b = x", "deep/loop -> ../deep"]);
    let fifo = trial.root.join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(trial.root.join("socket")).unwrap();
    chmod(&trial.root.join("a/b"), 0o4751);
    let (stream, copied, _) = trial.copy_with(&[], &[], DISK).await;
    let text = |text: &str| text.to_owned();
    assert_eq!(
        unpacked(&stream),
        [
            (text("docs"), EntryKind::Link, text("/root/.aws")),
            (text("in"), EntryKind::Link, text("a/b")),
            (text("a"), EntryKind::Folder, text("")),
            (text("a/b"), EntryKind::File, text("x")),
            (text("deep"), EntryKind::Folder, text("")),
            (text("deep/loop"), EntryKind::Link, text("../deep")),
        ]
    );
    assert_eq!(copied.unwrap().left_out_count, HashMap::from([(LeftOutReason::Special, 2)]));
    let base = Base::load(trial.session.path()).unwrap();
    let file = base.nodes.get(&RelPath::parse(b"a/b").unwrap()).unwrap();
    assert_eq!((file.mode(), file.size()), (Some(0o751), Some(1)));
    assert_eq!(base.root, trial.root.canonicalize().unwrap());
}

#[tokio::test]
async fn a_folder_that_is_too_large_is_refused_with_a_hint() {
    let trial = ApplyFixture::new(&["a = x", "b = y"]);
    let (_, copied, _) = trial.copy_with(&[], &[], 2 * PAGE_BYTES).await;
    copied.unwrap();
    let (_, copied, _) = trial.copy_with(&[], &[], 2 * PAGE_BYTES - 1).await;
    assert!(copied.unwrap_err().hint().unwrap().contains("--disk"));
}

/// Counted first: not one byte of it goes in, and what is large is named.
#[tokio::test]
async fn what_is_too_large_is_refused_before_any_of_it_goes_in() {
    let piece = "x".repeat(4 * CHUNK_BYTES);
    let trial =
        ApplyFixture::new(&[&format!("a/first = {piece}"), &format!("b/second = {piece}{piece}")]);
    let (stream, copied, _) = trial.copy_with(&[], &[], 12 * CHUNK_BYTES as u64).await;
    assert_eq!((copied.unwrap().files, stream.is_empty()), (2, false), "control: it fits");
    let (stream, copied, _) = trial.copy_with(&[], &[], 11 * CHUNK_BYTES as u64).await;
    assert_eq!(stream.len(), 0);
    let message = copied.unwrap_err().to_string();
    assert_eq!(message, "it is larger than the sandbox's disk, 704 KiB; b has 512 KiB of it");
}

/// Both walks end when the reader is gone.
#[test]
fn a_walk_ends_when_its_reader_is_gone() {
    let trial = ApplyFixture::new(&["a = x", "b/c = y"]);
    let rules = LeaveOutRules::new(&[], &[]).unwrap();
    let (chunks, reader) = mpsc::channel(8);
    let (count, counted) = watch::channel(Counted::default());
    let copy = |chunks: &mpsc::Sender<_>| {
        copy(&trial.root, &rules, DISK, trial.session.path(), chunks, &count)
    };
    assert_eq!(copy(&chunks).unwrap().files, 2);
    let all = Counted { entries: 3, bytes: 2 * PAGE_BYTES, is_all: true };
    assert_eq!(*counted.borrow(), all);
    drop(reader);
    count.send_replace(Counted::default());
    assert!(matches!(copy(&chunks), Err(CopyError::Abandoned)));
    assert_eq!(*counted.borrow(), Counted::default());
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_leaves_a_valid_stream() {
    let trial = ApplyFixture::new(&["a = x"]);
    let root = Root::open(&trial.root).unwrap();
    let (chunks, mut reader) = mpsc::channel(8);
    let session = trial.session.path().to_owned();
    let work = tokio::task::spawn_blocking(move || {
        let base = BaseWriter::new(&session, &session).unwrap();
        let out = ChunkPipe { chunks: &chunks, buffer: Vec::new() };
        let mut packer = TarPacker::new(out, base, DISK);
        for now in ["0123456789", "01234", "01"] {
            let path = RelPath::parse(b"a").unwrap();
            let mut file = root.file(&path).unwrap();
            packer.head(&path, EntryType::Regular, &[], 0o644, 0, 5).unwrap();
            std::fs::write(trial.root.join("a"), now).unwrap();
            packer.content(&path, &mut file, 5).unwrap();
        }
        tar_write::end(&mut packer.out).unwrap();
        packer.out.flush().unwrap();
    });
    let mut stream = Vec::new();
    while let Some(piece) = reader.recv().await {
        stream.extend_from_slice(&piece.unwrap());
    }
    work.await.unwrap();
    let contents: Vec<_> = unpacked(&stream).into_iter().map(|(.., text)| text).collect();
    assert_eq!(contents, ["01234", "01234", "01\0\0\0"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_goes_in_is_what_is_there(
        files in proptest::collection::btree_map(
            proptest::collection::vec("[a-dX%\u{e9} ]{1,120}", 1..3),
            proptest::collection::vec(any::<u8>(), 0..3000),
            0..6,
        ),
        odd in proptest::collection::vec(128_u8..=255, 1..200),
    ) {
        let trial = ApplyFixture::new(&[]);
        for (path, content) in &files {
            let at = trial.root.join(path.join("/"));
            let made = std::fs::create_dir_all(at.parent().unwrap());
            if made.is_ok() && !at.exists() {
                std::fs::write(at, content).unwrap();
            }
        }
        std::fs::write(trial.root.join(std::ffi::OsStr::from_bytes(&odd)), "odd").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (stream, copied, _) = runtime.block_on(trial.copy_with(&[], &[], DISK));
        let copied = copied.unwrap();
        let found: std::collections::BTreeMap<_, _> = unpacked(&stream).into_iter().map(|(path, kind, text)| {
            let path = crate::workspace::rel_path::decode(&path).unwrap();
            let mode = if kind == EntryKind::Folder { "755/".to_owned() } else { format!("644 {text}") };
            (String::from_utf8_lossy(&path).into_owned(), mode)
        }).collect();
        prop_assert_eq!(&found, &tree(&trial.root));
        let base = Base::load(trial.session.path()).unwrap();
        prop_assert_eq!(base.nodes.len() as u64, copied.entries);
    }
}

#[tokio::test]
async fn the_tar_crate_reads_what_we_write() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    let trial = ApplyFixture::new(&[&format!("{long} = x"), &format!("l -> {long}"), "e/"]);
    let (stream, ..) = trial.copy_with(&[], &[], DISK).await;
    let to = tempfile::tempdir().unwrap();
    tar::Archive::new(stream.as_slice()).unpack(to.path()).unwrap();
    assert_eq!(tree(to.path()), tree(&trial.root));
}
