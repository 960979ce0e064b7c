//! Where a path is, as seen by git: in a `.git` directory, ignored, or neither.
//!
//! As in git, a tracked file is never ignored, even if a pattern matches it. The tracked paths are
//! read from the current index files, without git.

use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::rc::Rc;

use airlock_shared::limits;
use rustix::fs::OFlags;

use super::baseline::Baseline;
use crate::tools::ignored::{IgnoreRules, is_ignored, rules_in, rules_of_repository};
use crate::tools::path::Root;
use crate::tools::walk;

/// How many bytes of all index files together are read.
const INDEX_BYTES: usize = 64 << 20;
/// How many paths of all index files together are read.
const ENTRIES: usize = 200_000;
/// The size of the part of an index entry before the hash of the content.
const STAT_BYTES: usize = 40;
/// The sizes of git's content hashes: SHA-1 and SHA-256. The index does not say which one it uses.
const HASH_BYTES: [usize; 2] = [20, 32];

/// Where a path is, as seen by git.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum DirPlace {
    Plain,
    /// In a `.git` directory.
    Git,
    Ignored,
}

/// Finds the place of a path.
pub(super) struct Places<'a> {
    root: &'a Root,
    baseline: &'a Baseline,
    dirs: HashMap<Vec<u8>, DirInfo>,
    /// Hashes of the paths that git tracks.
    ///
    /// THREAT: an index can store long names as a few bytes each. If we kept the names, they would
    /// use up the sandbox's memory. Tried by
    /// files::place::tests::an_index_of_long_names_is_bounded.
    tracked: HashSet<u64>,
}

/// The ignore rules and the place of a directory.
#[derive(Clone)]
struct DirInfo {
    rules: Option<Rc<IgnoreRules>>,
    place: DirPlace,
}

impl<'a> Places<'a> {
    pub(super) fn new(root: &'a Root, baseline: &'a Baseline) -> Self {
        let (mut tracked, mut left) = (HashSet::new(), INDEX_BYTES);
        for path in baseline.indexes() {
            let Some(repository) = path.strip_suffix(b".git/index") else { continue };
            let bytes = read_index(root, &path, left);
            left -= bytes.len();
            let most = ENTRIES.saturating_sub(tracked.len());
            let read = HASH_BYTES.into_iter().find_map(|hash_bytes| {
                let mut found = Vec::new();
                let add = |name: &[u8]| found.push(baseline.hash(&[repository, name].concat()));
                names(&bytes, hash_bytes, most, add).map(|()| found)
            });
            tracked.extend(read.unwrap_or_default());
        }
        Self { root, baseline, dirs: HashMap::new(), tracked }
    }

    /// The place of a path. A file that git tracks is not ignored.
    pub(super) fn find(&mut self, path: &[u8], is_dir: bool) -> DirPlace {
        match self.by_rules(path, is_dir) {
            DirPlace::Ignored if !is_dir && self.tracked.contains(&self.baseline.hash(path)) => {
                DirPlace::Plain
            }
            place => place,
        }
    }

    /// The place of a path by the ignore rules alone.
    fn by_rules(&mut self, path: &[u8], is_dir: bool) -> DirPlace {
        let (dir, name) = walk::split(path);
        let known = self.rules(dir);
        if known.place != DirPlace::Plain {
            return known.place;
        }
        if name == b".git" {
            return DirPlace::Git;
        }
        match is_ignored(known.rules.as_ref(), path, is_dir) {
            true => DirPlace::Ignored,
            false => DirPlace::Plain,
        }
    }

    /// The rules and the place of a directory. It recurses once for each component of the path.
    fn rules(&mut self, dir: &[u8]) -> DirInfo {
        if let Some(known) = self.dirs.get(dir) {
            return known.clone();
        }
        let known = if dir.is_empty() {
            let outer = rules_of_repository(self.root);
            DirInfo { rules: rules_in(self.root, dir, outer), place: DirPlace::Plain }
        } else {
            let place = self.by_rules(dir, true);
            let outer = self.rules(walk::split(dir).0).rules;
            let rules = match place {
                DirPlace::Plain => rules_in(self.root, dir, outer),
                _ => None,
            };
            DirInfo { rules, place }
        };
        self.dirs.insert(dir.to_vec(), known.clone());
        known
    }
}

/// Reads an index file. If that fails, the result is empty.
fn read_index(root: &Root, path: &[u8], most: usize) -> Vec<u8> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut bytes = Vec::new();
    let Ok(file) = walk::open(root.as_fd(), path, flags) else { return bytes };
    match std::fs::File::from(file).take(most as u64).read_to_end(&mut bytes) {
        Ok(_) => bytes,
        Err(_) => Vec::new(),
    }
}

