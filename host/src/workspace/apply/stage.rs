//! Writes the new contents to a hidden folder at the top of the directory, on the same file system,
//! so that only a rename is left to do. The files in it are numbered, and no other user may enter
//! it. A file that was removed from it is written again from the session's record.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{self, AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use super::super::beneath::{self, Root};
use super::super::node::Node;
use super::super::rel_path::RelPath;
use super::super::store::Contents;
use super::attributes::{self, ApplyNote};
use super::check::FileIdentity;
use super::steps::{ApplyJournal, ApplyStep};

/// For more files than this, the whole file system is synced at once.
const SYNCED_ONE_BY_ONE: usize = 64;
/// The name of a content that is being written again. It gets its number when it is complete.
const UNFINISHED: &str = "part";

/// The staging folder of an apply, which may not exist.
pub(super) struct Staging<'a> {
    root: &'a Root,
    place: &'a RelPath,
    session: &'a Path,
    folder: Option<OwnedFd>,
}

/// Writes all contents and syncs them. After an error nothing is left.
pub(super) fn stage(
    root: &Root,
    journal: &ApplyJournal,
    session: &Path,
    before: super::StageHook<'_>,
) -> io::Result<Vec<ApplyNote>> {
    let mut staging = Staging::open(root, &journal.staging, session);
    let staged = staging.fill(&journal.steps, before);
    if staged.is_err() {
        // If this fails, only a hidden folder stays.
        let _stays = staging.clear();
    }
    staged
}

impl<'a> Staging<'a> {
    pub(super) fn open(root: &'a Root, place: &'a RelPath, session: &'a Path) -> Self {
        // THREAT: another user of a shared directory puts their own folder in its place, and their
        // contents are renamed into the directory. Tried by
        // workspace::apply::tests::resume::a_staging_folder_of_another_user_is_not_used.
        let is_ours = |folder: &OwnedFd| {
            let user = rustix::process::geteuid().as_raw();
            fs::fstat(folder).is_ok_and(|stat| stat.st_uid == user && stat.st_mode & 0o077 == 0)
        };
        Self { root, place, session, folder: root.folder(place).ok().filter(is_ours) }
    }

    fn fill(
        &mut self,
        steps: &[ApplyStep],
        before: super::StageHook<'_>,
    ) -> io::Result<Vec<ApplyNote>> {
        // An apply that was killed before its journal was written left this.
        self.clear()?;
        self.make()?;
        let mut contents = Contents::open(self.session)?;
        let places = steps.iter().filter(|step| matches!(step, ApplyStep::Place { .. })).count();
        let mut remarks = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            if matches!(step, ApplyStep::Place { .. }) {
                before(super::ApplyStage::Step);
                let file = self.write(step, &name(number), &mut contents, &mut remarks)?;
                if let Some(file) = file.filter(|_| places <= SYNCED_ONE_BY_ONE) {
                    file.sync_all()?;
                }
            }
        }
        if places > SYNCED_ONE_BY_ONE {
            fs::syncfs(self.there()?)?;
        }
        fs::fsync(self.there()?)?;
        Ok(remarks)
    }

    fn make(&mut self) -> io::Result<()> {
        let top = self.root.folder(&RelPath::root())?;
        fs::mkdirat(&top, self.place.as_bytes(), Mode::RWXU)?;
        self.folder = Some(self.root.folder(self.place)?);
        Ok(())
    }

    /// The folder. It is made again if it was removed.
    pub(super) fn folder(&mut self) -> io::Result<&OwnedFd> {
        if self.folder.is_none() {
            self.make()?;
        }
        self.there()
    }

    /// Whether the staged file is the new content, and not the old file after the exchange.
    pub(super) fn is_content(&self, number: usize, node: &Node) -> io::Result<bool> {
        let path = self.place.join(name(number).as_bytes()).map_err(io::Error::other)?;
        let staged = self.root.look(&path, node.size().as_slice())?;
        Ok(staged.is_some_and(|staged| staged.same_but_mode(node)))
    }

    fn there(&self) -> io::Result<&OwnedFd> {
        self.folder.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Writes the content of one step, with the mode and the owner that it will have.
    fn write(
        &self,
        step: &ApplyStep,
        name: &str,
        contents: &mut Contents,
        remarks: &mut Vec<ApplyNote>,
    ) -> io::Result<Option<File>> {
        let ApplyStep::Place { path, node, content, keep, group, .. } = step else {
            return Ok(None);
        };
        let folder = self.there()?;
        match (node, content) {
            (Node::Link { target }, _) => {
                fs::symlinkat(target.as_slice(), folder, name)?;
                Ok(None)
            }
            (Node::File { mode, size, sha256 }, Some(offset)) => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let create = if keep.is_some() {
                    Mode::RUSR | Mode::WUSR
                } else {
                    attributes::created(*mode)
                };
                let mut file = File::from(fs::openat(folder, name, flags, create)?);
                if beneath::copy(&mut contents.at(*offset, *size)?, &mut file)? != *sha256 {
                    return Err(io::Error::other("the stored content is damaged"));
                }
                match keep {
                    Some(keep) => {
                        let old = self.root.file(path).ok();
                        let given = keep.give(old.as_ref(), &file)?;
                        let remark = |what| ApplyNote { path: path.clone(), what };
                        remarks.extend(given.into_iter().map(remark));
                    }
                    None => attributes::give_group(&file, *group)?,
                }
                Ok(Some(file))
            }
            _ => Err(io::Error::other("the stored content is missing")),
        }
    }

    /// The folder, if it has a file of that number: a new content, or the old file after the
    /// exchange.
    pub(super) fn ready(&self, number: usize) -> io::Result<Option<&OwnedFd>> {
        let Some(folder) = &self.folder else { return Ok(None) };
        Ok(identity(folder, number)?.map(|_| folder))
    }

    /// Writes again a content that was removed.
    pub(super) fn again(&mut self, number: usize, step: &ApplyStep) -> io::Result<&OwnedFd> {
        self.folder()?;
        let folder = self.there()?;
        match fs::unlinkat(folder, UNFINISHED, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let mut contents = Contents::open(self.session)?;
        if let Some(file) = self.write(step, UNFINISHED, &mut contents, &mut Vec::new())? {
            file.sync_all()?;
        }
        fs::renameat(folder, UNFINISHED, folder, name(number))?;
        Ok(folder)
    }

    /// Removes the staging folder and what is left in it.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        let Some(folder) = self.folder.take() else { return Ok(()) };
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name.iter().all(u8::is_ascii_digit) || name == UNFINISHED.as_bytes() {
                fs::unlinkat(&folder, entry.file_name(), AtFlags::empty())?;
            }
        }
        let top = self.root.folder(&RelPath::root())?;
        match fs::unlinkat(&top, self.place.as_bytes(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The identity of the staged file with a step's number.
pub(super) fn identity(staged: &OwnedFd, step: usize) -> io::Result<Option<FileIdentity>> {
    match fs::statat(staged, name(step), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileIdentity::of(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The name of a step's content in the staging folder.
pub(super) fn name(step: usize) -> String {
    step.to_string()
}
