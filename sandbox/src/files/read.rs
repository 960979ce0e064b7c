//! Reads what lies beneath the root, also what its owner locked; and what could not be read.

use std::io::{self, Read as _};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::scan::split;
use crate::tools::output::escaped;
use crate::tools::path::Root;
use crate::tools::walk::{self, Kind};

const FILE: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Names of what was left out that are kept.
const LEFT_OUT: usize = 100;

/// What could not be brought out, escaped, with the reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub(crate) named: Vec<String>,
    pub(crate) more: u64,
}

impl LeftOut {
    pub(super) fn add(&mut self, path: &[u8], why: &str) {
        if self.named.len() < LEFT_OUT {
            self.named.push(format!("{}: {why}", escaped(path)));
        } else {
            self.more += 1;
        }
    }
}

/// The folder of a path, and the name there.
pub(super) fn parent<'p>(root: &Root, path: &'p [u8]) -> Result<(OwnedFd, &'p [u8]), Errno> {
    let (folder, name) = split(path);
    Ok((walk::open(root.as_fd(), folder, OFlags::PATH | OFlags::DIRECTORY)?, name))
}

pub(super) fn stat(root: &Root, path: &[u8]) -> io::Result<Stat> {
    let (folder, name) = parent(root, path)?;
    Ok(rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?)
}

pub(super) fn target(root: &Root, path: &[u8]) -> io::Result<Vec<u8>> {
    let (folder, name) = parent(root, path)?;
    Ok(rustix::fs::readlinkat(folder, name, Vec::new())?.into_bytes())
}

/// A file or link that is small enough to have been hashed.
pub(super) fn content(
    root: &Root,
    path: &[u8],
    kind: Kind,
    stat: &Stat,
    last: bool,
) -> io::Result<Vec<u8>> {
    if kind == Kind::Link {
        return target(root, path);
    }
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    file(root, path, last)?.take(size).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a file. Where no command runs any more, one that its owner locked too: the right to read
/// is given back, and taken again.
pub(super) fn file(root: &Root, path: &[u8], last: bool) -> io::Result<std::fs::File> {
    match walk::open(root.as_fd(), path, FILE) {
        Err(Errno::ACCESS) if last => {}
        answer => return Ok(answer?.into()),
    }
    let mode = stat(root, path)?.st_mode & 0o7777;
    let (folder, name) = parent(root, path)?;
    // Not a link: those are never opened for reading, and no command runs that could put one here.
    let give =
        |mode| rustix::fs::chmodat(&folder, name, Mode::from_raw_mode(mode), AtFlags::empty());
    give(mode | 0o400)?;
    let opened = walk::open(root.as_fd(), path, FILE);
    give(mode)?;
    Ok(opened?.into())
}
