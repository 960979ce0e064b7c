//! The changes that came out of the sandbox: recorded first, then reported with their lines.

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

/// How long lines are still counted after a stop.
const COUNT_AFTER_STOP: Duration = Duration::from_millis(200);

impl Report<'_> {
    /// Records the changes. None: a live directory, which has none to send. The usage is set by now:
    /// an agent that never began has changed nothing.
    pub(in crate::session) fn set_changes(&mut self, taken: Option<KeptChanges>) {
        let Some(KeptChanges { set, unkept }) = taken else {
            self.record.changes = records::ChangesRecord::None;
            return;
        };
        // If no agent worked, nothing is lost.
        if !self.has_begun && set.is_none() {
            self.record.changes = records::ChangesRecord::None;
            return;
        }
        let unkept = unkept.map(|fault| fault.message);
        let extent = set.as_ref().and_then(|set| set.extent.note(Some(clock::now())));
        let note = [extent, unkept].into_iter().flatten().collect::<Vec<_>>().join("; ");
        let note = (!note.is_empty()).then_some(note);
        // Noted once: a record that could not be written is tried a second time.
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
                    .unwrap_or_else(|| "the sandbox ended before it sent its changes".to_owned()),
            },
        };
    }

    /// Reports what changed, with the lines if they can be counted in time. Nothing depends on it:
    /// the changes and the record are on the disk.
    pub(in crate::session) async fn report_changes(&mut self, stop: &Stop) {
        let records::ChangesRecord::Kept { held, .. } = self.record.changes else { return };
        let folder =
            SessionFolder::found(self.folder.id().to_owned(), self.folder.path().to_owned());
        let give_up = CancellationToken::new();
        let deadline = CompareDeadline::bounded(give_up.clone());
        let counting = move || workspace::stat(&folder, DiffView::Applied, &deadline);
        let mut counting = tokio::task::spawn_blocking(counting);
        let counted = tokio::select! {
            counted = &mut counting => counted,
            () = async {
                stop.requested().await;
                tokio::time::sleep(COUNT_AFTER_STOP).await;
            } => {
                give_up.cancel();
                counting.await
            }
        };
        match counted.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(lines) => {
                let mut changes = changes_event(&lines, held);
                drop(lines);
                if let Ok(Some(set)) = workspace::changes(&self.folder) {
                    list_held_and_triggers(&mut changes, &set);
                }
                self.emit(PublicEvent::Changes(changes));
            }
            Err(error) => tracing::warn!(%error, "the changes cannot be counted"),
        }
    }
}

/// Where the changes are, for callers. Of a live directory only whether the agent began is known.
#[must_use]
pub fn changes_state(
    changes: &records::ChangesRecord,
    mode: TreeMode,
    began: bool,
) -> public::ChangesAre {
    match changes {
        records::ChangesRecord::None if mode == TreeMode::Live && began => public::ChangesAre::Live,
        records::ChangesRecord::None => public::ChangesAre::None,
        records::ChangesRecord::Kept { .. } => public::ChangesAre::Kept,
        records::ChangesRecord::Lost { .. } => public::ChangesAre::Lost,
        records::ChangesRecord::Applied { .. } => public::ChangesAre::Applied,
        records::ChangesRecord::Discarded => public::ChangesAre::Discarded,
    }
}

/// The changes for callers. `held`: how many of them `apply` holds.
#[must_use]
pub fn changes_event(lines: &[workspace::SummaryLine], held: u64) -> public::ChangesEvent {
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

/// Lists everything that is held and everything that runs, not only the first few.
// THREAT: forty harmless build files hide a harmful one.
// Tried by session::report::tests::all_that_is_held_and_all_that_runs_is_named.
pub fn list_held_and_triggers(changes: &mut public::ChangesEvent, set: &ChangeSet) {
    let named = |(path, why): (RelPath, String)| public::Named { path: path.to_string(), why };
    changes.held_list =
        set.held_groups().into_iter().map(|(path, why, _)| (path, why)).map(named).collect();
    let look_at = set.applied().filter_map(|it| Some((it.path.clone(), it.runs.clone()?)));
    changes.look_at = look_at.map(named).collect();
}
