//! What came out of the sandbox: recorded first, then told, with its lines where they are counted soon.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::super::Stop;
use super::super::public::{self, PublicEvent};
use super::Report;
use crate::clock;
use crate::records::{self, SessionFolder, TreeMode};
use crate::workspace::{
    self, ChangeSet, ChangeStatus, CompareDeadline, DiffView, KeptChanges, RelPath,
};

/// How long lines are counted for somebody who wants the run to end.
const HURRY: Duration = Duration::from_millis(200);

impl Report<'_> {
    /// What came out of the sandbox, or did not. None: there was nothing to come out. What was spent
    /// is known by now: an agent that never began has changed nothing.
    pub(in crate::session) fn changed(&mut self, taken: Option<KeptChanges>) {
        let Some(KeptChanges { set, unkept }) = taken else {
            self.record.changes = records::ChangesRecord::None;
            return;
        };
        // Nothing is lost where no agent worked.
        if !self.has_worked && set.is_none() {
            self.record.changes = records::ChangesRecord::None;
            return;
        }
        let unkept = unkept.map(|fault| fault.message);
        let extent = set.as_ref().and_then(|set| set.extent.note(Some(clock::now())));
        let note = [extent, unkept].into_iter().flatten().collect::<Vec<_>>().join("; ");
        let note = (!note.is_empty()).then_some(note);
        // Said once: a record that could not be written is tried a second time.
        if let Some(note) = &note
            && self.record.changes == records::ChangesRecord::None
        {
            self.note(note.clone());
        }
        self.record.changes = match (set, note) {
            (Some(set), None) if set.is_empty() => records::ChangesRecord::None,
            (Some(set), note) if !set.is_empty() => {
                records::ChangesRecord::Kept { files: set.applied, held: set.held, note }
            }
            (None, None) if self.record.steps == 0 => records::ChangesRecord::None,
            (_, note) => records::ChangesRecord::Lost {
                why: note
                    .unwrap_or_else(|| "the sandbox ended before its changes came out".to_owned()),
            },
        };
    }

    /// Tells what changed, with its lines where they can be counted soon. It is on the disk, and
    /// the record says so: nothing depends on this.
    pub(in crate::session) async fn tell_changes(&mut self, stop: &Stop) {
        let records::ChangesRecord::Kept { held, .. } = self.record.changes else { return };
        let run = SessionFolder::found(self.folder.id().to_owned(), self.folder.path().to_owned());
        let hurry = CancellationToken::new();
        let effort = CompareDeadline::bounded(hurry.clone());
        let counting = move || workspace::stat(&run, DiffView::Applied, &effort);
        let mut counting = tokio::task::spawn_blocking(counting);
        let counted = tokio::select! {
            counted = &mut counting => counted,
            () = async {
                stop.asked().await;
                tokio::time::sleep(HURRY).await;
            } => {
                hurry.cancel();
                counting.await
            }
        };
        match counted.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(lines) => {
                let mut changes = count(&lines, held);
                drop(lines);
                if let Ok(Some(set)) = workspace::changes(&self.folder) {
                    name_all(&mut changes, &set);
                }
                self.say(PublicEvent::Changes(changes));
            }
            Err(error) => tracing::warn!(%error, "the changes cannot be counted"),
        }
    }
}

/// Where a run's changes are, as callers read it. Nothing is taken out of a live directory, so only
/// that its agent began is known.
#[must_use]
pub fn told(changes: &records::ChangesRecord, mode: TreeMode, began: bool) -> public::ChangesAre {
    match changes {
        records::ChangesRecord::None if mode == TreeMode::Live && began => public::ChangesAre::Live,
        records::ChangesRecord::None => public::ChangesAre::None,
        records::ChangesRecord::Kept { .. } => public::ChangesAre::Kept,
        records::ChangesRecord::Lost { .. } => public::ChangesAre::Lost,
        records::ChangesRecord::Applied { .. } => public::ChangesAre::Applied,
        records::ChangesRecord::Discarded => public::ChangesAre::Discarded,
    }
}

/// Changes as callers read them; `held` are those that apply keeps back.
#[must_use]
pub fn count(lines: &[workspace::SummaryLine], held: u64) -> public::ChangesEvent {
    let list = lines.iter().take(public::LIST).map(|line| public::Change {
        path: line.change.path.to_string(),
        kind: match line.change.what() {
            ChangeStatus::Added => public::ChangeKind::Added,
            ChangeStatus::Deleted => public::ChangeKind::Deleted,
            ChangeStatus::Modified | ChangeStatus::Mode => public::ChangeKind::Modified,
        },
        added: line.added as u64,
        removed: line.removed as u64,
        binary: line.binary,
        bytes: line.uncounted.then_some(line.bytes),
    });
    public::ChangesEvent {
        files: lines.len() as u64,
        added: lines.iter().map(|line| line.added as u64).sum(),
        removed: lines.iter().map(|line| line.removed as u64).sum(),
        list: list.collect(),
        held,
        ..public::ChangesEvent::default()
    }
}

/// Names all that is held and all that runs, not the first few: the one that matters may be the
/// last.
// THREAT: forty harmless build files hide the one that is not.
// Tried by session::report::tests::all_that_is_held_and_all_that_runs_is_named.
pub fn name_all(changes: &mut public::ChangesEvent, set: &ChangeSet) {
    let named = |(path, why): (RelPath, String)| public::Named { path: path.to_string(), why };
    changes.held_list =
        set.held_groups().into_iter().map(|(path, why, _)| (path, why)).map(named).collect();
    let look_at = set.applied().filter_map(|it| Some((it.path.clone(), it.runs.clone()?)));
    changes.look_at = look_at.map(named).collect();
}
