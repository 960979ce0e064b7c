//! What a path is to the repository: git's own, ignored, or neither.
//!
//! A file that git tracks is not ignored, whatever the patterns say: git itself sees it so. What is
//! tracked is read from the indexes as they are now, without git.

use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::rc::Rc;

use airlock_shared::limits;
use rustix::fs::OFlags;

use super::baseline::Baseline;
use super::scan::split;
use crate::tools::ignored::{IgnoreRules, is_ignored, rules_in, rules_of_repository};
use crate::tools::path::Root;
use crate::tools::walk;

/// Of all indexes together; what is beyond is not read.
const INDEX_BYTES: usize = 64 << 20;
/// The paths of all of them together.
const ENTRIES: usize = 200_000;
/// Of an entry of an index, what comes before the hash of its content.
const STAT_BYTES: usize = 40;
/// The hashes of contents that git knows: SHA-1 and SHA-256. The index does not say which it has.
const HASH_BYTES: [usize; 2] = [20, 32];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum FolderPlace {
    Plain,
    /// Git's own.
    Git,
    Ignored,
}

pub(super) struct Places<'a> {
    root: &'a Root,
    baseline: &'a Baseline,
    folders: HashMap<Vec<u8>, Known>,
    /// Hashes of the paths that git tracks.
    ///
    /// THREAT: an index of names that are long and are written as a few bytes each takes the
    /// sandbox's memory, if the names are kept. Tried by
    /// files::place::tests::an_index_of_long_names_ends.
    tracked: HashSet<u64>,
}

/// Rules and place of a folder.
#[derive(Clone)]
struct Known {
    rules: Option<Rc<IgnoreRules>>,
    place: FolderPlace,
}

impl<'a> Places<'a> {
    pub(super) fn new(root: &'a Root, baseline: &'a Baseline) -> Self {
        let (mut tracked, mut left) = (HashSet::new(), INDEX_BYTES);
        for path in baseline.indexes() {
            let Some(repository) = path.strip_suffix(b".git/index") else { continue };
            let bytes = index(root, &path, left);
            left -= bytes.len();
            let most = ENTRIES.saturating_sub(tracked.len());
            let read = HASH_BYTES.into_iter().find_map(|hash_bytes| {
                let mut found = Vec::new();
                let note = |name: &[u8]| found.push(baseline.hash(&[repository, name].concat()));
                names(&bytes, hash_bytes, most, note).map(|()| found)
            });
            tracked.extend(read.unwrap_or_default());
        }
        Self { root, baseline, folders: HashMap::new(), tracked }
    }

    pub(super) fn of(&mut self, path: &[u8], is_folder: bool) -> FolderPlace {
        match self.by_rules(path, is_folder) {
            FolderPlace::Ignored if !is_folder && self.tracked.contains(&self.baseline.hash(path)) => {
                FolderPlace::Plain
            }
            place => place,
        }
    }

    fn by_rules(&mut self, path: &[u8], is_folder: bool) -> FolderPlace {
        let (folder, name) = split(path);
        let known = self.rules(folder);
        if known.place != FolderPlace::Plain {
            return known.place;
        }
        if name == b".git" {
            return FolderPlace::Git;
        }
        match is_ignored(known.rules.as_ref(), path, is_folder) {
            true => FolderPlace::Ignored,
            false => FolderPlace::Plain,
        }
    }

    /// What holds in a folder. Asked for the innermost first, so no deeper than a path is.
    fn rules(&mut self, folder: &[u8]) -> Known {
        if let Some(known) = self.folders.get(folder) {
            return known.clone();
        }
        let known = if folder.is_empty() {
            let outer = rules_of_repository(self.root);
            Known { rules: rules_in(self.root, folder, outer), place: FolderPlace::Plain }
        } else {
            let place = self.by_rules(folder, true);
            let outer = self.rules(split(folder).0).rules;
            let rules = match place {
                FolderPlace::Plain => rules_in(self.root, folder, outer),
                _ => None,
            };
            Known { rules, place }
        };
        self.folders.insert(folder.to_vec(), known.clone());
        known
    }
}

