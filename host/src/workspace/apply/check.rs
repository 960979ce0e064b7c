//! Before anything is written: is every path still what was copied in, and what has to be done?
//!
//! Content decides, not times: a file that was touched and says the same is no conflict, and
//! neither is one that already is what the run made of it.

use std::collections::HashSet;
use std::io;

use rustix::fs::{self, Access, AtFlags, Dir, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::super::beneath::Root;
use super::super::change::{Change, ChangeSet, Held};
use super::super::git;
use super::super::node::Node;
use super::super::rel_path::RelPath;
use super::steps::Step;

/// A path that changed on the host since it was copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Conflict {
    pub path: RelPath,
    pub found: Found,
}

/// What is there instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    #[error("it is new here too, and different")]
    Here,
    #[error("it is gone here")]
    Gone,
    #[error("it changed here")]
    Different,
    #[error("its mode changed here")]
    Mode,
    #[error("its folder is gone here, or is no folder any more")]
    Folder,
    #[error("it is a folder here with something in it that was not copied")]
    NotEmpty,
    #[error("it lies on another file system")]
    FileSystem,
}

/// A file as it was seen, to be seen again just before it is replaced. Not its change time: that
/// moves when another hard link of the file is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    dev: u64,
    ino: u64,
    size: i64,
    modified: (i64, u64),
}

impl Identity {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
        }
    }
}

/// What is to be done, in order, if nothing conflicts.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) conflicts: Vec<Conflict>,
}

/// Looks at every path that would be applied; what only the host's own files show to be
/// dangerous is held in `set`.
pub(super) fn check(root: &Root, set: &mut ChangeSet) -> io::Result<Plan> {
    last_look(root, set);
    let becomes_folder = |change: &&Change| {
        let folder = |node: &Option<Node>| node.as_ref().is_some_and(Node::is_folder);
        folder(&change.after) && !folder(&change.before)
    };
    let mut check = Check {
        root,
        device: fs::fstat(root.folder(&RelPath::root())?)?.st_dev,
        gone: set.applied().filter(|it| it.after.is_none()).map(|it| &it.path).collect(),
        made: set.applied().filter(becomes_folder).map(|it| &it.path).collect(),
        removals: Vec::new(),
        arrivals: Vec::new(),
        modes: Vec::new(),
    };
    let mut conflicts = Vec::new();
    for change in set.applied() {
        if let Err(found) = check.change(change)? {
            conflicts.push(Conflict { path: change.path.clone(), found });
        }
    }
    // Removals from the deepest up, then folders and files as they lie, then modes from the
    // deepest up: a folder that nobody may write in is closed after it was filled.
    check.removals.reverse();
    check.modes.reverse();
    Ok(Plan { steps: [check.removals, check.arrivals, check.modes].concat(), conflicts })
}

struct Check<'a> {
    root: &'a Root,
    device: u64,
    /// Paths that go.
    gone: HashSet<&'a RelPath>,
    /// Paths that become folders.
    made: HashSet<&'a RelPath>,
    removals: Vec<Step>,
    arrivals: Vec<Step>,
    modes: Vec<Step>,
}

