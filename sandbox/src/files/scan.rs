//! Finds what differs from the baseline: first the edits, then derived files.
//!
//! ```text
//! edits    each path of the baseline, by its name; then new paths, without those that git ignores
//! derived  git's own directories, and what git ignores: scanned once the edits are sent
//! ```
//!
//! Each step checks whether there is time for more. If not, what was found so far is used.

use std::collections::BTreeMap;
use std::hash::Hash as _;
use std::io;
use std::os::fd::OwnedFd;

use airlock_shared::limits;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::baseline::{Baseline, Comparison};
use super::place::{DirPlace, Places};
use super::read::{self, Omitted};
use crate::tools::path::Root;
use crate::tools::walk::{self, Kind};

/// How many entries of one directory are scanned.
const DIRECTORY_ENTRIES: usize = 400_000;
/// A file over this size is sent after the smaller ones.
const LARGE_BYTES: u64 = 1 << 20;
/// Why a path of the baseline cannot be copied out.
const SPECIAL: &str = "a fifo, a socket or a device is in its place";
/// A file over this size with less than a sixteenth of it on disk is mostly holes.
const HOLES_FLOOR_BYTES: i64 = 64 << 20;

/// A path that differs.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ChangedPath {
    pub(super) path: Vec<u8>,
    /// Its mode before we changed it.
    pub(super) mode: u32,
    size: u64,
    changed: (i64, i64),
    ino: u64,
    is_new: bool,
}

impl ChangedPath {
    fn is_large(&self) -> bool {
        self.size > LARGE_BYTES
    }
}

/// Paths that differ, in the order in which they are sent.
#[derive(Default)]
pub(super) struct Differences {
    pub(super) found: Vec<ChangedPath>,
    /// Directories before what was in them.
    pub(super) gone: Vec<Vec<u8>>,
}

impl Differences {
    fn sort(&mut self) {
        // The sort is stable: within a kind, directories stay before their content.
        self.found.sort_by_key(|found| (found.is_large(), found.is_new));
        self.gone.sort_by(|a, b| a.split(|byte| *byte == b'/').cmp(b.split(|byte| *byte == b'/')));
    }
}

pub(super) struct Scan<'a> {
    root: &'a Root,
    baseline: &'a Baseline,
    /// Stops the scan.
    stop: &'a CancellationToken,
    /// No command runs any more: paths without permission may be unlocked.
    last: bool,
    places: Places<'a>,
    /// The modes that unlocked directories had.
    unlocked: BTreeMap<Vec<u8>, u32>,
    /// Directories and files to scan once the edits are sent.
    deferred: Vec<(Vec<u8>, Kind)>,
    derived: Differences,
    pub(super) omitted: Omitted,
    /// Paths that could not be read. Whether they differ is not known.
    pub(super) unread: Vec<Vec<u8>>,
    /// Not everything was scanned.
    pub(super) unseen: bool,
}

impl<'a> Scan<'a> {
    pub(super) fn new(
        root: &'a Root,
        baseline: &'a Baseline,
        last: bool,
        stop: &'a CancellationToken,
    ) -> Self {
        Self {
            root,
            baseline,
            stop,
            last,
            places: Places::new(root, baseline),
            unlocked: BTreeMap::new(),
            deferred: Vec::new(),
            derived: Differences::default(),
            omitted: Omitted::default(),
            unread: Vec::new(),
            unseen: false,
        }
    }

    /// Changes to the baseline and new paths, without `.git` and what git ignores.
    pub(super) fn edits(&mut self) -> Differences {
        let mut edits = Differences::default();
        self.compare_baseline(&mut edits);
        self.walk(vec![(Vec::new(), Kind::Dir)], DirPlace::Plain, &mut edits);
        edits.sort();
        edits
    }

