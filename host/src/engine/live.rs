//! The host's own tree in a container (`--live`): whose it is, and which parts of it stay read-only.
//!
//! Every `.git` beneath it, and the folder in the tree that a `.git` file names, is mounted a second
//! time, read-only, on top of itself. What cannot be protected so is refused: sockets and fifos too,
//! for mounts that nobody may write to do not close them. Not promised: repositories that the agent
//! makes anew in the tree, and folders above a nested `.git`, which it may rename; what came of that
//! is named when the session is over.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use airlock_shared::limits;

use super::error::EngineError;

/// A `.git` file is short.
const GIT_FILE_BYTES: u64 = 4 << 10;
/// Repositories in one live tree; each is a mount of the container.
const REPOSITORIES: usize = 128;

/// A tree that may be mounted, and what of it may not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveDirectory {
    path: PathBuf,
    /// From the root of the tree.
    read_only: Vec<PathBuf>,
    uid: u32,
    gid: u32,
}

impl LiveDirectory {
    /// Looks through the tree.
    ///
    /// # Errors
    /// A tree owned by root, inside a repository's own folder, with a link for a `.git`, or too
    /// large to be looked through.
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
            return Err(refuse(&path, "not a folder"));
        }
        // THREAT: commands run as the tree's owner; as root they would own the container.
        // Tried by engine::live::tests::a_tree_of_roots_is_refused.
        if owner.uid() == 0 || owner.gid() == 0 {
            return Err(refuse(
                &path,
                "it belongs to root, and commands in the sandbox act as its owner",
            ));
        }
        if path.components().any(|part| is_git(part.as_os_str())) {
            return Err(refuse(&path, "it is inside a .git folder"));
        }

        let nameable = |path: &Path| {
            if path.to_str().is_some() {
                Ok(())
            } else {
                Err(refuse(path, "a name that is not UTF-8"))
            }
        };
        nameable(&path)?;

        let mut read_only = Vec::new();
        let mut ways_out = Vec::new();
        let mut folders = vec![path.clone()];
        let mut seen = 0;
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder).map_err(|error| unreadable(&folder, &error))?;
            for entry in entries {
                let entry = entry.map_err(|error| unreadable(&folder, &error))?;
                seen += 1;
                if seen > limits::WORKSPACE_ENTRIES {
                    return Err(refuse(&path, "it has too many entries to look for repositories"));
                }
                let kind = entry.file_type().map_err(|error| unreadable(&entry.path(), &error))?;
                if is_git(&entry.file_name()) {
                    if !kind.is_dir() && !kind.is_file() {
                        return Err(refuse(
                            &entry.path(),
                            "neither a folder nor a file, so it cannot be kept read-only",
                        ));
                    }
                    let below = entry.path();
                    nameable(&below)?;
                    let named = named(&below, &path)
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
                    // Sockets of git's own are in it; its objects are many and never one.
                    if kind.is_dir() {
                        folders.push(entry.path());
                    }
                } else if kind.is_socket() || kind.is_fifo() {
                    ways_out.push(entry.path());
                } else if kind.is_dir() && !is_objects(&entry.path()) {
                    folders.push(entry.path());
                }
            }
        }
        // THREAT: a command talks to a program of the person's that listens in the tree.
        // Tried by flow::live::a_socket_in_the_tree_is_refused.
        if let Some(first) = ways_out.first() {
            return Err(refuse(&path, &closed(first, ways_out.len(), &path)));
        }
        read_only.sort();
        read_only.dedup();
        Ok(Self { path, read_only, uid: owner.uid(), gid: owner.gid() })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Each `.git`, from the root of the tree.
    #[must_use]
    pub fn read_only(&self) -> &[PathBuf] {
        &self.read_only
    }

    /// Whom commands act as.
    #[must_use]
    pub fn owner(&self) -> (u32, u32) {
        (self.uid, self.gid)
    }
}

/// The folder of the tree that a `.git` file names, where it is not in a `.git` that is read-only.
// THREAT: a folder whose name is not UTF-8 is passed over, and commands write the hooks in it.
// Tried by engine::live::tests::a_git_file_that_names_odd_bytes_is_refused.
fn named(git: &Path, tree: &Path) -> std::io::Result<Option<PathBuf>> {
    let about = fs::metadata(git)?;
    if !about.is_file() {
        return Ok(None);
    }
    if about.len() > GIT_FILE_BYTES {
        return Err(std::io::Error::other("it is longer than a .git file ever is"));
    }
    let content = fs::read(git)?;
    let named = content.trim_ascii().strip_prefix(b"gitdir:").map(<[u8]>::trim_ascii);
    let (Some(named), Some(folder)) = (named, git.parent()) else { return Ok(None) };
    // It names nothing that is there.
    let Ok(named) = fs::canonicalize(folder.join(OsStr::from_bytes(named))) else {
        return Ok(None);
    };
    let Ok(below) = named.strip_prefix(tree) else { return Ok(None) };
    let is_covered = below.components().any(|part| is_git(part.as_os_str()));
    Ok((named.is_dir() && named != tree && !is_covered).then(|| below.to_owned()))
}

