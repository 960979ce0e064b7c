//! One run's record: a row of `airlock runs`, all of it for `airlock show`, and the same as JSON.

use airlock_shared::job::Budget;
use airlock_shared::stream::Usage;
use serde::Serialize;

use crate::cli::progress;
use crate::cli::style::Style;
use crate::neutral;
use crate::run::public::{Changes, ChangesAre, Image, Limits, Payer};
use crate::session::Trigger;
use crate::text::{self, COLUMNS};

/// What `airlock runs --json` (one a line) and `airlock show --json` print. Like the events it
/// only grows under the same `v`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunView {
    pub v: u32,
    pub run: String,
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
    pub payer: Payer,
    pub model: String,
    pub effort: Option<String>,
    pub custody: String,
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
    pub changes: Changes,
    /// Where changes are lost, or not all of them came out: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes_note: Option<String>,
}

/// A view as one line of JSON, newline included.
#[must_use]
pub fn json(view: &RunView) -> String {
    let mut line = neutral::json(serde_json::to_string(view).unwrap_or_default());
    line.push('\n');
    line
}

/// `airlock runs`.
#[must_use]
pub fn table(views: &[RunView]) -> String {
    if views.is_empty() {
        return "no runs yet\n".to_owned();
    }
    let heads = ["RUN", "OUTCOME", "TIME", "STEPS", "TOKENS (cached)", "PAID BY", "WHAT"];
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

fn row(view: &RunView) -> [String; 7] {
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
        text::cut(&neutral::line(&view.payer.name), 16),
        text::cut(&neutral::line(&view.prompt), 60),
    ]
}

