//! A file that a person names and airlock writes: `-o FILE`, `--record FILE`, `--extract FILE`.
//!
//! ```text
//! /dev/null, /dev/stdout, /dev/fd/N …   written to: they are open already; a terminal is shown text
//! in the directory or its repository    no link is followed: the repository may have brought it
//! anywhere else                         links are followed: they belong to the person
//! a file, or nothing yet                replaced as a whole
//! a fifo, socket, device or directory   refused, before anything else happens
//! ```

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, Access, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

mod stream; // files that are already open

use stream::stream;
pub use stream::{Standard, Stream};

/// The most links that are followed on the way to one file.
const MAX_LINKS: usize = 40;
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const WRITE: OFlags =
    OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// A place to write to. It was checked, and its directory is open.
pub struct Output(Place);

/// An open place, for writing piece by piece.
pub enum Opened {
    /// A regular file: it can be read, truncated and synced.
    File(File),
    Stream(Stream),
}

impl io::Write for Opened {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stream(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Stream(stream) => stream.flush(),
        }
    }
}

enum Place {
    /// An open descriptor, or `/dev/null`.
    Stream(Stream),
    /// A name in a directory, and the mode of the file that is there. `may_overwrite`: if the file
    /// cannot be replaced, it may be overwritten in place. `must_overwrite`: it must not be replaced,
    /// because it has another name or another owner.
    Name {
        directory: OwnedFd,
        name: OsString,
        mode: Option<u32>,
        may_overwrite: bool,
        must_overwrite: bool,
    },
}

impl Output {
    /// Resolves `path`. `tree` is the person's directory: no link in it is followed, and no link in
    /// the repository around it.
    ///
    /// # Errors
    /// Why nothing can be written there, as text for a person.
    pub fn open(path: &Path, tree: Option<&Path>) -> Result<Self, String> {
        let tree = tree.map(Path::canonicalize).transpose().map_err(|error| error.to_string())?;
        let tree = tree.map(|tree| repository_of(&tree).unwrap_or(tree));
        Walk { tree: tree.as_deref(), links: 0 }.open(path)
    }

    /// Which of our own streams it is, if it is one. The caller must keep the order with what else it
    /// writes there.
    #[must_use]
    pub fn standard(&self) -> Option<Standard> {
        match &self.0 {
            Place::Stream(stream) => stream.standard,
            Place::Name { .. } => None,
        }
    }

    /// Writes all bytes. A file is replaced as a whole or not at all. `mode` is for a new file and is
    /// limited by the umask.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(self, bytes: &[u8], mode: u32) -> io::Result<()> {
        let (directory, name, old_mode, may_overwrite, must_overwrite) = match self.0 {
            Place::Stream(mut stream) => return stream.write_all(bytes),
            Place::Name { directory, name, mode, may_overwrite, must_overwrite } => {
                (directory, name, mode, may_overwrite, must_overwrite)
            }
        };
        let overwrite = || {
            let mut file = open_regular(&directory, &name, OFlags::WRONLY, Mode::empty())?;
            file.set_len(0)?;
            file.write_all(bytes)
        };
        if must_overwrite {
            return overwrite();
        }
        match replace(&directory, &name, bytes, mode, old_mode) {
            // The file may be writable although its directory is not, or it may be a mount point.
            Err(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::BUSY) if may_overwrite => {
                overwrite()
            }
            replaced => Ok(replaced?),
        }
    }

    /// Opens it for reading and writing without changing it. Only the owner can read a new file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn open_in_place(self) -> io::Result<Opened> {
        match self.0 {
            Place::Stream(stream) => Ok(Opened::Stream(stream)),
            Place::Name { directory, name, .. } => {
                let flags = OFlags::RDWR | OFlags::CREATE;
                let file = open_regular(&directory, &name, flags, Mode::RUSR | Mode::WUSR);
                file.map(Opened::File)
            }
        }
    }
}

/// Names that make a directory the top of a repository.
const REPOSITORIES: [&str; 5] = [".git", ".hg", ".jj", ".sl", ".svn"];