/// Why a tree with sockets or fifos in it is refused.
fn closed(first: &Path, count: usize, tree: &Path) -> String {
    let shown = first.strip_prefix(tree).unwrap_or(first).display();
    let more = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
    let ends = if first.ends_with("fsmonitor--daemon.ipc") {
        " (git fsmonitor--daemon stop ends this one)"
    } else {
        ""
    };
    format!(
        "{shown}{more} is a socket or a fifo, through which commands could talk to programs of \
         yours{ends}"
    )
}

fn is_objects(path: &Path) -> bool {
    path.ends_with("objects") && path.components().any(|part| is_git(part.as_os_str()))
}

/// `.git` in any case: on some file systems of the host they are one.
fn is_git(name: &OsStr) -> bool {
    name.as_encoded_bytes().eq_ignore_ascii_case(b".git")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    /// A tree of uid 12345, which takes root to make.
    fn tree() -> Option<tempfile::TempDir> {
        let folder = tempfile::tempdir().unwrap();
        chown(folder.path(), Some(12_345), Some(12_345)).ok().map(|()| folder)
    }

    #[test]
    fn a_tree_of_roots_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        if fs::metadata(folder.path()).unwrap().uid() == 0 {
            assert!(matches!(LiveDirectory::look(folder.path()), Err(EngineError::Live { .. })));
        }
        assert!(matches!(LiveDirectory::look(Path::new("/")), Err(EngineError::Live { .. })));
    }

    #[test]
    fn every_git_is_found_in_any_case() {
        let Some(folder) = tree() else { return };
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at(".git/objects")).unwrap();
        fs::create_dir_all(at("a/b/.GIT")).unwrap();
        fs::create_dir_all(at("c")).unwrap();
        fs::write(at("c/.git"), "gitdir: elsewhere").unwrap();
        fs::write(at("git"), "").unwrap();
        let found = LiveDirectory::look(folder.path()).unwrap();
        let expected: Vec<PathBuf> = [".git", "a/b/.GIT", "c/.git"].map(PathBuf::from).into();
        assert_eq!(found.read_only(), expected);
        assert_eq!(found.owner(), (12_345, 12_345));
    }

    #[test]
    fn the_folder_that_a_git_file_names_is_read_only_too() {
        let Some(folder) = tree() else { return };
        let at = |name: &str| folder.path().join(name);
        for name in ["store/sub", "a", "b", ".git/modules/b"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        fs::write(at("a/.git"), "gitdir: ../store/sub\n").unwrap();
        fs::write(at("b/.git"), "gitdir: ../.git/modules/b\n").unwrap();
        let found = LiveDirectory::look(folder.path()).unwrap();
        let expected: Vec<PathBuf> =
            [".git", "a/.git", "b/.git", "store/sub"].map(PathBuf::from).into();
        assert_eq!(found.read_only(), expected);
    }

    #[test]
    fn a_git_file_that_names_odd_bytes_is_refused() {
        let Some(folder) = tree() else { return };
        let odd = OsStr::from_bytes(b"store\xff");
        fs::create_dir_all(folder.path().join(odd)).unwrap();
        fs::write(folder.path().join(".git"), b"gitdir: store\xff\n").unwrap();
        let refused = LiveDirectory::look(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("a name that is not UTF-8"), "{refused}");
        fs::write(folder.path().join(".git"), b"gitdir: not/there\xff\n").unwrap();
        assert!(LiveDirectory::look(folder.path()).is_ok());
    }

    #[test]
    fn sockets_and_fifos_are_refused_by_name() {
        let Some(folder) = tree() else { return };
        fs::create_dir_all(folder.path().join(".git")).unwrap();
        for (name, says) in
            [("s", "s is a socket"), (".git/fsmonitor--daemon.ipc", "git fsmonitor--daemon stop")]
        {
            let socket = folder.path().join(name);
            drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
            let refused = LiveDirectory::look(folder.path()).unwrap_err().to_string();
            assert!(refused.contains(says), "{refused}");
            fs::remove_file(socket).unwrap();
        }
        assert!(LiveDirectory::look(folder.path()).is_ok());
    }

    #[test]
    fn a_link_for_a_git_is_refused() {
        let Some(folder) = tree() else { return };
        symlink("/etc", folder.path().join(".git")).unwrap();
        assert!(matches!(LiveDirectory::look(folder.path()), Err(EngineError::Live { .. })));
    }
}
