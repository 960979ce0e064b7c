//! What differs from the baseline, the edits before what is derived from them.
//!
//! ```text
//! edits    each path that came in, by its own name; then the folders, but not those git ignores
//! derived  git's own folders, what git ignores: looked into once the edits are out
//! ```
//!
//! Every step asks whether there is time for more: what was found until then is what there is.

use std::collections::BTreeMap;
use std::hash::Hash as _;
use std::io;
use std::os::fd::OwnedFd;

use airlock_shared::limits;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::baseline::{Baseline, Comparison};
use super::place::{FolderPlace, Places};
use super::read::{self, LeftOut};
use crate::tools::path::Root;
use crate::tools::walk::{self, Kind};

/// Entries of one folder that are looked at.
const ENTRIES_OF_A_FOLDER: usize = 400_000;
/// A file over this goes out after the smaller ones.
const LARGE_BYTES: u64 = 1 << 20;
/// Why a path that came in cannot go out.
const SPECIAL: &str = "a fifo, a socket or a device is in its place";
/// A file over this with less than a sixteenth of it on disk is holes.
const HOLES_FLOOR_BYTES: i64 = 64 << 20;

/// A path that differs.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ChangedPath {
    pub(super) path: Vec<u8>,
    /// As it was before we looked.
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

/// Some of what differs, in the order in which it goes out.
#[derive(Default)]
pub(super) struct Differences {
    pub(super) found: Vec<ChangedPath>,
    /// Folders before what was in them.
    pub(super) gone: Vec<Vec<u8>>,
}

impl Differences {
    fn sort(&mut self) {
        // Stable: within a kind, folders stay before what is in them.
        self.found.sort_by_key(|found| (found.is_large(), found.is_new));
        self.gone.sort_by(|a, b| a.split(|byte| *byte == b'/').cmp(b.split(|byte| *byte == b'/')));
    }
}

pub(super) struct Scan<'a> {
    root: &'a Root,
    baseline: &'a Baseline,
    /// No more is looked for.
    enough: &'a CancellationToken,
    /// No command runs and none will: what its owner locked may be opened.
    last: bool,
    places: Places<'a>,
    /// Modes of folders that were opened, as they were.
    opened: BTreeMap<Vec<u8>, u32>,
    /// Folders and files to look at once the edits are out.
    later: Vec<(Vec<u8>, Kind)>,
    derived: Differences,
    pub(super) left_out: LeftOut,
    /// What could not be read: whether it differs is not known.
    pub(super) unread: Vec<Vec<u8>>,
    /// Not everything was looked at.
    pub(super) unseen: bool,
}

impl<'a> Scan<'a> {
    pub(super) fn new(
        root: &'a Root,
        baseline: &'a Baseline,
        last: bool,
        enough: &'a CancellationToken,
    ) -> Self {
        Self {
            root,
            baseline,
            enough,
            last,
            places: Places::new(root, baseline),
            opened: BTreeMap::new(),
            later: Vec::new(),
            derived: Differences::default(),
            left_out: LeftOut::default(),
            unread: Vec::new(),
            unseen: false,
        }
    }

    /// Changes to what came in and new paths, but for what git ignores and git's own.
    pub(super) fn edits(&mut self) -> Differences {
        let mut edits = Differences::default();
        self.known(&mut edits);
        self.walk(vec![(Vec::new(), Kind::Folder)], FolderPlace::Plain, &mut edits);
        edits.sort();
        edits
    }

    /// The rest.
    pub(super) fn derived(&mut self) -> Differences {
        let later = std::mem::take(&mut self.later);
        let mut derived = std::mem::take(&mut self.derived);
        self.walk(later, FolderPlace::Ignored, &mut derived);
        derived.sort();
        derived
    }

    /// Every path that came in, by its own name: no folder is read for it.
    fn known(&mut self, edits: &mut Differences) {
        let mut parent: Option<(&[u8], Result<OwnedFd, Errno>)> = None;
        for path in self.baseline.paths() {
            if self.is_over() {
                return;
            }
            let (folder, name) = split(path);
            if parent.as_ref().is_none_or(|(last, _)| *last != folder) {
                parent = Some((folder, self.folder(folder)));
            }
            let stat = match &parent {
                Some((_, Ok(opened))) => {
                    rustix::fs::statat(opened, name, AtFlags::SYMLINK_NOFOLLOW)
                }
                Some((_, Err(error))) => Err(*error),
                None => continue,
            };
            let place = |scan: &mut Self, kind| scan.places.of(path, kind == Kind::Folder);
            match stat {
                Ok(stat) => {
                    let kind = Kind::of(FileType::from_raw_mode(stat.st_mode));
                    if self.is_same(path, &stat, kind) {
                        continue;
                    }
                    if kind == Kind::Other {
                        if self.last {
                            self.left_out.add(path, SPECIAL);
                        }
                        continue;
                    }
                    let place = place(self, kind);
                    let Some(found) = self.found(path, &stat, kind, false) else { continue };
                    let differences =
                        if place == FolderPlace::Plain { &mut *edits } else { &mut self.derived };
                    differences.found.push(found);
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                    let plain = place(self, Kind::File) == FolderPlace::Plain;
                    let differences = if plain { &mut *edits } else { &mut self.derived };
                    differences.gone.push(path.to_vec());
                }
                Err(error) => self.not_read(path, &error.into()),
            }
        }
    }

