//! What a caller reads while a run works (`--json`), and what progress is drawn from: one line an
//! event, the last one always `outcome`.
//!
//! ```text
//! {"v":1,"n":4,"session":"7c41…","at_ms":3120,"event":"call_ended","call_id":"c1","tool":"bash",
//!  "title":"ls -la","ok":true,"exit":0,"ms":104,"note":"","output":"total 8…","output_cut":false}
//! ```
//!
//! `v` is 1; `n` counts 1, 2, 3, … without gaps; `at_ms` is since the run began. New events and new
//! fields may be added under the same `v`: readers pass over what they do not know. Nothing is
//! renamed, removed, or changes its meaning.
//!
//! These types are not those of the link: what the sandbox says is hearsay, bounded here, and may
//! change with the protocol. Text is as the model or the sandbox wrote it, with what could steer a
//! terminal as JSON escapes.

mod ended; // the last line

use std::collections::BTreeMap;

use airlock_shared::event::{Event, PlanStep, StepStatus};
use airlock_shared::job::Budget;
use airlock_shared::stream::Usage;
use serde::{Deserialize, Serialize};

use crate::neutral;
use crate::records::Trigger;

pub use ended::{ChangesAre, OutcomeEvent};

/// Bytes of a call's output in an event; the model saw more, the run's record has all of it.
pub const OUTPUT_BYTES: usize = 4 << 10;
/// Bytes of a text of the model before its answer.
pub const TEXT_BYTES: usize = 64 << 10;
/// Bytes of a title, a note, a step of a plan.
pub const LINE_BYTES: usize = 2 << 10;
/// Entries of a list in an event: changed files, files left out, steps of a plan.
pub const LIST: usize = 200;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventLine {
    pub v: u32,
    pub n: u64,
    pub session: String,
    pub at_ms: u64,
    #[serde(flatten)]
    pub what: PublicEvent,
}

impl EventLine {
    #[must_use]
    pub fn new(n: u64, session: &str, at_ms: u64, what: PublicEvent) -> Self {
        Self { v: 1, n, session: session.to_owned(), at_ms, what }
    }

