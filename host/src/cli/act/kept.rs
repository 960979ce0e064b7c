//! What is done with runs that are over: `runs`, `show`, `diff`, `apply`, `discard`.

use airlock_shared::job::Budget;
use airlock_shared::outcome::{Outcome, Stop};
use tokio_util::sync::CancellationToken;

use crate::cli::places::Places;
use crate::cli::screen::Screen;
use crate::cli::view::changes::{AppliedView, Held, by_reason, discarded};
use crate::cli::view::run::{self, RunView};
use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::neutral;
use crate::run::public::{Changes, Image, Limits, Payer};
use crate::run::{count, name_all, told};
use crate::session::{self, FindError, Record, RunFolder, Store};
use crate::workspace::{self, Applied, ApplyError, ChangeSet, Content, Effort, View};

pub(super) fn runs(store: &Store, json: bool, screen: &mut Screen) -> Result<Exit, Failure> {
    let listed = store.list().map_err(|error| unreadable(&error))?;
    let views = listed.iter().filter_map(|(folder, record)| {
        record.as_ref().map(|record| view(store, folder, record, false))
    });
    let views: Vec<RunView> = views.collect();
    let text = match json {
        true => views.iter().map(run::json).collect(),
        false => run::table(&views),
    };
    screen.print(&text).map(|()| Exit::Finished)
}

pub(super) fn show(
    store: &Store,
    prefix: &str,
    json: bool,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let folder = find(store, prefix)?;
    let view = view(store, &folder, &record(&folder)?, true);
    let text = if json { run::json(&view) } else { run::shown(&view, screen.out_style) };
    screen.print(&text).map(|()| Exit::Finished)
}

pub(super) fn diff(
    store: &Store,
    prefix: &str,
    held: bool,
    stat: bool,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let folder = find(store, prefix)?;
    let wanted = if held { View::Held } else { View::Applied };
    tell_extent(&folder, screen)?;
    if stat {
        let lines =
            workspace::stat(&folder, wanted, &effort()).map_err(|error| unreadable(&error))?;
        let changes = count(&lines, 0);
        let text = crate::cli::progress::stat(&changes, crate::text::COLUMNS, screen.out_style);
        return screen.print(&text).map(|()| Exit::Finished);
    }
    // THREAT: changes of gigabytes, or of characters that are shown as eight, fill the memory of
    // whoever looks at them. Tried by cli::memory::changes_are_shown_in_little_memory.
    let shown = screen.stream_foreign(|out| workspace::diff(&folder, wanted, out))?;
    shown.map(|()| Exit::Finished).map_err(|error| unreadable(&error))
}

/// What a run made of one file, byte for byte, to be taken by hand.
pub(super) fn content(
    store: &Store,
    prefix: &str,
    path: &str,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let folder = find(store, prefix)?;
    let no_file = |why: String| {
        let next = format!("airlock diff {} --held", short(store, &folder));
        Failure::new(Exit::Failed, "no content", format!("{path}: {why}")).hint(next)
    };
    let content = workspace::content(&folder, path).map_err(|error| unreadable(&error))?;
    let mut content = match content {
        Content::File(content) => content,
        Content::Link(target) => return Err(no_file(format!("a link to {target}"))),
        Content::None => return Err(no_file("the run has no new content for it".to_owned())),
    };
    // THREAT: a file's bytes steer the terminal. Tried by
    // cli::face::nothing_of_the_model_or_the_box_steers_a_terminal.
    if screen.out_is_terminal {
        let next = format!("airlock diff {} --content PATH > FILE", short(store, &folder));
        return Err(no_file("as it is, it is for a file, not a terminal".to_owned()).hint(next));
    }
    match std::io::copy(&mut content, &mut screen.out).and_then(|_| screen.out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(unreadable(&error)),
        _ => Ok(Exit::Finished),
    }
}

