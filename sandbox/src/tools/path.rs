//! Paths from the model, beneath a descriptor of the workspace's root.
//!
//! `..` is resolved in the text. Links are resolved by the kernel, which refuses those that lead
//! out. Call all functions here on the [`crate::exec::UserThread`].

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use airlock_shared::limits;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::output::escaped;

/// How many links we follow ourselves: as many as the kernel.
const LINKS: usize = 40;
/// Tries for a free name, and to open a path while others rename.
const TRIES: usize = 100;

/// The workspace's root.
pub(crate) struct Root {
    descriptor: OwnedFd,
    path: String,
}

/// A clean relative path: without `.`, `..` and `//`. The root is the empty path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WorkspacePath(String);

impl WorkspacePath {
    pub(crate) fn root() -> Self {
        Self(String::new())
    }

    /// The path for system calls.
    fn for_kernel(&self) -> &str {
        if self.0.is_empty() { "." } else { &self.0 }
    }

    /// The path for the model.
    pub(super) fn shown(&self) -> String {
        escaped(self.for_kernel().as_bytes())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory of the path, and the name in it.
    fn split(&self) -> (Self, &str) {
        match self.0.rsplit_once('/') {
            Some((parent, name)) => (Self(parent.to_owned()), name),
            None => (Self::root(), &self.0),
        }
    }

    /// The path `text` as seen from this directory. `None`: it leads out of the workspace.
    fn join(&self, text: &str) -> Option<Self> {
        let mut parts: Vec<&str> = self.0.split('/').filter(|part| !part.is_empty()).collect();
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()?),
                name => parts.push(name),
            }
        }
        Some(Self(parts.join("/")))
    }
}

/// A file with its content and mode.
pub(super) struct FileFound {
    pub(super) bytes: Vec<u8>,
    pub(super) mode: u32,
}

