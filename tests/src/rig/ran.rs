//! A run that is over: what it said, and what it left.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::Rig;
use super::process::PATIENCE;
use crate::backend::Backend;
use crate::clock;
use crate::engine::Engine;

pub struct Ran {
    /// `None` where a signal ended it.
    pub exit: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub rig: Rig,
    pub engine: Engine,
    pub backend: Arc<Backend>,
}

impl Ran {
    /// The public events, in order; none where it ran in words.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// All events of one name.
    #[must_use]
    pub fn events_named(&self, name: &str) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["event"] == name).collect()
    }

    /// The last event, which is the outcome; null where it ran in words.
    #[must_use]
    pub fn outcome(&self) -> Value {
        self.events().pop().unwrap_or(Value::Null)
    }

    /// The run's id.
    ///
    /// # Panics
    /// When no event names it.
    #[must_use]
    #[track_caller]
    pub fn id(&self) -> String {
        let id = self.outcome()["session"].as_str().map(str::to_owned);
        id.unwrap_or_else(|| panic!("no event names the run{}", self.told()))
    }

    /// The answer: of the outcome, or what stands on stdout.
    #[must_use]
    pub fn answer(&self) -> String {
        match self.outcome().get("answer").and_then(Value::as_str) {
            Some(answer) => answer.to_owned(),
            None if self.outcome().is_null() => self.stdout.trim_end_matches('\n').to_owned(),
            None => String::new(),
        }
    }

    /// Finished, with this answer; the backend had nothing to complain about and nothing left.
    ///
    /// # Panics
    /// When it was otherwise.
    #[track_caller]
    pub fn assert_finished(self, answer: &str) -> Self {
        assert_eq!(self.exit, Some(0), "exit{}", self.told());
        assert_eq!(self.answer(), answer, "answer{}", self.told());
        if !self.outcome().is_null() {
            assert_eq!(self.outcome()["outcome"], "finished", "outcome{}", self.told());
        }
        assert_eq!(self.backend.left_over(), 0, "steps nobody asked for{}", self.told());
        self.assert_no_complaints()
    }

    /// Ended with this exit code, and said this on stderr.
    ///
    /// # Panics
    /// When it was otherwise.
    #[track_caller]
    pub fn assert_exit(self, exit: i32, says: &str) -> Self {
        assert_eq!(self.exit, Some(exit), "exit{}", self.told());
        assert!(self.stderr.contains(says), "stderr does not say {says:?}{}", self.told());
        self
    }

    /// # Panics
    /// When the backend saw something that the real one lets pass and we do not.
    #[track_caller]
    pub fn assert_no_complaints(self) -> Self {
        let none: [String; 0] = [];
        assert_eq!(self.backend.complaints(), none, "complaints of the backend{}", self.told());
        self
    }

    /// What the tool calls answered, in order, as the model was told in its last request.
    #[must_use]
    pub fn outputs(&self) -> Vec<String> {
        let last = self.backend.model_requests().pop();
        last.map(|request| request.outputs())
            .unwrap_or_default()
            .into_iter()
            .map(|(_, text)| text)
            .collect()
    }

    /// No container and no volume of this install is left, but the one volume that holds the
    /// sandbox's binary; no process with this home.
    ///
    /// # Panics
    /// When something is.
    pub async fn assert_nothing_left_behind(self) -> Self {
        let deadline = clock::now() + PATIENCE;
        loop {
            let containers = Self::containers_of(&self.rig, &self.engine).await;
            let volumes = Self::volumes_of(&self.rig, &self.engine).await;
            let processes = Self::processes_of(&self.rig);
            if containers.is_empty() && volumes.len() <= 1 && processes.is_empty() {
                return self;
            }
            assert!(
                clock::now() < deadline,
                "left behind: containers {containers:?}, volumes {volumes:?}, processes {processes:?}{}",
                self.told()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(super) async fn containers_of(rig: &Rig, engine: &Engine) -> Vec<String> {
        Self::containers_with(engine, &installs(rig)).await
    }

    /// Those that have one of these ids among their labels.
    pub(super) async fn containers_with(engine: &Engine, ids: &[String]) -> Vec<String> {
        let ours = |container: &Value| labelled(container, ids);
        let id = |container: &Value| container["Id"].as_str().map(str::to_owned);
        engine.containers().await.iter().filter(|c| ours(c)).filter_map(id).collect()
    }

    async fn volumes_of(rig: &Rig, engine: &Engine) -> Vec<String> {
        let installs = installs(rig);
        let ours = |volume: &Value| labelled(volume, &installs);
        let name = |volume: &Value| volume["Name"].as_str().map(str::to_owned);
        engine.volumes().await.iter().filter(|v| ours(v)).filter_map(name).collect()
    }

    fn processes_of(rig: &Rig) -> Vec<PathBuf> {
        let home = format!("HOME={}", rig.home().display());
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            if environ.split(|byte| *byte == 0).any(|variable| variable == home.as_bytes()) {
                found.push(entry.path());
            }
        }
        found
    }

    fn told(&self) -> String {
        let complaints = self.backend.complaints();
        let requests = self.backend.requests();
        let answered = requests.iter().map(|r| format!("{} {} {}", r.status, r.method, r.target));
        let answered: Vec<String> = answered.collect();
        format!(
            "\nexit: {:?}\nstdout:\n{}\nstderr:\n{}\nbackend: {answered:#?}\ncomplaints: {complaints:#?}",
            self.exit, self.stdout, self.stderr
        )
    }
}

/// The ids of the installs in this home: what the files named `install…` of its state say.
fn installs(rig: &Rig) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![rig.home().join("state")];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let is_named = entry.file_name().to_string_lossy().starts_with("install");
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(kind) if kind.is_file() && is_named => {
                    let id = std::fs::read_to_string(entry.path()).unwrap_or_default();
                    found.push(id.trim().to_owned());
                }
                _ => {}
            }
        }
    }
    found.retain(|id| id.len() >= 8);
    found
}

/// Whether one of these ids stands among the labels.
fn labelled(thing: &Value, installs: &[String]) -> bool {
    let labels = thing.get("Labels").and_then(Value::as_object);
    let mut values = labels.into_iter().flatten().filter_map(|(_, value)| value.as_str());
    values.any(|value| installs.iter().any(|install| install == value))
}
