//! Folders in a stable order: names sorted by their bytes, links never followed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    File,
    Link,
    /// A fifo, a socket, a device.
    Other,
}

impl Kind {
    pub(crate) fn of(kind: FileType) -> Self {
        match kind {
            FileType::Directory => Self::Folder,
            FileType::RegularFile => Self::File,
            FileType::Symlink => Self::Link,
            _ => Self::Other,
        }
    }
}

/// One name in a folder.
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: Kind,
}

/// Opens what is beneath `root` without following any link on the way.
///
/// THREAT: a folder that becomes a link while we walk. Tried by
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

/// The names in a folder that was opened for reading, sorted; at most `most`, and whether there
/// are more.
///
/// # Errors
/// As reading a folder fails.
pub(crate) fn entries(folder: OwnedFd, most: usize) -> Result<(Vec<Entry>, bool), Errno> {
    let mut found = Vec::new();
    let mut names = Dir::new(folder)?;
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
                // What vanished meanwhile was not there.
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

/// A path and a name in it.
pub(crate) fn joined(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_never_walked_through() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::create_dir(folder.path().join("real")).expect("folder");
        std::os::unix::fs::symlink("real", folder.path().join("link")).expect("link");
        let root = std::fs::File::open(folder.path()).expect("root");
        let tried =
            |path: &str| open(root.as_fd(), path.as_bytes(), OFlags::PATH | OFlags::DIRECTORY);
        assert!(tried("real").is_ok() && tried("").is_ok());
        assert!(tried("link").is_err() && tried("..").is_err() && tried("/").is_err());
        let (entries, more) = entries(OwnedFd::from(root), 10).expect("entries");
        let kinds: Vec<(Vec<u8>, Kind)> = entries.into_iter().map(|e| (e.name, e.kind)).collect();
        assert_eq!(kinds, [(b"link".to_vec(), Kind::Link), (b"real".to_vec(), Kind::Folder)]);
        assert!(!more);
    }
}
