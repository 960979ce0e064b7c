//! The person's own directory in a container (`--live`): its owner, and which parts of it stay
//! read-only.
//!
//! Each `.git` in the directory, and each directory that a `.git` file names, is mounted a second
//! time, read-only, on top of itself. What cannot be protected like this is refused. Sockets and
//! fifos are refused too, because a read-only mount does not close them. Not protected: repositories
//! that the agent makes in the directory, and the parents of a nested `.git`, which the agent may
//! rename. The end of the session names what came of that.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use airlock_shared::limits;

use super::error::EngineError;

/// The largest `.git` file that is read.
const GIT_FILE_BYTES: u64 = 4 << 10;
/// How many repositories a live directory may have; each is a mount of the container.
const REPOSITORIES: usize = 128;

/// A directory that may be mounted live, and what in it stays read-only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveDirectory {
    path: PathBuf,
    /// Relative to `path`.
    read_only: Vec<PathBuf>,
    uid: u32,
    gid: u32,
}

impl LiveDirectory {
    /// Searches the directory for repositories, sockets and fifos.
    ///
    /// # Errors
    /// If root owns the directory, if it is inside a `.git` directory, if a `.git` is a link, if there
    /// is a socket or a fifo, or if there are too many entries.
    pub fn look(path: &Path) -> Result<Self, EngineError> {
        let refuse = |path: &Path, reason: &str| EngineError::Live {
            path: path.display().to_string(),
            reason: reason.to_owned(),
        };
        let unreadable =
            |path: &Path, error: &std::io::Error| refuse(path, &format!("cannot be read: {error}"));
        let path = fs::canonicalize(path).map_err(|error| unreadable(path, &error))?;
        let owner = fs::metadata(&path).map_err(|error| unreadable(&path, &error))?;
        if !owner.is_dir() {
            return Err(refuse(&path, "it is not a directory"));
        }
        // THREAT: commands run as the directory's owner; as root they would own the container.
        // Tried by engine::live::tests::a_directory_of_root_is_refused.
        if owner.uid() == 0 || owner.gid() == 0 {
            return Err(refuse(
                &path,
                "it belongs to root, and commands in the sandbox run as its owner",
            ));
        }
        if path.components().any(|part| is_git(part.as_os_str())) {
            return Err(refuse(&path, "it is inside a .git directory"));
        }

        let nameable = |path: &Path| {
            if path.to_str().is_some() {
                Ok(())
            } else {
                Err(refuse(path, "its name is not UTF-8"))
            }
        };
        nameable(&path)?;

        let mut read_only = Vec::new();
        let mut sockets = Vec::new();
        let mut directories = vec![path.clone()];
        let mut seen = 0;
        while let Some(directory) = directories.pop() {
            let entries =
                fs::read_dir(&directory).map_err(|error| unreadable(&directory, &error))?;
            for entry in entries {
                let entry = entry.map_err(|error| unreadable(&directory, &error))?;
                seen += 1;
                if seen > limits::WORKSPACE_ENTRIES {
                    return Err(refuse(&path, "it has too many entries to look for repositories"));
                }
                let kind = entry.file_type().map_err(|error| unreadable(&entry.path(), &error))?;
                if is_git(&entry.file_name()) {
                    if !kind.is_dir() && !kind.is_file() {
                        return Err(refuse(
                            &entry.path(),
                            "it is neither a directory nor a file, so it cannot be kept read-only",
                        ));
                    }
                    let below = entry.path();
                    nameable(&below)?;
                    let named = git_directory(&below, &path)
                        .map_err(|error| refuse(&below, &format!("cannot be read: {error}")))?;
                    if let Some(named) = named {
                        nameable(&path.join(&named))?;
                        read_only.push(named);
                    }
                    let below = below.strip_prefix(&path).unwrap_or(&below);
                    read_only.push(below.to_owned());
                    if read_only.len() > REPOSITORIES {
                        return Err(refuse(&path, "it has more than 128 repositories"));
                    }
                    // Git's own sockets can be in it. There are many objects, none of them a socket.
                    if kind.is_dir() {
                        directories.push(entry.path());
                    }
                } else if kind.is_socket() || kind.is_fifo() {
                    sockets.push(entry.path());
                } else if kind.is_dir() && !is_objects(&entry.path()) {
                    directories.push(entry.path());
                }
            }
        }
        // THREAT: a command talks to a program of the person that listens in the directory.
        // Tried by flow::live::a_socket_in_the_tree_is_refused.
        if let Some(first) = sockets.first() {
            return Err(refuse(&path, &socket_reason(first, sockets.len(), &path)));
        }
        read_only.sort();
        read_only.dedup();
        Ok(Self { path, read_only, uid: owner.uid(), gid: owner.gid() })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What stays read-only, relative to [`Self::path`].
    #[must_use]
    pub fn read_only(&self) -> &[PathBuf] {
        &self.read_only
    }

    /// The user and group that commands run as.
    #[must_use]
    pub fn owner(&self) -> (u32, u32) {
        (self.uid, self.gid)
    }
}

/// The directory that a `.git` file names, if it is within `tree` and not within a `.git`, which is
/// read-only already.
// THREAT: a directory whose name is not UTF-8 is skipped, and commands write hooks into it.
// Tried by engine::live::tests::a_git_file_that_names_odd_bytes_is_refused.
fn git_directory(git: &Path, tree: &Path) -> std::io::Result<Option<PathBuf>> {
    let about = fs::metadata(git)?;
    if !about.is_file() {
        return Ok(None);
    }
    if about.len() > GIT_FILE_BYTES {
        return Err(std::io::Error::other("it is too long for a .git file"));
    }
    let content = fs::read(git)?;
    let named = content.trim_ascii().strip_prefix(b"gitdir:").map(<[u8]>::trim_ascii);
    let (Some(named), Some(directory)) = (named, git.parent()) else { return Ok(None) };
    // It names a path that does not exist.
    let Ok(named) = fs::canonicalize(directory.join(OsStr::from_bytes(named))) else {
        return Ok(None);
    };
    let Ok(below) = named.strip_prefix(tree) else { return Ok(None) };
    let is_covered = below.components().any(|part| is_git(part.as_os_str()));
    Ok((named.is_dir() && named != tree && !is_covered).then(|| below.to_owned()))
}

/// Why a directory with sockets or fifos is refused.
fn socket_reason(first: &Path, count: usize, tree: &Path) -> String {
    let shown = first.strip_prefix(tree).unwrap_or(first).display();
    let more = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
    let ends = if first.ends_with("fsmonitor--daemon.ipc") {
        " (git fsmonitor--daemon stop ends this one)"
    } else {
        ""
    };
    format!(
        "{shown}{more} is a socket or a fifo, through which commands could talk to your \
         programs{ends}"
    )
}

fn is_objects(path: &Path) -> bool {
    path.ends_with("objects") && path.components().any(|part| is_git(part.as_os_str()))
}

/// `.git` in upper or lower case: on some file systems of the host they are the same.
fn is_git(name: &OsStr) -> bool {
    name.as_encoded_bytes().eq_ignore_ascii_case(b".git")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    /// A directory of uid 12345; only root can make one.
    fn tree() -> Option<tempfile::TempDir> {
        let directory = tempfile::tempdir().unwrap();
        chown(directory.path(), Some(12_345), Some(12_345)).ok().map(|()| directory)
    }

    #[test]
    fn a_directory_of_root_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        if fs::metadata(directory.path()).unwrap().uid() == 0 {
            assert!(matches!(LiveDirectory::look(directory.path()), Err(EngineError::Live { .. })));
        }
        assert!(matches!(LiveDirectory::look(Path::new("/")), Err(EngineError::Live { .. })));
    }

