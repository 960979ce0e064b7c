//! Commands on sessions that are over: `sessions`, `show`, `diff`, `apply`, `discard`.

mod record_view; // a record as it is shown

use tokio_util::sync::CancellationToken;

use crate::cli::places::Places;
use crate::cli::progress::labelled;
use crate::cli::screen::Screen;
use crate::cli::view::changes::{AppliedView, Discarded, HeldView, by_reason};
use crate::cli::view::session::{self, SessionView};
use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::records::{self, FindError, Record, SessionFolder, SessionStore};
use crate::sanitize;
use crate::session::changes_event;
use crate::workspace::{
    self, Applied, ApplyError, ChangeSet, ChangedContent, CompareDeadline, DiffView, Saved,
};

pub(super) fn sessions(
    store: &SessionStore,
    json: bool,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let listed = store.list().map_err(|error| unreadable(&error))?;
    let views = listed.iter().filter_map(|(folder, record)| {
        record.as_ref().map(|record| record_view::view(store, folder, record, false))
    });
    let views: Vec<SessionView> = views.collect();
    let text = match json {
        true => views.iter().map(session::json).collect(),
        false => session::table(&views),
    };
    screen.print(&text).map(|()| Exit::Finished)
}

pub(super) fn show(
    store: &SessionStore,
    prefix: &str,
    json: bool,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let folder = find(store, prefix)?;
    let view = record_view::view(store, &folder, &record(&folder)?, true);
    let text = if json { session::json(&view) } else { session::shown(&view, screen.out_style) };
    screen.print(&text).map(|()| Exit::Finished)
}

pub(super) fn diff(
    store: &SessionStore,
    prefix: &str,
    held: bool,
    stat: bool,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let folder = find(store, prefix)?;
    let wanted = if held { DiffView::Held } else { DiffView::Applied };
    tell_extent(&folder, screen)?;
    // After an apply, the old texts are gone, so their lines cannot be shown.
    let is_past = !held && !stat && workspace::is_applied(&folder);
    let Some(set) = changes_of(&folder)?.filter(|_| !is_past) else {
        let why = sanitize::line(&record_view::why_nothing(&folder));
        let columns = crate::text::COLUMNS;
        let line = labelled("nothing", &format!("to show: {why}"), columns, screen.err_style);
        screen.tell(&format!("{line}\n"));
        return Ok(Exit::Finished);
    };
    if stat {
        let lines =
            workspace::stat(&folder, wanted, &unhurried()).map_err(|error| unreadable(&error))?;
        let more = if held { 0 } else { set.held().count() as u64 };
        let changes = changes_event(&lines, more);
        let text = crate::cli::progress::stat(&changes, crate::text::COLUMNS, screen.out_style);
        return screen.print(&text).map(|()| Exit::Finished);
    }
    // THREAT: changes of gigabytes, or of characters that are shown as eight, fill our memory. Tried
    // by cli::memory::changes_are_shown_in_little_memory.
    let shown = screen.stream_untrusted(|out| workspace::diff(&folder, wanted, out))?;
    shown.map(|()| Exit::Finished).map_err(|error| unreadable(&error))
}

/// Prints one file's new content, byte for byte.
pub(super) fn content(
    store: &SessionStore,
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
        ChangedContent::File(content) => content,
        ChangedContent::Link(target) => return Err(no_file(format!("a link to {target}"))),
        ChangedContent::None if changes_of(&folder)?.is_none() => {
            let next = format!("airlock show {}", short(store, &folder));
            return Err(no_file(record_view::why_nothing(&folder)).hint(next));
        }
        ChangedContent::None => {
            return Err(no_file("the session has no new content for it".to_owned()));
        }
    };
    // THREAT: a file's bytes control the terminal. Tried by
    // cli::face::nothing_of_the_model_or_the_sandbox_steers_a_terminal.
    if screen.out_is_terminal {
        let next = format!("airlock diff {} --content PATH > FILE", short(store, &folder));
        return Err(
            no_file("its unchanged bytes are not printed on a terminal".to_owned()).hint(next)
        );
    }
    match std::io::copy(&mut content, &mut screen.out).and_then(|_| screen.out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(unreadable(&error)),
        _ => Ok(Exit::Finished),
    }
}

