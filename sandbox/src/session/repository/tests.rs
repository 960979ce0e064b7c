//! What git shows after it was prepared. The tests with a repository need root, and git on this
//! machine.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use airlock_shared::job::Job;
use airlock_shared::link::LEFT_OUT;
use airlock_shared::model::Model;
use futures_util::StreamExt as _;
use serde_json::json;

use super::*;
use crate::exec::ToolUser;
use crate::exec::tests::user;
use crate::files::{self, ChangesRequest};

fn left_out(path: &str) -> LeftOutPath {
    LeftOutPath { path: path.as_bytes().to_vec(), why: "secret".to_owned() }
}

#[test]
fn each_path_is_marked_in_the_repository_it_lies_in() {
    let paths = [".env", "a/.env", "a/b's/.env", "sub/x/key", ".git/x", "no/where"];
    let paths: Vec<_> = paths.iter().map(|path| left_out(path)).collect();
    let all = marks(&paths, &[b"a".to_vec(), b"sub".to_vec(), Vec::new()]).join("\n");
    for (dir, names) in
        [("'./'", "'.env' 'no/where'"), ("'./a'", r"'.env' 'b'\''s/.env'"), ("'./sub'", "'x/key'")]
    {
        let cd = format!("cd {dir} || exit 1\n");
        let list = format!("git --literal-pathspecs ls-files -z -- {names};");
        let script = all.split("command -v").find(|script| script.contains(&cd));
        assert!(script.is_some_and(|script| script.contains(&list)), "{all}");
    }
    assert!(!all.contains(".git/x"), "{all}");
    assert!(marks(&paths, &[]).is_empty());
}

#[test]
fn many_paths_are_several_scripts() {
    let paths: Vec<_> = (0..3000).map(|at| left_out(&format!("{at}{}", "x".repeat(100)))).collect();
    let scripts = marks(&paths, &[Vec::new()]);
    assert_eq!(scripts.len(), 5);
    assert!(scripts.iter().all(|script| script.len() < 100 << 10));
}

/// A workspace that was copied in: the directory that the tool user owns, its tools, and the result
/// of the copy.
struct RepositoryFixture {
    dir: tempfile::TempDir,
    user: ToolUser,
    tools: Toolbox,
    unpacked: files::UnpackResult,
}

impl RepositoryFixture {
    /// `script` makes the person's directory, and `left_out` is left out of the copy.
    #[expect(clippy::disallowed_methods, reason = "git of this machine makes the repository")]
    async fn new(number: u32, script: &str, left_out: &[(&str, &str)]) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let sh = std::process::Command::new("sh")
            .args(["-ec", script])
            .current_dir(home.path())
            .env("HOME", home.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .expect("a shell");
        assert!(sh.status.success(), "{sh:?}");
        let mut tar = tar::Builder::new(Vec::new());
        tar.follow_symlinks(false);
        for (path, why) in left_out {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::new(LEFT_OUT));
            header.set_mode(0);
            header.set_mtime(0);
            header.set_size(0);
            tar.append_link(&mut header, path, why).expect("a tar");
            let there = home.path().join(path);
            let gone = if there.is_dir() {
                std::fs::remove_dir_all(there)
            } else {
                std::fs::remove_file(there)
            };
            gone.expect("it is there");
        }
        tar.append_dir_all(".", home.path()).expect("a tar");
        let tar = tar.into_inner().expect("a tar");

        let (dir, user) = (tempfile::tempdir().expect("a directory"), user(number));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), mode).expect("a mode");
        std::os::unix::fs::chown(dir.path(), Some(user.uid()), Some(user.gid()))
            .expect("these tests need root");
        let job: Job = serde_json::from_value(json!({
            "prompt": "", "backend": {"base_url": "https://api.openai.com"},
            "workspace": {"path": dir.path(), "uid": user.uid(), "gid": user.gid()},
        }))
        .expect("a job");
        let unpacked = files::unpack(dir.path(), user.uid(), user.gid(), tar.as_slice());
        let unpacked = unpacked.await.expect("a good tar");
        let tools = Toolbox::new(&job, &Model::default()).expect("these tests need root");
        Self { dir, user, tools, unpacked }
    }

    fn root(&self) -> &Path {
        self.dir.path()
    }

    /// The output of a command of the agent.
    async fn output(&self, command: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(60);
        let result =
            self.tools.script(command.to_owned(), deadline, &CancellationToken::new()).await;
        let result = result.expect("a sandbox that is safe");
        let (_, output) = result.output.split_once("Output:\n").expect("a result");
        output.trim().to_owned()
    }

    async fn prepare(&mut self) -> PreparedRepository {
        let deadline = Instant::now() + Duration::from_secs(60);
        let left_out = &self.unpacked.left_out;
        let result = prepare(&self.tools, left_out, deadline, &CancellationToken::new()).await;
        let result = result.expect("a sandbox that is safe");
        let baseline = std::mem::take(&mut self.unpacked.baseline);
        let (uid, gid) = (self.user.uid(), self.user.gid());
        let renewed = files::renew(self.root(), uid, gid, Arc::new(baseline)).await;
        self.unpacked.baseline = renewed.expect("a workspace");
        result
    }

    /// The paths of the changes.
    async fn changed(self) -> Vec<String> {
        let (uid, gid) = (self.user.uid(), self.user.gid());
        let wanted = ChangesRequest {
            last: true,
            paths: u64::MAX,
            bytes: u64::MAX,
            sent: None,
            stop_scan: CancellationToken::new(),
            stop_stream: CancellationToken::new(),
        };
        let baseline = Arc::new(self.unpacked.baseline);
        let changes = files::changes(self.dir.path(), uid, gid, baseline, wanted).await;
        let (mut stream, _) = changes.expect("a workspace").expect("no set was sent yet");
        let mut tar = Vec::new();
        while let Some(piece) = stream.next().await {
            tar.extend_from_slice(&piece.expect("a whole stream"));
        }
        let mut archive = tar::Archive::new(tar.as_slice());
        let entries = archive.entries().expect("a tar").map(|entry| entry.expect("an entry"));
        let paths = entries.map(|entry| entry.path().expect("a path").display().to_string());
        let mut paths: Vec<String> = paths.filter(|path| path.contains('/')).collect();
        paths.sort();
        paths
    }
}

