//! A session's record as it is shown, and why a session has no changes.

use airlock_shared::job::Budget;
use airlock_shared::outcome::{Outcome, Stop};

use super::{short, unhurried};
use crate::cli::view::session::SessionView;
use crate::records::{self, Record, SessionFolder, SessionStore, TreeMode};
use crate::session::public::{ChangesEvent, Image, Limits, LoginEvent};
use crate::session::{changes_event, changes_state, list_held_and_triggers};
use crate::workspace::{self, DiffView};

const APPLIED: &str = "its changes are already applied, and are in your directory";

/// Why a session has nothing to show, apply or discard.
pub(super) fn why_nothing(folder: &SessionFolder) -> String {
    let Ok(Some(record)) = folder.record() else {
        return "the session was killed before it began".to_owned();
    };
    let (alive, began) = (folder.is_alive(), has_begun(folder, &record));
    let why = match changes_of(folder, &record, alive) {
        // The record may be older than the apply.
        _ if workspace::is_applied(folder) => APPLIED,
        records::ChangesRecord::Lost { why } => return format!("its changes are lost: {why}"),
        records::ChangesRecord::Applied { .. } => APPLIED,
        records::ChangesRecord::Discarded => "its changes were discarded",
        records::ChangesRecord::Kept { .. } => "the files with its changes are gone",
        records::ChangesRecord::None if alive => "the session is still running",
        records::ChangesRecord::None if !began => "the agent never began",
        records::ChangesRecord::None if record.workspace.mode == TreeMode::Live => {
            "it worked in the directory itself (--live), so its changes are there"
        }
        records::ChangesRecord::None => "it changed nothing",
    };
    why.to_owned()
}

/// Whether the agent asked the model. If the host died, the record has no count.
fn has_begun(folder: &SessionFolder, record: &Record) -> bool {
    record.steps > 0 || (record.outcome.is_none() && folder.has_request_event())
}

pub(super) fn view(
    store: &SessionStore,
    folder: &SessionFolder,
    record: &Record,
    whole: bool,
) -> SessionView {
    let alive = folder.is_alive();
    let (outcome, message, answer) = match &record.outcome {
        None if alive => ("running", None, None),
        None => ("lost", Some("its airlock process died; nothing more is known".to_owned()), None),
        Some(Outcome::Finished { answer }) => ("finished", None, Some(answer.clone())),
        Some(Outcome::Failed { fault }) => ("failed", Some(fault.message.clone()), None),
        Some(Outcome::Stopped { reason, answer }) => match reason {
            Stop::Cancelled => ("cancelled", None, answer.clone()),
            Stop::Budget { .. } => ("budget", None, answer.clone()),
            Stop::UsageLimit { message, .. } => {
                ("usage_limit", Some(message.clone()), answer.clone())
            }
        },
    };
    let changes = changes_of(folder, record, alive);
    let began = has_begun(folder, record);
    let changes_note = match &changes {
        records::ChangesRecord::Kept { note, .. } => note.clone(),
        records::ChangesRecord::Lost { why } => Some(why.clone()),
        _ => None,
    };
    let changes_are = changes_state(&changes, record.workspace.mode, began);
    let changes = match changes {
        records::ChangesRecord::Kept { .. } | records::ChangesRecord::Applied { .. } if whole => {
            stored(folder)
        }
        records::ChangesRecord::Kept { files, held, .. } => {
            ChangesEvent { files, held, ..ChangesEvent::default() }
        }
        _ => ChangesEvent::default(),
    };
    SessionView {
        v: 1,
        session: folder.id().to_owned(),
        short: short(store, folder),
        started: record.started.to_string(),
        ended: record.ended.map(|ended| ended.to_string()),
        ms: record.ms,
        prompt: record.prompt.clone(),
        dir: record.workspace.path.clone(),
        login: LoginEvent {
            name: record.login.name.clone(),
            kind: record.login.kind.clone(),
            plan: record.login.plan.clone(),
            base: record.base.clone(),
        },
        model: record.model.clone(),
        effort: record.effort.clone(),
        credentials: record.credentials.clone(),
        image: Image { name: record.image.name.clone(), digest: record.image.digest.clone() },
        network: "none".to_owned(),
        live: record.workspace.mode == TreeMode::Live,
        budget: Budget {
            steps: record.limits.steps,
            tokens: record.limits.tokens,
            seconds: record.limits.seconds,
        },
        limits: Limits {
            memory: record.limits.memory_bytes,
            cpus: record.limits.cpus,
            pids: record.limits.pids,
            disk: record.limits.disk_bytes,
            disk_on: record.limits.disk_on.clone(),
        },
        waivers: record.waivers.clone(),
        left_out: record.workspace.left_out,
        triggers: record.workspace.triggers.clone(),
        requests: record.steps,
        usage: record.usage,
        estimated: record.estimated,
        outcome: outcome.to_owned(),
        message,
        answer,
        exit: record.exit,
        changes_are,
        changes,
        changes_note,
    }
}

/// The changes on the disk; none if they cannot be read.
fn stored(folder: &SessionFolder) -> ChangesEvent {
    let lines = workspace::stat(folder, DiffView::Applied, &unhurried()).unwrap_or_default();
    let set = workspace::changes(folder).ok().flatten().unwrap_or_default();
    let mut changes = changes_event(&lines, set.held().count() as u64);
    list_held_and_triggers(&mut changes, &set);
    changes
}

/// The state of the changes. If the host died before it could record them, the disk tells.
fn changes_of(folder: &SessionFolder, record: &Record, alive: bool) -> records::ChangesRecord {
    if record.outcome.is_some()
        || record.changes != records::ChangesRecord::None
        || alive
        || record.workspace.mode != TreeMode::Copy
    {
        return record.changes.clone();
    }
    match workspace::changes(folder) {
        Ok(Some(set)) if !set.is_empty() => records::ChangesRecord::Kept {
            files: set.applied().count() as u64,
            held: set.held().count() as u64,
            note: set.extent.note(None),
        },
        _ if !has_begun(folder, record) => records::ChangesRecord::None,
        _ => records::ChangesRecord::Lost {
            why: "the airlock process died before it received them".to_owned(),
        },
    }
}
