//! A process that goes on: look at what it says, wait for something, tell it something, hit it with
//! a signal.

use std::fs::File;
use std::io::Read as _;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;

use super::{Said, terminal};
use crate::clock;

/// What is waited for takes a moment; after this it is taken for something that never comes. No bound
/// of a test is shorter: the machine may be busy, and what is slow is not wrong.
pub const PATIENCE: Duration = Duration::from_secs(150);

pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    readers: [JoinHandle<()>; 2],
}

impl Process {
    /// Its stdin is what the command says; a piped one can be written to.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("airlock can be started");
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let readers = [
            tokio::spawn(collect(child.stdout.take(), Arc::clone(&stdout))),
            tokio::spawn(collect(child.stderr.take(), Arc::clone(&stderr))),
        ];
        Self { stdin: child.stdin.take(), child, stdout, stderr, readers }
    }

    /// The same with a person at a terminal, which is its stdin and its stderr: their end of it. What
    /// they type is echoed among what is on stderr.
    ///
    /// # Panics
    /// When it cannot be started, or there is no terminal.
    #[must_use]
    pub fn at_a_terminal(mut command: Command) -> (Self, File) {
        let (person, theirs) = terminal();
        command.stdin(theirs.try_clone().expect("a terminal")).stderr(theirs);
        command.stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("airlock can be started");
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let screen = person.try_clone().expect("a terminal");
        let shown = Arc::clone(&stderr);
        let readers = [
            tokio::spawn(collect(child.stdout.take(), Arc::clone(&stdout))),
            tokio::task::spawn_blocking(move || watch(screen, &shown)),
        ];
        (Self { stdin: None, child, stdout, stderr, readers }, person)
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
        text(&self.stdout)
    }

    /// Everything on stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        text(&self.stderr)
    }

    /// The lines of JSON on stdout so far.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.stdout().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Types a line.
    ///
    /// # Panics
    /// When its stdin is no pipe of ours, or closed.
    pub async fn line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("its stdin is a pipe of ours");
        stdin.write_all(format!("{line}\n").as_bytes()).await.expect("it reads");
    }

    /// Nobody types any more.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits until something holds.
    ///
    /// # Panics
    /// When it does not, within the patience of a test, or when the process ends first.
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

    /// # Panics
    /// When it has ended, or the time is over.
    pub(super) fn still(&mut self, what: &str, deadline: std::time::Instant) {
        let ended = self.child.try_wait().ok().flatten();
        if ended.is_some() || clock::now() > deadline {
            let (stdout, stderr) = (self.stdout(), self.stderr());
            panic!("no {what}; it ended: {ended:?}\nstdout:\n{stdout}\nstderr:\n{stderr}");
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end within the patience of a test.
    pub async fn end(mut self) -> Said {
        let ended: Result<std::io::Result<ExitStatus>, _> =
            tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let Ok(status) = ended else {
            let (stdout, stderr) = (self.stdout(), self.stderr());
            drop(self.child.kill().await);
            panic!("it did not end\nstdout:\n{stdout}\nstderr:\n{stderr}");
        };
        let status = status.expect("a child of ours can be waited for");
        for reader in &mut self.readers {
            // Somebody else may hold the other end of the pipe; what came until now is what counts.
            drop(tokio::time::timeout(Duration::from_secs(10), reader).await);
        }
        Said { exit: status.code(), stdout: self.stdout(), stderr: self.stderr() }
    }
}

fn text(bytes: &Mutex<Vec<u8>>) -> String {
    let bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Until its other end is closed, which is an error of a terminal.
fn watch(mut screen: File, into: &Mutex<Vec<u8>>) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(read @ 1..) = screen.read(&mut bytes) {
        into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes[..read]);
    }
}

async fn collect(from: Option<impl AsyncRead + Unpin>, into: Arc<Mutex<Vec<u8>>>) {
    let Some(mut from) = from else { return };
    let mut bytes = vec![0; 1 << 16];
    // A question ends in the middle of a line.
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes[..read]);
    }
}
