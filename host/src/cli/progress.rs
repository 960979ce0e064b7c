//! Progress: shows public events as lines for a person. Pure: an event in, text out; the time is the
//! event's own. All text from the model or the sandbox is sanitized.
//!
//! ```text
//! session 7c41  key · gpt-5.6-luna low · image airlock-base · no network · credentials relay
//!  0.4s  sandbox up
//!  3.1s  $ npm test                                                             1 · 4.2s
//! ```
//!
//! Deliberately absent: a spinner, cursor movement, anything that a log file cannot show.

mod labels; // how a login, an image and left out files are shown
mod title; // the title of a tool call

use airlock_shared::event::StepStatus;

use crate::cli::style::Style;
use crate::failure::SANDBOX_SAYS;
use crate::records::Trigger;
use crate::sanitize;
use crate::session::public::{
    By, CallEnded, Change, ChangeKind, ChangesAre, ChangesEvent, EventLine, OutcomeEvent,
    PublicEvent, Started, Workspace,
};
use crate::text::{self, COLUMNS};
use labels::{left_out_for, login, short_image};

/// The most files of a live directory that are named.
const TRIGGERS_SHOWN: usize = 10;
/// The width of `workspace  `, `note       ` and the like.
const LABEL: usize = 11;
/// The width of ` 3.1s  `.
const TIME: usize = 7;
/// The most changed files that are shown.
const CHANGES_SHOWN: usize = 20;

/// Draws the events of one turn.
#[derive(Debug)]
pub struct TurnProgress {
    columns: usize,
    style: Style,
    changes: Option<ChangesEvent>,
}

impl TurnProgress {
    /// `columns`: of the terminal, if there is one.
    #[must_use]
    pub fn new(columns: Option<usize>, style: Style) -> Self {
        let columns = columns.unwrap_or(COLUMNS).clamp(40, COLUMNS);
        Self { columns, style, changes: None }
    }

    /// The line for an event, with its newline; empty if the event is not shown.
    pub fn line(&mut self, line: &EventLine) -> String {
        let drawn = match &line.what {
            PublicEvent::Started(started) => self.started(&line.session, started),
            PublicEvent::Workspace(workspace) => self.workspace(workspace),
            PublicEvent::SandboxUp { .. } => self.timed(line.at_ms, "sandbox up", ""),
            PublicEvent::Docs { path, cut, .. } => {
                let path = text::truncate(&sanitize::line(path), 48);
                let cut = if *cut { " (only its beginning)" } else { "" };
                let text = format!(
                    "sandbox says: it read {path}{cut} as information, not as instructions to obey"
                );
                self.labelled("note", &text)
            }
            PublicEvent::Note { text, by: By::Host } => {
                self.labelled("note", &sanitize::line(text))
            }
            // THREAT: text from the sandbox looks like ours, and a person follows it. Tried by
            // cli::progress::tests::what_the_sandbox_says_is_marked.
            PublicEvent::Note { text, by: By::Sandbox } => {
                self.labelled("note", &format!("{SANDBOX_SAYS}{}", sanitize::quoted(text)))
            }
            PublicEvent::Retry { attempt, of, wait_ms, why } => {
                let wait = text::time(*wait_ms);
                let why = sanitize::line(why);
                let text = format!("sandbox says: retry {attempt} of {of} in {wait}: {why}");
                self.indented(&text, Style::faint)
            }
            PublicEvent::Text { text, .. } => {
                if sanitize::line(text).is_empty() {
                    return String::new();
                }
                self.timed(line.at_ms, &sanitize::quoted(text), "")
            }
            PublicEvent::CallEnded(call) => self.call(line.at_ms, call),
            PublicEvent::Plan { steps } => {
                let with_status = |wanted| steps.iter().filter(move |step| step.status == wanted);
                let done = with_status(StepStatus::Completed).count();
                let current = with_status(StepStatus::InProgress).next();
                let current = current.map(|step| format!(" · {}", sanitize::line(&step.step)));
                let text =
                    format!("plan {done} of {} done{}", steps.len(), current.unwrap_or_default());
                self.timed(line.at_ms, &text, "")
            }
            PublicEvent::Refused { what } => {
                self.indented(&format!("refused: {}", sanitize::line(what)), Style::bad)
            }
            PublicEvent::Changes(changes) => {
                self.changes = Some(changes.clone());
                return String::new();
            }
            PublicEvent::Triggers { list, more } => self.triggers(list, *more),
            PublicEvent::Outcome(ended) => self.ended(line.at_ms, ended),
            PublicEvent::Request { .. }
            | PublicEvent::CallStarted { .. }
            | PublicEvent::Usage { .. } => {
                return String::new();
            }
        };
        drawn + "\n"
    }