pub(super) fn apply(
    store: &SessionStore,
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
        Ok(applied) if applied.all_held && applied.held.is_empty() => {
            return Err(not_done("apply", &ApplyError::NoChanges, &folder, &short));
        }
        Ok(applied) if applied.all_held => fill(&mut view, &applied),
        Ok(applied) if applied.left.is_empty() => {
            fill(&mut view, &applied);
            folder.record_applied(clock::now()).map_err(|error| unreadable(&error))?;
        }
        // The rest still waits: the record counts only what is left.
        Ok(applied) => {
            fill(&mut view, &applied);
            if let records::ChangesRecord::Kept { files, .. } = &mut record.changes {
                *files = applied.left.len() as u64;
                folder.write_record(&record).map_err(|error| unreadable(&error))?;
            }
        }
        Err(ApplyError::Obstacles(obstacles)) => {
            let obstacle = |obstacle: &workspace::Obstacle| HeldView {
                path: match obstacle.path.is_root() {
                    true => view.dir.clone(),
                    false => obstacle.path.to_string(),
                },
                why: obstacle.why.to_string(),
            };
            view.obstacles = obstacles.iter().map(obstacle).collect();
        }
        Err(ApplyError::Conflicts(conflicts)) => {
            let conflict = |conflict: &workspace::Conflict| HeldView {
                path: conflict.path.to_string(),
                why: conflict.found.to_string(),
            };
            view.conflicts = conflicts.iter().map(conflict).collect();
        }
        Err(error) => {
            if matches!(error, ApplyError::AlreadyApplied) {
                record_applied(&folder)?;
            }
            return Err(not_done("apply", &error, &folder, &short));
        }
    }
    screen.tell(&view.text(screen.err_style));
    Ok(view.exit())
}

fn fill(view: &mut AppliedView, applied: &Applied) {
    view.files = applied.done.len() as u64;
    view.all_held = applied.all_held;
    view.finished_earlier = applied.finished;
    // One line for each directory that is held as a whole: a commit in the sandbox has dozens of paths.
    let held = ChangeSet { changes: applied.held.clone(), ..ChangeSet::default() };
    let held = held.held_groups().into_iter();
    let held = held.map(|(path, why, paths)| HeldView {
        path: path.to_string(),
        why: if paths > 1 { format!("{paths} paths: {why}") } else { why },
    });
    view.left = (applied.left.iter())
        .map(|left| HeldView { path: left.path.to_string(), why: left.why.to_string() })
        .collect();
    let saved = applied.saved.iter();
    view.saved = saved.map(|it| moved(it, "what was saved here while apply went on")).collect();
    let remarks = applied.remarks.iter().map(|it| (it.path.to_string(), it.what.to_string()));
    view.remarks = by_reason(remarks);
    view.staging_stays = applied.staging_stays.as_ref().map(ToString::to_string);
    let stayed = applied.stayed.iter().map(|path| HeldView {
        path: path.to_string(),
        why: "it has files that were not copied".to_owned(),
    });
    view.held = held.chain(stayed).collect();
    let careful = applied.run_by_themselves.iter();
    view.careful =
        by_reason(careful.filter_map(|it| Some((it.path.to_string(), it.runs.clone()?))));
}

/// Notes if the changes are not all that the session made.
fn tell_extent(folder: &SessionFolder, screen: &mut Screen) -> Result<(), Failure> {
    let set = workspace::changes(folder).map_err(|error| unreadable(&error))?;
    let ended = folder.record().ok().flatten().and_then(|record| record.ended);
    if let Some(note) = set.and_then(|set| set.extent.note(ended)) {
        let note = sanitize::line(&note);
        let columns = crate::text::COLUMNS;
        let line = labelled("note", &note, columns, screen.err_style);
        screen.tell(&format!("{line}\n"));
    }
    Ok(())
}

/// A deadline without a stop: a person waits for the answer.
fn unhurried() -> CompareDeadline {
    CompareDeadline::bounded(CancellationToken::new())
}

