//! What git ignores: the rules of `.gitignore` files and of `.git/info/exclude`. Each file is
//! bounded.

use std::ffi::OsStr;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::rc::Rc;

use airlock_shared::limits;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::OFlags;

use super::path::Root;
use super::walk;

/// The ignore rules of a directory, and those of the directories above it.
pub(crate) struct IgnoreRules {
    own: Gitignore,
    outer: Option<Rc<IgnoreRules>>,
}

/// The rules of a directory, with `outer` as those of the directories above it.
pub(crate) fn rules_in(
    root: &Root,
    dir: &[u8],
    outer: Option<Rc<IgnoreRules>>,
) -> Option<Rc<IgnoreRules>> {
    rules_of(root, dir, &walk::joined(dir, b".gitignore"), outer)
}

/// The rules of the repository in `.git/info/exclude`.
pub(crate) fn rules_of_repository(root: &Root) -> Option<Rc<IgnoreRules>> {
    rules_of(root, b"", b".git/info/exclude", None)
}

fn rules_of(
    root: &Root,
    dir: &[u8],
    file: &[u8],
    outer: Option<Rc<IgnoreRules>>,
) -> Option<Rc<IgnoreRules>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let Ok(file) = walk::open(root.as_fd(), file, flags) else { return outer };
    if !rustix::fs::fstat(&file)
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file())
    {
        return outer;
    }
    let mut text = Vec::new();
    if std::fs::File::from(file).take(limits::IGNORE_FILE_BYTES).read_to_end(&mut text).is_err() {
        return outer;
    }
    let mut builder = GitignoreBuilder::new(OsStr::from_bytes(dir));
    for line in String::from_utf8_lossy(&text).lines() {
        // Invalid lines are ignored.
        let _ = builder.add_line(None, line);
    }
    match builder.build() {
        Ok(own) => Some(Rc::new(IgnoreRules { own, outer })),
        Err(_) => outer,
    }
}

/// Whether a path is ignored. The innermost matching rule decides.
pub(crate) fn is_ignored(rules: Option<&Rc<IgnoreRules>>, path: &[u8], is_dir: bool) -> bool {
    let mut rules = rules;
    while let Some(here) = rules {
        match here.own.matched(Path::new(OsStr::from_bytes(path)), is_dir) {
            ignore::Match::Ignore(_) => return true,
            ignore::Match::Whitelist(_) => return false,
            ignore::Match::None => rules = here.outer.as_ref(),
        }
    }
    false
}
