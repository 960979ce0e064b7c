//! A run that is going on: look at it, wait for something, hit it with a signal.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::process::{PATIENCE, Process};
use super::{Ran, Rig};
use crate::backend::Backend;
use crate::clock;
use crate::engine::Engine;

pub struct Live {
    process: Process,
    rig: Rig,
    pub engine: Engine,
    pub backend: Arc<Backend>,
}

impl Live {
    pub(super) fn of(process: Process, rig: Rig, engine: Engine, backend: Arc<Backend>) -> Self {
        Self { process, rig, engine, backend }
    }

    #[must_use]
    pub fn rig(&self) -> &Rig {
        &self.rig
    }

    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// # Panics
    /// When it has ended.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Everything on stdout so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.process.stdout()
    }

    /// Everything on stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.process.stderr()
    }

    /// The events so far.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.process.events()
    }

    /// Waits until an event of this name came.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn event(&mut self, name: &str) -> Value {
        let what = format!("event {name}");
        self.until(&what, |live| live.events().into_iter().find(|event| event["event"] == name))
            .await
    }

    /// The containers that belong to this run's install, by the install's id among their labels.
    pub async fn containers(&self) -> Vec<String> {
        Ran::containers_of(&self.rig, &self.engine).await
    }

    /// Waits for this run's container.
    ///
    /// # Panics
    /// When there is none.
    pub async fn container(&mut self) -> String {
        let deadline = clock::now() + PATIENCE;
        loop {
            if let Some(id) = self.containers().await.pop() {
                return id;
            }
            self.process.still("a container", deadline);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until so many processes of this run's container are this command line: what it does
    /// before them is done by then.
    ///
    /// # Panics
    /// When there are not that many within the patience of a test, or when `airlock` ends first.
    pub async fn processes(&mut self, command: &str, count: usize) {
        let deadline = clock::now() + PATIENCE;
        loop {
            let run = self
                .events()
                .first()
                .and_then(|event| event["session"].as_str().map(str::to_owned));
            let mut found = 0;
            for container in Ran::containers_with(&self.engine, run.as_slice()).await {
                found += self.engine.count_of(&container, command).await;
            }
            if found == count {
                return;
            }
            self.process.still(&format!("{count} of `{command}`, but {found}"), deadline);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until something holds.
    ///
    /// # Panics
    /// When it does not, within the patience of a test, or when `airlock` ends first.
    pub async fn until<T>(&mut self, what: &str, find: impl Fn(&Self) -> Option<T>) -> T {
        let deadline = clock::now() + PATIENCE;
        loop {
            if let Some(found) = find(self) {
                return found;
            }
            self.process.still(what, deadline);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end within the patience of a test.
    pub async fn end(self) -> Ran {
        let said = self.process.end().await;
        Ran {
            exit: said.exit,
            stdout: said.stdout,
            stderr: said.stderr,
            rig: self.rig,
            engine: self.engine,
            backend: self.backend,
        }
    }
}