pub(super) fn discard(
    store: &SessionStore,
    prefix: &str,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let folder = find(store, prefix)?;
    let short = short(store, &folder);
    let set = changes_of(&folder)?.unwrap_or_default();
    let applied = workspace::is_applied(&folder);
    let files = if applied { set.held().count() } else { set.changes.len() } as u64;
    let not_done = |error| not_done("discard", &error, &folder, &short);
    if files == 0 {
        return Err(not_done(ApplyError::NoChanges));
    }
    let begun = workspace::discard(&folder).map_err(not_done)?;
    // What was applied stays applied; only what was held is deleted.
    if applied {
        record_applied(&folder)?;
    } else if let Some(mut record) = folder.record().map_err(|error| unreadable(&error))? {
        record.changes = records::ChangesRecord::Discarded;
        folder.write_record(&record).map_err(|error| unreadable(&error))?;
    }
    let what = match (applied, begun.is_some()) {
        (true, _) => Discarded::Held,
        (false, true) => Discarded::Interrupted,
        (false, false) => Discarded::All,
    };
    let saved: Vec<HeldView> =
        begun.iter().flatten().map(|it| moved(it, "what was here")).collect();
    screen.tell(&what.text(&short, files, &saved, screen.err_style));
    Ok(Exit::Finished)
}

fn moved(saved: &Saved, what: &str) -> HeldView {
    HeldView { path: saved.path.to_string(), why: format!("{what} is in {}", saved.at) }
}

/// Records that changes are applied, if an apply was killed before it did so.
fn record_applied(folder: &SessionFolder) -> Result<(), Failure> {
    match folder.record().map_err(|error| unreadable(&error))?.map(|record| record.changes) {
        Some(records::ChangesRecord::Applied { .. }) => Ok(()),
        _ => folder.record_applied(clock::now()).map_err(|error| unreadable(&error)),
    }
}

fn not_done(what: &str, error: &ApplyError, folder: &SessionFolder, short: &str) -> Failure {
    let failure = Failure::new(Exit::Failed, format!("{what} did not work"), error.to_string())
        .hint(error.hint(short).unwrap_or_else(|| format!("airlock show {short}")));
    match error {
        ApplyError::NoChanges | ApplyError::AlreadyApplied => Failure {
            headline: format!("nothing to {what}"),
            reason: record_view::why_nothing(folder),
            ..failure
        },
        ApplyError::CutShort(_) => {
            let give_up = format!("to give it up and keep what was done: airlock discard {short}");
            Failure { reason: format!("{}; {give_up}", failure.reason), ..failure }
        }
        _ => failure,
    }
}

/// The changes that can be shown, applied or discarded; `None` if there are none.
fn changes_of(folder: &SessionFolder) -> Result<Option<ChangeSet>, Failure> {
    let set = workspace::changes(folder).map_err(|error| unreadable(&error))?;
    Ok(set.filter(|set| !set.is_empty()))
}

fn find(store: &SessionStore, prefix: &str) -> Result<SessionFolder, Failure> {
    store.find(prefix).map_err(|error| {
        let failure = Failure::new(Exit::Usage, "which session", error.to_string());
        match &error {
            FindError::Ambiguous { sessions, .. } => {
                let some: Vec<&str> = sessions.iter().take(5).map(String::as_str).collect();
                failure.hint(format!("airlock show {}", some.first().copied().unwrap_or("SESSION")))
            }
            _ => failure.hint("airlock sessions"),
        }
    })
}

fn record(folder: &SessionFolder) -> Result<Record, Failure> {
    let found = folder.record().map_err(|error| unreadable(&error))?;
    found.ok_or_else(|| {
        Failure::new(Exit::Failed, "no record", "the session was killed before it began")
            .hint("airlock sessions")
    })
}

fn short(store: &SessionStore, folder: &SessionFolder) -> String {
    store.short(folder.id()).unwrap_or_else(|_| folder.id().to_owned())
}

fn unreadable(error: &std::io::Error) -> Failure {
    let reason = sanitize::line(&error.to_string());
    Failure::new(Exit::Failed, "the session's files cannot be used", reason)
}
