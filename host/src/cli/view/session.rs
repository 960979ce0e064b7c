//! One session's record: a row of `airlock sessions`, the output of `airlock show`, and JSON.

use airlock_shared::job::Budget;
use airlock_shared::stream::Usage;
use serde::Serialize;

use crate::cli::progress;
use crate::cli::style::Style;
use crate::records::Trigger;
use crate::sanitize;
use crate::session::public::{ChangesAre, ChangesEvent, Image, Limits, LoginEvent};
use crate::text::{self, COLUMNS};

/// The JSON of `airlock sessions --json` (one per line) and `airlock show --json`. As with events,
/// fields are only added under the same `v`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SessionView {
    pub v: u32,
    pub session: String,
    /// The shortest prefix of its id that no other session has.
    #[serde(skip)]
    pub short: String,
    /// RFC 3339, UTC.
    pub started: String,
    /// `null` while it runs, and if its airlock process died.
    pub ended: Option<String>,
    pub ms: u64,
    pub prompt: String,
    pub dir: String,
    pub login: LoginEvent,
    pub model: String,
    pub effort: Option<String>,
    pub credentials: String,
    pub image: Image,
    pub network: String,
    pub live: bool,
    pub budget: Budget,
    pub limits: Limits,
    pub waivers: Vec<String>,
    /// How many paths were left out.
    pub left_out: u64,
    /// Files in a live directory that may run by themselves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<Trigger>,
    pub requests: u32,
    pub usage: Usage,
    /// Some of the usage is an estimate from the traffic.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
    /// `running`, `finished`, `cancelled`, `budget`, `usage_limit`, `failed`, `lost` (its airlock
    /// process died).
    pub outcome: String,
    /// One sentence if it did not finish.
    pub message: Option<String>,
    pub answer: Option<String>,
    pub exit: Option<u8>,
    pub changes_are: ChangesAre,
    pub changes: ChangesEvent,
    /// Why changes are lost, or why some of them are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes_note: Option<String>,
}

/// A view as one line of JSON, with its newline.
#[must_use]
pub fn json(view: &SessionView) -> String {
    let mut line = sanitize::json(serde_json::to_string(view).unwrap_or_default());
    line.push('\n');
    line
}

/// `airlock sessions`.
#[must_use]
pub fn table(views: &[SessionView]) -> String {
    if views.is_empty() {
        return "no sessions yet\n".to_owned();
    }
    let heads = ["ID", "OUTCOME", "TIME", "REQS", "TOKENS (cached)", "LOGIN", "WHAT"];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(views.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| text::width(&row[column])).max().unwrap_or(0);
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let mut table = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let gap = " ".repeat(widths[column].saturating_sub(text::width(cell)));
            let is_number = column == 2 || column == 3;
            match is_number {
                true => line.push_str(&format!("{gap}{cell}  ")),
                false => line.push_str(&format!("{cell}{gap}  ")),
            }
        }
        table.push_str(&text::truncate(line.trim_end(), COLUMNS));
        table.push('\n');
    }
    table
}

fn row(view: &SessionView) -> [String; 7] {
    let total = view.usage.total();
    let tokens = match text::share(view.usage.cached, view.usage.input) {
        Some(share) => format!("{} ({share}%)", text::short_number(total)),
        None => "–".to_owned(),
    };
    [
        view.short.clone(),
        view.outcome.clone(),
        text::time(view.ms),
        view.requests.to_string(),
        tokens,
        match view.login.name.as_str() {
            "" => "–".to_owned(),
            name => text::truncate(&sanitize::line(name), 16),
        },
        text::truncate(&sanitize::line(&view.prompt), 60),
    ]
}

