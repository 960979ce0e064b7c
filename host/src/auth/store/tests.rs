//! Links, modes, owners, pipes, full disks, incomplete files.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use super::*;

pub(in crate::auth) const BASE: &str = "https://chatgpt.com/backend-api/codex";

/// A login that was renewed seven times. Its token is valid for an hour.
pub(in crate::auth) fn login(now: u64) -> Login {
    Login {
        kind: LoginKind::ChatGpt,
        base: Base::parse(BASE).expect("a base"),
        issuer: Some(IssuerUrl::parse("https://auth.example.org").expect("an issuer")),
        bearer: Secret::new("canary-access-7".to_owned()),
        refresh: Some(Secret::new("canary-refresh-7".to_owned())),
        account: Some("account-0123456789".to_owned()),
        email: Some("ada@example.org".to_owned()),
        plan: Some("plus".to_owned()),
        expires_at: Some(now + 3_600),
        signed_in_at: Some(1),
        refreshed_at: Some(2),
        generation: 7,
        model: Some("gpt-5.5".to_owned()),
        intent: None,
        ended: None,
    }
}

/// A login with the intent of a refresh, and the login that this refresh gives.
fn begun_and_next() -> (Login, Login) {
    let old = login(0);
    let token = old.digest().expect("a refresh token");
    let next = Login {
        bearer: Secret::new("canary-access-8".to_owned()),
        refresh: Some(Secret::new("canary-refresh-8".to_owned())),
        generation: 8,
        ..old.clone()
    };
    (Login { intent: Some(RefreshIntent { token, at: 3 }), ..old }, next)
}

fn text(login: &Login) -> Vec<u8> {
    layout::serialize(login).expect("it fits").to_vec()
}

fn store() -> (tempfile::TempDir, LoginStore) {
    let directory = tempfile::tempdir().expect("a directory");
    let store = LoginStore::new(&directory.path().join("airlock/logins"));
    (directory, store)
}

fn put(store: &LoginStore, file: &str, text: &[u8]) -> PathBuf {
    let path = store.directory.join(file);
    fs::create_dir_all(&store.directory).expect("a directory");
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("a mode");
    path
}

fn files(store: &LoginStore) -> Vec<String> {
    let files = fs::read_dir(&store.directory).expect("a directory").flatten();
    let mut files: Vec<String> =
        files.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    files.sort();
    files
}

fn bearer(login: &Login) -> &str {
    login.bearer.reveal()
}

#[tokio::test]
async fn a_login_is_stored_completely_and_private() {
    let (_directory, store) = store();
    assert_eq!(store.names(), Ok(vec![]));
    assert!(matches!(store.read("me"), Err(AuthError::Missing { .. })));
    let ended = LoginEnd { why: EndReason::Reused, token: "0f".into(), at: 4 };
    let given = Login { ended: Some(ended), ..begun_and_next().0 };
    let locked = store.lock("me").await.expect("a lock");
    assert!(matches!(locked.read(), Err(AuthError::Missing { .. })));
    locked.write(&given).expect("written");
    let read = store.read("me").expect("a login");
    assert_eq!((text(&read), read.model.as_deref()), (text(&given), Some("gpt-5.5")));
    let mode = |path: &Path| fs::metadata(path).expect("it is there").mode() & 0o777;
    let file = store.path("me").expect("a path");
    let modes = (mode(&file), mode(&store.directory), mode(&store.directory.join("me.lock")));
    assert_eq!(modes, (0o600, 0o700, 0o600));
    assert_eq!(store.names(), Ok(vec!["me".to_owned()]));
    assert_eq!(files(&store), ["me.json", "me.lock"]);
    assert_eq!(locked.delete(), Ok(true));
    assert_eq!(locked.delete(), Ok(false));
    assert_eq!(files(&store), ["me.lock"]);
}