    #[test]
    fn every_git_is_found_in_upper_and_lower_case() {
        let Some(directory) = tree() else { return };
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at(".git/objects")).unwrap();
        fs::create_dir_all(at("a/b/.GIT")).unwrap();
        fs::create_dir_all(at("c")).unwrap();
        fs::write(at("c/.git"), "gitdir: elsewhere").unwrap();
        fs::write(at("git"), "").unwrap();
        let found = LiveDirectory::look(directory.path()).unwrap();
        let expected: Vec<PathBuf> = [".git", "a/b/.GIT", "c/.git"].map(PathBuf::from).into();
        assert_eq!(found.read_only(), expected);
        assert_eq!(found.owner(), (12_345, 12_345));
    }

    #[test]
    fn the_directory_that_a_git_file_names_is_read_only_too() {
        let Some(directory) = tree() else { return };
        let at = |name: &str| directory.path().join(name);
        for name in ["store/sub", "a", "b", ".git/modules/b"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        fs::write(at("a/.git"), "gitdir: ../store/sub\n").unwrap();
        fs::write(at("b/.git"), "gitdir: ../.git/modules/b\n").unwrap();
        let found = LiveDirectory::look(directory.path()).unwrap();
        let expected: Vec<PathBuf> =
            [".git", "a/.git", "b/.git", "store/sub"].map(PathBuf::from).into();
        assert_eq!(found.read_only(), expected);
    }

    #[test]
    fn a_git_file_that_names_odd_bytes_is_refused() {
        let Some(directory) = tree() else { return };
        let odd = OsStr::from_bytes(b"store\xff");
        fs::create_dir_all(directory.path().join(odd)).unwrap();
        fs::write(directory.path().join(".git"), b"gitdir: store\xff\n").unwrap();
        let refused = LiveDirectory::look(directory.path()).unwrap_err().to_string();
        assert!(refused.contains("its name is not UTF-8"), "{refused}");
        fs::write(directory.path().join(".git"), b"gitdir: not/there\xff\n").unwrap();
        assert!(LiveDirectory::look(directory.path()).is_ok());
    }

    #[test]
    fn sockets_and_fifos_are_refused_by_name() {
        let Some(directory) = tree() else { return };
        fs::create_dir_all(directory.path().join(".git")).unwrap();
        for (name, says) in
            [("s", "s is a socket"), (".git/fsmonitor--daemon.ipc", "git fsmonitor--daemon stop")]
        {
            let socket = directory.path().join(name);
            drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
            let refused = LiveDirectory::look(directory.path()).unwrap_err().to_string();
            assert!(refused.contains(says), "{refused}");
            fs::remove_file(socket).unwrap();
        }
        assert!(LiveDirectory::look(directory.path()).is_ok());
    }

    #[test]
    fn a_link_for_a_git_is_refused() {
        let Some(directory) = tree() else { return };
        symlink("/etc", directory.path().join(".git")).unwrap();
        assert!(matches!(LiveDirectory::look(directory.path()), Err(EngineError::Live { .. })));
    }
}
