//! Walks a directory by descriptor and reports what it finds, each folder before the entries in it.
//! One folder is open at a time, however deep the tree is. Links are reported, never followed.

mod left_out; // why a path was left out

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use airlock_shared::limits;
use rustix::fs::{self, AtFlags, Dir, FileType, Stat};
use rustix::io::Errno;

use super::beneath::{self, Root};
use super::content;
use super::copy_in::CopyError;
use super::git::{self, Shape};
use super::private::{self, CopyGuard};
use super::rel_path::RelPath;
use super::rules::{LeaveOutRules, RuleResult};

pub use left_out::LeftOutReason;

/// The name of an apply's staging folder begins so, at the root.
pub(super) const STAGING: &str = ".airlock-apply-";
/// At most this much of a git configuration is read.
const GIT_CONFIG_BYTES: u64 = 64 << 10;

/// What the walk reports.
pub(super) enum WalkEntry {
    Folder {
        path: RelPath,
        mode: u32,
        mtime: i64,
    },
    File {
        path: RelPath,
        file: File,
    },
    Link {
        path: RelPath,
        target: Vec<u8>,
        mtime: i64,
    },
    StandIn {
        path: RelPath,
        content: Vec<u8>,
    },
    /// With its target, if it is a link.
    LeftOut {
        path: RelPath,
        why: LeftOutReason,
        target: Option<Vec<u8>>,
    },
}

type EntrySink<'a> = &'a mut dyn FnMut(WalkEntry) -> Result<(), CopyError>;

struct WorkspaceWalk<'a> {
    root: &'a Root,
    rules: &'a LeaveOutRules,
    guard: CopyGuard,
    found: EntrySink<'a>,
    /// Folders that are not opened yet, the next one last.
    pending: Vec<OpenFolder>,
    /// Folders that were left out. They are reported when `--include` names something in them.
    absent: HashSet<RelPath>,
}

struct OpenFolder {
    path: RelPath,
    in_git: bool,
    /// Left out by its name: only what `--include` names in it is copied.
    left_out: bool,
}

/// `place`: the path of the root, without links.
pub(super) fn walk(
    root: &Root,
    place: &Path,
    rules: &LeaveOutRules,
    found: EntrySink<'_>,
) -> Result<(), CopyError> {
    let first = OpenFolder { path: RelPath::root(), in_git: false, left_out: false };
    let (guard, pending) = (rules.private().beneath(place), vec![first]);
    let mut walk = WorkspaceWalk { root, rules, guard, found, pending, absent: HashSet::new() };
    while let Some(folder) = walk.pending.pop() {
        walk.folder(&folder)?;
    }
    Ok(())
}