    fn started(&self, session: &str, started: &Started) -> String {
        let login = login(&started.login);
        let effort = started.effort.as_ref().map(|effort| format!(" {effort}"));
        let live = if started.live { " · live directory" } else { "" };
        let text = format!(
            "{login} · {}{} · image {} · {} · credentials {}{live}",
            started.model,
            effort.unwrap_or_default(),
            short_image(&started.image.name),
            if started.network == "none" { "no network" } else { &started.network },
            started.credentials,
        );
        let mut drawn = self.labelled(
            &format!("session {}", session.get(..4).unwrap_or(session)),
            &sanitize::line(&text),
        );
        for waiver in &started.waivers {
            drawn.push('\n');
            drawn.push_str(&self.labelled("without", &sanitize::line(waiver)));
        }
        drawn
    }

    fn workspace(&self, workspace: &Workspace) -> String {
        let files = text::counted(workspace.files, "file");
        let text = if workspace.live {
            "the directory itself; every .git that is now in it is read-only".to_owned()
        } else {
            let git = if workspace.git {
                " (with git history, without hooks and git config)"
            } else {
                ""
            };
            format!("{files}, {} copied in{git}", text::bytes(workspace.bytes))
        };
        let mut drawn = self.labelled("workspace", &text);
        for (why, left_out) in &workspace.left_out_why {
            drawn.push('\n');
            drawn.push_str(&self.labelled("left out", &left_out_for(why, left_out)));
        }
        if workspace.git && workspace.left_out_why.contains_key("secret") {
            let text = "if git tracks these secrets, they are in the copied history (to leave it \
                        out: --no-history)";
            drawn.push('\n');
            drawn.push_str(&self.labelled("note", text));
        }
        if workspace.special > 0 {
            let text =
                format!("{} (fifo, socket or device)", text::counted(workspace.special, "file"));
            drawn.push('\n');
            drawn.push_str(&self.labelled("left out", &text));
        }
        drawn
    }

    fn triggers(&self, list: &[Trigger], more: u64) -> String {
        let shown = list.len().min(TRIGGERS_SHOWN);
        let lines = list[..shown].iter().map(|trigger| {
            self.labelled("look", &sanitize::line(&format!("{}: {}", trigger.path, trigger.what)))
        });
        let mut lines: Vec<String> = lines.collect();
        let more = more + (list.len() - shown) as u64;
        if more > 0 {
            lines.push(
                self.labelled("look", &format!("and {more} more: airlock show SESSION --json")),
            );
        }
        let advice = "these files are in your directory and may run by themselves or when their tool \
                      starts: before you run git or anything else there, read them (cat -v FILE), \
                      and remove or restore what you do not want";
        lines.push(self.labelled("careful", advice));
        lines.join("\n")
    }

    fn call(&self, at_ms: u64, call: &CallEnded) -> String {
        let note = sanitize::line(&call.note);
        let mut title = title::of_call(&call.tool, &call.title);
        let took = text::time(call.ms);
        let right = match (call.exit, note.as_str(), call.ok) {
            (Some(exit), "", _) => format!("{exit} · {took}"),
            (Some(exit), note, _) => format!("{} · {exit} · {took}", text::truncate(note, 30)),
            (None, "", true) => String::new(),
            (None, "", false) => format!("failed · {took}"),
            (None, note, ok) => {
                let room = self.columns.saturating_sub(TIME + if ok { 0 } else { 10 });
                let note = text::truncate(note, room / 2);
                title = text::truncate(&title, room.saturating_sub(text::width(&note) + 2));
                title = format!("{title}  {note}");
                if ok { String::new() } else { "failed".to_owned() }
            }
        };
        let started = at_ms.saturating_sub(call.ms);
        if call.ok && call.exit.is_none_or(|exit| exit == 0) {
            self.timed(started, &title, &right)
        } else {
            self.timed_bad(started, &title, &right)
        }
    }

    fn ended(&self, at_ms: u64, ended: &OutcomeEvent) -> String {
        let word = match (ended.outcome.as_str(), ended.reason.as_deref()) {
            ("finished", _) => self.style.good("done"),
            (_, Some("cancelled")) => "cancelled".to_owned(),
            (_, Some("budget")) => "budget spent".to_owned(),
            (_, Some("usage_limit")) => "usage limit".to_owned(),
            _ => self.style.bad("failed"),
        };
        let usage = ended.usage;
        let cached = text::share(usage.cached, usage.input);
        let cached = cached.map(|share| format!(" ({share}% cached)")).unwrap_or_default();
        let requests = text::counted(u64::from(ended.requests), "request");
        let figures = format!(
            "{requests} · {} in{cached} · {} out{}",
            text::thousands(usage.input),
            text::thousands(usage.output),
            if ended.estimated { " (estimated)" } else { "" },
        );
        format!("{}{word} · {figures}", self.clock(at_ms))
    }

    /// The changes, without the next commands.
    #[must_use]
    pub fn what_changed(&self) -> String {
        let changes = self.changes.as_ref();
        changes.map(|changes| stat(changes, self.columns, self.style)).unwrap_or_default()
    }