pub(super) fn apply(
    store: &Store,
    prefix: &str,
    places: &Places,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let folder = find(store, prefix)?;
    let short = short(store, &folder);
    let mut record = record(&folder)?;
    let dir = places.shown(std::path::Path::new(&record.workspace.path));
    let mut view = AppliedView { short: short.clone(), dir, ..AppliedView::default() };
    tell_extent(&folder, screen)?;
    match workspace::apply(&folder) {
        Ok(applied) if applied.all_held => fill(&mut view, &applied),
        Ok(applied) if applied.left.is_empty() => {
            fill(&mut view, &applied);
            folder.record_applied(clock::now()).map_err(|error| unreadable(&error))?;
        }
        // What was not done still waits, and the record says no more than that.
        Ok(applied) => {
            fill(&mut view, &applied);
            if let session::Changes::Kept { files, .. } = &mut record.changes {
                *files = applied.left.len() as u64;
                folder.write_record(&record).map_err(|error| unreadable(&error))?;
            }
        }
        Err(ApplyError::Obstacles(obstacles)) => {
            let obstacle = |obstacle: &workspace::Obstacle| Held {
                path: match obstacle.path.is_root() {
                    true => view.dir.clone(),
                    false => obstacle.path.to_string(),
                },
                why: obstacle.why.to_string(),
            };
            view.obstacles = obstacles.iter().map(obstacle).collect();
        }
        Err(ApplyError::Conflicts(conflicts)) => {
            let conflict = |conflict: &workspace::Conflict| Held {
                path: conflict.path.to_string(),
                why: conflict.found.to_string(),
            };
            view.conflicts = conflicts.iter().map(conflict).collect();
        }
        Err(error) => {
            // It was killed between the last step and the record.
            if matches!(
                (&error, &record.changes),
                (ApplyError::AlreadyApplied, session::Changes::Kept { .. })
            ) {
                folder.record_applied(clock::now()).map_err(|error| unreadable(&error))?;
            }
            return Err(not_done("apply", &error, &short));
        }
    }
    screen.tell(&view.text(screen.err_style));
    Ok(view.exit())
}

fn fill(view: &mut AppliedView, applied: &Applied) {
    view.files = applied.done.len() as u64;
    view.all_kept_back = applied.all_held;
    view.finished_earlier = applied.finished;
    // One line for each folder that is held whole: a commit made in the box is dozens of paths.
    let held = ChangeSet { changes: applied.held.clone(), ..ChangeSet::default() };
    let held = held.held_groups().into_iter();
    let held = held.map(|(path, why, paths)| Held {
        path: path.to_string(),
        why: if paths > 1 { format!("{paths} paths: {why}") } else { why },
    });
    view.left = (applied.left.iter())
        .map(|left| Held { path: left.path.to_string(), why: left.why.to_string() })
        .collect();
    let remarks = applied.remarks.iter().map(|it| (it.path.to_string(), it.what.to_string()));
    view.remarks = by_reason(remarks);
    view.staging_stays = applied.staging_stays.as_ref().map(ToString::to_string);
    let stayed = applied.stayed.iter().map(|path| Held {
        path: path.to_string(),
        why: "there is something in it that was not copied".to_owned(),
    });
    view.kept_back = held.chain(stayed).collect();
    let careful = applied.run_by_themselves.iter();
    view.careful =
        by_reason(careful.filter_map(|it| Some((it.path.to_string(), it.runs.clone()?))));
}

/// Says so if the changes are not all that the run made.
fn tell_extent(folder: &RunFolder, screen: &mut Screen) -> Result<(), Failure> {
    let set = workspace::changes(folder).map_err(|error| unreadable(&error))?;
    let ended = folder.record().ok().flatten().and_then(|record| record.ended);
    if let Some(note) = set.and_then(|set| set.extent.note(ended)) {
        let note = neutral::line(&note);
        let columns = crate::text::COLUMNS;
        let said = crate::cli::progress::labelled("note", &note, columns, screen.err_style);
        screen.tell(&format!("{said}\n"));
    }
    Ok(())
}

/// Nobody is in a hurry but whoever waits for the answer.
fn effort() -> Effort {
    Effort::bounded(CancellationToken::new())
}

pub(super) fn discard(store: &Store, prefix: &str, screen: &mut Screen) -> Result<Exit, Failure> {
    let folder = find(store, prefix)?;
    let short = short(store, &folder);
    let files = workspace::changes(&folder)
        .map_err(|error| unreadable(&error))?
        .map_or(0, |set| set.changes.len() as u64);
    let was_begun =
        workspace::discard(&folder).map_err(|error| not_done("discard", &error, &short))?;
    let mut record = record(&folder)?;
    // What was applied stays applied; only what was kept of it goes.
    if !matches!(record.changes, session::Changes::Applied { .. }) {
        record.changes = session::Changes::Discarded;
    }
    folder.write_record(&record).map_err(|error| unreadable(&error))?;
    screen.tell(&discarded(&short, files, was_begun, screen.err_style));
    Ok(Exit::Finished)
}

