//! What came out of the box: recorded first, then told, with its lines where they are counted soon.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::super::Stop;
use super::super::public::{self, Public};
use super::Report;
use crate::clock;
use crate::session::{self, RunFolder, TreeMode};
use crate::workspace::{self, ChangeSet, Effort, RelPath, Taken, View, What};

/// How long lines are counted for somebody who wants the run to end.
const HURRY: Duration = Duration::from_millis(200);

impl Report<'_> {
    /// What came out of the box, or did not. None: there was nothing to come out. What was spent
    /// is known by now: an agent that never began has changed nothing.
    pub(in crate::run) fn changed(&mut self, taken: Option<Taken>) {
        let Some(Taken { set, unkept }) = taken else {
            self.record.changes = session::Changes::None;
            return;
        };
        // Nothing is lost where no agent worked.
        if !self.has_worked && set.is_none() {
            self.record.changes = session::Changes::None;
            return;
        }
        let unkept = unkept.map(|fault| fault.message);
        let extent = set.as_ref().and_then(|set| set.extent.note(Some(clock::now())));
        let note = [extent, unkept].into_iter().flatten().collect::<Vec<_>>().join("; ");
        let note = (!note.is_empty()).then_some(note);
        // Said once: a record that could not be written is tried a second time.
        if let Some(note) = &note
            && self.record.changes == session::Changes::None
        {
            self.note(note.clone());
        }
        self.record.changes = match (set, note) {
            (Some(set), None) if set.is_empty() => session::Changes::None,
            (Some(set), note) if !set.is_empty() => session::Changes::Kept {
                files: set.applied().count() as u64,
                held: set.held().count() as u64,
                note,
            },
            (None, None) if self.record.steps == 0 => session::Changes::None,
            (_, note) => session::Changes::Lost {
                why: note.unwrap_or_else(|| "the box ended before its changes came out".to_owned()),
            },
        };
    }

    /// Tells what changed, with its lines where they can be counted soon. It is on the disk, and
    /// the record says so: nothing depends on this.
    pub(in crate::run) async fn tell_changes(&mut self, stop: &Stop) {
        let session::Changes::Kept { held, .. } = self.record.changes else { return };
        let run = RunFolder::found(self.folder.id().to_owned(), self.folder.path().to_owned());
        let hurry = CancellationToken::new();
        let effort = Effort::bounded(hurry.clone());
        let counting = move || workspace::stat(&run, View::Applied, &effort);
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
                if let Ok(Some(set)) = workspace::changes(&self.folder) {
                    name_all(&mut changes, &set);
                }
                self.say(Public::Changes(changes));
            }
            Err(error) => tracing::warn!(%error, "the changes cannot be counted"),
        }
    }
}

/// Where a run's changes are, as callers read it. Nothing is taken out of a live directory, so only
/// that its agent began is known.
#[must_use]
pub fn told(changes: &session::Changes, mode: TreeMode, began: bool) -> public::ChangesAre {
    match changes {
        session::Changes::None if mode == TreeMode::Live && began => public::ChangesAre::Live,
        session::Changes::None => public::ChangesAre::None,
        session::Changes::Kept { .. } => public::ChangesAre::Kept,
        session::Changes::Lost { .. } => public::ChangesAre::Lost,
        session::Changes::Applied { .. } => public::ChangesAre::Applied,
        session::Changes::Discarded => public::ChangesAre::Discarded,
    }
}

/// Changes as callers read them; `held` are those that apply keeps back.
#[must_use]
pub fn count(lines: &[workspace::Line], held: u64) -> public::Changes {
    let list = lines.iter().take(public::LIST).map(|line| public::Change {
        path: line.change.path.to_string(),
        kind: match line.change.what() {
            What::Added => public::ChangeKind::Added,
            What::Deleted => public::ChangeKind::Deleted,
            What::Modified | What::Mode => public::ChangeKind::Modified,
        },
        added: line.added as u64,
        removed: line.removed as u64,
        binary: line.binary,
        bytes: line.uncounted.then_some(line.bytes),
    });
    public::Changes {
        files: lines.len() as u64,
        added: lines.iter().map(|line| line.added as u64).sum(),
        removed: lines.iter().map(|line| line.removed as u64).sum(),
        list: list.collect(),
        held,
        ..public::Changes::default()
    }
}

/// Names all that is held and all that runs, not the first few: the one that matters may be the
/// last.
// THREAT: forty harmless build files hide the one that is not.
// Tried by run::report::tests::all_that_is_held_and_all_that_runs_is_named.
pub fn name_all(changes: &mut public::Changes, set: &ChangeSet) {
    let named = |(path, why): (RelPath, String)| public::Named { path: path.to_string(), why };
    changes.held_list =
        set.held_groups().into_iter().map(|(path, why, _)| (path, why)).map(named).collect();
    let look_at = set.applied().filter_map(|it| Some((it.path.clone(), it.runs.clone()?)));
    changes.look_at = look_at.map(named).collect();
}
