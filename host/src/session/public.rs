//! The events that a caller reads (`--json`) and that progress is made from: one line for each
//! event. The last one is always `outcome`.
//!
//! ```text
//! {"v":1,"n":4,"session":"7c41…","at_ms":3120,"event":"call_ended","call_id":"c1","tool":"bash",
//!  "title":"ls -la","ok":true,"exit":0,"ms":104,"note":"","output":"total 8…","output_cut":false}
//! ```
//!
//! `v` is 1; `n` counts 1, 2, 3, … without gaps; `at_ms` counts from the start of the session. New
//! events and fields may be added under the same `v`; readers ignore what they do not know. Nothing
//! is renamed or removed, and no meaning changes.
//!
//! These types are not those of the link. What the sandbox says is hearsay, is limited in size here,
//! and may change with the protocol. Text is as the model or the sandbox wrote it, with unsafe
//! characters as JSON escapes.

mod ended; // the last line

use std::collections::BTreeMap;

use airlock_shared::event::{Event, PlanStep, StepStatus};
use airlock_shared::job::Budget;
use airlock_shared::stream::Usage;
use serde::{Deserialize, Serialize};

use crate::records::Trigger;
use crate::sanitize;

pub use ended::{ChangesAre, OutcomeEvent};

/// Bytes of a call's output in an event; the model saw more.
pub const OUTPUT_BYTES: usize = 4 << 10;
/// Bytes of a text that the model wrote before its answer.
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
        let mut line = sanitize::json(serde_json::to_string(self).unwrap_or_default());
        line.push('\n');
        line
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum PublicEvent {
    /// The first line: the login, the model and the sandbox.
    Started(Started),
    /// What the sandbox gets of the directory.
    Workspace(Workspace),
    /// The sandbox is up and the directory is in it.
    SandboxUp {
        entries: u64,
        bytes: u64,
    },
    /// Instructions in the repository that the sandbox read.
    Docs {
        path: String,
        bytes: u64,
        cut: bool,
    },
    /// Something a person should know. `by`: who says it; what the sandbox says may be false.
    Note {
        text: String,
        by: By,
    },
    /// A request to the model goes out.
    Request {
        request: u32,
    },
    /// A request failed and is tried again.
    Retry {
        attempt: u32,
        of: u32,
        wait_ms: u64,
        why: String,
    },
    /// What the model wrote before a call.
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
    /// The model's whole plan, each time it changes.
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
    /// The changes in the sandbox's copy of the directory. Nothing was written to the directory.
    Changes(ChangesEvent),
    /// Files that commands left in a live directory and that may run: by git, an editor or a build,
    /// or with the rights of their owner. Files that run only when their tool is started come last.
    /// The host compares after the sandbox is gone.
    Triggers {
        list: Vec<Trigger>,
        /// How many are not in the list.
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
    /// Protections that this session does not have, each as a sentence.
    pub waivers: Vec<String>,
}

/// The login that is used. It has no secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginEvent {
    /// The login's name; `key` for a key; `recording` for a replay.
    pub name: String,
    /// `api key`, `token file`, `replay`.
    pub kind: String,
    /// Of a ChatGPT login, if it is known: `plus`, `pro`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// The resolved base URL.
    pub base: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    pub name: String,
    /// Its digest, or its id if it has no digest.
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
    /// Whether it has a git repository (its config and hooks are left out).
    pub git: bool,
    pub live: bool,
    /// The first 200 paths that were left out.
    pub left_out: Vec<String>,
    /// How many were left out.
    pub left_out_count: u64,
    /// The same for each reason: `secret`, `excluded`, `unreadable`, `own`, `credential`,
    /// `history`.
    pub left_out_why: BTreeMap<String, LeftOutFor>,
    /// Fifos, sockets and devices, which are not copied.
    pub special: u64,
}

/// What was left out for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOutFor {
    pub count: u64,
    /// Those of the first 200 paths that have this reason.
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
    /// How many changes `apply` holds.
    pub held: u64,
    /// All that `apply` holds, and why. If a whole directory is held, only the directory.
    pub held_list: Vec<Named>,
    /// All that is applied and runs when its tool is started, and how.
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
    /// Lines; 0 if it is not text.
    pub added: u64,
    pub removed: u64,
    pub binary: bool,
    /// Its new size, if counting its lines would take too long.
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
    /// An event of the sandbox as it is shown, limited in size. `None`: it is not shown (items, a
    /// refused token), or the host reports it itself (the outcome).
    #[must_use]
    pub fn of_hearsay(event: &Event) -> Option<Self> {
        let line = |text: &str| truncate(text, LINE_BYTES).0;
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
                let (text, cut) = truncate(text, TEXT_BYTES);
                Self::Text { text, cut }
            }
            Event::CallStarted { call_id, tool, title } => {
                Self::CallStarted { call_id: line(call_id), tool: line(tool), title: line(title) }
            }
            Event::CallEnded { call_id, tool, title, ok, exit, ms, note, output } => {
                let (output, output_cut) = truncate(output, OUTPUT_BYTES);
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

/// The text in at most `bytes`, cut between characters, and whether it was truncated.
#[must_use]
pub fn truncate(text: &str, bytes: usize) -> (String, bool) {
    let end = text.floor_char_boundary(bytes);
    (text[..end].to_owned(), end < text.len())
}

#[cfg(test)]
mod tests;