    /// The line as it is printed, newline included.
    #[must_use]
    pub fn json(&self) -> String {
        let mut line = neutral::json(serde_json::to_string(self).unwrap_or_default());
        line.push('\n');
        line
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum PublicEvent {
    /// The first line: who pays, for what, in which sandbox.
    Started(Started),
    /// The directory: what the sandbox gets of it.
    Workspace(Workspace),
    /// The sandbox is up and the directory is in it.
    SandboxUp {
        entries: u64,
        bytes: u64,
    },
    /// Instructions of the repository that were read.
    Docs {
        path: String,
        bytes: u64,
        cut: bool,
    },
    /// Something a person should know. `by`: whose word it is; what the sandbox says need not be
    /// true.
    Note {
        text: String,
        by: By,
    },
    /// A request to the model goes out.
    Request {
        request: u32,
    },
    /// It failed and will be tried again.
    Retry {
        attempt: u32,
        of: u32,
        wait_ms: u64,
        why: String,
    },
    /// What the model said before a call.
    Text {
        text: String,
        cut: bool,
    },
    CallStarted {
        call_id: String,
        tool: String,
        title: String,
    },
    CallEnded(CallEnded),
    /// The model's plan, whole, each time it changes.
    Plan {
        steps: Vec<Step>,
    },
    /// What one request used.
    Usage {
        usage: Usage,
    },
    /// The host refused something the sandbox asked for.
    Refused {
        what: String,
    },
    /// What the sandbox's copy of the directory now differs by. Nothing has been written.
    Changes(ChangesEvent),
    /// What commands left in a live tree that acts: git, an editor or a build would run it, or it
    /// runs as its owner. What only runs when its tool is started comes last. Compared by the host,
    /// after the sandbox was gone.
    Triggers {
        list: Vec<Trigger>,
        /// Beside those of the list.
        more: u64,
    },
    /// The last line.
    Outcome(OutcomeEvent),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    Host,
    Sandbox,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Started {
    pub login: LoginEvent,
    pub model: String,
    /// `null`: the model's own.
    pub effort: Option<String>,
    pub credentials: String,
    pub image: Image,
    /// `none`: commands have no network.
    pub network: String,
    pub live: bool,
    pub budget: Budget,
    pub limits: Limits,
    /// Protections that this run goes without, each a sentence.
    pub waivers: Vec<String>,
}

/// Who pays. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginEvent {
    /// The login's name; `key` for a key; `recording` for a replay.
    pub name: String,
    /// `api key`, `token file`, `replay`.
    pub kind: String,
    /// Of a ChatGPT login, where it is known: `plus`, `pro`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// The resolved base.
    pub base: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    pub name: String,
    /// Its digest, or its id where it never had one.
    pub digest: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    pub memory: u64,
    pub cpus: f64,
    pub pids: u32,
    pub disk: u64,
    /// `tmpfs` or `engine`.
    pub disk_on: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workspace {
    pub dir: String,
    pub files: u64,
    pub bytes: u64,
    /// Whether there is a git repository in it (its config and hooks stay out).
    pub git: bool,
    pub live: bool,
    /// Paths left out that a person may want to know of, the first 200.
    pub left_out: Vec<String>,
    /// How many there were.
    pub left_out_count: u64,
    /// The same by reason: `secret`, `excluded`, `unreadable`, `own`, `credential`,
    /// `history`.
    pub left_out_why: BTreeMap<String, LeftOutFor>,
    /// Fifos, sockets and devices passed over.
    pub special: u64,
}

/// What was left out for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOutFor {
    pub count: u64,
    /// Of the first 200 of all reasons those of this one.
    pub paths: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallEnded {
    pub call_id: String,
    pub tool: String,
    pub title: String,
    pub ok: bool,
    /// A command's exit code.
    pub exit: Option<i32>,
    pub ms: u64,
    pub note: String,
    /// Its first 4 KiB.
    pub output: String,
    pub output_cut: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub step: String,
    /// `pending`, `in_progress`, `completed`.
    pub status: StepStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangesEvent {
    pub files: u64,
    pub added: u64,
    pub removed: u64,
    /// The first 200, by path.
    pub list: Vec<Change>,
    /// How many `apply` would keep back.
    pub held: u64,
    /// All that `apply` would keep back, and why; of a folder that is kept back whole, the folder.
    pub held_list: Vec<Named>,
    /// All that runs once its tool is started, and how: it is applied.
    pub look_at: Vec<Named>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub path: String,
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub path: String,
    pub kind: ChangeKind,
    /// Lines; 0 for what is not text.
    pub added: u64,
    pub removed: u64,
    pub binary: bool,
    /// Its size now, where its lines would take too long to count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    Added,
    Modified,
    Deleted,
}

impl PublicEvent {
    /// What of the sandbox's word is shown, bounded. `None`: it is not for showing (items, a
    /// refused token), or the host says it itself (the outcome).
    #[must_use]
    pub fn of_hearsay(event: &Event) -> Option<Self> {
        let line = |text: &str| cut(text, LINE_BYTES).0;
        let public = match event {
            Event::Item { .. } | Event::Unauthorized | Event::Outcome { .. } => return None,
            Event::Up { entries, bytes } => Self::SandboxUp { entries: *entries, bytes: *bytes },
            Event::Docs { path, bytes, cut } => {
                Self::Docs { path: line(path), bytes: *bytes, cut: *cut }
            }
            Event::Request { n } => Self::Request { request: *n },
            Event::Retry { attempt, of, wait_ms, why } => {
                Self::Retry { attempt: *attempt, of: *of, wait_ms: *wait_ms, why: line(why) }
            }
            Event::Text { text } => {
                let (text, cut) = cut(text, TEXT_BYTES);
                Self::Text { text, cut }
            }
            Event::CallStarted { call_id, tool, title } => {
                Self::CallStarted { call_id: line(call_id), tool: line(tool), title: line(title) }
            }
            Event::CallEnded { call_id, tool, title, ok, exit, ms, note, output } => {
                let (output, output_cut) = cut(output, OUTPUT_BYTES);
                Self::CallEnded(CallEnded {
                    call_id: line(call_id),
                    tool: line(tool),
                    title: line(title),
                    ok: *ok,
                    exit: *exit,
                    ms: *ms,
                    note: line(note),
                    output,
                    output_cut,
                })
            }
            Event::Plan { steps } => Self::Plan {
                steps: steps
                    .iter()
                    .take(LIST)
                    .map(|PlanStep { step, status }| Step { step: line(step), status: *status })
                    .collect(),
            },
            Event::Usage { usage } => Self::Usage { usage: *usage },
            Event::Note { text } => Self::Note { text: line(text), by: By::Sandbox },
        };
        Some(public)
    }
}

/// The text in at most `bytes`, cut between characters, and whether it was cut.
#[must_use]
pub fn cut(text: &str, bytes: usize) -> (String, bool) {
    let end = text.floor_char_boundary(bytes);
    (text[..end].to_owned(), end < text.len())
}

#[cfg(test)]
mod tests;