impl Check<'_> {
    fn change(&mut self, change: &Change) -> io::Result<Result<(), Found>> {
        let Change { path, before, after, .. } = change;
        let parent = match self.root.folder(&path.parent()) {
            Ok(parent) => Some(parent),
            Err(error) if !is_no_folder(&error) => return Err(error),
            Err(_) if path.ancestors().any(|folder| self.made.contains(&folder)) => None,
            // What is to go cannot be there.
            Err(_) if after.is_none() => return Ok(Ok(())),
            Err(_) => return Ok(Err(Found::Folder)),
        };
        let sizes: Vec<u64> =
            [before, after].into_iter().flatten().filter_map(Node::size).collect();
        let (now, was) = match &parent {
            Some(_) => {
                let stat = self.root.stat(path)?;
                (self.root.look(path, &sizes)?, stat.as_ref().map(Identity::of))
            }
            None => (None, None),
        };
        let is_folder = |node: &Option<Node>| node.as_ref().is_some_and(Node::is_folder);
        let already = now == *after || (is_folder(&now) && is_folder(after) && !is_folder(before));
        if already {
            return Ok(Ok(()));
        }
        let goes_anyway = is_folder(&now) && is_folder(before) && after.is_none();
        if now != *before && !goes_anyway {
            return Ok(Err(match (before, &now) {
                (None, _) => Found::Here,
                (_, None) => Found::Gone,
                (Some(before), Some(now)) if before.same_but_mode(now) => Found::Mode,
                _ => Found::Different,
            }));
        }
        if let Some(parent) = &parent {
            if fs::fstat(parent)?.st_dev != self.device {
                return Ok(Err(Found::FileSystem));
            }
            fs::accessat(parent, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)?;
        }
        if is_folder(&now) && !is_folder(after) && after.is_some() && !self.all_goes(path)? {
            return Ok(Err(Found::NotEmpty));
        }
        self.plan(change, now, was);
        Ok(Ok(()))
    }

    fn plan(&mut self, change: &Change, now: Option<Node>, was: Option<Identity>) {
        let path = change.path.clone();
        let Some(after) = &change.after else {
            let folder = matches!(now, Some(Node::Folder { .. }));
            self.removals.push(if folder {
                Step::RemoveFolder { path }
            } else {
                Step::Remove { path, was }
            });
            return;
        };
        if let (Some(now), Some(mode)) = (&now, after.mode())
            && now.same_but_mode(after)
        {
            self.modes.push(Step::Mode { path, mode, folder: after.is_folder() });
            return;
        }
        let mut was = was;
        match (&now, after) {
            (Some(Node::Folder { .. }), _) => {
                self.removals.push(Step::RemoveFolder { path: path.clone() });
                was = None;
            }
            (Some(_), Node::Folder { .. }) => {
                self.removals.push(Step::Remove { path: path.clone(), was });
            }
            _ => {}
        }
        if let Node::Folder { mode } = after {
            self.arrivals.push(Step::MakeFolder { path: path.clone() });
            self.modes.push(Step::Mode { path, mode: *mode, folder: true });
        } else {
            let (node, content) = (after.clone(), change.content);
            self.arrivals.push(Step::Place { path, node, content, was });
        }
    }

    /// Whether everything in a folder of the host is to go.
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

/// Whether a path leads to no folder: nothing is there, or a file or a link.
pub(super) fn is_no_folder(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}

/// The export gate knows what was copied; here stands what was not: a link that was left out and
/// leads outside, a half of a repository that was left out.
fn last_look(root: &Root, set: &mut ChangeSet) {
    let mut repositories = HashSet::new();
    let coming: HashSet<RelPath> =
        set.applied().filter(|it| it.after.is_some()).map(|it| it.path.clone()).collect();
    for path in &coming {
        let named = |name: &str| path.name().eq_ignore_ascii_case(name.as_bytes());
        if !git::SHAPE.iter().any(|name| named(name)) {
            continue;
        }
        let folder = path.parent();
        let has = |name: &str| {
            let comes = |other: &RelPath| {
                other.name().eq_ignore_ascii_case(name.as_bytes()) && other.parent() == folder
            };
            root.has(&folder, name) || coming.iter().any(comes)
        };
        if git::is_repository(has) {
            repositories.insert(folder);
        }
    }
    let mut held: HashSet<RelPath> = HashSet::new();
    for change in set.changes.iter_mut().filter(|change| change.held.is_none()) {
        let path = &change.path;
        let beneath = path.ancestors().find(|folder| held.contains(folder));
        change.held = match &change.after {
            _ if repositories.iter().any(|folder| path == folder || path.is_beneath(folder)) => {
                Some(Held::Repository)
            }
            // THREAT: `x -> docs/credentials`, where `docs` was left out and leads to ~/.aws.
            // Tried by workspace::apply::tests::a_link_through_one_that_was_left_out_is_kept_back.
            Some(Node::Link { target }) if !root.keeps_inside(&path.parent(), target) => {
                Some(Held::LinkOutside)
            }
            _ => beneath.map(|folder| Held::Beneath { folder }),
        };
        if change.held.is_some() {
            held.insert(change.path.clone());
        }
    }
}
