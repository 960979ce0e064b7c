//! The steps of an apply and the journal they stand in. Every step can be taken again: it finds
//! its work done, or does it, or finds somebody else's work and leaves that alone.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Mode, RenameFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::super::beneath::Root;
use super::super::change::{Change, ChangeSet};
use super::super::node::Node;
use super::super::rel_path::{self, RelPath};
use super::super::store;
use super::super::walk::STAGING;
use super::check::{Identity, is_no_folder};
use super::{Applied, ApplyError, Before, stage};

/// One thing to do. A staged content has the number of its step.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub(super) enum Step {
    /// A file or a link goes.
    Remove { path: RelPath, was: Option<Identity> },
    /// A folder goes, if it is empty.
    RemoveFolder { path: RelPath },
    /// A folder comes, for now only for us.
    MakeFolder { path: RelPath },
    /// A file or a link comes; `was`: what it replaces.
    Place { path: RelPath, node: Node, content: Option<u64>, was: Option<Identity> },
    /// The mode of what is there.
    Mode { path: RelPath, mode: u32, folder: bool },
}

impl Step {
    fn path(&self) -> &RelPath {
        match self {
            Self::Remove { path, .. }
            | Self::RemoveFolder { path }
            | Self::MakeFolder { path }
            | Self::Place { path, .. }
            | Self::Mode { path, .. } => path,
        }
    }
}

/// What became of a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Done,
    /// Something else is there now; it was left alone.
    Left,
}

/// Everything that the rest of an apply needs, should it be killed.
#[derive(Serialize, Deserialize)]
pub(super) struct Journal {
    v: u32,
    /// Percent-encoded.
    root: String,
    pub(super) staging: RelPath,
    pub(super) steps: Vec<Step>,
    held: Vec<Change>,
    run_by_themselves: Vec<Change>,
}

impl Journal {
    pub(super) fn new(
        run: &str,
        root: &Path,
        steps: Vec<Step>,
        set: &ChangeSet,
    ) -> io::Result<Self> {
        let staging = format!("{STAGING}{run}");
        Ok(Self {
            v: 1,
            root: rel_path::encode(root.as_os_str().as_bytes()),
            staging: RelPath::parse(staging.as_bytes()).map_err(io::Error::other)?,
            steps,
            held: set.held().cloned().collect(),
            run_by_themselves: set.applied().filter(|it| it.runs.is_some()).cloned().collect(),
        })
    }

    pub(super) fn root(&self) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(&rel_path::decode(&self.root).unwrap_or_default()))
    }

    /// Takes all steps that were not taken, marks the changes as applied and cleans up.
    pub(super) fn carry_out(
        self,
        root: &Root,
        run: &Path,
        finished: bool,
        before: Before<'_>,
    ) -> Result<Applied, ApplyError> {
        let mut applied = Applied { root: self.root(), finished, ..Applied::default() };
        let mut changed = BTreeSet::new();
        // Else only the cleaning up was missing, and what the person did since is theirs.
        if !store::is_applied(run) {
            let staged = stage::folder(root, &self).map_err(ApplyError::CutShort)?;
            for (number, step) in self.steps.iter().enumerate() {
                before(number);
                let path = step.path().clone();
                match step.take(root, staged.as_ref(), number).map_err(ApplyError::CutShort)? {
                    Taken::Done => _ = changed.insert(path),
                    Taken::Left if matches!(step, Step::RemoveFolder { .. }) => {
                        applied.stayed.push(path)
                    }
                    Taken::Left => applied.left.push(path),
                }
            }
            self.sync(root);
            before(self.steps.len());
            store::mark_applied(run)?;
        }
        before(self.steps.len() + 1);
        stage::clear(root, &self).map_err(ApplyError::CutShort)?;
        before(self.steps.len() + 2);
        store::remove_journal(run)?;
        applied.done = changed.into_iter().filter(|path| !applied.left.contains(path)).collect();
        (applied.held, applied.run_by_themselves) = (self.held, self.run_by_themselves);
        Ok(applied)
    }

    /// Gives up what was begun: the staged contents and the journal go, what was done stays.
    pub(super) fn abandon(&self, run: &Path) -> io::Result<()> {
        if let Ok(root) = Root::open(&self.root()) {
            stage::clear(&root, self)?;
        }
        store::remove_journal(run)
    }

    /// Has the renames on the disk before the journal goes.
    fn sync(&self, root: &Root) {
        let folders: BTreeSet<RelPath> =
            self.steps.iter().map(|step| step.path().parent()).collect();
        for folder in folders {
            if let Ok(opened) = root.folder(&folder) {
                // A file system that cannot sync a folder has nothing to wait for.
                let _unsynced = fs::fsync(opened);
            }
        }
    }
}

