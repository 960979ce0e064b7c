//! Whole runs in this process: against a backend on loopback, and against a host on a pipe. Time is
//! paused where waits matter.

use std::sync::atomic::{AtomicU32, Ordering};

use airlock_shared::base::Base;
use airlock_shared::handoff::Secrets;
use airlock_shared::job::Job;
use airlock_shared::link as routes;
use airlock_shared::model::Model;
use airlock_shared::outcome::Spent;
use airlock_shared::request::Prompt;
use airlock_shared::secret::Secret;
use serde_json::{Value, json};
use tokio::sync::mpsc;

mod alone; // over the sandbox's own network
mod linked; // with a host on a pipe
mod request; // one request, time paused

use super::*;
use crate::responses::{Client, Connector, GiveUp, ModelRoute, Network};
use crate::scripted::backend::{
    Backend, RecordedRequest, ScriptedReply, answer, asks, call, completed, done, text,
};
use crate::scripted::host::{Host, KEY, Relayed};

const TOKEN: &str = "sk-test-0123456789abcdef";

/// A work tree that belongs to a user of this test alone: ending that user's processes ends nobody
/// else's.
struct DocsFixture {
    folder: tempfile::TempDir,
    uid: u32,
}

impl DocsFixture {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let uid = 1_300_000_000 + std::process::id() % 1_000_000 * 128;
        let uid = uid + NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::chown(folder.path(), Some(uid), Some(uid)).expect("needs root");
        Self { folder, uid }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.uid)).expect("needs root");
    }

    /// Waits for a file.
    async fn holds(&self, name: &str) {
        for _ in 0..3_000 {
            if self.folder.path().join(name).exists() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no {name} is made");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).expect("there")
    }
}

/// A command of the model.
fn bash(id: &str, command: &str) -> Value {
    call(id, "bash", &json!({"command": command}).to_string())
}

struct Run {
    outcome: Outcome,
    events: Vec<Value>,
    seen: Vec<RecordedRequest>,
}

fn job(base_url: &str, tree: &DocsFixture) -> Value {
    json!({
        "prompt": "what is here?",
        "model": {"resolved": {"slug": "gpt-test", "effort": "low", "parallel": true}},
        "backend": {"base_url": base_url, "session": "s-1"},
        "workspace": {"path": tree.folder.path(), "uid": tree.uid, "gid": tree.uid},
    })
}

fn secrets() -> Secrets {
    Secrets { bearer: Some(Secret::new(TOKEN.into())), account_id: Some("acc-1".into()) }
}

/// One run over the sandbox's own network, with the job changed by `adjust`.
async fn direct(backend: &Backend, adjust: impl FnOnce(&mut Value)) -> Run {
    let tree = DocsFixture::new();
    let mut job = job(&format!("http://{}/v1", backend.authority), &tree);
    adjust(&mut job);
    direct_in(backend, job, CancellationToken::new()).await
}

async fn direct_in(backend: &Backend, job: Value, cancel: CancellationToken) -> Run {
    let job: Job = serde_json::from_value(job).expect("a job");
    let scrub = Scrub::default();
    let credentials = Credentials::new(secrets(), scrub.clone());
    let (report, lines) = Report::new(scrub.clone());
    let collecting = tokio::spawn(collect(lines));
    let deadline = Instant::now() + Duration::from_secs(job.budget.seconds);
    let session = Session { job, report, scrub, cancel, deadline, link: None };
    let outcome = session.work(CredentialsPlace::Direct, credentials).await;
    let events = collecting.await.expect("no panic");
    Run { outcome, events, seen: backend.seen() }
}

async fn collect(mut lines: mpsc::Receiver<bytes::Bytes>) -> Vec<Value> {
    let mut events = Vec::new();
    while let Some(line) = lines.recv().await {
        events.push(serde_json::from_slice(&line).expect("JSON"));
    }
    events
}

fn finished(answer: &str) -> Outcome {
    Outcome::Finished { answer: answer.into() }
}

fn budget(spent: Spent, answer: Option<&str>) -> Outcome {
    Outcome::Stopped { reason: Stop::Budget { spent }, answer: answer.map(str::to_owned) }
}

impl Run {
    fn named(&self, name: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["event"] == name).collect()
    }

    fn fault(&self) -> (FaultKind, &str) {
        match &self.outcome {
            Outcome::Failed { fault } => (fault.kind, &fault.message),
            other => panic!("no fault: {other:?}"),
        }
    }

    /// The outputs in the input of request `n`, as `id=output`.
    fn outputs(&self, n: usize) -> Vec<String> {
        let input = self.seen[n].body["input"].as_array().expect("input");
        let outputs = input.iter().filter(|item| item["type"] == "function_call_output");
        outputs
            .map(|item| {
                let text = |name: &str| item[name].as_str().expect("text").to_owned();
                format!("{}={}", text("call_id"), text("output"))
            })
            .collect()
    }
}

/// `ExitCode` has no comparison of its own.
fn same(code: ExitCode, expected: u8) -> bool {
    format!("{code:?}") == format!("{:?}", ExitCode::from(expected))
}