    /// The rest of what differs.
    pub(super) fn derived(&mut self) -> Differences {
        let deferred = std::mem::take(&mut self.deferred);
        let mut derived = std::mem::take(&mut self.derived);
        self.walk(deferred, DirPlace::Ignored, &mut derived);
        derived.sort();
        derived
    }

    /// Compares every path of the baseline by its name, without reading directories.
    fn compare_baseline(&mut self, edits: &mut Differences) {
        let mut parent: Option<(&[u8], Result<OwnedFd, Errno>)> = None;
        for path in self.baseline.paths() {
            if self.is_over() {
                return;
            }
            let (dir, name) = walk::split(path);
            if parent.as_ref().is_none_or(|(last, _)| *last != dir) {
                parent = Some((dir, self.open_dir(dir)));
            }
            let stat = match &parent {
                Some((_, Ok(opened))) => {
                    rustix::fs::statat(opened, name, AtFlags::SYMLINK_NOFOLLOW)
                }
                Some((_, Err(error))) => Err(*error),
                None => continue,
            };
            let place = |scan: &mut Self, kind| scan.places.find(path, kind == Kind::Dir);
            match stat {
                Ok(stat) => {
                    let kind = Kind::of(FileType::from_raw_mode(stat.st_mode));
                    if self.is_same(path, &stat, kind) {
                        continue;
                    }
                    if kind == Kind::Other {
                        if self.last {
                            self.omitted.add(path, SPECIAL);
                        }
                        continue;
                    }
                    let place = place(self, kind);
                    let Some(found) = self.changed_path(path, &stat, kind, false) else { continue };
                    let differences =
                        if place == DirPlace::Plain { &mut *edits } else { &mut self.derived };
                    differences.found.push(found);
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                    let plain = place(self, Kind::File) == DirPlace::Plain;
                    let differences = if plain { &mut *edits } else { &mut self.derived };
                    differences.gone.push(path.to_vec());
                }
                Err(error) => self.add_unread(path, &error.into()),
            }
        }
    }

    /// Finds new paths beneath some directories, each directory before its content. A path with a
    /// place beyond `until` is deferred.
    fn walk(&mut self, from: Vec<(Vec<u8>, Kind)>, until: DirPlace, new: &mut Differences) {
        // The last one is taken first.
        let mut todo = from;
        todo.reverse();
        while let Some((path, kind)) = todo.pop() {
            if self.is_over() {
                return;
            }
            if !path.is_empty() && !self.baseline.knows(&path) {
                match self.stat(&path) {
                    Ok(stat) if kind != Kind::Other => {
                        new.found.extend(self.changed_path(&path, &stat, kind, true));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        self.add_unread(&path, &error.into());
                        continue;
                    }
                }
            }
            if kind != Kind::Dir {
                continue;
            }
            let first = todo.len();
            if let Err(error) = self.read_entries(&path, until, &mut todo) {
                self.add_unread(&path, &error);
            }
            todo[first..].reverse();
        }
    }

