//! Reads files beneath the root, also those without read permission, and lists what could not be
//! read.

use std::io::{self, Read as _};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::tools::output::escaped;
use crate::tools::path::Root;
use crate::tools::walk::{self, Kind};

const FILE: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// How many omitted paths are named.
const OMITTED_NAMED: usize = 100;
/// Characters of a path that are named.
const NAME_CHARS: usize = 200;

/// What could not be copied out: paths, escaped, with the reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Omitted {
    pub(crate) named: Vec<String>,
    pub(crate) more: u64,
}

impl Omitted {
    pub(super) fn add(&mut self, path: &[u8], why: &str) {
        if self.named.len() < OMITTED_NAMED {
            self.named.push(format!("{}: {why}", named(path)));
        } else {
            self.more += 1;
        }
    }
}

/// A path for people.
///
/// THREAT: a key in a long path is cut, and what is left of it is no longer what is looked for: a
/// cut has a mark, beside which parts of a key are looked for. Tried by
/// `files::tests::order::a_cut_name_says_that_it_is_cut`.
pub(super) fn named(path: &[u8]) -> String {
    let whole = escaped(path);
    match whole.char_indices().nth(NAME_CHARS) {
        Some((end, _)) => format!("{}…", &whole[..end]),
        None => whole,
    }
}

/// The opened directory of a path, and the name in it.
pub(super) fn parent<'p>(root: &Root, path: &'p [u8]) -> Result<(OwnedFd, &'p [u8]), Errno> {
    let (dir, name) = walk::split(path);
    Ok((walk::open(root.as_fd(), dir, OFlags::PATH | OFlags::DIRECTORY)?, name))
}

pub(super) fn stat(root: &Root, path: &[u8]) -> io::Result<Stat> {
    let (dir, name) = parent(root, path)?;
    Ok(rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?)
}

pub(super) fn target(root: &Root, path: &[u8]) -> io::Result<Vec<u8>> {
    let (dir, name) = parent(root, path)?;
    Ok(rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes())
}

/// The content of a file or link that is small enough for a hash.
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

/// Opens a file. If no command runs any more, this works for a file without read permission too:
/// the permission is set, and removed again.
pub(super) fn file(root: &Root, path: &[u8], last: bool) -> io::Result<std::fs::File> {
    match walk::open(root.as_fd(), path, FILE) {
        Err(Errno::ACCESS) if last => {}
        answer => return Ok(answer?.into()),
    }
    let mode = stat(root, path)?.st_mode & 0o7777;
    let (dir, name) = parent(root, path)?;
    // It is not a link: links are never opened for reading, and no command runs that could make
    // one.
    let set_mode =
        |mode| rustix::fs::chmodat(&dir, name, Mode::from_raw_mode(mode), AtFlags::empty());
    set_mode(mode | 0o400)?;
    let opened = walk::open(root.as_fd(), path, FILE);
    set_mode(mode)?;
    Ok(opened?.into())
}
