//! Removes the files that an apply replaced. Each is compared once more just before it is removed:
//! a program that opened it before the exchange writes into the old file, not into the new one. A
//! file that was written to is saved under a name beside the new one.
//!
//! Not covered: what is written between that comparison and the removal, and after it. No file
//! system can report that.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{self, AtFlags, RenameFlags};
use rustix::io::Errno;

use super::super::beneath::Root;
use super::super::rel_path::RelPath;
use super::check::FileIdentity;
use super::stage::{self, Staging};
use super::steps::{ApplyStep, coming};

/// The end of the name of a saved file.
const SUFFIX: &str = ".airlock-saved";
/// How many names are tried in one folder.
const NAMES: usize = 20;
/// Bytes of the old name that are kept, so that with the suffix it is valid on every file system.
const NAME_BYTES: usize = 200;

/// A file of the person that was saved under another name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Where it was.
    pub path: RelPath,
    /// Where it is.
    pub at: RelPath,
}

/// Removes the replaced files after all steps. Returns those that were saved, and where they are.
pub(super) fn remove_replaced(
    root: &Root,
    staging: &Staging<'_>,
    steps: &[ApplyStep],
) -> io::Result<Vec<Saved>> {
    let mut saved = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let Some((staged, was)) = replaced_file(staging, number, step)? else { continue };
        // THREAT: a program writes into a file that it has open, and we remove that file's last
        // name.
        // Tried by
        // workspace::apply::tests::open::what_is_written_into_the_old_file_is_saved_beside_the_new_one.
        if stage::identity(staged, number)? == Some(was) {
            fs::unlinkat(staged, stage::name(number), AtFlags::empty())?;
        } else {
            let path = step.path().clone();
            let at = save_beside(root, staged, number, &path, false)?;
            saved.push(Saved { path, at });
        }
    }
    Ok(saved)
}

/// Before an unfinished apply is given up: puts back each file that was removed to make room for
/// something of another kind, which may not be in place yet.
// THREAT: a file becomes a folder: the file was removed and the folder does not exist yet. Giving
// up then removes the file's last name. Tried by
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
        if let Some((staged, _)) = replaced_file(staging, number, step)? {
            let at = save_beside(root, staged, number, path, true)?;
            if at != *path {
                saved.push(Saved { path: path.clone(), at });
            }
        }
    }
    Ok(saved)
}

/// The file that a step took out of the directory, if it is in the staging folder, and its identity
/// at the check.
fn replaced_file<'a>(
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

/// Gives the file a name in its folder, or in the nearest folder above that still exists. An
/// existing name is never taken.
fn save_beside(
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
                        // The rename is done. Only a crash right now could undo it.
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