impl Root {
    /// # Errors
    /// If there is no such directory, or the tool user may not enter it.
    pub(crate) fn open(path: &str) -> std::io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { descriptor, path: path.trim_end_matches('/').to_owned() })
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Whether the owner has no permission to enter or to list it.
    pub(super) fn is_locked(&self) -> bool {
        rustix::fs::fstat(&self.descriptor).is_ok_and(|stat| stat.st_mode & 0o500 != 0o500)
    }

    /// Gives the owner all permissions again if it is locked. If a command locks the root
    /// (`chmod -R 644 .`), no later command can start in it. Call this only if no command runs.
    pub(crate) fn unlock(&self) {
        if let Ok(stat) = rustix::fs::fstat(&self.descriptor)
            && self.is_locked()
        {
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777 | 0o700);
            // If this fails, the next use of the root reports the error.
            let _locked = rustix::fs::chmodat(CWD, &self.path, mode, AtFlags::empty());
        }
    }

    /// Parses a path from the model. An absolute path must be inside the workspace.
    pub(crate) fn within(&self, given: &str) -> Result<WorkspacePath, String> {
        if given.contains('\0') {
            return Err("the path has a NUL byte in it".to_owned());
        }
        if given.len() >= limits::PATH_BYTES {
            return Err(format!("the path is longer than {} bytes", limits::PATH_BYTES - 1));
        }
        let outside = || {
            let given = escaped(given.as_bytes());
            format!("{given} is outside of the workspace ({}); paths start there", self.path)
        };
        let relative = match given.strip_prefix('/') {
            None => given,
            Some(_) => match given.strip_prefix(&self.path) {
                Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
                _ => return Err(outside()),
            },
        };
        WorkspacePath::root().join(relative).ok_or_else(outside)
    }

    /// Resolves links at the end of a path, so that a change replaces the file and not the link.
    pub(super) fn resolve(&self, path: &WorkspacePath) -> Result<WorkspacePath, String> {
        let mut path = path.clone();
        for _ in 0..LINKS {
            let (parent, name) = path.split();
            if name.is_empty() {
                return Ok(path);
            }
            let Ok(dir) = self.beneath(&parent, OFlags::PATH | OFlags::DIRECTORY) else {
                return Ok(path);
            };
            let target = match rustix::fs::readlinkat(&dir, name, Vec::new()) {
                Ok(target) => target.to_string_lossy().into_owned(),
                Err(_) => return Ok(path),
            };
            let out = || format!("{} is a link that leads out of the workspace", path.shown());
            path = match target.starts_with('/') {
                true => self.within(&target).map_err(|_| out())?,
                false => parent.join(&target).ok_or_else(out)?,
            };
        }
        Err(format!("{}: too many links", path.shown()))
    }

    /// Opens beneath the root.
    ///
    /// THREAT: the model uses `../`, a link to /proc/1/environ, or a link that appears meanwhile.
    /// Tried by tools::path::tests::nothing_opens_what_is_outside.
    pub(super) fn beneath(&self, path: &WorkspacePath, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let mut tries = 0;
        loop {
            let flags = flags | OFlags::CLOEXEC;
            match rustix::fs::openat2(
                &self.descriptor,
                path.for_kernel(),
                flags,
                Mode::empty(),
                resolve,
            ) {
                Err(Errno::AGAIN | Errno::INTR) if tries < TRIES => tries += 1,
                answer => return answer,
            }
        }
    }

    /// Opens a directory.
    pub(super) fn open_dir(&self, path: &WorkspacePath, flags: OFlags) -> Result<OwnedFd, String> {
        self.beneath(path, flags | OFlags::DIRECTORY).map_err(|error| match error {
            Errno::NOTDIR => format!("{} is not a directory", path.shown()),
            error => describe(path, error),
        })
    }

    /// Opens a regular file for reading.
    ///
    /// THREAT: a fifo blocks us, or a device never ends. Tried by
    /// tools::path::tests::only_regular_files_are_read.
    pub(crate) fn file(&self, path: &WorkspacePath) -> Result<(std::fs::File, Stat), String> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = self.beneath(path, flags).map_err(|error| match error {
            // The error of opening a socket.
            Errno::NXIO => format!("{} is not a regular file", path.shown()),
            error => describe(path, error),
        })?;
        let stat = rustix::fs::fstat(&file).map_err(|error| describe(path, error))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok((std::fs::File::from(file), stat)),
            FileType::Directory => Err(format!("{} is a directory: use list_files", path.shown())),
            _ => Err(format!("{} is not a regular file", path.shown())),
        }
    }

    /// Reads a whole file that is to be changed. `None`: there is no such file.
    pub(super) fn whole(&self, path: &WorkspacePath) -> Result<Option<FileFound>, String> {
        use std::io::Read as _;
        match self.beneath(path, OFlags::PATH) {
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(describe(path, error)),
            Ok(_) => {}
        }
        let (file, stat) = self.file(path)?;
        let mut bytes = Vec::new();
        let read = file.take(limits::EDIT_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|error| format!("{}: {error}", path.shown()))?;
        if bytes.len() as u64 > limits::EDIT_BYTES {
            return Err(format!(
                "{} is larger than {} bytes: change it with a command",
                path.shown(),
                limits::EDIT_BYTES
            ));
        }
        Ok(Some(FileFound { bytes, mode: stat.st_mode & 0o777 }))
    }

    /// Replaces a whole file, or changes nothing. Missing parents are made. Readers see the old
    /// file or the new one. The file gets the given mode without set-id bits.
    pub(super) fn replace(
        &self,
        path: &WorkspacePath,
        bytes: &[u8],
        mode: u32,
    ) -> Result<(), String> {
        use std::io::Write as _;
        let (parent, name) = path.split();
        if name.is_empty() {
            return Err(format!("{} is a directory", path.shown()));
        }
        let dir = self.open_or_make_dir(&parent)?;
        let (temporary, file) = temporary_in(dir.as_fd()).map_err(|error| describe(path, error))?;
        let mut file = std::fs::File::from(file);
        let written = file
            .write_all(bytes)
            .and_then(|()| Ok(rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o777))?))
            .and_then(|()| Ok(rustix::fs::renameat(&dir, &temporary, &dir, name)?));
        written.map_err(|error| {
            // The first error is the one to report.
            let _ = rustix::fs::unlinkat(&dir, &temporary, AtFlags::empty());
            describe(path, Errno::from_io_error(&error).unwrap_or(Errno::IO))
        })
    }

    /// Removes a file or a link.
    pub(super) fn remove(&self, path: &WorkspacePath) -> Result<(), String> {
        let (parent, name) = path.split();
        let dir = self.open_dir(&parent, OFlags::PATH)?;
        rustix::fs::unlinkat(&dir, name, AtFlags::empty()).map_err(|error| describe(path, error))
    }

    /// Opens a directory, and makes it and its parents if they are missing.
    fn open_or_make_dir(&self, path: &WorkspacePath) -> Result<OwnedFd, String> {
        match self.beneath(path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR) => return Err(format!("{} is not a directory", path.shown())),
            answer => return answer.map_err(|error| describe(path, error)),
        }
        let mut made = WorkspacePath::root();
        for part in path.0.split('/') {
            let parent = self.open_dir(&made, OFlags::PATH)?;
            match rustix::fs::mkdirat(&parent, part, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(describe(path, error)),
            }
            made = made.join(part).ok_or_else(|| describe(path, Errno::INVAL))?;
        }
        self.open_dir(path, OFlags::PATH)
    }
}