#[tokio::test]
async fn a_write_makes_an_open_directory_private() {
    let (_directory, store) = store();
    fs::create_dir_all(&store.directory).expect("a directory");
    fs::set_permissions(&store.directory, Permissions::from_mode(0o755)).expect("a mode");
    drop(store.lock("me").await.expect("a lock"));
    let mode = fs::metadata(&store.directory).expect("a directory").mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn version_1_is_read_and_the_next_write_makes_it_version_2() {
    let (_directory, store) = store();
    let old = format!(
        r#"{{"v":1,"kind":"chatgpt","issuer":"https://auth.openai.com","base":"{BASE}",
            "access_token":"canary-access","account_id":"acct"}}"#
    );
    let path = put(&store, "me.json", old.as_bytes());
    let locked = store.lock("me").await.expect("a lock");
    let login = locked.read().expect("a login");
    assert_eq!((login.kind, login.generation, login.due()), (LoginKind::ChatGpt, 0, None));
    assert!(login.is_good(u64::MAX) && login.refresh.is_none());
    locked.write(&login).expect("written");
    let written = fs::read_to_string(&path).expect("a file");
    assert_eq!(
        written,
        format!(
            "{{\"v\":2,\"kind\":\"chatgpt\",\"base\":\"{BASE}\",\
             \"issuer\":\"https://auth.openai.com\",\"access_token\":\"canary-access\",\
             \"account_id\":\"acct\",\"generation\":0}}\n"
        )
    );
    let key = r#"{"v":1,"kind":"api_key","base":"https://api.openai.com","api_key":"sk-canary"}"#;
    put(&store, "key.json", key.as_bytes());
    let key = store.read("key").expect("a key");
    assert_eq!((key.kind, bearer(&key)), (LoginKind::ApiKey, "sk-canary"));
    assert_eq!(store.names(), Ok(vec!["key".to_owned(), "me".to_owned()]));
}

#[test]
fn a_file_that_is_not_a_login_is_refused_without_being_shown() {
    let (_directory, store) = store();
    let good = String::from_utf8(text(&login(0))).expect("text");
    let cases = [
        String::new(),
        "canary".to_owned(),
        "[]".to_owned(),
        good.replace("\"v\":2", "\"v\":3"),
        good.replace("\"v\":2", "\"v\":0"),
        good.replace("chatgpt\"", "canary\""),
        good.replace(BASE, "http://canary.example.org"),
        good.replace("https://auth.example.org", "http://auth.example.org"),
        good.replace("canary-access-7", "canary access"),
        good.replace("canary-refresh-7", r"canary\r\nx: 1"),
        good.replace("canary-access-7", ""),
        good.replace("account-0123456789", r"canary\n"),
        good.replace("ada@", r"\u001b[2Jcanary@"),
        good.replace("canary-access-7", &"canary".repeat(20_000)),
        good.replace("\"issuer\":\"https://auth.example.org\",", ""),
    ];
    for given in cases {
        put(&store, "me.json", given.as_bytes());
        let error = store.read("me").err().unwrap_or_else(|| panic!("{given}"));
        assert!(!error.to_string().contains("canary"), "{error}");
    }
    put(&store, "me.json", good.as_bytes());
    assert!(store.read("me").is_ok());
}

#[tokio::test]
async fn a_file_that_cannot_be_trusted_is_refused() {
    let (_directory, store) = store();
    let good = put(&store, "good.json", &text(&login(0)));
    let open = put(&store, "open.json", &text(&login(0)));
    fs::set_permissions(open, Permissions::from_mode(0o644)).expect("a mode");
    symlink(&good, store.directory.join("link.json")).expect("a link");
    symlink("nowhere", store.directory.join("loose.json")).expect("a link");
    fs::create_dir(store.directory.join("directory.json")).expect("a directory");
    let pipe = store.directory.join("pipe.json");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    let mut names = vec!["open", "link", "loose", "directory", "pipe"];
    if rustix::process::geteuid().is_root() {
        let theirs = put(&store, "theirs.json", &text(&login(0)));
        std::os::unix::fs::chown(theirs, Some(4242), None).expect("given away");
        names.push("theirs");
    }
    for name in names {
        let refused = |read: Result<Login, AuthError>| {
            let error = read.err().unwrap_or_else(|| panic!("{name}"));
            assert!(matches!(error, AuthError::Unsafe { .. }), "{name}: {error}");
        };
        refused(store.read(name));
        refused(store.lock(name).await.expect("a lock").read());
    }
    for name in ["", ".x", "..", "../good", "a/b", "a\0", "ä", &"x".repeat(65)] {
        assert!(matches!(store.read(name), Err(AuthError::Malformed { .. })), "{name}");
    }
    assert!(store.read("good").is_ok());
}

