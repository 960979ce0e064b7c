//! What never enters a sandbox, whatever the globs say: airlock's own folders, and the files that a
//! credential was read from.
//!
//! Each is known in two ways: by device and inode, so that a bind mount or a hard link is the same
//! file; and by its path, so that it is known before it exists and after it was replaced.
//!
//! Not promised: a subfolder of our state that is bind-mounted into the directory by itself.

use std::collections::{HashMap, HashSet};
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use airlock_shared::limits;

use super::rel_path::RelPath;
use super::walk::LeftOutReason;

/// Device and inode.
pub(super) type FileId = (u64, u64);

/// Our own folders and the files that hold credentials.
#[derive(Clone, Debug, Default)]
pub struct Private {
    folders: Vec<PrivatePlace>,
    files: Vec<PrivatePlace>,
    /// Our settings files that lie elsewhere, behind a link in our folder. They hold no
    /// credentials.
    settings: Vec<PrivatePlace>,
}

#[derive(Clone, Debug)]
struct PrivatePlace {
    /// Without links, as far as it exists.
    path: PathBuf,
    /// None: it does not exist yet.
    id: Option<FileId>,
}

/// Why a directory may not be given to a sandbox.
#[derive(Debug, thiserror::Error)]
pub enum NotAllowed {
    #[error(
        "{} is or lies in {}, where airlock keeps its own logins and records",
        tree.display(),
        folder.display()
    )]
    Own { tree: PathBuf, folder: PathBuf },
    #[error(
        "{} is in the directory, and holds airlock's logins or records: with --live, commands could \
         read it",
        path.display()
    )]
    LiveOwn { path: PathBuf },
    #[error(
        "{} is in the directory, and holds a login or key: with --live, commands could read it",
        path.display()
    )]
    LiveCredential { path: PathBuf },
    #[error(
        "{} is in the directory, and airlock reads its settings from it: with --live, commands \
         could change it",
        path.display()
    )]
    LiveSettings { path: PathBuf },
    #[error(
        "{} has more than {} entries, too many to search for files that commands must not read with --live",
        tree.display(),
        limits::WORKSPACE_ENTRIES
    )]
    LiveTooMany { tree: PathBuf },
}

impl NotAllowed {
    /// The command that helps.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Own { .. } | Self::LiveTooMany { .. } => "airlock run -C DIR …",
            Self::LiveOwn { .. } | Self::LiveCredential { .. } | Self::LiveSettings { .. } => {
                "leave out --live"
            }
        }
    }
}

impl Private {
    /// Adds one of our folders, with everything in it. It need not exist yet.
    #[must_use]
    pub fn folder(mut self, path: &Path) -> Self {
        let id = fs::metadata(path).ok().map(|about| id(&about));
        self.folders.push(PrivatePlace { path: resolved(path), id });
        self
    }

    /// Adds a file that holds a credential. Anything but a regular file (a pipe) is ignored.
    #[must_use]
    pub fn file(mut self, path: &Path) -> Self {
        self.files.extend(place_of_file(path));
        self
    }

    /// Adds a file that we read our settings from. If it is a link, its target is meant.
    // THREAT: `~/.config/airlock/config.toml` is a link into `~/dotfiles`. An agent works there and
    // changes which server gets the next key.
    // Tried by workspace::private::tests::settings_behind_a_link_are_ours.
    #[must_use]
    pub fn settings(mut self, path: &Path) -> Self {
        self.settings.extend(place_of_file(path));
        self
    }

    /// Adds every file in a folder of logins: a file may have a hard link elsewhere.
    #[must_use]
    pub fn files_in(self, folder: &Path) -> Self {
        let Ok(entries) = fs::read_dir(folder) else { return self };
        entries.flatten().fold(self, |private, entry| private.file(&entry.path()))
    }

    /// Whether a directory may be given to a sandbox. A copy leaves out what is private; with
    /// `live` nothing can be left out.
    ///
    /// # Errors
    /// The directory is one of our folders or in one; with `live` also if it holds anything
    /// private.
    pub fn admits(&self, tree: &Path, live: bool) -> Result<(), NotAllowed> {
        // THREAT: an agent works on our state, reads every login and signs in as the person.
        // Tried by workspace::private::tests::our_own_folders_are_refused.
        for folder in tree.ancestors() {
            let about = fs::metadata(folder).ok().map(|about| id(&about));
            let is_ours =
                |own: &&PrivatePlace| own.path == folder || (own.id.is_some() && own.id == about);
            if let Some(own) = self.folders.iter().find(is_ours) {
                let (tree, folder) = (tree.to_owned(), own.path.clone());
                return Err(NotAllowed::Own { tree, folder });
            }
        }
        if live { self.admits_live(tree) } else { Ok(()) }
    }

