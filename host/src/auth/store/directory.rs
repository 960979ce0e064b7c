//! Files that only our user can have written, in a directory that only our user can enter.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::layout::FILE_BYTES;
use crate::auth::AuthError;

/// Reasons why a directory is refused.
pub(crate) const DIRECTORY_IS_LINK: &str = "the directory is a symbolic link";
pub(crate) const DIRECTORY_IS_OPEN: &str = "others can write in the directory";

/// An open directory: its files are opened below its descriptor, so renaming it changes nothing.
#[derive(Debug)]
pub(super) struct Directory {
    descriptor: OwnedFd,
    path: PathBuf,
}

/// The error for a directory or file of logins that cannot be used.
pub(super) fn failed(place: &Path, error: &io::Error) -> AuthError {
    let text = error.to_string();
    let why = text.split(" (os error").next().unwrap_or_default().to_owned();
    AuthError::Store { place: place.display().to_string(), why }
}

impl Directory {
    /// `None`: it does not exist.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, AuthError> {
        let distrusted = |why| AuthError::Unsafe { place: path.display().to_string(), why };
        // THREAT: another user puts a link there, or adds files to the directory. Tried by
        // auth::store::tests::a_directory_that_is_a_link_or_open_to_others_is_refused.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = match rustix::fs::open(path, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) if path.is_symlink() => {
                return Err(distrusted(DIRECTORY_IS_LINK));
            }
            opened => opened.map_err(|errno| failed(path, &errno.into()))?,
        };
        let directory = Self { descriptor, path: path.to_owned() };
        let about = rustix::fs::fstat(&directory.descriptor);
        let about = about.map_err(|errno| directory.failed(errno))?;
        // THREAT: another user creates the directory first, and reads or replaces its files.
        // Tried by auth::store::tests::a_directory_of_another_user_is_refused.
        if about.st_uid != rustix::process::geteuid().as_raw() {
            return Err(distrusted("the directory belongs to another user"));
        }
        if about.st_mode & 0o022 != 0 {
            return Err(distrusted(DIRECTORY_IS_OPEN));
        }
        Ok(Some(directory))
    }

    /// Creates it if it does not exist, and removes all permissions of others.
    pub(super) fn create_or_open(path: &Path) -> Result<Self, AuthError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|error| failed(path, &error))?;
        let gone = || failed(path, &io::ErrorKind::NotFound.into());
        let directory = Self::open(path)?.ok_or_else(gone)?;
        let about =
            rustix::fs::fstat(&directory.descriptor).map_err(|errno| directory.failed(errno))?;
        if about.st_mode & 0o077 != 0 {
            let closed = rustix::fs::fchmod(&directory.descriptor, Mode::RWXU);
            closed.map_err(|errno| directory.failed(errno))?;
        }
        Ok(directory)
    }

    fn failed(&self, errno: Errno) -> AuthError {
        failed(&self.path, &errno.into())
    }

    /// The content of a file that can be trusted. `None`: it does not exist.
    pub(super) fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, AuthError> {
        let Some(file) = self.trusted(name, OFlags::RDONLY)? else { return Ok(None) };
        let place = || self.path.join(name).display().to_string();
        let unreadable = |_| AuthError::Unsafe { place: place(), why: "it cannot be read" };
        let length = file.metadata().map_err(unreadable)?.len();
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(FILE_BYTES);
        // Enough capacity from the start: a buffer that grows leaves copies of a token in memory.
        let mut text = Zeroizing::new(Vec::with_capacity(length + 1));
        file.take(length as u64 + 1).read_to_end(&mut text).map_err(unreadable)?;
        if text.len() > length {
            return Err(AuthError::Malformed { place: place(), why: "it is too large" });
        }
        Ok(Some(text))
    }

    /// Opens the lock file, and creates it if it does not exist.
    pub(super) fn open_lock(&self, name: &str) -> Result<File, AuthError> {
        let gone = || failed(&self.path.join(name), &io::ErrorKind::NotFound.into());
        self.trusted(name, OFlags::RDWR | OFlags::CREATE)?.ok_or_else(gone)
    }

    fn trusted(&self, name: &str, how: OFlags) -> Result<Option<File>, AuthError> {
        let place = self.path.join(name);
        let distrusted = |why| AuthError::Unsafe { place: place.display().to_string(), why };
        // THREAT: a local attacker replaces the file with a link or a pipe. Tried by
        // auth::store::tests::a_file_that_cannot_be_trusted_is_refused.
        let flags = how | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.descriptor, name, flags, Mode::RUSR | Mode::WUSR);
        let file = match opened {
            Ok(descriptor) => File::from(descriptor),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(distrusted("it is a symbolic link")),
            Err(errno) if how.contains(OFlags::CREATE) => {
                return Err(failed(&place, &errno.into()));
            }
            Err(_) => return Err(distrusted("it cannot be opened")),
        };
        let about = file.metadata().map_err(|_| distrusted("its owner and mode cannot be read"))?;
        if !about.is_file() {
            return Err(distrusted("it is not a regular file"));
        }
        if about.uid() != rustix::process::geteuid().as_raw() {
            return Err(distrusted("it belongs to another user"));
        }
        if about.mode() & 0o077 != 0 {
            return Err(distrusted("others can read it (chmod 600)"));
        }
        Ok(Some(file))
    }

    /// Creates a file that only our user can read. An existing file of that name is removed.
    pub(super) fn create(&self, name: &str) -> io::Result<File> {
        self.remove(name)?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = rustix::fs::openat(&self.descriptor, name, flags, mode)?;
        // The umask may have removed bits of the mode.
        rustix::fs::fchmod(&file, mode)?;
        Ok(File::from(file))
    }

    /// Replaces the file `name` atomically. It is on disk when this returns.
    pub(super) fn replace(&self, name: &str, text: &[u8]) -> io::Result<()> {
        let part = format!("{name}.part");
        let written = self.create(&part).and_then(|mut file| {
            file.write_all(text)?;
            file.sync_all()
        });
        let replaced = written.and_then(|()| self.rename(&part, name));
        if replaced.is_err() {
            let _torn = self.remove(&part);
        }
        replaced
    }

    /// Creates the file `name` with disk space for the largest login.
    pub(super) fn reserve(&self, name: &str) -> io::Result<File> {
        let taken = self.create(name).and_then(|mut file| {
            match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, FILE_BYTES as u64) {
                // Not every file system can reserve space; then zeros are written.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.write_all(&[0; FILE_BYTES])?,
                taken => taken?,
            }
            file.sync_all()?;
            self.sync()?;
            Ok(file)
        });
        if taken.is_err() {
            let _part = self.remove(name);
        }
        taken
    }

    /// Renames a file. The change is on disk when this returns.
    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        rustix::fs::renameat(&self.descriptor, from, &self.descriptor, to)?;
        self.sync()
    }

    /// Cuts the reserved file to `length` bytes and renames it to `name`.
    pub(super) fn finish(&self, reserved: &str, name: &str, length: usize) -> io::Result<()> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.descriptor, reserved, flags, Mode::empty())?;
        rustix::fs::ftruncate(&file, length as u64)?;
        rustix::fs::fsync(&file)?;
        self.rename(reserved, name)
    }

    /// Removes a file. `false`: it did not exist.
    pub(super) fn remove(&self, name: &str) -> io::Result<bool> {
        match rustix::fs::unlinkat(&self.descriptor, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// New and removed names are on disk when this returns.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.descriptor)?)
    }
}
