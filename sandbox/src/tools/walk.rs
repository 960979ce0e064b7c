//! Directories in a stable order: names are sorted by their bytes, and links are not followed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Dir,
    File,
    Link,
    /// A fifo, a socket, a device.
    Other,
}

impl Kind {
    pub(crate) fn of(kind: FileType) -> Self {
        match kind {
            FileType::Directory => Self::Dir,
            FileType::RegularFile => Self::File,
            FileType::Symlink => Self::Link,
            _ => Self::Other,
        }
    }
}

/// One entry of a directory.
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: Kind,
}

/// Opens a path beneath `root` without following any link.
///
/// THREAT: a directory becomes a link while we walk. Tried by
/// tools::walk::tests::a_link_is_never_walked_through.
pub(crate) fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let path: &[u8] = if path.is_empty() { b"." } else { path };
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            answer => return answer,
        }
    }
}

/// The entries of a directory that was opened for reading, sorted. At most `most`, and whether
/// there are more.
///
/// # Errors
/// If the directory cannot be read.
pub(crate) fn entries(dir: OwnedFd, most: usize) -> Result<(Vec<Entry>, bool), Errno> {
    let mut found = Vec::new();
    let mut names = Dir::new(dir)?;
    let mut more = false;
    while let Some(entry) = names.read() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        if found.len() == most {
            more = true;
            break;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                let stat = rustix::fs::statat(names.fd()?.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW);
                // It was removed meanwhile.
                let Ok(stat) = stat else { continue };
                FileType::from_raw_mode(stat.st_mode)
            }
            known => known,
        };
        found.push(Entry { name: name.to_vec(), kind: Kind::of(kind) });
    }
    found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok((found, more))
}

/// The path of a name in a directory.
pub(crate) fn joined(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

/// The directory of a path, and the name in it.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_never_walked_through() {
        let dir = tempfile::tempdir().expect("directory");
        std::fs::create_dir(dir.path().join("real")).expect("directory");
        std::os::unix::fs::symlink("real", dir.path().join("link")).expect("link");
        let root = std::fs::File::open(dir.path()).expect("root");
        let tried =
            |path: &str| open(root.as_fd(), path.as_bytes(), OFlags::PATH | OFlags::DIRECTORY);
        assert!(tried("real").is_ok() && tried("").is_ok());
        assert!(tried("link").is_err() && tried("..").is_err() && tried("/").is_err());
        let (entries, more) = entries(OwnedFd::from(root), 10).expect("entries");
        let kinds: Vec<(Vec<u8>, Kind)> = entries.into_iter().map(|e| (e.name, e.kind)).collect();
        assert_eq!(kinds, [(b"link".to_vec(), Kind::Link), (b"real".to_vec(), Kind::Dir)]);
        assert!(!more);
    }
}