/// A new file with an unused name.
fn temporary_in(dir: BorrowedFd<'_>) -> Result<(String, OwnedFd), Errno> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for _ in 0..TRIES {
        let name = format!(".airlock-{}.tmp", NEXT.fetch_add(1, Ordering::Relaxed));
        match rustix::fs::openat(dir, &name, flags, Mode::from_raw_mode(0o600)) {
            Err(Errno::EXIST) => {}
            answer => return answer.map(|file| (name, file)),
        }
    }
    Err(Errno::EXIST)
}

/// An error of the kernel, for the model.
pub(super) fn describe(path: &WorkspacePath, error: Errno) -> String {
    let shown = path.shown();
    match error {
        Errno::NOENT => format!("{shown} does not exist"),
        Errno::XDEV => format!("{shown} is a link that leads out of the workspace"),
        Errno::NOTDIR => format!("{shown}: a part of the path is not a directory"),
        Errno::NAMETOOLONG => format!("{shown}: a name in it is too long"),
        Errno::ACCESS | Errno::PERM => format!("{shown}: permission denied"),
        Errno::LOOP => format!("{shown}: too many links, or a link that may not be followed"),
        Errno::NOSPC | Errno::DQUOT => format!("{shown}: no space left in the workspace"),
        Errno::ISDIR => format!("{shown} is a directory"),
        error => format!("{shown}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::tests::ToolFixture;
    use super::*;

    #[tokio::test]
    async fn nothing_opens_what_is_outside() {
        let fixture = ToolFixture::new(40);
        let links = "ln -s /etc/passwd absolute; ln -s ../../etc/passwd climbing; ln -s /proc/self/environ magic;
            ln -s /etc directory; mkdir in; echo in >in/file; ln -s in/file inside; ln -s loop loop";
        assert!(fixture.call("bash", json!({"command": links})).await.ok);
        let long = "a/".repeat(3000);
        let wide = "w".repeat(300);
        for path in [
            "../x",
            "/etc/passwd",
            "in/../../x",
            "absolute",
            "climbing",
            "magic",
            "directory/passwd",
            "loop",
            "a\0b",
            &long,
            &wide,
        ] {
            for (tool, arguments) in [
                ("read_file", json!({"path": path})),
                ("list_files", json!({"path": path})),
                ("write_file", json!({"path": path, "content": "forged"})),
            ] {
                let result = fixture.call(tool, arguments).await;
                // The last two would be valid names if they were shorter.
                assert!(!result.ok, "{tool} {path:.40}: {}", result.output);
            }
        }
        let result = fixture.call("read_file", json!({"path": "inside"})).await;
        assert_eq!(result.output, "inside: 1 line, 3 bytes\n     1\tin\n");
        // A change goes to the file and leaves the link.
        fixture.put("inside", "new\n").await;
        assert_eq!(fixture.read("in/file"), "new\n");
        let absolute = format!("{}/in/file", fixture.dir.path().display());
        assert!(fixture.call("read_file", json!({"path": absolute})).await.ok);
    }

    #[tokio::test]
    async fn only_regular_files_are_read() {
        let fixture = ToolFixture::new(41);
        let made = "mkfifo fifo; mkdir directory; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")'";
        assert!(fixture.call("bash", json!({"command": made})).await.ok);
        for path in ["fifo", "socket"] {
            let read = fixture.call("read_file", json!({"path": path})).await;
            assert_eq!(read.output, format!("{path} is not a regular file"));
            let written = fixture.call("write_file", json!({"path": path, "content": ""})).await;
            assert!(!written.ok);
        }
        let read = fixture.call("read_file", json!({"path": "directory"})).await;
        assert_eq!(read.output, "directory is a directory: use list_files");
    }

    proptest! {
        #[test]
        fn a_path_is_clean_or_refused(text in "[a./~\\PC]{0,40}", base in "[ab/]{0,9}") {
            let Some(base) = WorkspacePath::root().join(&base) else { return Ok(()) };
            if let Some(path) = base.join(&text) {
                prop_assert!(path.0.split('/').all(|part| part != ".." && part != "."));
                prop_assert!(!path.0.starts_with('/') && !path.0.ends_with('/') && !path.0.contains("//"));
                prop_assert_eq!(WorkspacePath::root().join(&path.0), Some(path));
            }
        }
    }
}
