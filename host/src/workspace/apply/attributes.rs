//! Modes, owners and extended attributes. An edited file keeps what it had on the host. A new file
//! gets what the person's own programs would give it.
//!
//! # Why the sandbox's modes are not applied
//! The sandbox knows neither the person's umask nor the other users of the machine. It can only say
//! that a file is a program, so only the x bits are applied.

use std::fs::File;
use std::io;

use rustix::fs::{self, Gid, Mode, Stat, Uid, XattrFlags};
use serde::{Deserialize, Serialize};

use super::super::rel_path::RelPath;

const X: u32 = 0o111;
/// At most this much of a list of attribute names, or of a value, is read.
const ATTRIBUTE_BYTES: usize = 64 << 10;

/// What an edited file keeps of the one it replaces.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct KeptAttributes {
    mode: u32,
    uid: u32,
    gid: u32,
}

/// Something unexpected about a path that was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyNote {
    pub path: RelPath,
    pub what: NoteKind,
}

/// What is unexpected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "remark", rename_all = "snake_case")]
pub enum NoteKind {
    #[error("its mode was {from:04o} and is {to:04o}")]
    Mode { from: u32, to: u32 },
    #[error("its mode is unchanged: only the x bits of files are applied")]
    ModeKept,
    #[error("its set-uid, set-gid or sticky bit is not applied")]
    SpecialBits,
    // THREAT: a file in the directory has a hard link elsewhere, and a write to it changes that
    // file too. Tried by workspace::apply::tests::modes::a_hard_link_is_broken_and_named.
    #[error("it had other hard links, which keep the old content")]
    HardLink,
    #[error("you own it now: only its owner could have kept the owner")]
    Owner,
    #[error("its access list or other attributes could not be kept")]
    Attributes,
}

impl KeptAttributes {
    /// `stat` is of the file on the host. `before` and `after` are modes in the sandbox.
    pub(super) fn of(stat: &Stat, before: u32, after: u32) -> Self {
        let mode = edited(stat.st_mode & 0o777, before, after);
        Self { mode, uid: stat.st_uid, gid: stat.st_gid }
    }

    pub(super) fn mode(&self) -> u32 {
        self.mode
    }

    /// Gives a new file what the old one had. Returns notes on what only another user could give.
    pub(super) fn give(&self, old: Option<&File>, new: &File) -> io::Result<Vec<NoteKind>> {
        let mut remarks = Vec::new();
        let own = fs::fstat(new)?;
        if (own.st_uid, own.st_gid) != (self.uid, self.gid) {
            let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
            let group = own.st_gid == self.gid || fs::fchown(new, None, Some(gid)).is_ok();
            let owner = own.st_uid == self.uid || fs::fchown(new, Some(uid), None).is_ok();
            if !owner || !group {
                remarks.push(NoteKind::Owner);
            }
        }
        if !old.is_none_or(|old| copy_attributes(old, new)) {
            remarks.push(NoteKind::Attributes);
        }
        // Last: a change of owner clears bits, and an access list is part of the mode.
        fs::fchmod(new, Mode::from_raw_mode(self.mode))?;
        Ok(remarks)
    }
}

/// The mode on the host after an edit: x bits are added only where the file may be read.
pub(super) fn edited(now: u32, before: u32, after: u32) -> u32 {
    let added = after & !before & X & (now >> 2);
    let removed = before & !after & X;
    (now & !removed) | added
}

/// Whether a file that has the new content has the right mode too. `before`: None if it is new.
pub(super) fn is_settled(now: u32, before: Option<u32>, after: u32) -> bool {
    match before {
        Some(before) => edited(now, before, after) == now,
        None => (now & X != 0) == (after & X != 0),
    }
}

/// The mode to create a new file with, before the umask.
pub(super) fn created(after: u32) -> Mode {
    Mode::from_raw_mode(if after & X == 0 { 0o666 } else { 0o777 })
}

/// Gives a new file the group of its set-group folder, or our own.
pub(super) fn give_group(new: &File, group: Option<u32>) -> io::Result<()> {
    let gid = group.map_or_else(rustix::process::getegid, Gid::from_raw);
    if fs::fstat(new)?.st_gid != gid.as_raw() {
        // If we are not in that group, ours stays.
        let _ours = fs::fchown(new, None, Some(gid));
    }
    Ok(())
}

/// Copies the attributes that a person or a policy set, and never a capability.
// THREAT: the file had a capability, and the agent's content gets it.
// Tried by workspace::apply::tests::modes::an_edited_file_keeps_its_mode_owner_and_attributes.
fn copy_attributes(old: &File, new: &File) -> bool {
    let is_kept = |name: &[u8]| {
        name.starts_with(b"user.")
            || matches!(name, b"system.posix_acl_access" | b"system.nfs4_acl" | b"security.selinux")
    };
    let mut names = vec![0; ATTRIBUTE_BYTES];
    // The file system has no attributes.
    let Ok(length) = fs::flistxattr(old, &mut names[..]) else { return true };
    let mut all = true;
    let mut value = vec![0; ATTRIBUTE_BYTES];
    for name in names[..length].split(|byte| *byte == 0).filter(|name| is_kept(name)) {
        let copied = fs::fgetxattr(old, name, &mut value[..])
            .and_then(|length| fs::fsetxattr(new, name, &value[..length], XattrFlags::empty()));
        all &= copied.is_ok();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_x_bits_of_an_edit_follow() {
        assert_eq!(edited(0o640, 0o644, 0o644), 0o640);
        assert_eq!(edited(0o640, 0o644, 0o777), 0o750);
        assert_eq!(edited(0o600, 0o600, 0o755), 0o700);
        assert_eq!(edited(0o755, 0o755, 0o600), 0o644);
        assert_eq!(edited(0o755, 0o755, 0o666), 0o644);
        assert_eq!(edited(0o664, 0o664, 0o600), 0o664);
        for (now, before, after) in [(0o640, 0o644, 0o755), (0o755, 0o755, 0o600)] {
            let once = edited(now, before, after);
            assert!(is_settled(once, Some(before), after), "{once:o}");
            assert!(!is_settled(now, Some(before), after));
        }
        assert!(is_settled(0o700, None, 0o755) && is_settled(0o644, None, 0o600));
        assert!(!is_settled(0o644, None, 0o755));
    }
}
