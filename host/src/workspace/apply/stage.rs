//! The new contents, written beside what they will replace: a hidden folder in the workspace's
//! root, of the same file system, so that a rename is all that is left to do. Its files are
//! numbered, and nobody else may enter it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{self, AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::super::beneath::Root;
use super::super::node::{Node, Sha};
use super::super::rel_path::RelPath;
use super::super::store::Contents;
use super::steps::{Journal, Step};

/// Beyond this many files, the whole file system is synced at once.
const SYNCED_ONE_BY_ONE: usize = 64;

/// Writes all contents and has them on the disk. On an error nothing is left.
pub(super) fn stage(
    root: &Root,
    journal: &Journal,
    run: &Path,
    before: super::Before<'_>,
) -> io::Result<()> {
    let staged = fill(root, journal, run, before);
    if staged.is_err() {
        // What stays is in the way of nothing but a hidden folder.
        let _stays = clear(root, journal);
    }
    staged
}

fn fill(root: &Root, journal: &Journal, run: &Path, before: super::Before<'_>) -> io::Result<()> {
    // What an apply left that was killed before its journal was there.
    clear(root, journal)?;
    let top = root.folder(&RelPath::root())?;
    fs::mkdirat(&top, journal.staging.as_bytes(), Mode::RWXU)?;
    let folder = root.folder(&journal.staging)?;
    let mut contents = Contents::open(run)?;
    let places = journal.steps.iter().filter(|step| matches!(step, Step::Place { .. })).count();
    for (number, step) in journal.steps.iter().enumerate() {
        let Step::Place { node, content, .. } = step else { continue };
        before(number);
        match (node, content) {
            (Node::Link { target }, _) => {
                fs::symlinkat(target.as_slice(), &folder, name(number))?;
            }
            (Node::File { mode, size, sha256 }, Some(offset)) => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let mut file =
                    File::from(fs::openat(&folder, name(number), flags, Mode::RUSR | Mode::WUSR)?);
                if copy(&mut contents.at(*offset, *size)?, &mut file)? != *sha256 {
                    return Err(io::Error::other("a stored content is damaged"));
                }
                fs::fchmod(&file, Mode::from_raw_mode(*mode))?;
                if places <= SYNCED_ONE_BY_ONE {
                    file.sync_all()?;
                }
            }
            _ => return Err(io::Error::other("a stored content is missing")),
        }
    }
    if places > SYNCED_ONE_BY_ONE {
        fs::syncfs(&folder)?;
    }
    Ok(fs::fsync(&folder)?)
}

fn copy(from: &mut impl Read, to: &mut File) -> io::Result<Sha> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(Sha::of(hash));
        }
        hash.update(&buffer[..count]);
        to.write_all(&buffer[..count])?;
    }
}

/// The name of a step's content in the staging folder.
pub(super) fn name(step: usize) -> String {
    step.to_string()
}

/// The staging folder, if it is there.
pub(super) fn folder(root: &Root, journal: &Journal) -> io::Result<Option<OwnedFd>> {
    match root.folder(&journal.staging) {
        Ok(folder) => Ok(Some(folder)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes the staging folder and what is left in it.
pub(super) fn clear(root: &Root, journal: &Journal) -> io::Result<()> {
    let Some(folder) = folder(root, journal)? else { return Ok(()) };
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        if entry.file_name().to_bytes().iter().all(u8::is_ascii_digit) {
            fs::unlinkat(&folder, entry.file_name(), AtFlags::empty())?;
        }
    }
    let top = root.folder(&RelPath::root())?;
    match fs::unlinkat(&top, journal.staging.as_bytes(), AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
