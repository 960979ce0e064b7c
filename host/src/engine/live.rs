//! The host's own tree in a box (`--live`): whose it is, and which parts of it stay read-only.
//!
//! Every `.git` beneath it is mounted a second time, read-only, on top of itself. What cannot be
//! protected so is refused. Not promised: repositories that the agent makes anew in the tree, and
//! folders above a nested `.git`, which it may rename.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use airlock_shared::limits;

use super::error::EngineError;

/// Repositories in one live tree; each is a mount of the box.
const REPOSITORIES: usize = 128;

/// A tree that may be mounted, and what of it may not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveTree {
    path: PathBuf,
    /// From the root of the tree.
    read_only: Vec<PathBuf>,
    uid: u32,
    gid: u32,
}

impl LiveTree {
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
        // THREAT: commands run as the tree's owner; as root they would own the box.
        // Tried by engine::live::tests::a_tree_of_roots_is_refused.
        if owner.uid() == 0 || owner.gid() == 0 {
            return Err(refuse(
                &path,
                "it belongs to root, and commands in the box act as its owner",
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
                    let below = below.strip_prefix(&path).unwrap_or(&below);
                    read_only.push(below.to_owned());
                    if read_only.len() > REPOSITORIES {
                        return Err(refuse(&path, "it has more than 128 repositories"));
                    }
                } else if kind.is_dir() {
                    folders.push(entry.path());
                }
            }
        }
        read_only.sort();
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

/// `.git` in any case: on some file systems of the host they are one.
fn is_git(name: &std::ffi::OsStr) -> bool {
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
            assert!(matches!(LiveTree::look(folder.path()), Err(EngineError::Live { .. })));
        }
        assert!(matches!(LiveTree::look(Path::new("/")), Err(EngineError::Live { .. })));
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
        let found = LiveTree::look(folder.path()).unwrap();
        let expected: Vec<PathBuf> = [".git", "a/b/.GIT", "c/.git"].map(PathBuf::from).into();
        assert_eq!(found.read_only(), expected);
        assert_eq!(found.owner(), (12_345, 12_345));
    }

    #[test]
    fn a_link_for_a_git_is_refused() {
        let Some(folder) = tree() else { return };
        symlink("/etc", folder.path().join(".git")).unwrap();
        assert!(matches!(LiveTree::look(folder.path()), Err(EngineError::Live { .. })));
    }
}