/// The bytes of an index; none of one that cannot be read.
fn index(root: &Root, path: &[u8], most: usize) -> Vec<u8> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut bytes = Vec::new();
    let Ok(file) = walk::open(root.as_fd(), path, flags) else { return bytes };
    match std::fs::File::from(file).take(most as u64).read_to_end(&mut bytes) {
        Ok(_) => bytes,
        Err(_) => Vec::new(),
    }
}

/// The names in an index (`gitformat-index`), each once it is whole. None: it is no index of such
/// hashes.
fn names(index: &[u8], hash_bytes: usize, most: usize, mut note: impl FnMut(&[u8])) -> Option<()> {
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
        // A bit says that there are more flags.
        at += if flags & 0x4000 == 0 { 2 } else { 4 };
        if version == 4 {
            // How many bytes of the name before are not of this one.
            let cut = varint(index, &mut at)?;
            name.truncate(name.len().checked_sub(cut)?);
        } else {
            name.clear();
        }
        let rest = index.get(at..)?;
        let length = rest.iter().position(|byte| *byte == 0)?;
        name.extend_from_slice(&rest[..length]);
        // As far as the flags can say it.
        if name.len().min(0xfff) != (flags & 0xfff) as usize || name.len() >= limits::PATH_BYTES {
            return None;
        }
        at += length + 1;
        if version < 4 {
            at = begin + (at - begin).next_multiple_of(8);
        }
        note(&name);
    }
    Some(())
}

/// A number as git writes it there: seven bits a byte, each byte but the last plus one.
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
        let note = |name: &[u8]| all.push(String::from_utf8_lossy(name).into_owned());
        names(index, hash_bytes, usize::MAX, note).map(|()| all)
    }

    #[expect(clippy::disallowed_methods, reason = "git itself writes what is read here")]
    fn git(folder: &Path, arguments: &[&str]) {
        let ran = Command::new("git").args(arguments).current_dir(folder).output().expect("git");
        assert!(ran.status.success(), "{arguments:?}: {ran:?}");
    }

    #[test]
    fn an_index_of_each_version_and_hash_is_read() {
        for (format, hash_bytes) in [("sha1", 20), ("sha256", 32)] {
            let folder = tempfile::tempdir().expect("folder");
            let here = folder.path();
            git(here, &["init", "-q", &format!("--object-format={format}")]);
            let long = "l".repeat(200);
            let paths = ["a", "ab/c d", "ab/cd", "out/report.txt", long.as_str()];
            for path in paths {
                std::fs::create_dir_all(here.join(path).parent().expect("it has one"))
                    .expect("folder");
                std::fs::write(here.join(path), path).expect("file");
                git(here, &["add", path]);
            }
            std::fs::write(here.join("new"), "").expect("file");
            for (version, extended) in [("2", false), ("3", true), ("4", true)] {
                if extended {
                    // Has more flags: version 2 cannot say it.
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
    fn an_index_of_long_names_ends() {
        // Each of a million names is 4,000 bytes longer than what is written of it.
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
        // What is kept of them are numbers.
        let _: HashSet<u64> =
            Places::new(&Root::open("/").expect("/"), &Baseline::default()).tracked;
    }

    #[test]
    fn what_ends_in_a_name_or_counts_too_far_is_none() {
        let entry =
            |cut: &[u8]| [b"DIRC\0\0\0\x04\0\0\0\x01", &[0; 61][..], &[1], cut, b"x\0"].concat();
        assert_eq!(names_of(&entry(b"\0"), 20), Some(vec!["x".to_owned()]));
        assert_eq!(names_of(&entry(b"\x01"), 20), None);
        assert_eq!(names_of(&entry(&[0xff; 40]), 20), None);
    }
}
