//! A file that is written at a path a person names: `-o FILE`, `--record FILE`, `--extract FILE`.
//!
//! ```text
//! /dev/null, /dev/stdout, /dev/fd/N …   written to: they are open already; a terminal is shown text
//! in the work tree or its repository    no link is followed: a repository put it there
//! elsewhere                             links are the person's own, and are followed
//! a file, or nothing yet                replaced as a whole
//! a fifo, socket, device or folder      refused, before anything is done
//! ```

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, Access, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

mod stream; // what is open already

use stream::stream;
pub use stream::{Standard, Stream};

/// Links that are followed on the way to one file.
const LINKS: usize = 40;
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const WRITE: OFlags =
    OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Where something is to be written: found, looked at, and held.
pub struct Output(Place);

/// What can be written to bit by bit.
pub enum Opened {
    /// Its bytes are kept: it can be read, cut and synced.
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
    Stream(Stream),
    /// A name in a folder, and the permissions of the file that has it. `may_stay`: where it cannot
    /// be replaced, it may be overwritten. `must_stay`: it is somebody else's too.
    Name {
        folder: OwnedFd,
        name: OsString,
        mode: Option<u32>,
        may_stay: bool,
        must_stay: bool,
    },
}

impl Output {
    /// Looks where `path` leads. `tree`: the work tree. No link of it is followed, and none of the
    /// repository that it lies in.
    ///
    /// # Errors
    /// Why nothing can be written there, in words.
    pub fn open(path: &Path, tree: Option<&Path>) -> Result<Self, String> {
        let tree = tree.map(Path::canonicalize).transpose().map_err(|error| error.to_string())?;
        let tree = tree.map(|tree| repository_of(&tree).unwrap_or(tree));
        Walk { tree: tree.as_deref(), links: 0 }.open(path)
    }

    /// Which of our own streams it is, if it is one: what else is written there has its order with
    /// this.
    #[must_use]
    pub fn standard(&self) -> Option<Standard> {
        match &self.0 {
            Place::Stream(stream) => stream.standard,
            Place::Name { .. } => None,
        }
    }

    /// Writes all of it: a file is replaced as a whole or not at all. `mode`: of a new file, within
    /// the umask.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(self, bytes: &[u8], mode: u32) -> io::Result<()> {
        let (folder, name, kept, may_stay, must_stay) = match self.0 {
            Place::Stream(mut stream) => return stream.write_all(bytes),
            Place::Name { folder, name, mode, may_stay, must_stay } => {
                (folder, name, mode, may_stay, must_stay)
            }
        };
        let in_place = || {
            let mut file = regular(&folder, &name, OFlags::WRONLY, Mode::empty())?;
            file.set_len(0)?;
            file.write_all(bytes)
        };
        if must_stay {
            return in_place();
        }
        match replace(&folder, &name, bytes, mode, kept) {
            // A file may be writable where its folder is not, or be mounted by itself.
            Err(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::BUSY) if may_stay => in_place(),
            replaced => Ok(replaced?),
        }
    }

    /// Opens it for reading and writing as it is; a new file is the owner's alone.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open_in_place(self) -> io::Result<Opened> {
        match self.0 {
            Place::Stream(stream) => Ok(Opened::Stream(stream)),
            Place::Name { folder, name, .. } => {
                let flags = OFlags::RDWR | OFlags::CREATE;
                regular(&folder, &name, flags, Mode::RUSR | Mode::WUSR).map(Opened::File)
            }
        }
    }
}

/// What makes a folder the top of a repository.
const REPOSITORIES: [&str; 5] = [".git", ".hg", ".jj", ".sl", ".svn"];

/// The whole repository that a folder lies in: the outermost one, for a submodule is put there by
/// it. A person's home that is kept in git is none: the links in it are their own.
#[must_use]
fn repository_of(folder: &Path) -> Option<PathBuf> {
    let home = std::env::home_dir().and_then(|home| home.canonicalize().ok());
    outermost(&folder.canonicalize().ok()?, home.as_deref())
}

// THREAT: a link stands at the top of a repository, and the run is asked for in a folder beneath
// it. Tried by output::tests::no_link_of_the_repository_around_the_work_tree_is_followed.
fn outermost(folder: &Path, home: Option<&Path>) -> Option<PathBuf> {
    let holds_home =
        |at: &Path| at.parent().is_none() || home.is_some_and(|home| home.starts_with(at));
    let is_top =
        |at: &Path| REPOSITORIES.iter().any(|name| at.join(name).symlink_metadata().is_ok());
    let tops = folder.ancestors().filter(|at| !holds_home(at) && is_top(at));
    tops.last().map(Path::to_owned)
}

struct Walk<'a> {
    tree: Option<&'a Path>,
    links: usize,
}

