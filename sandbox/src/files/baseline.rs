//! The workspace as it was copied in, by facts that commands cannot forge: a file's inode number,
//! and its change time, which only the kernel sets.
//!
//! # Why also a hash
//! The kernel's clock ticks every few milliseconds. A file that is written again within the tick of
//! the last file has the same time. So small files have a keyed hash, and larger files of that tick
//! count as changed.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, DefaultHasher, Hasher as _, RandomState};

use rustix::fs::{FileType, Stat};

use crate::tools::walk::Kind;

/// Files up to this are hashed.
pub(super) const HASHED_BYTES: u64 = 64 << 10;

/// The workspace as it was copied in.
#[derive(Clone, Default)]
pub(crate) struct Baseline {
    known: BTreeMap<Vec<u8>, BaselineEntry>,
    /// The latest change time of any file. A file with this time may have changed since.
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

/// Whether a path is unchanged.
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

    /// Records a path. Returns whether it is new.
    pub(super) fn note(&mut self, path: Vec<u8>, stat: &Stat, hash: Option<u64>) -> bool {
        let kind = Kind::of(FileType::from_raw_mode(stat.st_mode));
        let changed = changed(stat);
        if kind != Kind::Dir {
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

    /// Compares a path. `mode` is its mode before we changed it.
    pub(super) fn compare(&self, path: &[u8], stat: &Stat, mode: u32) -> Comparison {
        let Some(known) = self.known.get(path) else { return Comparison::No };
        if known.mode != mode {
            return Comparison::No;
        }
        if known.kind == Kind::Dir {
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

    /// All paths, sorted.
    pub(super) fn paths(&self) -> impl Iterator<Item = &[u8]> {
        self.known.keys().map(Vec::as_slice)
    }

    /// The index files of git among the paths.
    pub(super) fn indexes(&self) -> Vec<Vec<u8>> {
        let is_index = |path: &&Vec<u8>| {
            path.ends_with(b"/index") && path.split(|byte| *byte == b'/').any(|it| it == b".git")
        };
        self.known.keys().filter(is_index).cloned().collect()
    }

    /// Whether every later change has a later time than all known files. Then no hash is needed to
    /// see it. `stat`: of a file that changed just now.
    pub(super) fn is_settled(&mut self, stat: &Stat) -> bool {
        let now = changed(stat);
        let is_later = now > self.latest;
        self.latest = self.latest.max(now);
        is_later
    }

    pub(super) fn knows(&self, path: &[u8]) -> bool {
        self.known.contains_key(path)
    }

    /// A keyed hash of the data that `feed` writes.
    pub(super) fn digest(&self, feed: impl FnOnce(&mut DefaultHasher)) -> u64 {
        let mut state = self.key.build_hasher();
        feed(&mut state);
        state.finish()
    }
}

pub(super) fn changed(stat: &Stat) -> (i64, i64) {
    (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(i64::MAX))
}
