//! For the tests of the workspace: a directory, a session of it, and streams of changes written by
//! hand.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use tar::EntryType;

use super::copy_in::{CopyError, CopySummary};
use super::tar_write::{self, TarEntry};
use super::{ChangeSet, ChangesRefused, CopyStarted, LeaveOutRules, Private, WorkspaceLink};
use crate::records::{SessionFolder, SessionStore};

pub(super) const DISK: u64 = 1 << 20;

pub(super) struct ApplyFixture {
    _folder: tempfile::TempDir,
    pub(super) root: PathBuf,
    pub(super) session: SessionFolder,
}

impl ApplyFixture {
    /// A folder of `path`, `path/`, `path -> target` and `path = content`.
    pub(super) fn new(tree: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SessionStore::open(&folder.path().join("state")).unwrap();
        let root = folder.path().join("work");
        std::fs::create_dir(&root).unwrap();
        let trial = Self { _folder: folder, root, session: store.create_session().unwrap() };
        tree.iter().for_each(|line| trial.put(line));
        trial
    }

    pub(super) fn put(&self, line: &str) {
        let (path, rest) = line.split_once(' ').unwrap_or((line, "= "));
        let at = self.root.join(path);
        std::fs::create_dir_all(if path.ends_with('/') { &at } else { at.parent().unwrap() })
            .unwrap();
        if let Some(target) = rest.strip_prefix("-> ") {
            symlink(target, at).unwrap();
        } else if !path.ends_with('/') {
            std::fs::write(at, rest.strip_prefix("= ").unwrap()).unwrap();
        }
    }

    pub(super) async fn copy_with(
        &self,
        include: &[&str],
        exclude: &[&str],
        disk: u64,
    ) -> (Vec<u8>, Result<CopySummary, CopyError>, WorkspaceLink) {
        self.copy_private(include, exclude, disk, Private::default()).await
    }

    /// Copied in without what is `private`.
    pub(super) async fn copy_private(
        &self,
        include: &[&str],
        exclude: &[&str],
        disk: u64,
        private: Private,
    ) -> (Vec<u8>, Result<CopySummary, CopyError>, WorkspaceLink) {
        let owned = |globs: &[&str]| globs.iter().map(|&glob| glob.to_owned()).collect::<Vec<_>>();
        let rules = LeaveOutRules::new(&owned(include), &owned(exclude)).unwrap().without(private);
        let CopyStarted { workspace, copied, .. } =
            WorkspaceLink::copy(&self.root, rules, disk, &self.session);
        let pieces = workspace.stream_in().filter_map(async |piece: io::Result<Bytes>| piece.ok());
        let bytes = pieces.collect::<Vec<_>>().await.concat();
        (bytes, copied.await.unwrap(), workspace)
    }

    /// Copied in as it is.
    pub(super) async fn copy(&self) -> WorkspaceLink {
        let (_, copied, workspace) = self.copy_with(&[], &[], DISK).await;
        copied.unwrap();
        workspace
    }

    /// The set that is stored of a stream.
    pub(super) async fn take(&self, stream: Vec<u8>) -> Result<Arc<ChangeSet>, ChangesRefused> {
        self.take_body(body(stream)).await
    }

    pub(super) async fn take_body(
        &self,
        body: BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<Arc<ChangeSet>, ChangesRefused> {
        let workspace = self.copy().await;
        workspace.take_changes(body).await?;
        workspace.close(std::future::pending()).await.set.unwrap();
        Ok(Arc::new(super::changes(&self.session).unwrap().unwrap()))
    }
}

/// A stream in pieces of an odd size.
pub(super) fn body(stream: Vec<u8>) -> BoxStream<'static, io::Result<Bytes>> {
    let pieces: Vec<_> =
        stream.chunks(777).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    stream::iter(pieces).into_stream().boxed()
}

/// A tar stream written by hand.
#[derive(Clone, Default)]
pub(super) struct TarBytes(pub(super) Vec<u8>);

impl TarBytes {
    pub(super) fn entry(
        mut self,
        kind: EntryType,
        path: &str,
        target: &str,
        mode: u32,
        content: &[u8],
    ) -> Self {
        let (path, target, size) = (path.as_bytes(), target.as_bytes(), content.len() as u64);
        tar_write::head(&mut self.0, &TarEntry { kind, path, target, mode, mtime: 0, size })
            .unwrap();
        self.0.extend_from_slice(content);
        tar_write::pad(&mut self.0, size).unwrap();
        self
    }

    pub(super) fn file(self, path: &str, content: &str) -> Self {
        self.entry(EntryType::Regular, &format!("tree/{path}"), "", 0o644, content.as_bytes())
    }

    pub(super) fn folder(self, path: &str) -> Self {
        self.entry(EntryType::Directory, &format!("tree/{path}"), "", 0o755, b"")
    }

    pub(super) fn link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, &format!("tree/{path}"), target, 0o777, b"")
    }

    pub(super) fn gone(self, path: &str) -> Self {
        self.entry(EntryType::Regular, &format!("gone/{path}"), "", 0o644, b"")
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        tar_write::end(&mut self.0).unwrap();
        self.0
    }
}

/// A directory as text: each path with its content and mode.
pub(super) fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            let metadata = std::fs::symlink_metadata(&path).unwrap();
            let mode = metadata.mode() & 0o7777;
            let text = if metadata.is_symlink() {
                format!("-> {}", std::fs::read_link(&path).unwrap().display())
            } else if metadata.is_dir() {
                todo.push(path);
                format!("{mode:o}/")
            } else if metadata.is_file() {
                format!("{mode:o} {}", String::from_utf8_lossy(&std::fs::read(&path).unwrap()))
            } else {
                "special".to_owned()
            };
            found.insert(name, text);
        }
    }
    found
}

pub(super) fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A user who is not root, and owns only what a test gives them.
pub(super) const OTHER_UID: u32 = 65_534;

/// Runs `work` as that user, on its own thread. If the tests do not run as root, it runs as the
/// current user.
pub(super) fn as_another_user<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    use rustix::fs::{Gid, Uid};
    use rustix::thread;
    if !rustix::process::geteuid().is_root() {
        return work();
    }
    let (uid, gid) = (Uid::from_raw(OTHER_UID), Gid::from_raw(OTHER_UID));
    let worker = || {
        thread::set_thread_groups(&[]).unwrap();
        thread::set_thread_res_gid(gid, gid, gid).unwrap();
        thread::set_thread_res_uid(uid, uid, uid).unwrap();
        work()
    };
    std::thread::scope(|scope| match scope.spawn(worker).join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

impl ApplyFixture {
    /// Gives the directory and the session's files to that user.
    pub(super) fn give_away(&self) {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let mut todo = vec![self.root.parent().unwrap().to_owned()];
        while let Some(path) = todo.pop() {
            std::os::unix::fs::lchown(&path, Some(OTHER_UID), Some(OTHER_UID)).unwrap();
            if std::fs::symlink_metadata(&path).unwrap().is_dir() {
                todo.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
    }
}