impl WorkspaceWalk<'_> {
    fn folder(&mut self, folder: &OpenFolder) -> Result<(), CopyError> {
        let opened = match self.root.folder(&folder.path) {
            Ok(opened) => opened,
            Err(error) if folder.path.is_root() => {
                return Err(CopyError::read(&folder.path, error));
            }
            Err(error) => return self.closed(folder.path.clone(), &error),
        };
        let stat = fs::fstat(&opened);
        let stat = stat.map_err(|error| CopyError::read(&folder.path, error.into()))?;
        // THREAT: a session in the home directory copies our logins, and `cat` prints them.
        // Tried by workspace::private::tests::our_own_folders_never_go_in.
        if let Some(why) = self.guard.folder((stat.st_dev, stat.st_ino)) {
            return self.left_out(folder.path.clone(), why);
        }
        let names = match names(&opened) {
            Ok(Some(names)) => names,
            // The rest would be missing without a message.
            Ok(None) => return Err(CopyError::TooMany { most: limits::WORKSPACE_ENTRIES }),
            Err(error) => return Err(CopyError::read(&folder.path, error)),
        };
        let dot_git = git::is_dot_git(folder.path.name());
        let in_git = folder.in_git || dot_git;
        let shape = Shape::of(names.iter().map(|(name, ..)| name.as_slice()));
        let is_repository = shape.is_repository();
        // THREAT: with --no-history the commits are copied all the same, from `.bare/` or
        // `backup.git/`.
        // Tried by workspace::copy_in::tests::no_repository_goes_in_without_its_history.
        let no_history = !self.rules.has_history();
        if no_history && is_repository && !folder.path.is_root() {
            return self.left_out(folder.path.clone(), LeftOutReason::History);
        }
        if !folder.left_out && !folder.path.is_root() {
            self.bring_back(&folder.path)?;
            (self.found)(found_folder(folder.path.clone(), &stat))?;
        }
        let repository = dot_git || is_repository;
        let mut folders = Vec::new();
        for (name, kind, inode) in names {
            if folder.path.is_root() && name.starts_with(STAGING.as_bytes()) {
                continue;
            }
            let path = (folder.path.join(&name))
                .map_err(|why| CopyError::Path { folder: folder.path.clone(), why })?;
            let is_history = git::is_history(&name) || (repository && git::holds_history(&name));
            if no_history && is_history {
                self.name_left_out(&opened, kind, path, LeftOutReason::History)?;
                continue;
            }
            let is_folder = kind == FileType::Directory;
            let in_git_deeper =
                in_git && !repository && git::is_never_copied_within(&path, is_folder);
            if in_git_deeper || (repository && git::is_never_copied(&name)) {
                self.name_left_out(&opened, kind, path.clone(), LeftOutReason::Git)?;
                if repository && git::is_config(&name) && !folder.left_out {
                    let content = git::stand_in(&git_config(&opened, &name), !in_git);
                    (self.found)(WalkEntry::StandIn { path, content })?;
                }
                continue;
            }
            if let Some(why) = self.private(&opened, &name, inode, kind, &path) {
                self.name_left_out(&opened, kind, path, why)?;
                continue;
            }
            match self.rules.judge(&path, is_folder) {
                RuleResult::In | RuleResult::IfContent(_) if is_folder => {
                    folders.push(OpenFolder { path, in_git, left_out: false });
                }
                RuleResult::In => self.entry(&opened, &name, kind, path, None)?,
                RuleResult::IfContent(content) => {
                    self.entry(&opened, &name, kind, path, Some(content))?;
                }
                RuleResult::Excluded => {
                    self.name_left_out(&opened, kind, path, LeftOutReason::Excluded)?
                }
                RuleResult::Secret => {
                    if is_folder && self.rules.brings_back() {
                        self.absent.insert(path.clone());
                        folders.push(OpenFolder { path: path.clone(), in_git, left_out: true });
                    }
                    // The entries of a folder that was left out are not named one by one.
                    if !folder.left_out {
                        self.name_left_out(&opened, kind, path, LeftOutReason::Secret)?;
                    }
                }
            }
        }
        folders.reverse();
        self.pending.extend(folders);
        Ok(())
    }

    fn left_out(&mut self, path: RelPath, why: LeftOutReason) -> Result<(), CopyError> {
        (self.found)(WalkEntry::LeftOut { path, why, target: None })
    }

    /// The same for a name that may be a link, whose target may be copied.
    fn name_left_out(
        &mut self,
        folder: &OwnedFd,
        kind: FileType,
        path: RelPath,
        why: LeftOutReason,
    ) -> Result<(), CopyError> {
        let read = || beneath::read_link(folder, path.name()).ok();
        let target = if kind == FileType::Symlink { read() } else { None };
        (self.found)(WalkEntry::LeftOut { path, why, target })
    }

    /// Why an entry is never copied, whatever the globs say. A file is examined only if its inode
    /// number is known; a file of another file system is recognised when it is opened.
    fn private(
        &self,
        folder: &OwnedFd,
        name: &[u8],
        inode: u64,
        kind: FileType,
        path: &RelPath,
    ) -> Option<LeftOutReason> {
        self.guard.path(path).or_else(|| {
            if kind != FileType::RegularFile || !self.guard.may_be_file(inode) {
                return None;
            }
            let stat = fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            self.guard.file((stat.st_dev, stat.st_ino))
        })
    }

    /// Reports a file, a link, or something that is never copied. `if_content`: a file is left out
    /// if its content is a secret.
    fn entry(
        &mut self,
        folder: &OwnedFd,
        name: &[u8],
        kind: FileType,
        path: RelPath,
        if_content: Option<content::SecretContent>,
    ) -> Result<(), CopyError> {
        let found = match kind {
            FileType::RegularFile => match beneath::open_file(folder, name) {
                Ok(file) => match self.reason_after_open(&path, &file, if_content)? {
                    Some(why) => return self.left_out(path, why),
                    None => WalkEntry::File { path: path.clone(), file },
                },
                Err(error) => return self.closed(path, &error),
            },
            FileType::Symlink => {
                let stat = fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
                let read = stat.map_err(io::Error::from);
                match read.and_then(|stat| Ok((stat, beneath::read_link(folder, name)?))) {
                    Ok((stat, target)) => {
                        WalkEntry::Link { path: path.clone(), target, mtime: stat.st_mtime }
                    }
                    Err(error) => return self.closed(path, &error),
                }
            }
            _ => return self.left_out(path, LeftOutReason::Special),
        };
        self.bring_back(&path)?;
        (self.found)(found)
    }

    /// Why a file that was opened is left out.
    // THREAT: `airlock run --api-key-file key.txt` in the directory that holds key.txt.
    // Tried by workspace::private::tests::the_file_of_a_key_never_goes_in.
    fn reason_after_open(
        &self,
        path: &RelPath,
        file: &File,
        if_content: Option<content::SecretContent>,
    ) -> Result<Option<LeftOutReason>, CopyError> {
        let read = |error| CopyError::read(path, error);
        let about = file.metadata().map_err(read)?;
        if let Some(why) = self.guard.file(private::id(&about)) {
            return Ok(Some(why));
        }
        let Some(kind) = if_content else { return Ok(None) };
        let most = match kind {
            content::SecretContent::Key | content::SecretContent::Document => content::KEY_BYTES,
            _ => content::READ_BYTES,
        };
        let most = most.min(usize::try_from(about.len()).unwrap_or(usize::MAX));
        let content = beginning(file, most).map_err(read)?;
        Ok(content::is_secret(&content, kind).then_some(LeftOutReason::Secret))
    }

    /// An entry that could not be opened. If it was removed or replaced meanwhile, it is skipped.
    fn closed(&mut self, path: RelPath, error: &io::Error) -> Result<(), CopyError> {
        match Errno::from_io_error(error) {
            Some(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => Ok(()),
            Some(Errno::ACCESS | Errno::PERM) => self.left_out(path, LeftOutReason::Unreadable),
            // It is no longer a regular file.
            None if error.kind() == io::ErrorKind::InvalidInput => {
                self.left_out(path, LeftOutReason::Special)
            }
            _ => Err(CopyError::read(&path, io::Error::new(error.kind(), error.to_string()))),
        }
    }

    /// Reports the folders of a path that were left out before.
    fn bring_back(&mut self, path: &RelPath) -> Result<(), CopyError> {
        if self.absent.is_empty() {
            return Ok(());
        }
        let mut needed: Vec<_> = path.ancestors().collect();
        needed.reverse();
        for folder in needed {
            if self.absent.remove(&folder)
                && let Ok(Some(stat)) = self.root.stat(&folder)
            {
                (self.found)(found_folder(folder, &stat))?;
            }
        }
        Ok(())
    }
}

