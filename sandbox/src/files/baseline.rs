//! What the tree was when it came in, in facts that commands cannot forge: a file's number, and
//! the time of its last change, which only the kernel sets.
//!
//! # Why also a digest
//! The kernel's clock ticks every few milliseconds. What is written in the tick in which the last
//! file came in could be written again without a trace, so of small files a keyed hash is kept and
//! larger ones of that tick count as changed.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, DefaultHasher, Hasher as _, RandomState};

use rustix::fs::{FileType, Stat};

use crate::tools::walk::Kind;

/// Files up to this are hashed.
pub(super) const HASHED_BYTES: u64 = 64 << 10;

/// The tree as it came in.
#[derive(Clone, Default)]
pub(crate) struct Baseline {
    known: BTreeMap<Vec<u8>, BaselineEntry>,
    /// The latest change of any file: what has this time may have changed since, unseen.
    latest: (i64, i64),
    key: RandomState,
}

#[derive(Clone)]
struct BaselineEntry {
    kind: Kind,
    mode: u32,
    size: i64,
    ino: u64,
    changed: (i64, i64),
    hash: Option<u64>,
}

/// Whether a path is what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Yes,
    No,
    /// Only if its content has this hash.
    IfHash(u64),
}

impl Baseline {
    pub(super) fn hash(&self, bytes: &[u8]) -> u64 {
        self.key.hash_one(bytes)
    }

    /// Notes a path; whether it is new.
    pub(super) fn note(&mut self, path: Vec<u8>, stat: &Stat, hash: Option<u64>) -> bool {
        let kind = Kind::of(FileType::from_raw_mode(stat.st_mode));
        let changed = changed(stat);
        if kind != Kind::Folder {
            self.latest = self.latest.max(changed);
        }
        let known = BaselineEntry {
            kind,
            mode: stat.st_mode,
            size: stat.st_size,
            ino: stat.st_ino,
            changed,
            hash,
        };
        self.known.insert(path, known).is_none()
    }

    /// Compares a path; `mode` is what it was before we looked.
    pub(super) fn compare(&self, path: &[u8], stat: &Stat, mode: u32) -> Comparison {
        let Some(known) = self.known.get(path) else { return Comparison::No };
        if known.mode != mode {
            return Comparison::No;
        }
        if known.kind == Kind::Folder {
            return Comparison::Yes;
        }
        if (known.size, known.ino, known.changed) != (stat.st_size, stat.st_ino, changed(stat)) {
            return Comparison::No;
        }
        match known.hash {
            _ if known.changed < self.latest => Comparison::Yes,
            Some(hash) => Comparison::IfHash(hash),
            None => Comparison::No,
        }
    }

    /// All that came in, sorted.
    pub(super) fn paths(&self) -> impl Iterator<Item = &[u8]> {
        self.known.keys().map(Vec::as_slice)
    }

    /// The indexes of git that are known.
    pub(super) fn indexes(&self) -> Vec<Vec<u8>> {
        let is_index = |path: &&Vec<u8>| {
            path.ends_with(b"/index") && path.split(|byte| *byte == b'/').any(|it| it == b".git")
        };
        self.known.keys().filter(is_index).cloned().collect()
    }

    /// Whether a change from now on has another time than any file that is known: then no digest
    /// is needed to see it. `stat`: of a file that changed just now.
    pub(super) fn is_settled(&mut self, stat: &Stat) -> bool {
        let now = changed(stat);
        let is_later = now > self.latest;
        self.latest = self.latest.max(now);
        is_later
    }

    pub(super) fn knows(&self, path: &[u8]) -> bool {
        self.known.contains_key(path)
    }

    /// A keyed hash of whatever is fed.
    pub(super) fn digest(&self, feed: impl FnOnce(&mut DefaultHasher)) -> u64 {
        let mut state = self.key.build_hasher();
        feed(&mut state);
        state.finish()
    }
}

pub(super) fn changed(stat: &Stat) -> (i64, i64) {
    (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(i64::MAX))
}
