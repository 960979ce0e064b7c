//! A run that is going on: look at it, wait for something, hit it with a signal.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::{Ran, Rig};
use crate::backend::Backend;
use crate::clock;
use crate::engine::Engine;

/// How long a run of a test may take.
const PATIENCE: Duration = Duration::from_secs(150);

pub struct Live {
    child: Child,
    stdout: Arc<Mutex<Vec<u8>>>,
    readers: [JoinHandle<()>; 2],
    stderr: Arc<Mutex<Vec<u8>>>,
    rig: Rig,
    pub engine: Engine,
    pub backend: Arc<Backend>,
}

impl Live {
    pub(super) fn start(
        mut command: Command,
        rig: Rig,
        engine: Engine,
        backend: Arc<Backend>,
    ) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("airlock can be started");
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let readers = [
            tokio::spawn(collect(child.stdout.take(), Arc::clone(&stdout))),
            tokio::spawn(collect(child.stderr.take(), Arc::clone(&stderr))),
        ];
        Self { child, stdout, readers, stderr, rig, engine, backend }
    }

    #[must_use]
    pub fn rig(&self) -> &Rig {
        &self.rig
    }

    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id().expect("airlock still runs")
    }

    /// # Panics
    /// When it has ended.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        rustix::process::kill_process(pid, signal).expect("airlock still runs");
    }

    /// Everything on stdout so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        let bytes = self.stdout.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Everything on stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        let bytes = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The events so far.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.stdout().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
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
            self.still("a container", deadline);
            tokio::time::sleep(Duration::from_millis(20)).await;
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
            self.still(what, deadline);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn still(&mut self, what: &str, deadline: std::time::Instant) {
        let ended = self.child.try_wait().ok().flatten();
        if ended.is_some() || clock::now() > deadline {
            let (stdout, stderr) = (self.stdout(), self.stderr());
            panic!("no {what}; airlock ended: {ended:?}\nstdout:\n{stdout}\nstderr:\n{stderr}");
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end within the patience of a test.
    pub async fn end(mut self) -> Ran {
        let Ok(status) = tokio::time::timeout(PATIENCE, self.child.wait()).await else {
            let (stdout, stderr) = (self.stdout(), self.stderr());
            drop(self.child.kill().await);
            panic!("airlock did not end\nstdout:\n{stdout}\nstderr:\n{stderr}");
        };
        let status = status.expect("a child of ours can be waited for");
        for reader in &mut self.readers {
            // Somebody else may hold the other end of the pipe; what came until now is what counts.
            drop(tokio::time::timeout(Duration::from_secs(2), reader).await);
        }
        Ran {
            exit: status.code(),
            stdout: self.stdout(),
            stderr: self.stderr(),
            rig: self.rig,
            engine: self.engine,
            backend: self.backend,
        }
    }
}

async fn collect(from: Option<impl AsyncRead + Unpin>, into: Arc<Mutex<Vec<u8>>>) {
    let Some(from) = from else { return };
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
        into.lock().unwrap_or_else(PoisonError::into_inner).append(&mut line);
    }
    drop(from.read_to_end(&mut line).await);
}