/// The outermost repository around a directory. The outermost, because a repository brings its
/// submodules. A person's home that is kept in git does not count: the links in it are their own.
#[must_use]
fn repository_of(directory: &Path) -> Option<PathBuf> {
    let home = std::env::home_dir().and_then(|home| home.canonicalize().ok());
    outermost_repository(&directory.canonicalize().ok()?, home.as_deref())
}

// THREAT: a repository has a link at its top, and airlock runs in a directory below it. Tried by
// output::tests::no_link_of_the_repository_around_the_work_tree_is_followed.
fn outermost_repository(directory: &Path, home: Option<&Path>) -> Option<PathBuf> {
    let holds_home =
        |at: &Path| at.parent().is_none() || home.is_some_and(|home| home.starts_with(at));
    let is_top =
        |at: &Path| REPOSITORIES.iter().any(|name| at.join(name).symlink_metadata().is_ok());
    let tops = directory.ancestors().filter(|at| !holds_home(at) && is_top(at));
    tops.last().map(Path::to_owned)
}

struct Walk<'a> {
    tree: Option<&'a Path>,
    links: usize,
}

impl Walk<'_> {
    fn open(mut self, path: &Path) -> Result<Output, String> {
        let text = |error: io::Error| error.to_string();
        if path.as_os_str().as_bytes().ends_with(b"/") {
            return Err("it is a directory".to_owned());
        }
        let mut path = std::path::absolute(path).map_err(text)?;
        loop {
            if let Some(open) = stream(&path) {
                return Ok(Output(Place::Stream(open?)));
            }
            let name = match path.components().next_back() {
                Some(Component::Normal(name)) => name.to_owned(),
                _ => return Err("it is a directory".to_owned()),
            };
            let at = self.resolve_directory(path.parent().unwrap_or(Path::new("/")))?;
            let is_in_tree = self.is_in_tree(&at);
            let directory = self.open_directory(&at).map_err(text)?;
            let stat = match fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => Some(stat),
                Err(Errno::NOENT) => None,
                Err(error) => return Err(text(error.into())),
            };
            if let Some(stat) = &stat
                && FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
            {
                path = self.follow(&at, &name)?;
                continue;
            }
            let mode = match &stat {
                Some(stat) if is_null(stat) => {
                    let null = fs::openat(&directory, &name, WRITE | OFlags::WRONLY, Mode::empty());
                    let null = null.map_err(|error| text(error.into()))?;
                    return Ok(Output(Place::Stream(Stream::new(File::from(null), None))));
                }
                Some(stat) => Some(mode_of_file(stat)?),
                None => None,
            };
            let is_writable = |name: &OsStr| {
                fs::accessat(&directory, name, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
            };
            let is_closed = !is_writable(OsStr::new("."));
            if is_closed && (is_in_tree || stat.is_none() || !is_writable(&name)) {
                return Err(text(io::ErrorKind::PermissionDenied.into()));
            }
            // Outside the tree, the person made a second name or gave the file another owner.
            let is_shared = |stat: &Stat| {
                stat.st_nlink > 1 || stat.st_uid != rustix::process::geteuid().as_raw()
            };
            let must_overwrite = !is_in_tree && stat.as_ref().is_some_and(is_shared);
            let may_overwrite = !is_in_tree && stat.is_some();
            let place = Place::Name { directory, name, mode, may_overwrite, must_overwrite };
            return Ok(Output(place));
        }
    }

    /// The directory that a path leads to, with all links resolved.
    fn resolve_directory(&mut self, path: &Path) -> Result<PathBuf, String> {
        let mut at = PathBuf::from("/");
        let mut rest: Vec<OsString> = Vec::new();
        let push = |rest: &mut Vec<OsString>, path: &Path| {
            rest.extend(path.components().rev().map(|part| part.as_os_str().to_owned()));
        };
        push(&mut rest, path);
        while let Some(part) = rest.pop() {
            match Path::new(&part).components().next() {
                Some(Component::RootDir) => at = PathBuf::from("/"),
                Some(Component::ParentDir) => drop(at.pop()),
                Some(Component::Normal(name)) => {
                    let about = at.join(name).symlink_metadata().map_err(|e| e.to_string())?;
                    if about.is_symlink() {
                        let target = self.follow(&at, name)?;
                        push(&mut rest, &target);
                    } else if about.is_dir() {
                        at.push(name);
                    } else {
                        return Err(io::Error::from(io::ErrorKind::NotADirectory).to_string());
                    }
                }
                _ => {}
            }
        }
        Ok(at)
    }

    /// The target of a link, as an absolute path.
    fn follow(&mut self, directory: &Path, name: &OsStr) -> Result<PathBuf, String> {
        // THREAT: a repository has a link with the name that a person gives for the answer, and the
        // model's text goes into ~/.bashrc. Tried by
        // output::tests::no_link_of_the_work_tree_is_followed.
        if self.is_in_tree(directory) {
            let link = directory.join(name);
            let why = "is a link inside the directory, and those are not followed";
            return Err(format!("{} {why}", link.display()));
        }
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err("too many links".to_owned());
        }
        let target = std::fs::read_link(directory.join(name)).map_err(|error| error.to_string())?;
        Ok(directory.join(target))
    }

    fn is_in_tree(&self, directory: &Path) -> bool {
        self.tree.is_some_and(|tree| directory.starts_with(tree))
    }

    /// Opens a resolved directory. In the tree its path must still have no links.
    fn open_directory(&self, at: &Path) -> io::Result<OwnedFd> {
        let Some((tree, below)) =
            self.tree.and_then(|tree| Some((tree, at.strip_prefix(tree).ok()?)))
        else {
            return Ok(fs::openat(CWD, at, DIRECTORY, Mode::empty())?);
        };
        let tree = fs::openat(CWD, tree, DIRECTORY, Mode::empty())?;
        if below.as_os_str().is_empty() {
            return Ok(tree);
        }
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match fs::openat2(&tree, below, DIRECTORY, Mode::empty(), how) {
            Err(Errno::NOSYS | Errno::PERM) => {}
            opened => return Ok(opened?),
        }
        // Linux before 5.6 has no openat2: one directory at a time.
        let mut directory = tree;
        for name in below.components() {
            let name = name.as_os_str();
            directory = fs::openat(&directory, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
        }
        Ok(directory)
    }
}

