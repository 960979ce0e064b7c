//! The steps of an apply, and the journal that lists them. Every step can be taken again: it finds
//! its work done, or does it, or finds that the path changed and leaves it alone. What is in the
//! directory decides, not what is staged: staged contents can be missing.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Mode};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::super::beneath::Root;
use super::super::change::{Change, ChangeSet};
use super::super::node::Node;
use super::super::rel_path::{self, RelPath};
use super::super::store;
use super::super::walk::STAGING;
use super::attributes::{ApplyNote, KeptAttributes};
use super::check::{FileIdentity, is_no_folder};
use super::replaced::{Saved, put_back, remove_replaced};
use super::stage::Staging;
use super::swap::Exchange;
use super::{Applied, ApplyError, ApplyStage, FailedStep, SkipReason, Skipped, StageHook};

/// One step. A staged content has the number of its step as its name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub(super) enum ApplyStep {
    /// Removes a file or a link.
    Remove { path: RelPath, was: Option<FileIdentity> },
    /// Removes a folder, if it is empty.
    RemoveFolder { path: RelPath },
    /// Makes a folder, within the umask.
    MakeFolder { path: RelPath },
    /// Puts a file or a link at a path. `was`: the file it replaces. `keep`: what it keeps of that
    /// file. `group`: the group that a new file gets from its folder.
    Place {
        path: RelPath,
        node: Node,
        content: Option<u64>,
        was: Option<FileIdentity>,
        #[serde(default)]
        keep: Option<KeptAttributes>,
        #[serde(default)]
        group: Option<u32>,
    },
    /// Changes the mode of a file; of a folder only in a journal of an older airlock.
    Mode {
        path: RelPath,
        mode: u32,
        folder: bool,
        #[serde(default)]
        was: Option<FileIdentity>,
    },
}

impl ApplyStep {
    pub(super) fn path(&self) -> &RelPath {
        match self {
            Self::Remove { path, .. }
            | Self::RemoveFolder { path }
            | Self::MakeFolder { path }
            | Self::Place { path, .. }
            | Self::Mode { path, .. } => path,
        }
    }
}

/// The paths that a step puts something at.
pub(super) fn coming(steps: &[ApplyStep]) -> HashSet<&RelPath> {
    let comes =
        |step: &&ApplyStep| matches!(step, ApplyStep::MakeFolder { .. } | ApplyStep::Place { .. });
    steps.iter().filter(comes).map(ApplyStep::path).collect()
}

/// How a step ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StepResult {
    Done,
    Left(SkipReason),
}

/// Everything that is needed to finish an apply that was killed.
#[derive(Serialize, Deserialize)]
pub(super) struct ApplyJournal {
    v: u32,
    /// Percent-encoded.
    root: String,
    pub(super) staging: RelPath,
    pub(super) steps: Vec<ApplyStep>,
    held: Vec<Change>,
    run_by_themselves: Vec<Change>,
    #[serde(default)]
    pub(super) remarks: Vec<ApplyNote>,
}

/// The folder of a session's staged contents.
pub(super) fn staging(session: &str) -> io::Result<RelPath> {
    RelPath::parse(format!("{STAGING}{session}").as_bytes()).map_err(io::Error::other)
}

impl ApplyJournal {
    pub(super) fn new(
        session: &str,
        root: &Path,
        steps: Vec<ApplyStep>,
        set: &ChangeSet,
        remarks: Vec<ApplyNote>,
    ) -> io::Result<Self> {
        Ok(Self {
            v: 1,
            root: rel_path::encode(root.as_os_str().as_bytes()),
            staging: staging(session)?,
            steps,
            held: set.held().cloned().collect(),
            run_by_themselves: set.applied().filter(|it| it.runs.is_some()).cloned().collect(),
            remarks,
        })
    }