fn found_folder(path: RelPath, stat: &Stat) -> WalkEntry {
    WalkEntry::Folder { path, mode: stat.st_mode & 0o777, mtime: stat.st_mtime }
}

/// A name, its type, and its inode number.
type Listed = (Vec<u8>, FileType, u64);

/// The names in a folder, sorted. None if there are more than a workspace may have.
fn names(folder: &OwnedFd) -> io::Result<Option<Vec<Listed>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => match fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            },
            known => known,
        };
        names.push((name.to_vec(), kind, entry.ino()));
        if names.len() as u64 > limits::WORKSPACE_ENTRIES {
            return Ok(None);
        }
    }
    names.sort_unstable_by(|(a, ..), (b, ..)| a.cmp(b));
    Ok(Some(names))
}

/// The first bytes of a file. Its position does not change.
fn beginning(file: &File, most: usize) -> io::Result<Vec<u8>> {
    let mut content = vec![0; most];
    let mut filled = 0;
    while filled < content.len() {
        match file.read_at(&mut content[filled..], filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    content.truncate(filled);
    Ok(content)
}

/// A repository's configuration, as far as it can be read. Empty if it is not a file.
fn git_config(folder: &OwnedFd, name: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    let read = beneath::open_file(folder, name)
        .and_then(|file| file.take(GIT_CONFIG_BYTES).read_to_end(&mut content));
    if read.is_err() {
        content.clear();
    }
    content
}