/// `airlock show SESSION`.
#[must_use]
pub fn shown(view: &SessionView, style: Style) -> String {
    let mut shown = String::new();
    let mut say = |label: &str, text: &str| {
        shown.push_str(&progress::labelled(label, text, COLUMNS, style));
        shown.push('\n');
    };
    let clean = |text: &str| sanitize::line(text);
    say("session", &view.session);
    let exit = view.exit.map(|exit| format!(" · exit {exit}")).unwrap_or_default();
    let message = view.message.as_ref().map(|message| format!(" · {}", clean(message)));
    say("outcome", &format!("{}{exit}{}", view.outcome, message.unwrap_or_default()));
    let most = text::time(view.budget.seconds.saturating_mul(1_000));
    say("time", &format!("{} · {} of {most}", view.started, text::time(view.ms)));
    say("prompt", &text::truncate(&clean(&view.prompt), 400));
    say("directory", &format!("{}{}", clean(&view.dir), if view.live { " (live)" } else { "" }));
    // A session that failed early has no login, model or image.
    let login = &view.login;
    if !login.name.is_empty() {
        let plan = login.plan.as_ref().map(|plan| format!(", plan {plan}")).unwrap_or_default();
        let text = format!("{} ({}{plan}) · {}", login.name, login.kind, login.base);
        say("login", &clean(&text));
    }
    if !view.model.is_empty() {
        let effort = view.effort.as_ref().map(|effort| format!(" {effort}")).unwrap_or_default();
        say("model", &clean(&format!("{}{effort} · credentials {}", view.model, view.credentials)));
    }
    if !view.image.name.is_empty() {
        say("image", &clean(&format!("{} · {}", view.image.name, view.image.digest)));
    }
    let limits = &view.limits;
    let limit = text::limit;
    say(
        "limits",
        &format!(
            "memory {} · cpus {} · pids {} · disk {} on {} · network {}",
            limit(limits.memory),
            limits.cpus,
            limits.pids,
            limit(limits.disk),
            limits.disk_on,
            view.network,
        ),
    );
    for waiver in &view.waivers {
        say("without", &clean(waiver));
    }
    for trigger in &view.triggers {
        say("look", &clean(&format!("{}: {}", trigger.path, trigger.what)));
    }
    if view.left_out > 0 {
        let paths = text::counted(view.left_out, "path");
        say("left out", &paths);
    }
    let (usage, budget) = (view.usage, view.budget);
    let cached = text::share(usage.cached, usage.input);
    say(
        "used",
        &format!(
            "{} of {} requests · {} of {} tokens: {} in{}, {} out{}",
            view.requests,
            budget.steps,
            text::thousands(usage.total()),
            text::thousands(budget.tokens),
            text::thousands(usage.input),
            cached.map(|share| format!(" ({share}% cached)")).unwrap_or_default(),
            text::thousands(usage.output),
            if view.estimated { " (estimated)" } else { "" },
        ),
    );
    match view.changes_are {
        ChangesAre::None => say("changes", "none"),
        ChangesAre::Live => {
            say("changes", "in the directory itself (--live): there is nothing to apply");
            say("next", how_to_see_them(view));
        }
        ChangesAre::Discarded => say("changes", "discarded"),
        ChangesAre::Lost => {
            let why = view.changes_note.as_deref();
            let why = why.unwrap_or("the sandbox ended before it sent them");
            say("changes", &format!("lost: {}", clean(why)));
        }
        ChangesAre::Applied | ChangesAre::Kept => {
            let stat = progress::stat(&view.changes, COLUMNS, style);
            let label = if stat.is_empty() { "changes" } else { "" };
            shown.push_str(&stat);
            let mut say = |label: &str, text: &str| {
                shown.push_str(&progress::labelled(label, text, COLUMNS, style));
                shown.push('\n');
            };
            if let Some(note) = &view.changes_note {
                say("note", &clean(note));
            }
            let short = &view.short;
            if view.changes_are == ChangesAre::Applied {
                say(label, "applied: they are in your directory");
            } else {
                let next = format!(
                    "airlock diff {short}    airlock apply {short}    airlock discard {short}"
                );
                shown.push_str(&format!("{}{next}\n", style.faint(&text::pad("next", 11))));
            }
        }
    }
    if let Some(answer) = &view.answer {
        shown.push_str(&format!("\n{}\n", sanitize::text(answer.trim_end())));
    }
    shown
}

/// How to see the changes in a live directory.
// THREAT: the agent left a repository whose settings start a program, and we suggest the command
// that starts it. Tried by flow::live::git_is_named_only_where_it_runs_nothing_new.
fn how_to_see_them(view: &SessionView) -> &'static str {
    match view.triggers.is_empty() && view.exit.is_some() {
        true => "git status and git diff, if the directory is a git repository",
        false => "look at the directory, but not with git: something there may run by itself",
    }
}

#[cfg(test)]
mod tests;
