//! What prevents a step, checked before the first step is taken: permissions, owners, mounts. If a
//! step fails all the same, the next apply continues.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use rustix::fs::{self, Access, AtFlags, Stat, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::super::rel_path::RelPath;

/// A path that cannot be written. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The root stands for the directory itself.
    pub path: RelPath,
    pub why: Obstruction,
}

/// Why a path cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstruction {
    #[error("you may not write in this folder")]
    Closed,
    #[error("it is mounted read-only")]
    ReadOnly,
    #[error("it is marked as immutable or append-only (see lsattr -d)")]
    Immutable,
    #[error("it belongs to another user, and in its folder only the owner may replace it")]
    Sticky,
    #[error("it belongs to another user, and only its owner may change its mode")]
    NotOwner,
    #[error("something is mounted on it")]
    MountPoint,
    #[error("{0}")]
    Other(String),
}

/// Finds obstructions, and remembers them for each folder.
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

    /// Why names cannot be added to a folder or removed from it.
    pub(super) fn of_folder(&mut self, path: &RelPath, opened: &OwnedFd) -> Option<Obstruction> {
        if let Some(known) = self.folders.get(path) {
            return known.clone();
        }
        let may = Access::WRITE_OK | Access::EXEC_OK;
        let found = fs::accessat(opened, ".", may, AtFlags::EACCESS).err().map(obstruction);
        self.folders.insert(path.clone(), found.clone());
        found
    }

    /// Why a path cannot be replaced or removed, in a folder that can be written.
    pub(super) fn of_replaced(&self, folder: &OwnedFd, name: &[u8]) -> Option<Obstruction> {
        let about = fs::statx(folder, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS);
        // Without this system call nothing more can be found out.
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

    /// Why the mode of a file cannot be changed.
    pub(super) fn of_mode(&self, folder: &OwnedFd, file: &Stat) -> Option<Obstruction> {
        if self.user != 0 && self.user != file.st_uid {
            return Some(Obstruction::NotOwner);
        }
        let asked = fs::accessat(folder, ".", Access::WRITE_OK, AtFlags::EACCESS);
        (asked == Err(Errno::ROFS)).then_some(Obstruction::ReadOnly)
    }

    /// Whether a rename from the root cannot reach a folder because it is another mount, even on
    /// the same device.
    pub(super) fn is_mounted_apart(&self, folder: &OwnedFd) -> bool {
        self.mount.is_some() && mount(folder).is_some_and(|other| Some(other) != self.mount)
    }
}

fn obstruction(error: Errno) -> Obstruction {
    match error {
        Errno::ACCESS => Obstruction::Closed,
        Errno::ROFS => Obstruction::ReadOnly,
        Errno::PERM => Obstruction::Immutable,
        other => Obstruction::Other(other.to_string()),
    }
}

/// The id of the mount that a folder is on, if the kernel reports it.
fn mount(folder: &OwnedFd) -> Option<u64> {
    let about = fs::statx(folder, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    (about.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(about.stx_mnt_id)
}