#[tokio::test]
async fn a_link_at_a_written_path_is_not_followed() {
    let (directory, store) = store();
    let precious = directory.path().join("precious");
    fs::write(&precious, "precious").expect("written");
    fs::create_dir_all(&store.directory).expect("a directory");
    for file in ["me.json", "me.json.part", "me.json.next"] {
        symlink(&precious, store.directory.join(file)).expect("a link");
    }
    let locked = store.lock("me").await.expect("a lock");
    locked.write(&begun_and_next().0).expect("written");
    let room = locked.reserve().expect("room");
    room.commit(&begun_and_next().1).expect("written");
    assert_eq!(store.read("me").expect("a login").generation, 8);
    assert_eq!(fs::read_to_string(&precious).expect("a file"), "precious");
    symlink(&precious, store.directory.join("you.lock")).expect("a link");
    assert!(matches!(store.lock("you").await, Err(AuthError::Unsafe { .. })));
}

#[tokio::test]
async fn a_directory_of_another_user_is_refused() {
    let (_directory, store) = store();
    put(&store, "me.json", &text(&login(0)));
    std::os::unix::fs::chown(&store.directory, Some(4242), None).expect("these tests need root");
    assert!(matches!(store.read("me"), Err(AuthError::Unsafe { .. })));
    assert!(matches!(store.lock("me").await, Err(AuthError::Unsafe { .. })));
}

#[tokio::test]
async fn a_directory_that_is_a_link_or_open_to_others_is_refused() {
    let (directory, store) = store();
    put(&store, "me.json", &text(&login(0)));
    assert!(store.read("me").is_ok(), "the control: a private directory");
    for mode in [0o770, 0o707, 0o1777] {
        fs::set_permissions(&store.directory, Permissions::from_mode(mode)).expect("a mode");
        let error = store.read("me").err().expect("refused").to_string();
        assert!(error.ends_with("others can write in the directory"), "{mode:o}: {error}");
        assert!(matches!(store.lock("me").await, Err(AuthError::Unsafe { .. })));
    }
    fs::set_permissions(&store.directory, Permissions::from_mode(0o755)).expect("a mode");
    assert!(store.read("me").is_ok());
    let link = directory.path().join("linked");
    std::os::unix::fs::symlink(&store.directory, &link).expect("a link");
    let linked = LoginStore::new(&link);
    let error = linked.read("me").err().expect("refused").to_string();
    assert!(error.ends_with("the directory is a symbolic link"), "{error}");
    assert!(matches!(linked.lock("me").await, Err(AuthError::Unsafe { .. })));
}

