//! Modes, owners and extended attributes: what is edited keeps what it had on the host, what is
//! new gets what the person's own programs would give it.
//!
//! # Why the sandbox's modes are not applied
//! It knows neither the person's umask nor who else is on the machine. What it can mean is that a
//! file is a program, so the x bits follow.

use std::fs::File;
use std::io;

use rustix::fs::{self, Gid, Mode, Stat, Uid, XattrFlags};
use serde::{Deserialize, Serialize};

use super::super::rel_path::RelPath;

const X: u32 = 0o111;
/// A list of names of attributes, or a value, is read no further.
const ATTRIBUTE_BYTES: usize = 64 << 10;

/// What an edited file keeps of the one it replaces.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct KeptAttributes {
    mode: u32,
    uid: u32,
    gid: u32,
}

/// Something about a path that was applied and is not as one would think.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyNote {
    pub path: RelPath,
    pub what: NoteKind,
}

/// What it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "remark", rename_all = "snake_case")]
pub enum NoteKind {
    #[error("its mode was {from:04o} and is {to:04o}")]
    Mode { from: u32, to: u32 },
    #[error("its mode is as it was: only x bits of files are applied")]
    ModeKept,
    #[error("its set-uid, set-gid or sticky bit is not applied")]
    SpecialBits,
    // THREAT: a hard link into the tree from elsewhere, and what is written through it is written
    // outside. Tried by workspace::apply::tests::modes::a_hard_link_is_broken_and_named.
    #[error("it was a hard link: its other names keep the old content")]
    HardLink,
    #[error("it is yours now: only its owner could have kept it theirs")]
    Owner,
    #[error("its access list or other attributes could not be kept")]
    Attributes,
}

impl KeptAttributes {
    /// Of a file on the host; before and after are modes in the sandbox.
    pub(super) fn of(stat: &Stat, before: u32, after: u32) -> Self {
        let mode = edited(stat.st_mode & 0o777, before, after);
        Self { mode, uid: stat.st_uid, gid: stat.st_gid }
    }

    pub(super) fn mode(&self) -> u32 {
        self.mode
    }

    /// Gives a new content what its file had. What only another user may give is named.
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
        // Last: a change of owner takes bits away, an access list is part of the mode.
        fs::fchmod(new, Mode::from_raw_mode(self.mode))?;
        Ok(remarks)
    }
}

/// A mode on the host after an edit: the x bits follow, for those who may read.
pub(super) fn edited(now: u32, before: u32, after: u32) -> u32 {
    let added = after & !before & X & (now >> 2);
    let removed = before & !after & X;
    (now & !removed) | added
}

/// Whether a file that has the content has the mode too. `before`: none of a new one.
pub(super) fn is_settled(now: u32, before: Option<u32>, after: u32) -> bool {
    match before {
        Some(before) => edited(now, before, after) == now,
        None => (now & X != 0) == (after & X != 0),
    }
}

/// The mode to create a new file with; the umask takes its part.
pub(super) fn created(after: u32) -> Mode {
    Mode::from_raw_mode(if after & X == 0 { 0o666 } else { 0o777 })
}

/// A new file in a set-group folder has that folder's group, whatever the staging folder's is.
pub(super) fn give_group(new: &File, group: Option<u32>) -> io::Result<()> {
    let gid = group.map_or_else(rustix::process::getegid, Gid::from_raw);
    if fs::fstat(new)?.st_gid != gid.as_raw() {
        // Of a group that we are not in it stays ours.
        let _ours = fs::fchown(new, None, Some(gid));
    }
    Ok(())
}

/// Copies what a person or a policy put on a file; never what makes a program of it.
// THREAT: the file had a capability, and the agent's content gets it.
// Tried by workspace::apply::tests::modes::an_edited_file_keeps_its_mode_owner_and_attributes.
fn copy_attributes(old: &File, new: &File) -> bool {
    let is_kept = |name: &[u8]| {
        name.starts_with(b"user.")
            || matches!(name, b"system.posix_acl_access" | b"system.nfs4_acl" | b"security.selinux")
    };
    let mut names = vec![0; ATTRIBUTE_BYTES];
    // A file system without any has none to keep.
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