fn is_null(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && (fs::major(stat.st_rdev), fs::minor(stat.st_rdev)) == (1, 3)
}

/// The permissions of a regular file; the error says what else it is.
fn mode_of_file(stat: &Stat) -> Result<u32, String> {
    match not_a_file(stat.st_mode) {
        Some(what) => Err(what.to_owned()),
        None => Ok(stat.st_mode & 0o777),
    }
}

/// What a mode says it is, if it is not a regular file.
#[must_use]
pub fn not_a_file(mode: u32) -> Option<&'static str> {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => None,
        FileType::Directory => Some("it is a directory"),
        FileType::Fifo => Some("it is a fifo"),
        FileType::Socket => Some("it is a socket"),
        _ => Some("it is a device"),
    }
}

/// Replaces a name with a new file. `old_mode`: of the file that it replaces.
fn replace(
    directory: &OwnedFd,
    name: &OsStr,
    bytes: &[u8],
    mode: u32,
    old_mode: Option<u32>,
) -> Result<(), Errno> {
    let staged = format!(".airlock-{:016x}", rand::random::<u64>());
    let flags = WRITE | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let file = fs::openat(directory, &*staged, flags, Mode::from_raw_mode(mode))?;
    let written = (|| {
        if let Some(old_mode) = old_mode {
            fs::fchmod(&file, Mode::from_raw_mode(old_mode))?;
        }
        write_all(file.as_fd(), bytes)?;
        fs::fsync(&file)?;
        // A link that took the name since the check is replaced, not followed.
        fs::renameat(directory, &*staged, directory, name)
    })();
    if written.is_err() {
        // The first error matters more than the leftover.
        let _leftover = fs::unlinkat(directory, &*staged, AtFlags::empty());
    }
    written
}

fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Err(Errno::INTR) => {}
            written => bytes = &bytes[written?..],
        }
    }
    Ok(())
}

/// Opens a name if it is a regular file. A fifo does not block.
fn open_regular(directory: &OwnedFd, name: &OsStr, flags: OFlags, mode: Mode) -> io::Result<File> {
    let file = File::from(fs::openat(directory, name, WRITE | flags, mode)?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

#[cfg(test)]
mod tests;