fn not_done(what: &str, error: &ApplyError, short: &str) -> Failure {
    let failure = Failure::new(Exit::Failed, format!("nothing to {what}"), error.to_string());
    let headline = match error {
        ApplyError::NoChanges | ApplyError::AlreadyApplied => failure.headline,
        _ => format!("{what} did not work"),
    };
    let reason = match error {
        ApplyError::CutShort(_) => {
            format!(
                "{}; to give it up, and leave what is done: airlock discard {short}",
                failure.reason
            )
        }
        _ => failure.reason,
    };
    Failure { headline, reason, hint: error.hint(short), ..failure }
}

fn find(store: &Store, prefix: &str) -> Result<RunFolder, Failure> {
    store.find(prefix).map_err(|error| {
        let failure = Failure::new(Exit::Usage, "which run", error.to_string());
        match &error {
            FindError::Ambiguous { runs, .. } => {
                let some: Vec<&str> = runs.iter().take(5).map(String::as_str).collect();
                failure.hint(format!("airlock show {}", some.first().copied().unwrap_or("RUN")))
            }
            _ => failure.hint("airlock runs"),
        }
    })
}

fn record(folder: &RunFolder) -> Result<Record, Failure> {
    let found = folder.record().map_err(|error| unreadable(&error))?;
    found.ok_or_else(|| {
        Failure::new(Exit::Failed, "no record", "the run was killed before it began")
            .hint("airlock runs")
    })
}

fn short(store: &Store, folder: &RunFolder) -> String {
    store.short(folder.id()).unwrap_or_else(|_| folder.id().to_owned())
}

fn unreadable(error: &std::io::Error) -> Failure {
    let reason = neutral::line(&error.to_string());
    Failure::new(Exit::Failed, "the run's files cannot be used", reason)
}

fn view(store: &Store, folder: &RunFolder, record: &Record, whole: bool) -> RunView {
    let alive = folder.is_alive();
    let (outcome, message, answer) = match &record.outcome {
        None if alive => ("running", None, None),
        None => ("lost", Some("its host died; nothing more is known".to_owned()), None),
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
    let (held, changes_note) = match &changes {
        session::Changes::Kept { held, note, .. } => (*held, note.clone()),
        session::Changes::Lost { why } => (0, Some(why.clone())),
        _ => (0, None),
    };
    let changes_are = told(&changes);
    let changes = match changes {
        session::Changes::Kept { files, .. } if !whole => {
            Changes { files, held, ..Changes::default() }
        }
        session::Changes::Kept { .. } => {
            let lines = workspace::stat(folder, View::Applied, &effort()).unwrap_or_default();
            let mut changes = count(&lines, held);
            if let Ok(Some(set)) = workspace::changes(folder) {
                name_all(&mut changes, &set);
            }
            changes
        }
        _ => Changes::default(),
    };
    RunView {
        v: 1,
        run: folder.id().to_owned(),
        short: short(store, folder),
        started: record.started.to_string(),
        ended: record.ended.map(|ended| ended.to_string()),
        ms: record.ms,
        prompt: record.prompt.clone(),
        dir: record.workspace.path.clone(),
        payer: Payer {
            name: record.payer.name.clone(),
            kind: record.payer.kind.clone(),
            plan: record.payer.plan.clone(),
            base: record.base.clone(),
        },
        model: record.model.clone(),
        effort: record.effort.clone(),
        custody: record.custody.clone(),
        image: Image { name: record.image.name.clone(), digest: record.image.digest.clone() },
        network: "none".to_owned(),
        live: record.workspace.mode == "live",
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

/// What became of the changes. Where the host died before it could write that down, the disk knows.
fn changes_of(folder: &RunFolder, record: &Record, alive: bool) -> session::Changes {
    if record.outcome.is_some()
        || record.changes != session::Changes::None
        || alive
        || record.workspace.mode != "copy"
    {
        return record.changes.clone();
    }
    match workspace::changes(folder) {
        Ok(Some(set)) if !set.is_empty() => session::Changes::Kept {
            files: set.applied().count() as u64,
            held: set.held().count() as u64,
            note: set.extent.note(None),
        },
        // The directory was not even in the sandbox: no agent worked on it.
        _ if !workspace::went_in(folder) => session::Changes::None,
        _ => session::Changes::Lost { why: "the host died before they came out".to_owned() },
    }
}