impl Step {
    fn take(&self, root: &Root, staged: Option<&OwnedFd>, number: usize) -> io::Result<Taken> {
        let path = self.path();
        let parent = match root.folder(&path.parent()) {
            Ok(parent) => parent,
            // What was to go went with its folder, or a file is there in the folder's place.
            Err(error) if is_no_folder(&error) => {
                let goes = matches!(self, Self::Remove { .. } | Self::RemoveFolder { .. });
                return Ok(if goes { Taken::Done } else { Taken::Left });
            }
            Err(error) => return Err(error),
        };
        let name = path.name();
        match self {
            Self::Remove { was, .. } => match root.stat(path)? {
                None => Ok(Taken::Done),
                Some(stat) if Some(Identity::of(&stat)) == *was => {
                    fs::unlinkat(&parent, name, AtFlags::empty())?;
                    Ok(Taken::Done)
                }
                // A folder of ours, made by a later step before the kill.
                Some(stat) if is_folder(&stat) => Ok(Taken::Done),
                Some(_) => Ok(Taken::Left),
            },
            Self::RemoveFolder { .. } => match fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
                // Not a folder: a later step put a file here before the kill.
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(Taken::Done),
                Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(Taken::Left),
                Err(error) => Err(error.into()),
            },
            Self::MakeFolder { .. } => match fs::mkdirat(&parent, name, Mode::RWXU) {
                Ok(()) => Ok(Taken::Done),
                Err(Errno::EXIST) => match root.stat(path)? {
                    Some(stat) if is_folder(&stat) => Ok(Taken::Done),
                    _ => Ok(Taken::Left),
                },
                Err(error) => Err(error.into()),
            },
            Self::Place { node, was, .. } => match staged {
                Some(staged) => place(staged, number, &parent, name, *was),
                // Somebody removed the staging folder.
                None if root.look(path, node.size().as_slice())?.as_ref() == Some(node) => {
                    Ok(Taken::Done)
                }
                None => Ok(Taken::Left),
            },
            Self::Mode { mode, folder, .. } => {
                let opened =
                    if *folder { root.folder(path) } else { root.file(path).map(OwnedFd::from) };
                let Ok(opened) = opened else { return Ok(Taken::Left) };
                let now = fs::fstat(&opened)?.st_mode;
                // A folder keeps its set-group bit, which says whose its files are.
                let special = if *folder { now & 0o7000 } else { 0 };
                if now & 0o7777 != special | mode {
                    fs::fchmod(&opened, Mode::from_raw_mode(special | mode))?;
                }
                Ok(Taken::Done)
            }
        }
    }
}

/// Renames a staged content to where it belongs, if what it replaces is what was seen.
fn place(
    staged: &OwnedFd,
    number: usize,
    parent: &OwnedFd,
    name: &[u8],
    was: Option<Identity>,
) -> io::Result<Taken> {
    let content = stage::name(number);
    let there =
        |folder: &OwnedFd, name: &[u8]| match fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(io::Error::from(error)),
        };
    if there(staged, content.as_bytes())?.is_none() {
        return Ok(Taken::Done);
    }
    if there(parent, name)?.as_ref().map(Identity::of) != was {
        return Ok(Taken::Left);
    }
    if was.is_some() {
        fs::renameat(staged, &content, parent, name)?;
        return Ok(Taken::Done);
    }
    match fs::renameat_with(staged, &content, parent, name, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(Taken::Done),
        Err(Errno::EXIST) => Ok(Taken::Left),
        // A file system without the flag.
        Err(Errno::INVAL | Errno::NOSYS) => {
            fs::renameat(staged, &content, parent, name)?;
            Ok(Taken::Done)
        }
        Err(error) => Err(error.into()),
    }
}

fn is_folder(stat: &fs::Stat) -> bool {
    fs::FileType::from_raw_mode(stat.st_mode) == fs::FileType::Directory
}
