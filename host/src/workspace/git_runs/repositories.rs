//! Finds every repository in a tree, by the names in its folders.

use std::io;
use std::path::Path;

use airlock_shared::limits;
use rustix::fs::{self, AtFlags, Dir, FileType};

use super::super::beneath::Root;
use super::super::git::{self, Shape};
use super::super::rel_path::RelPath;
use super::{GitRuns, Reader, UserConfig};

/// At most this many entries are visited: twice as many as may be copied in.
const ENTRIES: u64 = 2 * limits::WORKSPACE_ENTRIES;

impl GitRuns {
    /// What git runs in `tree`. `root` is the same tree, held open.
    ///
    /// # Errors
    /// The tree is gone.
    pub(in super::super) fn of(root: &Root, tree: &Path, user: &UserConfig) -> io::Result<Self> {
        let tree = std::fs::canonicalize(tree)?;
        let mut reader = Reader::new(&tree, user);
        let (mut pending, mut left) = (vec![RelPath::root()], ENTRIES);
        while let Some(folder) = pending.pop() {
            let Ok(opened) = root.folder(&folder) else { continue };
            let mut shape = Shape::default();
            for entry in Dir::read_from(&opened)?.flatten() {
                let name = entry.file_name().to_bytes();
                if matches!(name, b"." | b"..") {
                    continue;
                }
                let Some(less) = left.checked_sub(1) else { break };
                left = less;
                shape.add(name);
                let Ok(path) = folder.join(name) else { continue };
                if git::is_dot_git(name) {
                    reader.work_tree(&reader.path_of(&path));
                    continue;
                }
                let kind = match entry.file_type() {
                    FileType::Unknown => fs::statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW)
                        .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
                    known => known,
                };
                if kind == FileType::Directory {
                    pending.push(path);
                }
            }
            if shape.is_repository() {
                reader.bare(&reader.path_of(&folder));
            }
        }
        Ok(reader.found())
    }
}
