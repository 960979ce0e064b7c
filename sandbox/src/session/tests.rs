//! Whole sessions in this process: against a backend on loopback, and against a host on a pipe.
//! Time is paused if waits matter.

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

/// A workspace that belongs to a user of this test alone, so that ending that user's processes does
/// not affect other tests.
struct WorkspaceFixture {
    dir: tempfile::TempDir,
    uid: u32,
}

impl WorkspaceFixture {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let uid = 1_300_000_000 + std::process::id() % 1_000_000 * 128;
        let uid = uid + NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = tempfile::tempdir().expect("a directory");
        std::os::unix::fs::chown(dir.path(), Some(uid), Some(uid)).expect("needs root");
        Self { dir, uid }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.uid)).expect("needs root");
    }

    /// Waits until a file exists.
    async fn wait_for(&self, name: &str) {
        for _ in 0..3_000 {
            if self.dir.path().join(name).exists() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{name} was not made");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).expect("there")
    }
}

/// A command of the model.
fn bash(id: &str, command: &str) -> Value {
    call(id, "bash", &json!({"command": command}).to_string())
}

struct TurnResult {
    outcome: Outcome,
    events: Vec<Value>,
    seen: Vec<RecordedRequest>,
}

fn job(base_url: &str, workspace: &WorkspaceFixture) -> Value {
    json!({
        "prompt": "what is here?",
        "model": {"resolved": {"slug": "gpt-test", "effort": "low", "parallel": true}},
        "backend": {"base_url": base_url, "session": "s-1"},
        "workspace": {"path": workspace.dir.path(), "uid": workspace.uid, "gid": workspace.uid},
    })
}

fn secrets() -> Secrets {
    Secrets { bearer: Some(Secret::new(TOKEN.into())), account_id: Some("acc-1".into()) }
}

/// One turn over the sandbox's own network, with the job changed by `adjust`.
async fn direct(backend: &Backend, adjust: impl FnOnce(&mut Value)) -> TurnResult {
    let workspace = WorkspaceFixture::new();
    let mut job = job(&format!("http://{}/v1", backend.authority), &workspace);
    adjust(&mut job);
    direct_in(backend, job, CancellationToken::new()).await
}

async fn direct_in(backend: &Backend, job: Value, cancel: CancellationToken) -> TurnResult {
    let job: Job = serde_json::from_value(job).expect("a job");
    let scrub = Scrub::default();
    let credentials = Credentials::new(secrets(), scrub.clone());
    let (report, lines) = Report::new(scrub.clone());
    let collecting = tokio::spawn(collect(lines));
    let deadline = Instant::now() + Duration::from_secs(job.budget.seconds);
    let session = Session { job, report, scrub, cancel, deadline, link: None };
    let outcome = session.work(CredentialsPlace::Direct, credentials).await;
    let events = collecting.await.expect("no panic");
    TurnResult { outcome, events, seen: backend.seen() }
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

impl TurnResult {
    fn events_named(&self, name: &str) -> Vec<&Value> {
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

/// `ExitCode` cannot be compared with `==`.
fn is_code(code: ExitCode, expected: u8) -> bool {
    format!("{code:?}") == format!("{:?}", ExitCode::from(expected))
}
