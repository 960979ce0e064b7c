//! Where a path leads, through the links on it, and what is there.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;

/// A configuration is read no further.
const CONFIG_BYTES: u64 = 1 << 20;
/// So many links does the kernel follow.
const LINKS: usize = 40;

pub(super) struct Way {
    pub(super) links: Vec<PathBuf>,
    pub(super) end: PathBuf,
}

impl Way {
    /// As the kernel goes, name by name. What is not there is taken for a plain name.
    pub(super) fn to(path: &Path) -> Option<Self> {
        if !path.is_absolute() || path.as_os_str().as_bytes().contains(&0) {
            return None;
        }
        let mut way = Self { links: Vec::new(), end: PathBuf::from("/") };
        let mut names = parts(path);
        while let Some(name) = names.pop() {
            if name == ".." {
                way.end.pop();
                continue;
            }
            let next = way.end.join(&name);
            match fs::symlink_metadata(&next) {
                Ok(about) if about.is_symlink() => {
                    let target = fs::read_link(&next).ok()?;
                    if target.is_absolute() {
                        way.end = PathBuf::from("/");
                    }
                    names.extend(parts(&target));
                    way.links.push(next);
                    if way.links.len() > LINKS {
                        return None;
                    }
                }
                Ok(_) => way.end = next,
                Err(error) if error.kind() == io::ErrorKind::NotFound => way.end = next,
                Err(_) => return None,
            }
        }
        Some(way)
    }
}

/// The names of a path, last first.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    parts.collect()
}

/// The beginning of a regular file; of anything else, and of what cannot be read, nothing.
pub(super) fn read(path: &Path) -> Vec<u8> {
    let mut content = Vec::new();
    // THREAT: commands make a fifo or a device of what a configuration includes, and the look does
    // not end. Tried by workspace::git_runs::tests::what_is_no_file_is_not_read.
    if !fs::metadata(path).is_ok_and(|about| about.is_file()) {
        return content;
    }
    let flags = OFlags::NONBLOCK.union(OFlags::NOCTTY).bits();
    let mut options = fs::File::options();
    if let Ok(file) = options.read(true).custom_flags(flags.cast_signed()).open(path) {
        // What cannot be read says nothing.
        let _end = file.take(CONFIG_BYTES).read_to_end(&mut content);
    }
    content
}