    pub(super) fn root(&self) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(&rel_path::decode(&self.root).unwrap_or_default()))
    }

    /// Takes all steps that are left, marks the changes as applied and cleans up. If some paths
    /// changed meanwhile, they are named and the changes are not marked, so that the next apply
    /// reports them as conflicts.
    pub(super) fn carry_out(
        self,
        root: &Root,
        session: &Path,
        finished: bool,
        before: StageHook<'_>,
    ) -> Result<Applied, ApplyError> {
        let mut applied = Applied { root: self.root(), finished, ..Applied::default() };
        let mut staging = Staging::open(root, &self.staging, session);
        let (mut done, mut stuck) = (BTreeSet::new(), Vec::new());
        // If it is marked, only the cleanup is missing: what the person edited since stays.
        if !store::is_applied(session) {
            let coming = coming(&self.steps);
            for (number, step) in self.steps.iter().enumerate() {
                before(ApplyStage::Step);
                let path = step.path().clone();
                match step.take(root, &mut staging, number, coming.contains(&path), before) {
                    Ok(StepResult::Done) => _ = done.insert(path),
                    Ok(StepResult::Left(_)) if matches!(step, ApplyStep::RemoveFolder { .. }) => {
                        applied.stayed.push(path);
                    }
                    Ok(StepResult::Left(why)) => applied.left.push(Skipped { path, why }),
                    // The other steps are still taken.
                    Err(error) => stuck.push(FailedStep { path, why: error.to_string() }),
                }
            }
            stuck.extend(self.sync(root));
            if !stuck.is_empty() {
                return Err(ApplyError::CutShort(stuck));
            }
            before(ApplyStage::Step);
            // THREAT: a step is skipped and the set is marked as applied, so the person discards
            // changes that were never written.
            // Tried by
            // workspace::apply::tests::resume::what_was_edited_since_is_named_and_not_called_applied.
            if applied.left.is_empty() {
                store::mark_applied(session)?;
            }
        }
        before(ApplyStage::RemoveReplaced);
        applied.saved = remove_replaced(root, &staging, &self.steps).map_err(|error| {
            let why = format!("files that were replaced are still in it: {error}");
            ApplyError::CutShort(vec![FailedStep { path: self.staging.clone(), why }])
        })?;
        before(ApplyStage::Step);
        applied.staging_stays = staging.clear().is_err().then(|| self.staging.clone());
        before(ApplyStage::Step);
        store::remove_journal(session)?;
        let left: HashSet<&RelPath> = applied.left.iter().map(|left| &left.path).collect();
        applied.done = done.into_iter().filter(|path| !left.contains(path)).collect();
        applied.remarks =
            self.remarks.into_iter().filter(|remark| !left.contains(&remark.path)).collect();
        (applied.held, applied.run_by_themselves) = (self.held, self.run_by_themselves);
        Ok(applied)
    }

    /// Gives up an apply: removes the staged contents and the journal. Steps that were taken stay.
    /// A file that was removed and has no successor yet is put back or saved, and named.
    pub(super) fn abandon(&self, session: &Path) -> io::Result<Vec<Saved>> {
        let mut saved = Vec::new();
        if let Ok(root) = Root::open(&self.root()) {
            let mut staging = Staging::open(&root, &self.staging, session);
            if !store::is_applied(session) {
                saved = put_back(&root, &staging, &self.steps)?;
            }
            saved.extend(remove_replaced(&root, &staging, &self.steps)?);
            // A hidden folder that stays is better than changes that cannot be discarded.
            let _stays = staging.clear();
        }
        store::remove_journal(session)?;
        Ok(saved)
    }

    /// Syncs all changed folders before the journal is removed. Returns the folders that failed.
    // THREAT: the disk fails, airlock reports `applied` and drops the changes, and after a restart
    // neither the old nor the new content exists. Tried by
    // workspace::apply::steps::tests::a_failed_sync_is_an_error.
    fn sync(&self, root: &Root) -> Vec<FailedStep> {
        let folders: BTreeSet<RelPath> =
            self.steps.iter().map(|step| step.path().parent()).collect();
        let synced = |folder: RelPath| {
            let opened = root.folder(&folder).ok()?;
            let error = synced(fs::fsync(opened)).err()?;
            Some(FailedStep { path: folder, why: format!("it may not be on the disk: {error}") })
        };
        folders.into_iter().filter_map(synced).collect()
    }
}