impl Walk<'_> {
    fn open(mut self, path: &Path) -> Result<Output, String> {
        let said = |error: io::Error| error.to_string();
        if path.as_os_str().as_bytes().ends_with(b"/") {
            return Err("it is a folder".to_owned());
        }
        let mut path = std::path::absolute(path).map_err(said)?;
        loop {
            if let Some(open) = stream(&path) {
                return Ok(Output(Place::Stream(open?)));
            }
            let name = match path.components().next_back() {
                Some(Component::Normal(name)) => name.to_owned(),
                _ => return Err("it is a folder".to_owned()),
            };
            let at = self.folder(path.parent().unwrap_or(Path::new("/")))?;
            let is_in_tree = self.holds(&at);
            let folder = self.hold(&at).map_err(said)?;
            let stat = match fs::statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => Some(stat),
                Err(Errno::NOENT) => None,
                Err(error) => return Err(said(error.into())),
            };
            if let Some(stat) = &stat
                && FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
            {
                path = self.follow(&at, &name)?;
                continue;
            }
            let mode = match &stat {
                Some(stat) if is_null(stat) => {
                    let null = fs::openat(&folder, &name, WRITE | OFlags::WRONLY, Mode::empty());
                    let null = null.map_err(|error| said(error.into()))?;
                    return Ok(Output(Place::Stream(Stream::new(File::from(null), None))));
                }
                Some(stat) => Some(mode_of_file(stat)?),
                None => None,
            };
            let may = |name: &OsStr| {
                fs::accessat(&folder, name, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
            };
            if !may(OsStr::new(".")) && (is_in_tree || stat.is_none() || !may(&name)) {
                return Err(said(io::ErrorKind::PermissionDenied.into()));
            }
            // Elsewhere than in the tree, a second name and another owner are a person's own doing.
            let is_shared = |stat: &Stat| {
                stat.st_nlink > 1 || stat.st_uid != rustix::process::geteuid().as_raw()
            };
            let must_stay = !is_in_tree && stat.as_ref().is_some_and(is_shared);
            let may_stay = !is_in_tree && stat.is_some();
            return Ok(Output(Place::Name { folder, name, mode, may_stay, must_stay }));
        }
    }

    /// The folder that a path leads to, without any link in it.
    fn folder(&mut self, path: &Path) -> Result<PathBuf, String> {
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

    /// Where a link leads, as a whole path.
    fn follow(&mut self, folder: &Path, name: &OsStr) -> Result<PathBuf, String> {
        // THREAT: a repository has a link at the name that a person gives for the answer, and the
        // model's words go into ~/.bashrc. Tried by
        // output::tests::no_link_of_the_work_tree_is_followed.
        if self.holds(folder) {
            let link = folder.join(name);
            let why = "is a link inside of the directory, and those are not followed";
            return Err(format!("{} {why}", link.display()));
        }
        self.links += 1;
        if self.links > LINKS {
            return Err("too many links".to_owned());
        }
        let target = std::fs::read_link(folder.join(name)).map_err(|error| error.to_string())?;
        Ok(folder.join(target))
    }

    fn holds(&self, folder: &Path) -> bool {
        self.tree.is_some_and(|tree| folder.starts_with(tree))
    }

    /// Opens a folder that was found. Beneath the work tree it must still be one without links.
    fn hold(&self, at: &Path) -> io::Result<OwnedFd> {
        let Some((tree, below)) =
            self.tree.and_then(|tree| Some((tree, at.strip_prefix(tree).ok()?)))
        else {
            return Ok(fs::openat(CWD, at, FOLDER, Mode::empty())?);
        };
        let tree = fs::openat(CWD, tree, FOLDER, Mode::empty())?;
        if below.as_os_str().is_empty() {
            return Ok(tree);
        }
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match fs::openat2(&tree, below, FOLDER, Mode::empty(), how) {
            Err(Errno::NOSYS | Errno::PERM) => {}
            opened => return Ok(opened?),
        }
        // Linux before 5.6: a folder at a time.
        let mut folder = tree;
        for name in below.components() {
            let name = name.as_os_str();
            folder = fs::openat(&folder, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
        }
        Ok(folder)
    }
}

fn is_null(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && (fs::major(stat.st_rdev), fs::minor(stat.st_rdev)) == (1, 3)
}

/// The permissions of a file; anything else is named.
fn mode_of_file(stat: &Stat) -> Result<u32, String> {
    match no_file(stat.st_mode) {
        Some(what) => Err(what.to_owned()),
        None => Ok(stat.st_mode & 0o777),
    }
}

/// What something is by its mode, in words; none for a file.
#[must_use]
pub fn no_file(mode: u32) -> Option<&'static str> {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => None,
        FileType::Directory => Some("it is a folder"),
        FileType::Fifo => Some("it is a fifo"),
        FileType::Socket => Some("it is a socket"),
        _ => Some("it is a device"),
    }
}

/// Puts a whole new file in the place of a name.
fn replace(
    folder: &OwnedFd,
    name: &OsStr,
    bytes: &[u8],
    mode: u32,
    kept: Option<u32>,
) -> Result<(), Errno> {
    let staged = format!(".airlock-{:016x}", rand::random::<u64>());
    let flags = WRITE | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let file = fs::openat(folder, &*staged, flags, Mode::from_raw_mode(mode))?;
    let written = (|| {
        if let Some(kept) = kept {
            fs::fchmod(&file, Mode::from_raw_mode(kept))?;
        }
        write_all(file.as_fd(), bytes)?;
        fs::fsync(&file)?;
        // It was looked at before: what came in its place meanwhile is replaced, not followed.
        fs::renameat(folder, &*staged, folder, name)
    })();
    if written.is_err() {
        // What went wrong is worth more than what is left.
        let _left = fs::unlinkat(folder, &*staged, AtFlags::empty());
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

/// Opens a name if it is a regular file; a fifo does not block.
fn regular(folder: &OwnedFd, name: &OsStr, flags: OFlags, mode: Mode) -> io::Result<File> {
    let file = File::from(fs::openat(folder, name, WRITE | flags, mode)?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

#[cfg(test)]
mod tests;
