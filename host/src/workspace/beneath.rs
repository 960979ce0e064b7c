//! Opens paths beneath a folder and nothing else: through one descriptor, and never through a link.
//! Deliberately absent: functions that take a path of the host.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use airlock_shared::limits;
use rustix::fs::{self, AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::git::Shape;
use super::node::{Node, Sha};
use super::rel_path::RelPath;

/// A folder of the host, held open.
pub(super) struct Root(OwnedFd);

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Root {
    /// The last component may be a link: the person named this folder.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(fs::openat(CWD, path, FOLDER, Mode::empty())?))
    }

    pub(super) fn folder(&self, path: &RelPath) -> io::Result<OwnedFd> {
        let name = if path.is_root() { b".".as_slice() } else { path.as_bytes() };
        self.resolve(name, FOLDER | OFlags::NOFOLLOW)
    }

    /// Opens a regular file for reading. Anything else is `InvalidInput`, and a fifo does not
    /// block.
    pub(super) fn file(&self, path: &RelPath) -> io::Result<File> {
        regular(self.resolve(path.as_bytes(), READ)?)
    }

    /// What is at a path now, if anything. A link among its folders is an error.
    pub(super) fn stat(&self, path: &RelPath) -> io::Result<Option<Stat>> {
        let parent = match self.folder(&path.parent()) {
            Ok(parent) => parent,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match fs::statat(&parent, path.name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What is at a path now. A file whose size is not among `sizes` is not read: its digest is
    /// then empty and equals no other.
    pub(super) fn look(&self, path: &RelPath, sizes: &[u64]) -> io::Result<Option<Node>> {
        Ok(self.look_closely(path, sizes, &mut || ())?.map(|(node, _)| node))
    }

    /// The same, with its status before the content was read. If the file changes meanwhile, its
    /// digest is empty too. `read` is called after its content was read.
    pub(super) fn look_closely(
        &self,
        path: &RelPath,
        sizes: &[u64],
        read: &mut dyn FnMut(),
    ) -> io::Result<Option<(Node, Stat)>> {
        let Some(stat) = self.stat(path)? else { return Ok(None) };
        let mode = stat.st_mode & 0o777;
        let node = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Node::Folder { mode },
            FileType::Symlink => {
                let parent = self.folder(&path.parent())?;
                Node::Link { target: read_link(&parent, path.name())? }
            }
            FileType::RegularFile => {
                let mut file = self.file(path)?;
                let opened = fs::fstat(&file)?;
                let (mode, size) = (opened.st_mode & 0o777, u64::try_from(opened.st_size));
                let size = size.map_err(io::Error::other)?;
                let sha256 =
                    if sizes.contains(&size) { digest(&mut file)? } else { Sha::default() };
                read();
                let Some(now) = self.stat(path)? else { return Ok(None) };
                // THREAT: the person saves the file while we read it. What they saved counts as
                // what we read, and is replaced. Tried by
                // workspace::apply::tests::saved::what_is_saved_while_it_is_read_is_a_conflict.
                let is_one = is_same(&opened, &fs::fstat(&file)?) && is_same(&opened, &now);
                let sha256 = if is_one { sha256 } else { Sha::default() };
                return Ok(Some((Node::File { mode, size, sha256 }, opened)));
            }
            _ => Node::Special,
        };
        Ok(Some((node, stat)))
    }

    /// Which names of a repository are in a folder. Empty if it cannot be read.
    pub(super) fn shape(&self, folder: &RelPath) -> Shape {
        let Ok(entries) = self.folder(folder).and_then(|opened| Ok(Dir::read_from(opened)?)) else {
            return Shape::default();
        };
        let mut shape = Shape::default();
        entries.flatten().for_each(|entry| _ = shape.add(entry.file_name().to_bytes()));
        shape
    }

    /// The target of a link; `Some(None)` for anything else; `None` if nothing is there. A link
    /// that cannot be read counts as one that leads outside.
    pub(super) fn link(&self, path: &RelPath) -> Option<Option<Vec<u8>>> {
        let stat = self.stat(path).ok().flatten()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return Some(None);
        }
        let target = self.folder(&path.parent()).and_then(|folder| read_link(&folder, path.name()));
        Some(Some(target.unwrap_or_else(|_| b"/".to_vec())))
    }

    /// The links in a folder and below it that are `wanted`. Only `wanted` subfolders are opened.
    /// `most`: how many entries may still be visited.
    pub(super) fn links_in(
        &self,
        folder: &RelPath,
        wanted: fn(&RelPath) -> bool,
        most: &mut usize,
    ) -> Vec<RelPath> {
        let (mut found, mut todo) = (Vec::new(), vec![folder.clone()]);
        while let Some(folder) = todo.pop() {
            let opened = self.folder(&folder).and_then(|opened| Ok(Dir::read_from(opened)?));
            for entry in opened.into_iter().flatten().flatten() {
                let Ok(path) = folder.join(entry.file_name().to_bytes()) else { continue };
                let Some(left) = most.checked_sub(1) else { return found };
                *most = left;
                let kind = self.stat(&path).ok().flatten();
                match kind.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
                    Some(FileType::Symlink) if wanted(&path) => found.push(path),
                    Some(FileType::Directory) if wanted(&path) => todo.push(path),
                    _ => {}
                }
            }
        }
        found
    }

    // THREAT: a program replaces a folder of the path with a link to ~/.ssh while we work, and we
    // read or write there. Tried by
    // workspace::beneath::tests::a_link_among_the_folders_is_never_followed.
    fn resolve(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match fs::openat2(&self.0, path, flags, Mode::empty(), how) {
            Err(Errno::NOSYS | Errno::PERM) => self.step_by_step(path, flags),
            opened => Ok(opened?),
        }
    }

    /// The same without `openat2` (Linux before 5.6, old container policies): one component at a
    /// time.
    fn step_by_step(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let mut at = fs::openat(&self.0, ".", FOLDER, Mode::empty())?;
        let mut names = path.split(|byte| *byte == b'/').peekable();
        while let Some(name) = names.next() {
            let flags = if names.peek().is_some() { FOLDER } else { flags };
            at = fs::openat(&at, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
        }
        Ok(at)
    }
}

/// Whether a file did not change between two calls of `stat`. The change time counts.
fn is_same(one: &Stat, other: &Stat) -> bool {
    let seen = |stat: &Stat| {
        let modified = (stat.st_mtime, stat.st_mtime_nsec);
        let changed = (stat.st_ctime, stat.st_ctime_nsec);
        (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mode, modified, changed)
    };
    seen(one) == seen(other)
}

const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// Opens a name in an open folder, if it is a regular file.
pub(super) fn open_file(folder: &OwnedFd, name: &[u8]) -> io::Result<File> {
    regular(fs::openat(folder, name, READ, Mode::empty())?)
}

fn regular(opened: OwnedFd) -> io::Result<File> {
    let file = File::from(opened);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

pub(super) fn read_link(folder: &OwnedFd, name: &[u8]) -> io::Result<Vec<u8>> {
    let target = fs::readlinkat(folder, name, Vec::with_capacity(256))?.into_bytes();
    if target.len() > limits::LINK_TARGET_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(target)
}

pub(super) fn digest(file: &mut File) -> io::Result<Sha> {
    copy(file, &mut io::sink())
}

/// Copies the rest of a stream to another and returns the digest. Continues after a signal.
pub(super) fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<Sha> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(Sha::of(hash)),
            Ok(count) => {
                hash.update(&buffer[..count]);
                to.write_all(&buffer[..count])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Like a file on a network: a signal interrupts every other read.
    struct Interrupted(&'static [u8], bool);

    impl Read for Interrupted {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 { Err(io::ErrorKind::Interrupted.into()) } else { self.0.read(buffer) }
        }
    }

    #[test]
    fn a_signal_does_not_break_off_a_read() {
        let mut to = Vec::new();
        let sha = copy(&mut Interrupted(b"content", false), &mut to).unwrap();
        assert_eq!(
            (to.as_slice(), sha),
            (b"content".as_slice(), Sha::of(Sha256::new_with_prefix("content")))
        );
    }

    #[test]
    fn a_link_among_the_folders_is_never_followed() {
        let outside = tempfile::tempdir().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "x").unwrap();
        std::fs::create_dir(folder.path().join("real")).unwrap();
        std::fs::write(folder.path().join("real/file"), "x").unwrap();
        symlink(outside.path(), folder.path().join("out")).unwrap();
        symlink("real", folder.path().join("in")).unwrap();
        let root = Root::open(folder.path()).unwrap();
        for path in ["out/secret", "in/file", "out", "in"] {
            let path = RelPath::parse(path.as_bytes()).unwrap();
            assert!(root.file(&path).is_err(), "{path}");
            assert!(root.step_by_step(path.as_bytes(), READ).is_err(), "{path}");
        }
        let file = RelPath::parse(b"real/file").unwrap();
        assert!(root.file(&file).is_ok());
        assert!(root.step_by_step(b"real/file", READ).is_ok());
        assert!(root.stat(&RelPath::parse(b"out/secret").unwrap()).is_err());
        let link = |path: &str| root.link(&RelPath::parse(path.as_bytes()).unwrap());
        assert_eq!(link("in"), Some(Some(b"real".to_vec())));
        assert_eq!([link("real"), link("real/file")], [Some(None), Some(None)]);
        assert_eq!([link("none"), link("in/file"), link("out/secret")], [None, None, None]);
        let links = |mut most| root.links_in(&RelPath::root(), |_| true, &mut most).len();
        assert_eq!((links(100), links(1) <= 1, links(0)), (2, true, 0));
        let mut most = 100;
        root.links_in(&RelPath::root(), |path| path.name() == b"in", &mut most);
        assert_eq!(most, 97, "a folder that is not wanted is not opened");
    }
}