/// Not an error: the file system cannot sync a folder at all.
fn synced(answer: Result<(), Errno>) -> io::Result<()> {
    match answer {
        Ok(()) | Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl ApplyStep {
    /// `comes`: another step puts something at this path.
    fn take(
        &self,
        root: &Root,
        staging: &mut Staging<'_>,
        number: usize,
        comes: bool,
        before: StageHook<'_>,
    ) -> io::Result<StepResult> {
        let path = self.path();
        let changed = Ok(StepResult::Left(SkipReason::Changed));
        let parent = match root.folder(&path.parent()) {
            Ok(parent) => parent,
            // It was removed with its folder, or a file took the folder's place.
            Err(error) if is_no_folder(&error) => {
                let goes = matches!(self, Self::Remove { .. } | Self::RemoveFolder { .. });
                return if goes { Ok(StepResult::Done) } else { changed };
            }
            Err(error) => return Err(error),
        };
        let name = path.name();
        match self {
            Self::Remove { was, .. } => match root.stat(path)? {
                // It was removed before a kill, or by another program.
                None => match staging.ready(number)? {
                    Some(staged) => {
                        Exchange::new(staged, number, &parent, name).settle_removal(*was)
                    }
                    None => Ok(StepResult::Done),
                },
                Some(stat) if Some(FileIdentity::of(&stat)) == *was => {
                    let swap = Exchange::new(staging.folder()?, number, &parent, name);
                    swap.take_out(*was, before)
                }
                // A folder of ours, made by a later step before the kill.
                Some(stat) if is_folder(&stat) && comes => Ok(StepResult::Done),
                Some(_) => changed,
            },
            Self::RemoveFolder { .. } => match fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => Ok(StepResult::Done),
                // A later step put a file here before the kill.
                Err(Errno::NOTDIR) if comes => Ok(StepResult::Done),
                Err(Errno::NOTDIR | Errno::NOTEMPTY | Errno::EXIST) => changed,
                Err(error) => Err(error.into()),
            },
            Self::MakeFolder { .. } => match fs::mkdirat(&parent, name, Mode::from_raw_mode(0o777))
            {
                Ok(()) => Ok(StepResult::Done),
                Err(Errno::EXIST) => match root.stat(path)? {
                    Some(stat) if is_folder(&stat) => Ok(StepResult::Done),
                    _ => changed,
                },
                Err(error) => Err(error.into()),
            },
            Self::Place { node, was, .. } => {
                let now = root.stat(path)?.as_ref().map(FileIdentity::of);
                if now != *was {
                    let there = root.look(path, node.size().as_slice())?;
                    if !there.is_some_and(|there| there.same_but_mode(node)) {
                        return changed;
                    }
                    // It was put in before a kill, or another program wrote the same.
                    return match (staging.ready(number)?, now, was) {
                        (Some(staged), Some(now), Some(was))
                            if !staging.is_content(number, node)? =>
                        {
                            Exchange::new(staged, number, &parent, name).settle(*was, now)
                        }
                        _ => Ok(StepResult::Done),
                    };
                }
                let staged = match staging.ready(number)? {
                    Some(staged) => staged,
                    None => staging.again(number, self)?,
                };
                let swap = Exchange::new(staged, number, &parent, name);
                match was {
                    Some(was) => swap.replace(*was, before),
                    None => swap.put_in(),
                }
            }
            Self::Mode { mode, folder, was, .. } => {
                let opened =
                    if *folder { root.folder(path) } else { root.file(path).map(OwnedFd::from) };
                let Ok(opened) = opened else { return changed };
                let stat = fs::fstat(&opened)?;
                if was.is_some_and(|was| was != FileIdentity::of(&stat)) {
                    return changed;
                }
                let special = stat.st_mode & 0o7000;
                if stat.st_mode & 0o7777 == special | mode {
                    return Ok(StepResult::Done);
                }
                match fs::fchmod(&opened, Mode::from_raw_mode(special | mode)) {
                    Ok(()) => Ok(StepResult::Done),
                    Err(Errno::PERM) => Ok(StepResult::Left(SkipReason::NotOwner)),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }
}

fn is_folder(stat: &fs::Stat) -> bool {
    fs::FileType::from_raw_mode(stat.st_mode) == fs::FileType::Directory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_sync_is_an_error() {
        for error in [Errno::IO, Errno::NOSPC, Errno::DQUOT, Errno::ROFS] {
            assert!(synced(Err(error)).is_err(), "{error}");
        }
        for answer in [Ok(()), Err(Errno::INVAL), Err(Errno::OPNOTSUPP)] {
            assert!(synced(answer).is_ok(), "{answer:?}");
        }
    }
}