    /// New paths beneath some folders, each folder before what is in it. Of another place than
    /// `until` they are put off.
    fn walk(&mut self, from: Vec<(Vec<u8>, Kind)>, until: FolderPlace, new: &mut Differences) {
        // The last is looked at first.
        let mut todo = from;
        todo.reverse();
        while let Some((path, kind)) = todo.pop() {
            if self.is_over() {
                return;
            }
            if !path.is_empty() && !self.baseline.knows(&path) {
                match self.stat(&path) {
                    Ok(stat) if kind != Kind::Other => {
                        new.found.extend(self.found(&path, &stat, kind, true));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        self.not_read(&path, &error.into());
                        continue;
                    }
                }
            }
            if kind != Kind::Folder {
                continue;
            }
            let first = todo.len();
            if let Err(error) = self.level(&path, until, &mut todo) {
                self.not_read(&path, &error);
            }
            todo[first..].reverse();
        }
    }

    /// What is in a folder and is one itself, or new.
    fn level(
        &mut self,
        path: &[u8],
        until: FolderPlace,
        todo: &mut Vec<(Vec<u8>, Kind)>,
    ) -> io::Result<()> {
        let folder = self.readable(path)?;
        let (entries, more) = walk::entries(folder, ENTRIES_OF_A_FOLDER)?;
        self.unseen |= more;
        let depth = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).count();
        for entry in entries {
            let path = walk::joined(path, &entry.name);
            let is_folder = entry.kind == Kind::Folder;
            if path.len() >= limits::PATH_BYTES {
                self.left_out.add(&path[..80], "its path is too long");
            } else if depth >= limits::PATH_COMPONENTS {
                self.left_out.add(&path[..path.len().min(80)], "it lies too deep");
            } else if !is_folder && self.baseline.knows(&path) {
                // It was compared by its name.
            } else if self.places.of(&path, is_folder) > until {
                self.later.push((path, entry.kind));
            } else {
                todo.push((path, entry.kind));
            }
        }
        Ok(())
    }

    fn found(&mut self, path: &[u8], stat: &Stat, kind: Kind, is_new: bool) -> Option<ChangedPath> {
        if kind == Kind::File
            && stat.st_size > HOLES_FLOOR_BYTES
            && stat.st_size / 16 > stat.st_blocks * 512
        {
            self.left_out.add(path, "it is mostly holes");
            return None;
        }
        let mode = self.opened.get(path).copied().unwrap_or(stat.st_mode) & 0o7777;
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
        let mode = self.opened.get(path).copied().unwrap_or(stat.st_mode);
        match self.baseline.compare(path, stat, mode) {
            Comparison::IfHash(hash) => read::content(self.root, path, kind, stat, self.last)
                .is_ok_and(|content| self.baseline.hash(&content) == hash),
            same => same == Comparison::Yes,
        }
    }

    fn not_read(&mut self, path: &[u8], error: &io::Error) {
        self.left_out.add(path, &error.to_string());
        self.unread.push(path.to_vec());
    }

    fn is_over(&mut self) -> bool {
        self.unseen |= self.enough.is_cancelled();
        self.enough.is_cancelled()
    }

    /// A folder whose names can be looked up.
    fn folder(&mut self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let open = |root: &Root| {
            let folder = walk::open(root.as_fd(), path, OFlags::PATH | OFlags::DIRECTORY)?;
            // Being there is not enough.
            rustix::fs::statat(&folder, ".", AtFlags::empty()).map(|_| folder)
        };
        match open(self.root) {
            Err(Errno::ACCESS) if self.last => {
                self.unlock(path);
                open(self.root)
            }
            opened => opened,
        }
    }

    /// A folder that can be read.
    fn readable(&mut self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let open = |root: &Root| walk::open(root.as_fd(), path, OFlags::RDONLY | OFlags::DIRECTORY);
        let opened = match open(self.root) {
            Err(Errno::ACCESS) if self.last => {
                self.unlock(path);
                open(self.root)?
            }
            opened => opened?,
        };
        // To read its names is not yet to look at what they stand for.
        let looked = rustix::fs::statat(&opened, ".", AtFlags::empty());
        if self.last && matches!(looked, Err(Errno::ACCESS)) {
            self.unlock(path);
        }
        Ok(opened)
    }

    /// Gives the owner back what he took from himself, on the way to a folder and at it.
    fn unlock(&mut self, path: &[u8]) {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain([path.len()]).filter(|end| *end > 0) {
            let folder = &path[..end];
            let Ok((parent, name)) = read::parent(self.root, folder) else { return };
            let Ok(stat) = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) else {
                return;
            };
            let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if is_folder && stat.st_mode & 0o500 != 0o500 {
                let mode = Mode::from_raw_mode(stat.st_mode & 0o7777 | 0o500);
                let open = rustix::fs::chmodat(&parent, name, mode, AtFlags::empty());
                if open.is_ok() {
                    self.opened.entry(folder.to_vec()).or_insert(stat.st_mode);
                }
            }
        }
    }

    fn stat(&mut self, path: &[u8]) -> Result<Stat, Errno> {
        let (folder, name) = split(path);
        let folder = self.folder(folder)?;
        rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// The folder of a path, and the name there.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

/// A number that is another one as soon as anything in it is.
pub(super) fn digest(baseline: &Baseline, edits: &Differences) -> u64 {
    baseline.digest(|state| {
        edits.found.hash(state);
        edits.gone.hash(state);
    })
}
