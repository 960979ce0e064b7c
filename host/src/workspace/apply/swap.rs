//! Exchanges a staged content with the file at its path. A file that the person saves between the
//! last comparison and the rename is not lost: the old file stays in the staging folder until the
//! end, and goes back if it is not what was checked.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{self, AtFlags, RenameFlags};
use rustix::io::Errno;

use super::check::FileIdentity;
use super::stage;
use super::steps::StepResult;
use super::{ApplyStage, SkipReason, StageHook};

/// A name in the staging folder and a name in the directory.
pub(super) struct Exchange<'a> {
    staged: &'a OwnedFd,
    number: usize,
    content: String,
    parent: &'a OwnedFd,
    name: &'a [u8],
}

impl<'a> Exchange<'a> {
    pub(super) fn new(
        staged: &'a OwnedFd,
        number: usize,
        parent: &'a OwnedFd,
        name: &'a [u8],
    ) -> Self {
        Self { staged, number, content: stage::name(number), parent, name }
    }

    /// Puts the content at a path that does not exist.
    pub(super) fn put_in(&self) -> io::Result<StepResult> {
        match self.rename_in(RenameFlags::NOREPLACE) {
            Ok(()) => Ok(StepResult::Done),
            Err(Errno::EXIST) => Ok(StepResult::Left(SkipReason::Changed)),
            Err(error) if is_unsupported(error) => self.link_in(),
            Err(error) => Err(error.into()),
        }
    }

    /// The same on a file system without that flag (NFS): a hard link does not replace a file
    /// either.
    fn link_in(&self) -> io::Result<StepResult> {
        let (from, to) = (self.staged, self.parent);
        match fs::linkat(from, &self.content, to, self.name, AtFlags::empty()) {
            Ok(()) => {
                fs::unlinkat(from, &self.content, AtFlags::empty())?;
                Ok(StepResult::Done)
            }
            Err(Errno::EXIST) => Ok(StepResult::Left(SkipReason::Changed)),
            // It has no hard links either (FAT).
            Err(_) => self.rename_over(),
        }
    }

    /// Replaces the file that was checked.
    pub(super) fn replace(
        &self,
        was: FileIdentity,
        before: StageHook<'_>,
    ) -> io::Result<StepResult> {
        let Some(ours) = self.out()? else { return Err(io::ErrorKind::NotFound.into()) };
        before(ApplyStage::Swap);
        match self.rename_in(RenameFlags::EXCHANGE) {
            Ok(()) => {
                before(ApplyStage::Look);
                self.settle(was, ours)
            }
            Err(Errno::NOENT) => Ok(StepResult::Left(SkipReason::Changed)),
            Err(error) if is_unsupported(error) => self.rename_over(),
            Err(error) => Err(error.into()),
        }
    }

    /// After an exchange: if the old file is not what was checked, it goes back. `ours`: the new
    /// file.
    pub(super) fn settle(&self, was: FileIdentity, ours: FileIdentity) -> io::Result<StepResult> {
        if self.out()? == Some(was) {
            return Ok(StepResult::Done);
        }
        // THREAT: the person saves the file between our last comparison and the rename, and loses
        // it.
        // Tried by workspace::apply::tests::saved::what_is_saved_before_the_rename_is_put_back.
        self.rename_in(RenameFlags::EXCHANGE)?;
        if self.out()? != Some(ours) {
            // It was saved again meanwhile: the last save wins.
            self.rename_in(RenameFlags::EXCHANGE)?;
        }
        Ok(StepResult::Left(SkipReason::Changed))
    }

    /// Removes the file that was checked, into the staging folder.
    pub(super) fn take_out(
        &self,
        was: Option<FileIdentity>,
        before: StageHook<'_>,
    ) -> io::Result<StepResult> {
        let (from, to) = (self.parent, self.staged);
        before(ApplyStage::Swap);
        match fs::renameat_with(from, self.name, to, &self.content, RenameFlags::NOREPLACE) {
            Ok(()) => {
                before(ApplyStage::Look);
                self.settle_removal(was)
            }
            // The file or the staging folder is gone.
            Err(error) if is_unsupported(error) || matches!(error, Errno::NOENT | Errno::XDEV) => {
                match fs::unlinkat(from, self.name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => Ok(StepResult::Done),
                    Err(error) => Err(error.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// After a removal: if the old file is not what was checked, it goes back.
    pub(super) fn settle_removal(&self, was: Option<FileIdentity>) -> io::Result<StepResult> {
        if self.out()? == was {
            return Ok(StepResult::Done);
        }
        match self.rename_in(RenameFlags::NOREPLACE) {
            // `EXIST`: it was saved again meanwhile, and the last save wins.
            Ok(()) | Err(Errno::EXIST) => Ok(StepResult::Left(SkipReason::Changed)),
            Err(error) => Err(error.into()),
        }
    }

    /// The identity of the staged file.
    fn out(&self) -> io::Result<Option<FileIdentity>> {
        stage::identity(self.staged, self.number)
    }

    fn rename_in(&self, flags: RenameFlags) -> Result<(), Errno> {
        fs::renameat_with(self.staged, &self.content, self.parent, self.name, flags)
    }

    /// The same on a file system without the flags.
    fn rename_over(&self) -> io::Result<StepResult> {
        fs::renameat(self.staged, &self.content, self.parent, self.name)?;
        Ok(StepResult::Done)
    }
}

fn is_unsupported(error: Errno) -> bool {
    matches!(error, Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_flags_nothing_is_replaced_by_what_is_new() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| std::fs::write(at(name), text).unwrap();
        for name in ["staged", "tree"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        let open = |name: &str| OwnedFd::from(std::fs::File::open(at(name)).unwrap());
        let (staged, parent) = (open("staged"), open("tree"));
        write("staged/0", "agent");
        write("tree/saved", "person");
        write("staged/1", "agent");
        std::os::unix::fs::symlink("there", at("staged/2")).unwrap();
        let put = |number, name: &'static [u8]| {
            let taken = Exchange::new(&staged, number, &parent, name).link_in().unwrap();
            taken == StepResult::Done
        };
        assert_eq!([put(0, b"saved"), put(1, b"new"), put(2, b"link")], [false, true, true]);
        assert_eq!(std::fs::read_to_string(at("tree/saved")).unwrap(), "person");
        assert_eq!(std::fs::read_to_string(at("tree/new")).unwrap(), "agent");
        assert_eq!(std::fs::read_link(at("tree/link")).unwrap().to_str(), Some("there"));
        assert!(at("staged/0").exists() && !at("staged/1").exists());
    }
}