    /// The text after the answer: the changes and the next commands. Empty if no changes wait.
    #[must_use]
    pub fn after_the_answer(&self, short: &str, changes_are: ChangesAre) -> String {
        match (changes_are, &self.changes) {
            (ChangesAre::Kept, Some(changes)) => {
                let mut drawn = stat(changes, self.columns, self.style);
                drawn.push_str(&self.labelled("", "nothing is written to your directory yet"));
                drawn.push('\n');
                let next = format!(
                    "airlock diff {short}    airlock apply {short}    airlock discard {short}"
                );
                drawn.push_str(&format!("{}{next}\n", text::pad("next", LABEL)));
                drawn
            }
            (ChangesAre::Live, _) => {
                let text = format!("in the directory itself (--live): airlock show {short}");
                format!("{}\n", self.labelled("changes", &text))
            }
            (ChangesAre::Lost, _) => {
                let text = "lost: the sandbox ended before it sent them";
                format!("{}\n", self.labelled("changes", text))
            }
            _ => String::new(),
        }
    }

    fn clock(&self, at_ms: u64) -> String {
        self.style.faint(&format!("{:>5}  ", text::time(at_ms)))
    }

    fn columns_of(&self, title: &str, right: &str) -> (String, String) {
        let room = self.columns.saturating_sub(TIME);
        let right = text::truncate(right, room / 2);
        if right.is_empty() {
            return (text::truncate(title, room), right);
        }
        let room = room.saturating_sub(text::width(&right) + 2);
        (text::pad(&text::truncate(title, room), room + 2), right)
    }

    fn timed(&self, at_ms: u64, title: &str, right: &str) -> String {
        let (title, right) = self.columns_of(title, right);
        format!("{}{title}{}", self.clock(at_ms), self.style.faint(&right))
    }

    fn timed_bad(&self, at_ms: u64, title: &str, right: &str) -> String {
        let (title, right) = self.columns_of(title, right);
        format!("{}{title}{}", self.clock(at_ms), self.style.bad(&right))
    }

    fn indented(&self, text: &str, paint: fn(Style, &str) -> String) -> String {
        let shown = text::truncate(text, self.columns.saturating_sub(TIME));
        format!("{}{}", " ".repeat(TIME), paint(self.style, &shown))
    }

    fn labelled(&self, label: &str, text: &str) -> String {
        labelled(label, text, self.columns, self.style)
    }
}

/// `workspace  412 files, …`, with further lines indented.
#[must_use]
pub fn labelled(label: &str, message: &str, columns: usize, style: Style) -> String {
    let width = LABEL.max(text::width(label) + 2);
    let indent = " ".repeat(width);
    let wrapped = text::wrap(message, columns.saturating_sub(width), "");
    let lines = wrapped.replace('\n', &format!("\n{indent}"));
    format!("{}{lines}", style.faint(&text::pad(label, width)))
}

/// `changes    src/pad.js | 4 +++-`: a line for each file, then the sum if there are several.
#[must_use]
pub fn stat(changes: &ChangesEvent, columns: usize, style: Style) -> String {
    let shown: Vec<(String, &Change)> = changes
        .list
        .iter()
        .take(CHANGES_SHOWN)
        .map(|change| (text::truncate(&sanitize::line(&change.path), 48), change))
        .collect();
    let widest = shown.iter().map(|(path, _)| text::width(path)).max().unwrap_or(0);
    let most = shown.iter().map(|(_, change)| change.added + change.removed).max().unwrap_or(0);
    let bar = columns.saturating_sub(LABEL + widest + 12).min(24) as u64;
    let mut drawn = String::new();
    for (at, (path, change)) in shown.iter().enumerate() {
        let label = if at == 0 { "changes" } else { "" };
        let lines = change.added.saturating_add(change.removed);
        let scale = |part: u64| {
            let scaled = if most <= bar { part } else { (part * bar).div_ceil(most.max(1)) };
            usize::try_from(scaled).unwrap_or(0)
        };
        let kind = match change.kind {
            ChangeKind::Added => " new",
            ChangeKind::Modified => "",
            ChangeKind::Deleted => " deleted",
        };
        let size = if let Some(bytes) = change.bytes {
            format!("changed, {}", text::bytes(bytes))
        } else if change.binary {
            "binary".to_owned()
        } else {
            let plus = style.good(&"+".repeat(scale(change.added)));
            let minus = style.bad(&"-".repeat(scale(change.removed)));
            format!("{lines} {plus}{minus}")
        };
        let row = format!("{} | {}{kind}", text::pad(path, widest), size.trim_end());
        drawn.push_str(&style.faint(&text::pad(label, LABEL)));
        drawn.push_str(&row);
        drawn.push('\n');
    }
    if shown.is_empty() && changes.files > 0 {
        let files = text::counted(changes.files, "file");
        drawn.push_str(&labelled("changes", &files, columns, style));
        drawn.push('\n');
    } else if changes.files > 1 || changes.held > 0 {
        let held = match changes.held {
            0 => String::new(),
            held => format!(" · {held} more held by apply (--held)"),
        };
        let files = text::counted(changes.files, "file");
        let sum = format!("{files}, +{} −{}{held}", changes.added, changes.removed);
        let label = if shown.is_empty() { "changes" } else { "" };
        drawn.push_str(&labelled(label, &sum, columns, style));
        drawn.push('\n');
    }
    drawn
}

#[cfg(test)]
mod tests;