/// Calls `add` with each name in an index (see `gitformat-index`), at most `most` of them. `None`:
/// it is not a valid index with hashes of this size.
fn names(index: &[u8], hash_bytes: usize, most: usize, mut add: impl FnMut(&[u8])) -> Option<()> {
    let word = |at: usize| {
        let bytes = index.get(at..at + 4)?;
        Some(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    let version = word(4)?;
    if !index.starts_with(b"DIRC") || !(2..=4).contains(&version) {
        return None;
    }
    let count = (word(8)? as usize).min(most);
    let (mut at, mut name) = (12, Vec::new());
    for _ in 0..count {
        let begin = at;
        at += STAT_BYTES + hash_bytes;
        let flags = word(at.checked_sub(2)?)? & 0xffff;
        // This bit says that more flags follow.
        at += if flags & 0x4000 == 0 { 2 } else { 4 };
        if version == 4 {
            // How many bytes to remove from the end of the previous name.
            let cut = varint(index, &mut at)?;
            name.truncate(name.len().checked_sub(cut)?);
        } else {
            name.clear();
        }
        let rest = index.get(at..)?;
        let length = rest.iter().position(|byte| *byte == 0)?;
        name.extend_from_slice(&rest[..length]);
        // The flags hold the length, up to 0xfff.
        if name.len().min(0xfff) != (flags & 0xfff) as usize || name.len() >= limits::PATH_BYTES {
            return None;
        }
        at += length + 1;
        if version < 4 {
            at = begin + (at - begin).next_multiple_of(8);
        }
        add(&name);
    }
    Some(())
}

/// A number in git's encoding: seven bits in each byte, and one is added for each byte that is not
/// the last.
fn varint(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let mut value = 0_usize;
    loop {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some(value);
        }
        value = value.checked_add(1)?.checked_mul(0x80)?;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    fn names_of(index: &[u8], hash_bytes: usize) -> Option<Vec<String>> {
        let mut all = Vec::new();
        let add = |name: &[u8]| all.push(String::from_utf8_lossy(name).into_owned());
        names(index, hash_bytes, usize::MAX, add).map(|()| all)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "git itself writes the index that the test reads"
    )]
    fn git(dir: &Path, arguments: &[&str]) {
        let output = Command::new("git").args(arguments).current_dir(dir).output().expect("git");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    #[test]
    fn an_index_of_each_version_and_hash_is_read() {
        for (format, hash_bytes) in [("sha1", 20), ("sha256", 32)] {
            let dir = tempfile::tempdir().expect("directory");
            let here = dir.path();
            git(here, &["init", "-q", &format!("--object-format={format}")]);
            let long = "l".repeat(200);
            let paths = ["a", "ab/c d", "ab/cd", "out/report.txt", long.as_str()];
            for path in paths {
                std::fs::create_dir_all(here.join(path).parent().expect("it has one"))
                    .expect("directory");
                std::fs::write(here.join(path), path).expect("file");
                git(here, &["add", path]);
            }
            std::fs::write(here.join("new"), "").expect("file");
            for (version, extended) in [("2", false), ("3", true), ("4", true)] {
                if extended {
                    // This entry has more flags, which version 2 cannot store.
                    git(here, &["add", "--intent-to-add", "new"]);
                }
                git(here, &["update-index", "--force-write-index", "--index-version", version]);
                let index = std::fs::read(here.join(".git/index")).expect("index");
                assert_eq!(index[7].to_string(), version);
                let mut expected: Vec<String> = paths.iter().map(ToString::to_string).collect();
                expected.extend(extended.then(|| "new".to_owned()));
                expected.sort();
                assert_eq!(names_of(&index, hash_bytes), Some(expected), "{format} {version}");
                let other = HASH_BYTES.into_iter().find(|other| *other != hash_bytes);
                assert_eq!(names_of(&index, other.expect("there are two")), None);
                for end in [0, 7, 11, 70, 100] {
                    assert_eq!(names_of(&index[..end], hash_bytes), None, "{end}");
                }
            }
        }
    }

    #[test]
    fn an_index_of_long_names_is_bounded() {
        // Each name has 4,000 bytes, and all but the first are stored in a few bytes.
        let mut index = b"DIRC\0\0\0\x04\0\x0f\x42\x40".to_vec();
        let mut entry = |cut: u8, rest: &[u8]| {
            index.extend([0; 60]);
            index.extend(4000_u16.to_be_bytes());
            index.push(cut);
            index.extend(rest);
            index.push(0);
        };
        entry(0, &[b'x'; 4000]);
        for _ in 1..300_000 {
            entry(1, b"x");
        }
        let (mut count, mut bytes) = (0, 0);
        let read =
            names(&index, 20, ENTRIES, |name| (count, bytes) = (count + 1, bytes + name.len()));
        assert_eq!((read, count), (Some(()), ENTRIES));
        assert!(bytes > 500 << 20, "blind: {bytes} bytes");
        // Only hashes are kept, not the names.
        let _: HashSet<u64> =
            Places::new(&Root::open("/").expect("/"), &Baseline::default()).tracked;
    }

    #[test]
    fn an_index_with_a_bad_number_is_refused() {
        let entry =
            |cut: &[u8]| [b"DIRC\0\0\0\x04\0\0\0\x01", &[0; 61][..], &[1], cut, b"x\0"].concat();
        assert_eq!(names_of(&entry(b"\0"), 20), Some(vec!["x".to_owned()]));
        assert_eq!(names_of(&entry(b"\x01"), 20), None);
        assert_eq!(names_of(&entry(&[0xff; 40]), 20), None);
    }
}