const REPOSITORY: &str = "git init -q .; git config user.name t; git config user.email t@example.org; \
    mkdir -p keys sub; echo K=committed > .env; echo k > keys/a; echo k > keys/b; echo one > a.txt; \
    git init -q sub; cd sub; git config user.name t; git config user.email t@example.org; \
    echo s > .env; echo s > s.txt; git add -f .; git commit -qm sub; cd ..; \
    echo /sub >> .git/info/exclude; git add -f .env keys a.txt; git commit -qm first; echo K=2 > .env";
const LEFT_OUT_PATHS: [(&str, &str); 4] =
    [(".env", "secret"), ("keys", "excluded"), ("sub/.env", "secret"), ("untracked", "special")];

/// The control: without preparation git shows the files that were left out as deleted.
#[tokio::test]
async fn git_does_not_miss_what_was_left_out() {
    let script = format!("{REPOSITORY}; echo u > untracked");
    let mut fixture = RepositoryFixture::new(40, &script, &LEFT_OUT_PATHS).await;
    let status = "git status --short; git -C sub status --short";
    assert_eq!(fixture.output(status).await, "D .env\n D keys/a\n D keys/b\n D .env");
    let result = fixture.prepare().await;
    assert!(result.wrote && result.notes.is_empty());
    assert_eq!(fixture.output(status).await, "");
    let back =
        "git checkout -q -- .; git stash -q; ls -A; git status --short; git diff --stat HEAD";
    assert_eq!(fixture.output(back).await, ".git\na.txt\nsub");
}

/// A repository whose name looks like a flag of a shell, and one with an index that git cannot
/// read.
#[tokio::test]
async fn a_failure_to_mark_is_noted() {
    let dashed = "mkdir -- -P; git init -q ./-P; cd ./-P; echo s > .env; git add -f .; \
        git -c user.name=t -c user.email=t@example.org commit -qm x";
    let left_out_paths = [("-P/.env", "secret")];
    let mut fixture = RepositoryFixture::new(45, dashed, &left_out_paths).await;
    let status = "git -C ./-P status --short";
    assert_eq!(fixture.output(status).await, "D .env", "control");
    let result = fixture.prepare().await;
    assert_eq!((fixture.output(status).await.as_str(), result.notes.len()), ("", 0));
    let mut fixture =
        RepositoryFixture::new(46, &format!("{dashed}; echo broken > .git/index"), &left_out_paths)
            .await;
    assert_eq!(fixture.prepare().await.notes, [UNMARKED]);
}

#[tokio::test]
async fn the_preparation_of_git_is_no_change() {
    let mut fixture = RepositoryFixture::new(44, REPOSITORY, &LEFT_OUT_PATHS[..3]).await;
    assert!(fixture.prepare().await.wrote);
    assert_eq!(fixture.changed().await, Vec::<String>::new());
}

/// The agent can restore it from the history. Then it is among the changes, and the host holds it.
#[tokio::test]
async fn the_history_still_has_a_file_that_was_left_out() {
    let mut fixture = RepositoryFixture::new(41, REPOSITORY, &LEFT_OUT_PATHS[..3]).await;
    fixture.prepare().await;
    assert_eq!(fixture.output("git show HEAD:.env").await, "K=committed");
    fixture.output("git show HEAD:.env > .env; echo two >> a.txt").await;
    assert_eq!(fixture.changed().await, ["tree/.env", "tree/a.txt"]);
}

/// If the history is left out, there is one commit of what was copied in.
#[tokio::test]
async fn without_its_history_the_repository_has_one_commit() {
    let left_out_paths =
        [(".git", LEFT_OUT_HISTORY), ("sub/.git", LEFT_OUT_HISTORY), (".env", "secret")];
    let mut fixture = RepositoryFixture::new(42, REPOSITORY, &left_out_paths).await;
    assert!(fixture.output("git log").await.contains("not a git repository"));
    let result = fixture.prepare().await;
    assert!(result.wrote && result.notes.is_empty(), "{:?}", result.notes);
    // Without the lock, `status` does not write the index.
    let command = "git log --format=%an:%s; GIT_OPTIONAL_LOCKS=0 git status --short; git ls-files";
    let output = fixture.output(command).await;
    let expected = "airlock:The directory as it was copied in\n\
                    a.txt\nkeys/a\nkeys/b\nsub/.env\nsub/s.txt";
    assert_eq!(output, expected);
    assert!(fixture.output("git log --all -p | grep committed").await.is_empty());
    fixture.output("echo two >> a.txt").await;
    assert_eq!(fixture.changed().await, ["tree/a.txt"], "the repository is no change");
}

#[tokio::test]
async fn a_directory_without_a_repository_is_not_changed() {
    let mut fixture =
        RepositoryFixture::new(43, "echo a > a; echo s > .env", &[(".env", "secret")]).await;
    assert!(!fixture.prepare().await.wrote);
    assert_eq!(fixture.output("ls -A").await, "a");
    assert_eq!(fixture.changed().await, Vec::<String>::new());
}