/// `airlock show RUN`.
#[must_use]
pub fn shown(view: &RunView, style: Style) -> String {
    let mut shown = String::new();
    let mut say = |label: &str, said: &str| {
        shown.push_str(&progress::labelled(label, said, COLUMNS, style));
        shown.push('\n');
    };
    let clean = |text: &str| neutral::line(text);
    say("run", &view.run);
    let exit = view.exit.map(|exit| format!(" · exit {exit}")).unwrap_or_default();
    let message = view.message.as_ref().map(|message| format!(" · {}", clean(message)));
    say("outcome", &format!("{}{exit}{}", view.outcome, message.unwrap_or_default()));
    let most = text::time(view.budget.seconds.saturating_mul(1_000));
    say("time", &format!("{} · {} of {most}", view.started, text::time(view.ms)));
    say("asked", &text::cut(&clean(&view.prompt), 400));
    say("directory", &format!("{}{}", clean(&view.dir), if view.live { " (live)" } else { "" }));
    let payer = &view.payer;
    let plan = payer.plan.as_ref().map(|plan| format!(", plan {plan}")).unwrap_or_default();
    say("paid by", &clean(&format!("{} ({}{plan}) · {}", payer.name, payer.kind, payer.base)));
    let effort = view.effort.as_ref().map(|effort| format!(" {effort}")).unwrap_or_default();
    say("model", &clean(&format!("{}{effort} · credentials {}", view.model, view.custody)));
    say("box", &clean(&format!("{} · {}", view.image.name, view.image.digest)));
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
        ChangesAre::Discarded => say("changes", "discarded"),
        ChangesAre::Lost => {
            let why = view.changes_note.as_deref();
            let why = why.unwrap_or("the box ended before they came out");
            say("changes", &format!("lost: {}", clean(why)));
        }
        ChangesAre::Applied | ChangesAre::Kept => {
            let applied = view.changes_are == ChangesAre::Applied;
            shown.push_str(&progress::stat(&view.changes, COLUMNS, style));
            if let Some(note) = &view.changes_note {
                let note = progress::labelled("note", &clean(note), COLUMNS, style);
                shown.push_str(&format!("{note}\n"));
            }
            let short = &view.short;
            let next = if applied {
                "in your directory".to_owned()
            } else {
                format!("airlock diff {short}    airlock apply {short}    airlock discard {short}")
            };
            let label = if applied { "" } else { "next" };
            shown.push_str(&format!("{}{next}\n", style.faint(&text::pad(label, 11))));
        }
    }
    if let Some(answer) = &view.answer {
        shown.push_str(&format!("\n{}\n", neutral::neutral(answer.trim_end())));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::public::{Change, ChangeKind};

    fn view() -> RunView {
        RunView {
            v: 1,
            run: "7c41".repeat(8),
            short: "7c41".into(),
            started: "2026-11-21T09:14:00Z".into(),
            ended: Some("2026-11-21T09:14:22Z".into()),
            ms: 22_300,
            prompt: "make the tests pass;\nsay what was wrong\u{1b}[2J".into(),
            dir: "/home/ada/src/left-pad-ng".into(),
            payer: Payer {
                name: "key".into(),
                kind: "api key".into(),
                plan: None,
                base: "https://api.openai.com/v1".into(),
            },
            model: "gpt-5.6-luna".into(),
            effort: Some("low".into()),
            custody: "relay".into(),
            image: Image { name: "airlock-base:6f1c02".into(), digest: "sha256:6f1c".into() },
            network: "none".into(),
            live: false,
            budget: Budget::default(),
            limits: Limits {
                memory: 2 << 30,
                cpus: 2.0,
                pids: 512,
                disk: 2 << 30,
                disk_on: "tmpfs".into(),
            },
            waivers: vec![],
            triggers: vec![],
            left_out: 1,
            requests: 6,
            estimated: false,
            usage: Usage { input: 41_210, cached: 36_300, output: 1_034, reasoning: 0 },
            outcome: "finished".into(),
            message: None,
            answer: Some("The failing case was `pad(\"\", 3)`.\n".into()),
            exit: Some(0),
            changes_are: ChangesAre::Kept,
            changes: Changes {
                files: 1,
                added: 3,
                removed: 1,
                list: vec![Change {
                    path: "src/pad.js".into(),
                    kind: ChangeKind::Modified,
                    added: 3,
                    removed: 1,
                    binary: false,
                    bytes: None,
                }],
                ..Changes::default()
            },
            changes_note: None,
        }
    }

    #[test]
    fn the_table() {
        let limit = RunView {
            short: "7e13".into(),
            outcome: "usage_limit".into(),
            ms: 131_000,
            requests: 0,
            usage: Usage::default(),
            payer: Payer { name: "ops".into(), ..view().payer },
            prompt: "x".repeat(200),
            ..view()
        };
        let expected = "\
RUN   OUTCOME       TIME  STEPS  TOKENS (cached)  PAID BY  WHAT
7c41  finished     22.3s      6  42.2k (88%)      key      make the tests pass; say what was wr…
7e13  usage_limit  2m11s      0  –                ops      xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…
";
        let table = table(&[view(), limit]);
        assert_eq!(table.lines().next(), expected.lines().next());
        assert!(table.lines().all(|line| text::width(line) <= COLUMNS), "{table}");
        assert!(!table.chars().any(neutral::steers));
        assert!(table.contains("42.2k (88%)"), "{table}");
        assert_eq!(super::table(&[]), "no runs yet\n");
    }

    #[test]
    fn all_of_a_record() {
        let expected = "\
run        7c417c417c417c417c417c417c417c41
outcome    finished · exit 0
time       2026-11-21T09:14:00Z · 22.3s of 1h00m
asked      make the tests pass; say what was wrong␛[2J
directory  /home/ada/src/left-pad-ng
paid by    key (api key) · https://api.openai.com/v1
model      gpt-5.6-luna low · credentials relay
box        airlock-base:6f1c02 · sha256:6f1c
limits     memory 2 GiB · cpus 2 · pids 512 · disk 2 GiB on tmpfs · network none
left out   1 path
used       6 of 100 requests · 42,244 of 4,000,000 tokens: 41,210 in (88% cached), 1,034 out
changes    src/pad.js | 4 +++-
next       airlock diff 7c41    airlock apply 7c41    airlock discard 7c41

The failing case was `pad(\"\", 3)`.
";
        assert_eq!(shown(&view(), Style::default()), expected);
    }

    #[test]
    fn the_json_has_no_short_and_no_newline_inside() {
        let line = json(&view());
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value.get("short"), None);
        assert_eq!(value["changes_are"], "kept");
        assert_eq!(value["changes"]["list"][0]["kind"], "modified");
    }
}
