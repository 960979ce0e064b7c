//! A folder as a value: everything about each entry that must not change behind a person's back.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Path to entry. Compare with `assert_eq!`: what differs is shown.
pub type Tree = BTreeMap<PathBuf, Entry>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub what: What,
    /// Permission bits.
    pub mode: u32,
    pub owner: (u32, u32),
    /// Seconds and nanoseconds.
    pub modified: (i64, i64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Folder,
    /// The SHA-256 of what is in it, in hexadecimal.
    File(String),
    Link(PathBuf),
    /// A fifo, a socket, a device.
    Other,
}

impl Entry {
    /// The entry without its owner and times: what has to be equal on both sides of a copy.
    #[must_use]
    pub fn portable(self) -> (What, u32) {
        let mode = if matches!(self.what, What::Link(_)) { 0 } else { self.mode };
        (self.what, mode)
    }
}

/// Reads a folder; links are not followed.
///
/// # Panics
/// When something in it cannot be read.
#[must_use]
pub fn read(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut open = vec![PathBuf::new()];
    while let Some(folder) = open.pop() {
        let entries = std::fs::read_dir(root.join(&folder)).expect("a folder of the test's");
        for entry in entries {
            let path = folder.join(entry.expect("an entry of the test's").file_name());
            let metadata = root.join(&path).symlink_metadata().expect("an entry of the test's");
            let kind = metadata.file_type();
            let what = if kind.is_dir() {
                open.push(path.clone());
                What::Folder
            } else if kind.is_symlink() {
                What::Link(std::fs::read_link(root.join(&path)).expect("a link"))
            } else if kind.is_file() {
                What::File(sha256(&std::fs::read(root.join(&path)).expect("a file of the test's")))
            } else {
                What::Other
            };
            let entry = Entry {
                what,
                mode: metadata.mode() & 0o7777,
                owner: (metadata.uid(), metadata.gid()),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
            };
            tree.insert(path, entry);
        }
    }
    tree
}

/// Writes files of these contents below a folder, parents made.
///
/// # Panics
/// When it cannot.
pub fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, content) in files {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(root)).expect("a folder of the test's");
        std::fs::write(path, content).expect("a file of the test's");
    }
}

/// In hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
