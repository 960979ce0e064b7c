//! Before anything is written: is every path still what was copied in, and which steps are needed?
//!
//! Contents are compared, not times. A file that was touched and has the same content is not a
//! conflict, and neither is one that already has the session's new content.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

use rustix::fs::{self, Dir, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::super::base::Base;
use super::super::beneath::Root;
use super::super::change::{Change, ChangeSet, ChangeStatus};
use super::super::node::Node;
use super::super::rel_path::RelPath;
use super::attributes::{self, ApplyNote, KeptAttributes, NoteKind};
use super::obstacle::{Obstacle, Obstruction, ObstructionCache};
use super::recheck::recheck_on_host;
use super::steps::ApplyStep;
use super::{ApplyStage, StageHook};

/// A path that changed on the host since it was copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Conflict {
    pub path: RelPath,
    pub found: FoundInstead,
}

/// What the directory has instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum FoundInstead {
    #[error("it is new here too, and different")]
    Here,
    #[error("it was removed here")]
    Gone,
    #[error("it changed here")]
    Different,
    #[error("its mode changed here")]
    Mode,
    #[error("its folder does not exist here")]
    Folder,
    #[error("it is a folder here, and holds something that was not copied")]
    NotEmpty,
    #[error("it lies on another file system")]
    FileSystem,
}

/// Tells whether a file is the one that was checked. Without the change time, which moves when
/// another hard link of the file is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileIdentity {
    dev: u64,
    ino: u64,
    size: i64,
    modified: (i64, u64),
}

impl FileIdentity {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
        }
    }
}

/// The steps in order, and what speaks against them.
#[derive(Debug, Default)]
pub(super) struct ApplyPlan {
    pub(super) steps: Vec<ApplyStep>,
    pub(super) conflicts: Vec<Conflict>,
    pub(super) obstacles: Vec<Obstacle>,
    pub(super) remarks: Vec<ApplyNote>,
}

/// Checks every path that would be applied. Holds in `set` what only the host's own files show to
/// be dangerous.
pub(super) fn check(
    root: &Root,
    base: &Base,
    set: &mut ChangeSet,
    before: StageHook<'_>,
) -> io::Result<ApplyPlan> {
    recheck_on_host(root, base, set)?;
    let becomes_folder = |change: &&Change| {
        let folder = |node: &Option<Node>| node.as_ref().is_some_and(Node::is_folder);
        folder(&change.after) && !folder(&change.before)
    };
    let top = root.folder(&RelPath::root())?;
    let mut check = ApplyCheck {
        root,
        device: fs::fstat(&top)?.st_dev,
        obstructions: ObstructionCache::new(&top),
        groups: HashMap::new(),
        gone: set.applied().filter(|it| it.after.is_none()).map(|it| &it.path).collect(),
        made: set.applied().filter(becomes_folder).map(|it| &it.path).collect(),
        removals: Vec::new(),
        arrivals: Vec::new(),
        modes: Vec::new(),
        obstacles: BTreeMap::new(),
        remarks: Vec::new(),
    };
    let mut conflicts = Vec::new();
    for change in set.applied() {
        let path = || change.path.clone();
        match check.change(change, before) {
            Ok(Ok(())) => {}
            Ok(Err(found)) => conflicts.push(Conflict { path: path(), found }),
            Err(error) => check.in_the_way(path(), Some(Obstruction::Other(error.to_string()))),
        }
    }
    // Removals from the deepest up, then folders before the files in them, then modes.
    check.removals.reverse();
    let ApplyCheck { removals, arrivals, modes, obstacles, remarks, .. } = check;
    let obstacles = obstacles.into_iter().map(|(path, why)| Obstacle { path, why }).collect();
    Ok(ApplyPlan { steps: [removals, arrivals, modes].concat(), conflicts, obstacles, remarks })
}

