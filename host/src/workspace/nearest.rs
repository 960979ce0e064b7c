//! Finds the nearest folder of a set that encloses a path. Each folder is looked up once, however
//! many paths are in it and however deep it is.

use std::collections::{HashMap, HashSet};

use super::rel_path::RelPath;

/// Remembers the answers. Whether a folder is in the set must not change after it was looked up.
#[derive(Default)]
pub(super) struct Nearest<'a> {
    known: HashMap<&'a [u8], Option<&'a [u8]>>,
    #[cfg(test)]
    pub(super) looked_up: usize,
}

impl<'a> Nearest<'a> {
    /// The nearest folder above a path that is in the set. The root is the empty path.
    pub(super) fn above(&mut self, path: &'a RelPath, of: &HashSet<&[u8]>) -> Option<&'a [u8]> {
        let mut unknown = Vec::new();
        let mut at = path.as_bytes();
        let found = loop {
            let Some(end) = at.iter().rposition(|byte| *byte == b'/') else {
                break of.contains(b"".as_slice()).then_some(&at[..0]);
            };
            at = &at[..end];
            #[cfg(test)]
            {
                self.looked_up += 1;
            }
            if let Some(known) = self.known.get(at) {
                break *known;
            }
            unknown.push(at);
            if of.contains(at) {
                break Some(at);
            }
        };
        self.known.extend(unknown.into_iter().map(|folder| (folder, found)));
        found
    }

    /// Whether a path is in the set, or in a folder of the set.
    pub(super) fn is_in(&mut self, path: &'a RelPath, of: &HashSet<&[u8]>) -> bool {
        of.contains(path.as_bytes()) || self.above(path, of).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_nearest_is_found_and_no_path_is_in_itself() {
        let paths = ["a", "a/b", "a/b/c", "ab/c", "a/b/c/d/e"].map(path);
        let of: HashSet<&[u8]> = [b"a".as_slice(), b"a/b/c"].into();
        let mut nearest = Nearest::default();
        let found = paths.each_ref().map(|path| nearest.above(path, &of));
        let a = Some(b"a".as_slice());
        assert_eq!(found, [None, a, a, None, Some(b"a/b/c")]);
        assert!(nearest.is_in(&paths[0], &of) && !nearest.is_in(&paths[3], &of));
        let all: HashSet<&[u8]> = [b"".as_slice()].into();
        assert_eq!(Nearest::default().above(&paths[0], &all), Some(b"".as_slice()));
    }

    /// Each folder once, and once more for each path in it.
    #[test]
    fn deep_folders_are_looked_up_once() {
        let looked_up = |count: usize| {
            let deep = "d/".repeat(200);
            let paths: Vec<_> = (0..count).map(|n| path(&format!("{deep}{n}/x"))).collect();
            let mut nearest = Nearest::default();
            for path in &paths {
                assert_eq!(nearest.above(path, &HashSet::new()), None);
            }
            nearest.looked_up
        };
        assert_eq!(looked_up(1_000), 201 + 2 * 999);
        assert_eq!(looked_up(2_000) - looked_up(1_000), 2 * 1_000);
    }
}
