//! What came out of the tree is let go: each file is looked at once more just before it is removed.
//! A program that has had it open since before the exchange writes into the old file, not into the
//! new one; what it wrote is kept under a name beside it.
//!
//! What is left of the window is the time between that look and the removal, and all that is written
//! into the old file afterwards: no file system can tell us that.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{self, AtFlags, RenameFlags};
use rustix::io::Errno;

use super::super::beneath::Root;
use super::super::rel_path::RelPath;
use super::check::FileIdentity;
use super::stage::{self, Staging};
use super::steps::{ApplyStep, coming};

/// What a name gets that is kept beside.
const SUFFIX: &str = ".airlock-saved";
/// Names that are tried in one folder.
const NAMES: usize = 20;
/// Bytes of a name that stay; with the suffix it is a name on every file system.
const NAME_BYTES: usize = 200;

/// A person's content that is neither at its path nor lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Where it was.
    pub path: RelPath,
    /// Where it is.
    pub at: RelPath,
}

/// After all steps are taken. What was saved meanwhile, and where it is now.
pub(super) fn let_go(
    root: &Root,
    staging: &Staging<'_>,
    steps: &[ApplyStep],
) -> io::Result<Vec<Saved>> {
    let mut saved = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let Some((staged, was)) = came_out(staging, number, step)? else { continue };
        // THREAT: a program writes into the file it has open, and the only name that file has left
        // is ours. Tried by
        // workspace::apply::tests::open::what_is_written_into_the_old_file_is_kept_beside.
        if stage::identity(staged, number)? == Some(was) {
            fs::unlinkat(staged, stage::name(number), AtFlags::empty())?;
        } else {
            let path = step.path().clone();
            let at = beside(root, staged, number, &path, false)?;
            saved.push(Saved { path, at });
        }
    }
    Ok(saved)
}

/// Before an apply is given up half-way: a file that made room for something of another kind goes
/// back, for what was to come may not be there.
// THREAT: a file becomes a folder; it was taken out, the folder was not made yet, and giving up
// removes the last name that the file has. Tried by
// workspace::apply::tests::open::what_made_room_is_there_after_giving_up_at_any_step.
pub(super) fn put_back(
    root: &Root,
    staging: &Staging<'_>,
    steps: &[ApplyStep],
) -> io::Result<Vec<Saved>> {
    let coming = coming(steps);
    let mut saved = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let path = step.path();
        let makes_room = matches!(step, ApplyStep::Remove { .. })
            && (coming.contains(path) || path.ancestors().any(|above| coming.contains(&above)));
        if !makes_room {
            continue;
        }
        if let Some((staged, _)) = came_out(staging, number, step)? {
            let at = beside(root, staged, number, path, true)?;
            if at != *path {
                saved.push(Saved { path: path.clone(), at });
            }
        }
    }
    Ok(saved)
}

/// What a step took out of the tree, if it lies in the staging folder, and what it was when it was
/// checked.
fn came_out<'a>(
    staging: &'a Staging<'_>,
    number: usize,
    step: &ApplyStep,
) -> io::Result<Option<(&'a OwnedFd, FileIdentity)>> {
    let (was, node) = match step {
        ApplyStep::Remove { was: Some(was), .. } => (*was, None),
        ApplyStep::Place { was: Some(was), node, .. } => (*was, Some(node)),
        _ => return Ok(None),
    };
    let Some(staged) = staging.ready(number)? else { return Ok(None) };
    let is_ours = match node {
        Some(node) if stage::identity(staged, number)? != Some(was) => {
            staging.is_content(number, node)?
        }
        _ => false,
    };
    Ok((!is_ours).then_some((staged, was)))
}

/// Gives it a name in its folder, or in the nearest one above that is still there. No name that
/// exists is taken.
fn beside(
    root: &Root,
    staged: &OwnedFd,
    number: usize,
    path: &RelPath,
    may_go_back: bool,
) -> io::Result<RelPath> {
    let name = path.name();
    let stem = &name[..name.len().min(NAME_BYTES)];
    let suffixed = (1..=NAMES).map(|count| match count {
        1 => [stem, SUFFIX.as_bytes()].concat(),
        count => [stem, SUFFIX.as_bytes(), format!("-{count}").as_bytes()].concat(),
    });
    let suffixed: Vec<Vec<u8>> = suffixed.collect();
    let mut failed = Errno::NOENT;
    let mut folder_path = path.parent();
    loop {
        let own = (may_go_back && folder_path == path.parent()).then(|| name.to_vec());
        if let Ok(folder) = root.folder(&folder_path) {
            for name in own.iter().chain(&suffixed) {
                let from = stage::name(number);
                let how = RenameFlags::NOREPLACE;
                match fs::renameat_with(staged, from, &folder, name.as_slice(), how) {
                    Ok(()) => {
                        // The rename stands all the same; only a crash right now could undo it.
                        let _unsynced = fs::fsync(&folder);
                        return folder_path.join(name).map_err(io::Error::other);
                    }
                    Err(Errno::EXIST) => failed = Errno::EXIST,
                    Err(error) => {
                        failed = error;
                        break;
                    }
                }
            }
        }
        if folder_path.is_root() {
            return Err(failed.into());
        }
        folder_path = folder_path.parent();
    }
}