struct ApplyCheck<'a> {
    root: &'a Root,
    device: u64,
    obstructions: ObstructionCache,
    /// The group that a new file in a folder gets. None: our own.
    groups: HashMap<RelPath, Option<u32>>,
    /// Paths that are removed.
    gone: HashSet<&'a RelPath>,
    /// Paths that become folders.
    made: HashSet<&'a RelPath>,
    removals: Vec<ApplyStep>,
    arrivals: Vec<ApplyStep>,
    modes: Vec<ApplyStep>,
    obstacles: BTreeMap<RelPath, Obstruction>,
    remarks: Vec<ApplyNote>,
}

impl ApplyCheck<'_> {
    fn change(
        &mut self,
        change: &Change,
        before_it: StageHook<'_>,
    ) -> io::Result<Result<(), FoundInstead>> {
        let Change { path, before, after, .. } = change;
        let is_folder = |node: &Option<Node>| node.as_ref().is_some_and(Node::is_folder);
        if change.special_bits && after.is_some() {
            self.remark(path, NoteKind::SpecialBits);
        }
        if is_folder(before) && is_folder(after) {
            // The sandbox does not decide who may enter the person's folders.
            self.remark(path, NoteKind::ModeKept);
            return Ok(Ok(()));
        }
        let parent = match self.root.folder(&path.parent()) {
            Ok(parent) => Some(parent),
            Err(error) if !is_no_folder(&error) => return Err(error),
            Err(_) if path.ancestors().any(|folder| self.made.contains(&folder)) => None,
            // It is removed already.
            Err(_) if after.is_none() => return Ok(Ok(())),
            Err(_) => return Ok(Err(FoundInstead::Folder)),
        };
        let sizes: Vec<u64> =
            [before, after].into_iter().flatten().filter_map(Node::size).collect();
        let seen = match &parent {
            Some(_) => {
                self.root.look_closely(path, &sizes, &mut || before_it(ApplyStage::Compare))?
            }
            None => None,
        };
        let (now, stat) = seen.unzip();
        if is_done(&now, before, after) {
            if change.what() == ChangeStatus::Mode {
                self.remark(path, NoteKind::ModeKept);
            }
            return Ok(Ok(()));
        }
        let goes_anyway = is_folder(&now) && is_folder(before) && after.is_none();
        if now != *before && !goes_anyway {
            return Ok(Err(match (before, &now) {
                (None, _) => FoundInstead::Here,
                (_, None) => FoundInstead::Gone,
                (Some(before), Some(now)) if before.same_but_mode(now) => FoundInstead::Mode,
                _ => FoundInstead::Different,
            }));
        }
        if let Some(parent) = &parent {
            let other_device = fs::fstat(parent)?.st_dev != self.device;
            if other_device || self.obstructions.is_mounted_apart(parent) {
                return Ok(Err(FoundInstead::FileSystem));
            }
            if is_folder(&now) && after.is_some() && !self.all_goes(path)? {
                return Ok(Err(FoundInstead::NotEmpty));
            }
            match (&now, &stat, after) {
                (Some(now), Some(stat), Some(after)) if now.same_but_mode(after) => {
                    self.in_the_way(path.clone(), self.obstructions.of_mode(parent, stat));
                }
                _ => {
                    let obstruction = self.obstructions.of_folder(&path.parent(), parent);
                    self.in_the_way(path.parent(), obstruction);
                    if now.is_some() {
                        let obstruction = self.obstructions.of_replaced(parent, path.name());
                        self.in_the_way(path.clone(), obstruction);
                    }
                }
            }
        }
        self.plan(change, now, stat)?;
        Ok(Ok(()))
    }

    fn plan(&mut self, change: &Change, now: Option<Node>, stat: Option<Stat>) -> io::Result<()> {
        let path = change.path.clone();
        let mut was = stat.as_ref().map(FileIdentity::of);
        let Some(after) = &change.after else {
            let folder = matches!(now, Some(Node::Folder { .. }));
            self.removals.push(if folder {
                ApplyStep::RemoveFolder { path }
            } else {
                ApplyStep::Remove { path, was }
            });
            return Ok(());
        };
        let keep = match (&stat, &change.before, &now, after) {
            (
                Some(stat),
                Some(Node::File { mode: before, .. }),
                Some(Node::File { mode: now, .. }),
                Node::File { mode: after, .. },
            ) => {
                let keep = KeptAttributes::of(stat, *before, *after);
                if keep.mode() != *now {
                    self.remark(&path, NoteKind::Mode { from: *now, to: keep.mode() });
                }
                Some(keep)
            }
            _ => None,
        };
        if let (Some(now), Some(keep)) = (&now, &keep)
            && now.same_but_mode(after)
        {
            self.modes.push(ApplyStep::Mode { path, mode: keep.mode(), folder: false, was });
            return Ok(());
        }
        match (&now, after) {
            (Some(Node::Folder { .. }), _) => {
                self.removals.push(ApplyStep::RemoveFolder { path: path.clone() });
                was = None;
            }
            (Some(_), Node::Folder { .. }) => {
                self.removals.push(ApplyStep::Remove { path: path.clone(), was });
            }
            _ => {}
        }
        if after.is_folder() {
            self.arrivals.push(ApplyStep::MakeFolder { path });
            return Ok(());
        }
        if let (Some(stat), Some(_)) = (&stat, &keep) {
            if stat.st_nlink > 1 {
                self.remark(&path, NoteKind::HardLink);
            }
            if stat.st_mode & 0o7000 != 0 {
                self.remark(&path, NoteKind::SpecialBits);
            }
        }
        let group = if keep.is_none() { self.group(&path.parent())? } else { None };
        let (node, content) = (after.clone(), change.content);
        self.arrivals.push(ApplyStep::Place { path, node, content, was, keep, group });
        Ok(())
    }

    /// The group that a set-group folder gives to new files. A folder that does not exist yet gets
    /// it from the nearest one above.
    fn group(&mut self, folder: &RelPath) -> io::Result<Option<u32>> {
        if let Some(known) = self.groups.get(folder) {
            return Ok(*known);
        }
        let above = std::iter::once(folder.clone()).chain(folder.ancestors());
        let opened = above.chain([RelPath::root()]).find_map(|it| self.root.folder(&it).ok());
        let stat = opened.map(fs::fstat).transpose()?;
        let group = stat.filter(|stat| stat.st_mode & 0o2000 != 0).map(|stat| stat.st_gid);
        self.groups.insert(folder.clone(), group);
        Ok(group)
    }

    fn remark(&mut self, path: &RelPath, what: NoteKind) {
        self.remarks.push(ApplyNote { path: path.clone(), what });
    }

    fn in_the_way(&mut self, path: RelPath, why: Option<Obstruction>) {
        if let Some(why) = why {
            self.obstacles.entry(path).or_insert(why);
        }
    }

    /// Whether everything in a folder of the host is removed by the changes.
    fn all_goes(&self, folder: &RelPath) -> io::Result<bool> {
        for entry in Dir::read_from(self.root.folder(folder)?)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let Ok(path) = folder.join(name) else { return Ok(false) };
            let is_folder = matches!(self.root.look(&path, &[])?, Some(Node::Folder { .. }));
            if !self.gone.contains(&path) || (is_folder && !self.all_goes(&path)?) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether a path already is what the change makes of it.
fn is_done(now: &Option<Node>, before: &Option<Node>, after: &Option<Node>) -> bool {
    match (now, after) {
        (None, None) => true,
        (Some(Node::File { mode: now_mode, .. }), Some(Node::File { mode: after_mode, .. })) => {
            let same = now.as_ref().zip(after.as_ref()).is_some_and(|(a, b)| a.same_but_mode(b));
            let before = match before {
                Some(Node::File { mode, .. }) => Some(*mode),
                _ => None,
            };
            same && attributes::is_settled(*now_mode, before, *after_mode)
        }
        (Some(now), Some(after)) => now.same_but_mode(after),
        _ => false,
    }
}

/// Whether the error says that a path is not a folder: it is missing, a file or a link.
pub(super) fn is_no_folder(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}