    // THREAT: with `--live` in the home directory, a command reads
    // `~/.local/state/airlock/logins/*`.
    // Tried by workspace::private::tests::what_holds_something_private_is_not_given_live.
    fn admits_live(&self, tree: &Path) -> Result<(), NotAllowed> {
        if let Some(own) = self.folders.iter().find(|own| own.path.starts_with(tree)) {
            return Err(NotAllowed::LiveOwn { path: own.path.clone() });
        }
        let there = |place: &&PrivatePlace| place.id.is_some() && place.path.starts_with(tree);
        if let Some(file) = self.files.iter().find(there) {
            return Err(NotAllowed::LiveCredential { path: file.path.clone() });
        }
        if let Some(file) = self.settings.iter().find(there) {
            return Err(NotAllowed::LiveSettings { path: file.path.clone() });
        }
        let guard = self.beneath(tree);
        let mut folders = vec![tree.to_owned()];
        let mut seen = 0;
        while let Some(folder) = folders.pop() {
            // A folder that cannot be read is refused when the directory is mounted.
            for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|it| it.path()) {
                seen += 1;
                if seen > limits::WORKSPACE_ENTRIES {
                    return Err(NotAllowed::LiveTooMany { tree: tree.to_owned() });
                }
                let Ok(about) = fs::symlink_metadata(&path) else { continue };
                if about.is_dir() && guard.folders.contains(&id(&about)) {
                    return Err(NotAllowed::LiveOwn { path });
                }
                match guard.file(id(&about)).filter(|_| about.is_file()) {
                    Some(LeftOutReason::Own) => return Err(NotAllowed::LiveSettings { path }),
                    Some(_) => return Err(NotAllowed::LiveCredential { path }),
                    None => {}
                }
                if about.is_dir() {
                    folders.push(path);
                }
            }
        }
        Ok(())
    }

    /// What of it lies beneath `root`, a path without links.
    pub(super) fn beneath(&self, root: &Path) -> CopyGuard {
        let path = |place: &PrivatePlace| {
            let below = place.path.strip_prefix(root).ok()?;
            RelPath::parse(below.as_os_str().as_bytes()).ok()
        };
        let (mut files, mut paths) = (HashMap::new(), HashMap::new());
        for (places, why) in
            [(&self.settings, LeftOutReason::Own), (&self.files, LeftOutReason::Credential)]
        {
            files.extend(places.iter().filter_map(|place| place.id).map(|id| (id, why)));
            paths.extend(places.iter().filter_map(path).map(|path| (path, why)));
        }
        paths.extend(self.folders.iter().filter_map(path).map(|path| (path, LeftOutReason::Own)));
        CopyGuard {
            folders: self.folders.iter().filter_map(|place| place.id).collect(),
            files,
            paths,
        }
    }
}

/// What a walk must not copy.
pub(super) struct CopyGuard {
    folders: HashSet<FileId>,
    files: HashMap<FileId, LeftOutReason>,
    paths: HashMap<RelPath, LeftOutReason>,
}

impl CopyGuard {
    pub(super) fn path(&self, path: &RelPath) -> Option<LeftOutReason> {
        self.paths.get(path).copied()
    }

    pub(super) fn folder(&self, id: FileId) -> Option<LeftOutReason> {
        self.folders.contains(&id).then_some(LeftOutReason::Own)
    }

    pub(super) fn may_be_file(&self, inode: u64) -> bool {
        self.files.keys().any(|(_, known)| *known == inode)
    }

    pub(super) fn file(&self, id: FileId) -> Option<LeftOutReason> {
        self.files.get(&id).copied()
    }
}

pub(super) fn id(about: &Metadata) -> FileId {
    (about.dev(), about.ino())
}

/// The place of a file, which need not exist. None if it is not a regular file.
fn place_of_file(path: &Path) -> Option<PrivatePlace> {
    let id = match fs::metadata(path) {
        Ok(about) if about.is_file() => Some(id(&about)),
        Ok(_) => return None,
        Err(_) => None,
    };
    Some(PrivatePlace { path: resolved(path), id })
}

/// A path without links, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    for existing in path.ancestors() {
        if let Ok(real) = existing.canonicalize() {
            return match path.strip_prefix(existing) {
                Ok(rest) if !rest.as_os_str().is_empty() => real.join(rest),
                _ => real,
            };
        }
    }
    path.to_owned()
}

#[cfg(test)]
mod tests;
