//! One run's record: a row of `airlock sessions`, all of it for `airlock show`, and the same as JSON.

use airlock_shared::job::Budget;
use airlock_shared::stream::Usage;
use serde::Serialize;

use crate::cli::progress;
use crate::cli::style::Style;
use crate::neutral;
use crate::records::Trigger;
use crate::session::public::{ChangesAre, ChangesEvent, Image, Limits, LoginEvent};
use crate::text::{self, COLUMNS};

/// What `airlock sessions --json` (one a line) and `airlock show --json` print. Like the events it
/// only grows under the same `v`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SessionView {
    pub v: u32,
    pub session: String,
    /// The shortest prefix that is this run's alone.
    #[serde(skip)]
    pub short: String,
    /// RFC 3339, UTC.
    pub started: String,
    /// `null` while it runs, and where its host died.
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
    /// Paths that stayed at home.
    pub left_out: u64,
    /// What commands left in a live tree that acts by itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<Trigger>,
    pub requests: u32,
    pub usage: Usage,
    /// Some of it is estimated by what passed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
    /// `running`, `finished`, `cancelled`, `budget`, `usage_limit`, `failed`, `lost` (its host
    /// died).
    pub outcome: String,
    /// One sentence where it did not finish.
    pub message: Option<String>,
    pub answer: Option<String>,
    pub exit: Option<u8>,
    pub changes_are: ChangesAre,
    pub changes: ChangesEvent,
    /// Where changes are lost, or not all of them came out: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes_note: Option<String>,
}

/// A view as one line of JSON, newline included.
#[must_use]
pub fn json(view: &SessionView) -> String {
    let mut line = neutral::json(serde_json::to_string(view).unwrap_or_default());
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
            let numbers_stand_right = column == 2 || column == 3;
            match numbers_stand_right {
                true => line.push_str(&format!("{gap}{cell}  ")),
                false => line.push_str(&format!("{cell}{gap}  ")),
            }
        }
        table.push_str(&text::cut(line.trim_end(), COLUMNS));
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
            name => text::cut(&neutral::line(name), 16),
        },
        text::cut(&neutral::line(&view.prompt), 60),
    ]
}

/// `airlock show RUN`.
#[must_use]
pub fn shown(view: &SessionView, style: Style) -> String {
    let mut shown = String::new();
    let mut say = |label: &str, said: &str| {
        shown.push_str(&progress::labelled(label, said, COLUMNS, style));
        shown.push('\n');
    };
    let clean = |text: &str| neutral::line(text);
    say("session", &view.session);
    let exit = view.exit.map(|exit| format!(" · exit {exit}")).unwrap_or_default();
    let message = view.message.as_ref().map(|message| format!(" · {}", clean(message)));
    say("outcome", &format!("{}{exit}{}", view.outcome, message.unwrap_or_default()));
    let most = text::time(view.budget.seconds.saturating_mul(1_000));
    say("time", &format!("{} · {} of {most}", view.started, text::time(view.ms)));
    say("asked", &text::cut(&clean(&view.prompt), 400));
    say("directory", &format!("{}{}", clean(&view.dir), if view.live { " (live)" } else { "" }));
    // A run that failed early has no payer, model or sandbox to show.
    let login = &view.login;
    if !login.name.is_empty() {
        let plan = login.plan.as_ref().map(|plan| format!(", plan {plan}")).unwrap_or_default();
        let paid = format!("{} ({}{plan}) · {}", login.name, login.kind, login.base);
        say("login", &clean(&paid));
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
            say("changes", "in the directory itself, which was live: there is nothing to apply");
            say("next", how_to_see_them(view));
        }
        ChangesAre::Discarded => say("changes", "discarded"),
        ChangesAre::Lost => {
            let why = view.changes_note.as_deref();
            let why = why.unwrap_or("the sandbox ended before they came out");
            say("changes", &format!("lost: {}", clean(why)));
        }
        ChangesAre::Applied | ChangesAre::Kept => {
            let stat = progress::stat(&view.changes, COLUMNS, style);
            let label = if stat.is_empty() { "changes" } else { "" };
            shown.push_str(&stat);
            let mut say = |label: &str, said: &str| {
                shown.push_str(&progress::labelled(label, said, COLUMNS, style));
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
        shown.push_str(&format!("\n{}\n", neutral::neutral(answer.trim_end())));
    }
    shown
}

/// Where the changes of a live run are seen.
// THREAT: the agent left a repository whose settings start a program, and we name the command that
// starts it. Tried by flow::live::git_is_named_only_where_it_runs_nothing_new.
fn how_to_see_them(view: &SessionView) -> &'static str {
    match view.triggers.is_empty() && view.exit.is_some() {
        true => "git status and git diff, in the directory, if it is a git repository",
        false => "look at the directory, without git: something there may run by itself",
    }
}

#[cfg(test)]
mod tests;