    /// Adds the entries of a directory that are new, or directories themselves.
    fn read_entries(
        &mut self,
        path: &[u8],
        until: DirPlace,
        todo: &mut Vec<(Vec<u8>, Kind)>,
    ) -> io::Result<()> {
        let dir = self.readable(path)?;
        let (entries, more) = walk::entries(dir, DIRECTORY_ENTRIES)?;
        self.unseen |= more;
        let depth = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).count();
        for entry in entries {
            let path = walk::joined(path, &entry.name);
            let is_dir = entry.kind == Kind::Dir;
            if path.len() >= limits::PATH_BYTES {
                self.omitted.add(&path, "its path is too long");
            } else if depth >= limits::PATH_COMPONENTS {
                self.omitted.add(&path, "it lies too deep");
            } else if !is_dir && self.baseline.knows(&path) {
                // It is compared by its name.
            } else if self.places.find(&path, is_dir) > until {
                self.deferred.push((path, entry.kind));
            } else {
                todo.push((path, entry.kind));
            }
        }
        Ok(())
    }

    fn changed_path(
        &mut self,
        path: &[u8],
        stat: &Stat,
        kind: Kind,
        is_new: bool,
    ) -> Option<ChangedPath> {
        if kind == Kind::File
            && stat.st_size > HOLES_FLOOR_BYTES
            && stat.st_size / 16 > stat.st_blocks * 512
        {
            self.omitted.add(path, "it is mostly holes");
            return None;
        }
        let mode = self.unlocked.get(path).copied().unwrap_or(stat.st_mode) & 0o7777;
        let size = if kind == Kind::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
        Some(ChangedPath {
            path: path.to_vec(),
            mode,
            size,
            changed: super::baseline::changed(stat),
            ino: stat.st_ino,
            is_new,
        })
    }

    fn is_same(&self, path: &[u8], stat: &Stat, kind: Kind) -> bool {
        let mode = self.unlocked.get(path).copied().unwrap_or(stat.st_mode);
        match self.baseline.compare(path, stat, mode) {
            Comparison::IfHash(hash) => read::content(self.root, path, kind, stat, self.last)
                .is_ok_and(|content| self.baseline.hash(&content) == hash),
            same => same == Comparison::Yes,
        }
    }

    /// Records a path that could not be read.
    fn add_unread(&mut self, path: &[u8], error: &io::Error) {
        self.omitted.add(path, &error.to_string());
        self.unread.push(path.to_vec());
    }

    fn is_over(&mut self) -> bool {
        self.unseen |= self.stop.is_cancelled();
        self.stop.is_cancelled()
    }

    /// Opens a directory in which names can be looked up.
    fn open_dir(&mut self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let open = |root: &Root| {
            let dir = walk::open(root.as_fd(), path, OFlags::PATH | OFlags::DIRECTORY)?;
            // An O_PATH descriptor alone does not show that.
            rustix::fs::statat(&dir, ".", AtFlags::empty()).map(|_| dir)
        };
        match open(self.root) {
            Err(Errno::ACCESS) if self.last => {
                self.unlock(path);
                open(self.root)
            }
            opened => opened,
        }
    }

    /// Opens a directory that can be read.
    fn readable(&mut self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let open = |root: &Root| walk::open(root.as_fd(), path, OFlags::RDONLY | OFlags::DIRECTORY);
        let opened = match open(self.root) {
            Err(Errno::ACCESS) if self.last => {
                self.unlock(path);
                open(self.root)?
            }
            opened => opened?,
        };
        // Reading names needs another permission than looking them up.
        let looked = rustix::fs::statat(&opened, ".", AtFlags::empty());
        if self.last && matches!(looked, Err(Errno::ACCESS)) {
            self.unlock(path);
        }
        Ok(opened)
    }

    /// Gives the owner the permissions to read and enter a directory and all directories above it.
    fn unlock(&mut self, path: &[u8]) {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain([path.len()]).filter(|end| *end > 0) {
            let dir = &path[..end];
            let Ok((parent, name)) = read::parent(self.root, dir) else { return };
            let Ok(stat) = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) else {
                return;
            };
            let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if is_dir && stat.st_mode & 0o500 != 0o500 {
                let mode = Mode::from_raw_mode(stat.st_mode & 0o7777 | 0o500);
                let open = rustix::fs::chmodat(&parent, name, mode, AtFlags::empty());
                if open.is_ok() {
                    self.unlocked.entry(dir.to_vec()).or_insert(stat.st_mode);
                }
            }
        }
    }

    fn stat(&mut self, path: &[u8]) -> Result<Stat, Errno> {
        let (dir, name) = walk::split(path);
        let dir = self.open_dir(dir)?;
        rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// A digest of the edits: another one if anything in them differs.
pub(super) fn digest(baseline: &Baseline, edits: &Differences) -> u64 {
    baseline.digest(|state| {
        edits.found.hash(state);
        edits.gone.hash(state);
    })
}