#[tokio::test]
async fn a_lock_is_exclusive_and_the_next_caller_waits() {
    let (_directory, store) = store();
    let first = store.lock("me").await.expect("a lock");
    let other = store.lock("you").await;
    assert!(other.is_ok(), "another login's lock is another lock");
    let waiting = tokio::time::timeout(Duration::from_millis(100), store.lock("me")).await;
    assert!(waiting.is_err());
    drop(first);
    assert!(store.lock("me").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_lock_has_a_limit() {
    let (_directory, store) = store();
    let _held = store.lock("me").await.expect("a lock");
    let error = store.lock("me").await.err().expect("held");
    assert!(error.to_string().contains("for a minute"), "{error}");
}

/// A process may be killed anywhere in the write of the next login. Then either the next login or
/// the old one is complete.
#[tokio::test]
async fn an_incomplete_answer_is_dropped_and_a_complete_one_is_stored() {
    let (begun, next) = begun_and_next();
    let whole = text(&next);
    let last = whole.len();
    for cut in (0..last).step_by(16).chain([last - 2, last - 1, last]) {
        for room in [0, 100] {
            let (_directory, store) = store();
            put(&store, "me.json", &text(&begun));
            let incomplete = [&whole[..cut], &vec![0; room]].concat();
            put(&store, "me.json.next", &incomplete);
            let read = store.lock("me").await.expect("a lock").read().expect("a login");
            // Its last byte is a newline.
            let expected = if cut + 1 < last { &begun } else { &next };
            assert_eq!(bearer(&read), bearer(expected), "cut at {cut}");
            assert_eq!(read.is_interrupted(), expected.is_interrupted());
            assert_eq!(bearer(&store.read("me").expect("a login")), bearer(expected));
            assert_eq!(files(&store), ["me.json", "me.lock"]);
        }
    }
}

#[tokio::test]
async fn a_pending_file_of_an_earlier_login_is_not_used() {
    let (begun, next) = begun_and_next();
    let anew = Login { intent: None, ..begun.clone() };
    let elsewhere = IssuerUrl::parse("https://elsewhere.example.org").expect("an issuer");
    let cases = [
        (anew, next.clone()),
        (begun.clone(), Login { generation: 9, ..next.clone() }),
        (begun.clone(), Login { account: Some("another".into()), ..next.clone() }),
        (begun.clone(), Login { issuer: Some(elsewhere), ..next.clone() }),
        (begun.clone(), begun),
    ];
    for (now, left) in cases {
        let (_directory, store) = store();
        put(&store, "me.json", &text(&now));
        put(&store, "me.json.next", &text(&left));
        let read = store.lock("me").await.expect("a lock").read().expect("a login");
        assert_eq!((bearer(&read), read.generation), ("canary-access-7", 7));
        assert_eq!(files(&store), ["me.json", "me.lock"]);
    }
}

/// A file system of 256 KiB. Needs root.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mounted(on: &Path) -> Self {
        fs::create_dir_all(on).expect("a directory");
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount(c"tmpfs", on, c"tmpfs", flags, c"size=256k,mode=700")
            .expect("a mounted file system: this needs root");
        Self(on.to_owned())
    }

    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("filler")).expect("a file");
        while std::io::Write::write(&mut file, &[7; 4096]).is_ok_and(|written| written > 0) {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _gone = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[tokio::test]
async fn a_full_disk_is_noticed_before_a_refresh() {
    let (_directory, store) = store();
    let disk = SmallDisk::mounted(&store.directory);
    let (begun, next) = begun_and_next();
    let locked = store.lock("me").await.expect("a lock");
    locked.write(&begun).expect("written");
    let room = locked.reserve().expect("room");
    disk.fill();
    let full = AuthError::Store {
        place: store.directory.join("me.json").display().to_string(),
        why: "No space left on device".to_owned(),
    };
    assert_eq!(locked.write(&next), Err(full.clone()));
    room.commit(&next).expect("its space was reserved");
    assert_eq!(store.read("me").expect("a login").generation, 8);
    disk.fill();
    assert_eq!(locked.reserve().err(), Some(full));
    assert_eq!(locked.read().expect("a login").generation, 8);
    assert_eq!(files(&store), ["filler", "me.json", "me.lock"]);
}

#[tokio::test]
async fn a_read_only_directory_can_be_read_and_a_write_is_refused() {
    let (_directory, store) = store();
    let disk = SmallDisk::mounted(&store.directory);
    put(&store, "me.json", &text(&login(0)));
    mount_remount(&disk.0, MountFlags::RDONLY, c"").expect("read-only");
    assert_eq!(store.read("me").expect("a login").generation, 7);
    let error = store.lock("me").await.err().expect("no lock");
    assert!(error.to_string().ends_with("Read-only file system"), "{error}");
}

#[test]
fn a_token_is_due_before_it_expires() {
    let received = |at, expires| Login { refreshed_at: Some(at), expires_at: expires, ..login(0) };
    assert_eq!(received(1_000, Some(1_000 + 864_000)).due(), Some(1_000 + 863_700));
    assert_eq!(received(1_000, Some(1_060)).due(), Some(1_030), "half of a short lifetime");
    assert_eq!(received(5_000, Some(1_000)).due(), Some(700), "a clock that was set back");
    assert_eq!(received(1_000, None).due(), None);
    assert_eq!(Login { refresh: None, ..login(0) }.due(), None);
    let token = login(0).digest().expect("a token");
    let ended = LoginEnd { why: EndReason::Revoked, token, at: 1_795_252_440 };
    let gone = Login { ended: Some(ended.clone()), ..login(0) };
    assert_eq!(
        (gone.due(), gone.ended_now(3_599), gone.ended_now(3_600)),
        (None, None, Some(ended))
    );
    let words = gone.ended().map(LoginEnd::describe);
    assert_eq!(words.as_deref(), Some("revoked on 21 Nov 09:14 UTC (signed out in another place)"));
    let anew = Login { refresh: Some(Secret::new("another".to_owned())), ..gone };
    assert_eq!(anew.ended_now(4_000), None, "the old end does not apply to a new sign-in");
}
