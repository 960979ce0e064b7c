//! Follows the links of a path, and reads the file at its end.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;

/// At most this much of a configuration is read.
const CONFIG_BYTES: u64 = 1 << 20;
/// How many links the kernel follows in one path.
const LINKS: usize = 40;

/// Where a path leads, and the links on its way.
pub(super) struct ResolvedPath {
    pub(super) links: Vec<PathBuf>,
    pub(super) end: PathBuf,
}

impl ResolvedPath {
    /// Follows links as the kernel does. A name that does not exist counts as a plain name.
    pub(super) fn of(path: &Path) -> Option<Self> {
        if !path.is_absolute() || path.as_os_str().as_bytes().contains(&0) {
            return None;
        }
        let mut resolved = Self { links: Vec::new(), end: PathBuf::from("/") };
        let mut names = parts(path);
        while let Some(name) = names.pop() {
            if name == ".." {
                resolved.end.pop();
                continue;
            }
            let next = resolved.end.join(&name);
            match fs::symlink_metadata(&next) {
                Ok(about) if about.is_symlink() => {
                    let target = fs::read_link(&next).ok()?;
                    if target.is_absolute() {
                        resolved.end = PathBuf::from("/");
                    }
                    names.extend(parts(&target));
                    resolved.links.push(next);
                    if resolved.links.len() > LINKS {
                        return None;
                    }
                }
                Ok(_) => resolved.end = next,
                Err(error) if error.kind() == io::ErrorKind::NotFound => resolved.end = next,
                Err(_) => return None,
            }
        }
        Some(resolved)
    }
}

/// The components of a path, last first.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    parts.collect()
}

/// The beginning of a regular file. Empty if it is anything else or cannot be read.
pub(super) fn read(path: &Path) -> Vec<u8> {
    let mut content = Vec::new();
    // THREAT: commands replace a file that a configuration includes with a fifo or a device, and
    // the search does not end. Tried by workspace::git_runs::tests::what_is_no_file_is_not_read.
    if !fs::metadata(path).is_ok_and(|about| about.is_file()) {
        return content;
    }
    let flags = OFlags::NONBLOCK.union(OFlags::NOCTTY).bits();
    let mut options = fs::File::options();
    if let Ok(file) = options.read(true).custom_flags(flags.cast_signed()).open(path) {
        // What cannot be read counts as empty.
        let _end = file.take(CONFIG_BYTES).read_to_end(&mut content);
    }
    content
}
