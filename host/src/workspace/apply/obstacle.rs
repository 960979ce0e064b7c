//! What would keep a step from being taken, asked before the first one is: who may write where,
//! who owns what, what is mounted. A step that fails after all leaves an apply to be gone on with.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use rustix::fs::{self, Access, AtFlags, Stat, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::super::rel_path::RelPath;

/// Something that is in the way. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The root: the folder itself.
    pub path: RelPath,
    pub why: Obstruction,
}

/// What it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstruction {
    #[error("you may not write in this folder")]
    Closed,
    #[error("it is mounted read-only")]
    ReadOnly,
    #[error("it is marked as immutable or append-only: lsattr -d shows it")]
    Immutable,
    #[error("it is somebody else's, and in its folder only the owner may replace it")]
    Sticky,
    #[error("it is somebody else's, and only the owner may change its mode")]
    NotOwner,
    #[error("something is mounted on it")]
    MountPoint,
    #[error("{0}")]
    Other(String),
}

/// Asks, and remembers what it was told of a folder.
pub(super) struct ObstructionCache {
    user: u32,
    mount: Option<u64>,
    folders: HashMap<RelPath, Option<Obstruction>>,
}

impl ObstructionCache {
    pub(super) fn new(top: &OwnedFd) -> Self {
        let user = rustix::process::geteuid().as_raw();
        Self { user, mount: mount(top), folders: HashMap::new() }
    }

    /// Whether names cannot be put into a folder and taken out of it.
    pub(super) fn of_folder(&mut self, path: &RelPath, opened: &OwnedFd) -> Option<Obstruction> {
        if let Some(known) = self.folders.get(path) {
            return known.clone();
        }
        let may = Access::WRITE_OK | Access::EXEC_OK;
        let found = fs::accessat(opened, ".", may, AtFlags::EACCESS).err().map(hindrance);
        self.folders.insert(path.clone(), found.clone());
        found
    }

    /// Whether what is there cannot be replaced or removed, in a folder that can be written.
    pub(super) fn of_replaced(&self, folder: &OwnedFd, name: &[u8]) -> Option<Obstruction> {
        let about = fs::statx(folder, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS);
        // A kernel without the call is asked no further.
        let about = about.ok()?;
        let has = |attribute| about.stx_attributes.contains(attribute);
        if has(StatxAttributes::MOUNT_ROOT) {
            return Some(Obstruction::MountPoint);
        }
        if has(StatxAttributes::IMMUTABLE) || has(StatxAttributes::APPEND) {
            return Some(Obstruction::Immutable);
        }
        let folder = fs::fstat(folder).ok()?;
        let is_sticky = folder.st_mode & 0o1000 != 0;
        let others = self.user != 0 && self.user != folder.st_uid && self.user != about.stx_uid;
        (is_sticky && others).then_some(Obstruction::Sticky)
    }

    /// Whether the mode of what is there cannot be changed.
    pub(super) fn of_mode(&self, folder: &OwnedFd, file: &Stat) -> Option<Obstruction> {
        if self.user != 0 && self.user != file.st_uid {
            return Some(Obstruction::NotOwner);
        }
        let asked = fs::accessat(folder, ".", Access::WRITE_OK, AtFlags::EACCESS);
        (asked == Err(Errno::ROFS)).then_some(Obstruction::ReadOnly)
    }

    /// Whether a rename from the root's file system cannot reach a folder, though its device may
    /// be the same.
    pub(super) fn is_mounted_apart(&self, folder: &OwnedFd) -> bool {
        self.mount.is_some() && mount(folder).is_some_and(|other| Some(other) != self.mount)
    }
}

fn hindrance(error: Errno) -> Obstruction {
    match error {
        Errno::ACCESS => Obstruction::Closed,
        Errno::ROFS => Obstruction::ReadOnly,
        Errno::PERM => Obstruction::Immutable,
        other => Obstruction::Other(other.to_string()),
    }
}

/// The number of the mount that a folder is on, of a kernel that has them.
fn mount(folder: &OwnedFd) -> Option<u64> {
    let about = fs::statx(folder, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    (about.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(about.stx_mnt_id)
}
