//! `bash`: one command. None of its processes is left afterwards.
//!
//! ```text
//! started → ended ───────────┐
//!         → timed out        ├→ all processes of the tool user ended → its output
//!         → cancelled        │
//!         → the turn is over ┘
//! ```
//!
//! Absent: shells that live from call to call, and input to a running command.

use std::ffi::{CStr, CString};
use std::io::ErrorKind;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use airlock_shared::limits;
use airlock_shared::outcome::{Fault, FaultKind};
use rustix::fs::OFlags;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::unix::pipe;
use tokio::time::Instant;

use super::memory::OomCounter;
use super::output::{self, HeadTail};
use super::path::WorkspacePath;
use super::{CallDeadline, ToolResult, Toolbox};
use crate::exec::{ExitStatus, KillResult, Launch, ProcessKiller, Program, SpawnError, Spawned};

pub(super) const NAME: &str = "bash";

/// The exit code of a command that timed out, as `timeout` has it.
const TIMED_OUT: i32 = 124;
/// The size of one read.
const READ_BYTES: usize = 64 << 10;

/// A shell, and its arguments before the command.
pub(super) type Shell = (&'static CStr, &'static [&'static CStr]);
const BASH: &[&CStr] = &[c"bash", c"--noprofile", c"--norc", c"-c"];
const SH: &[&CStr] = &[c"sh", c"-c"];
/// The shells that we know, the best first.
const SHELLS: [Shell; 4] =
    [(c"/bin/bash", BASH), (c"/usr/bin/bash", BASH), (c"/bin/sh", SH), (c"/usr/bin/sh", SH)];

/// The shells from the first one on that the image has, so that calls need not search for it.
pub(super) fn shells() -> &'static [Shell] {
    let is_there = |(path, _): &Shell| path.to_str().is_ok_and(|path| Path::new(path).exists());
    &SHELLS[SHELLS.iter().position(is_there).unwrap_or(0)..]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Arguments {
    command: String,
    workdir: Option<String>,
    timeout_seconds: Option<u64>,
}

pub(super) fn definition() -> Value {
    let description = format!(
        "Runs a command with bash (sh if there is no bash) and returns its exit code and output, \
         stdout and stderr in order. Every call is a new shell: no process keeps running and nothing \
         is remembered, so there are no background processes and `cd` does not last. There is no \
         terminal, no input and no network. Long output is cut in the middle. A command ends after \
         {} seconds by default.",
        limits::COMMAND_SECONDS
    );
    super::function(
        NAME,
        &description,
        json!({
            "command": {"type": "string", "description": "The command, as typed into a shell"},
            "workdir": {"type": "string", "description": "The directory to run it in, from the workspace's root; the root by default"},
            "timeout_seconds": {"type": "integer", "description": format!("When to end it; at most {}", limits::COMMAND_SECONDS_MAX)},
        }),
        &["command"],
    )
}

pub(super) fn title(arguments: &Arguments) -> String {
    format!("$ {}", output::title(&arguments.command))
}

impl Arguments {
    /// A command in the workspace's root, with the default time limit.
    pub(super) fn new(command: String) -> Self {
        Self { command, workdir: None, timeout_seconds: None }
    }

    /// The patch, if the command is only a patch: models that were trained with another shell write
    /// `apply_patch <<'EOF'` here.
    pub(super) fn patch(&self) -> Option<&str> {
        let command = self.command.trim();
        let rest = command.strip_prefix("apply_patch")?.trim_start();
        (rest.starts_with("<<") && self.workdir.is_none()).then_some(command)
    }
}

enum CommandEnd {
    Ended(ExitStatus),
    TimedOut,
    TurnOver,
    Cancelled,
}

pub(super) async fn call(
    toolbox: &Toolbox,
    arguments: Arguments,
    until: CallDeadline<'_>,
) -> Result<ToolResult, Fault> {
    let seconds = arguments.timeout_seconds.unwrap_or(limits::COMMAND_SECONDS);
    let seconds = seconds.clamp(1, limits::COMMAND_SECONDS_MAX);
    let started = Instant::now();
    // A sweep for a call that was dropped may be queued. It must not kill this command.
    check_nothing_left(toolbox.killer.wait_pending().await)?;
    let memory = OomCounter::begin();
    let kill_on_drop = KillOnDrop(Some(&toolbox.killer));
    let (spawned, pipe) = match start(toolbox, arguments).await {
        Ok(started) => started,
        Err(StartError::ForModel(result)) => {
            check_nothing_left(kill_on_drop.kill_all().await)?;
            return Ok(result);
        }
        Err(StartError::Unsafe(fault)) => return Err(fault),
    };
    let mut output =
        CommandOutput { pipe: Some(pipe), kept: HeadTail::new(limits::COMMAND_OUTPUT_BYTES) };

    let end =
        output.read_until_ended(&spawned, started + Duration::from_secs(seconds), until).await;
    if matches!(end, CommandEnd::Ended(_)) {
        let linger = Duration::from_millis(limits::COMMAND_LINGER_MS);
        // Late output is taken if it comes within this time.
        let _ = tokio::time::timeout(linger, output.read_until_closed(until)).await;
    }
    check_nothing_left(kill_on_drop.kill_all().await)?;
    output.read_rest();
    let wall = started.elapsed();
    Ok(report(&end, wall, seconds, &output.kept, toolbox.limit, memory.message()))
}

/// Why no command was started.
enum StartError {
    /// The result for the model says why.
    ForModel(ToolResult),
    /// The sandbox is no longer safe.
    Unsafe(Fault),
}

impl StartError {
    fn for_model(why: impl Into<String>) -> Self {
        Self::ForModel(ToolResult::failed(why))
    }
}

/// Starts the command in the first shell that the image has.
async fn start(
    toolbox: &Toolbox,
    arguments: Arguments,
) -> Result<(Spawned, pipe::Receiver), StartError> {
    let command = CString::new(arguments.command)
        .map_err(|_| StartError::for_model("the command has a NUL byte in it"))?;
    let workdir = arguments.workdir.unwrap_or_default();
    let workdir = toolbox.root.within(&workdir).map_err(StartError::for_model)?;
    let opened;
    let directory = if workdir == WorkspacePath::root() {
        // The event of this call is sent before the command starts.
        tokio::task::yield_now().await;
        toolbox.root.as_fd()
    } else {
        let root = toolbox.root.clone();
        let open = move || root.open_dir(&workdir, OFlags::PATH);
        let dir = toolbox.worker.run(open).await.map_err(StartError::Unsafe)?;
        opened = dir.map_err(StartError::for_model)?;
        opened.as_fd()
    };
    let program = |(path, start): &Shell| Program {
        path: (*path).to_owned(),
        arguments: start.iter().map(|&part| part.to_owned()).chain([command.clone()]).collect(),
    };
    let launch = Launch {
        programs: toolbox.shells.iter().map(program).collect(),
        environment: Arc::clone(&toolbox.environment),
        directory,
        user: toolbox.user,
    };
    let mut spawned = toolbox.spawner.spawn(launch).map_err(spawn_failed)?;
    let output = spawned.output().and_then(pipe::Receiver::from_owned_fd);
    let output =
        output.map_err(|error| StartError::for_model(format!("execution error: {error}")))?;
    Ok((spawned, output))
}

fn spawn_failed(error: SpawnError) -> StartError {
    match error {
        SpawnError::NoProgram => StartError::for_model(
            "there is no shell in this image (neither bash nor sh): no command can run. The other tools work.",
        ),
        SpawnError::TooLong => StartError::for_model(
            "the command is too long for the kernel (128 KiB): write it to a file and run that",
        ),
        SpawnError::Failed(step, error) => {
            StartError::for_model(format!("execution error: {step}: {error}"))
        }
        SpawnError::Unsafe(fault) => StartError::Unsafe(fault),
    }
}

/// Ends all processes of the tool user, also if the call is dropped.
struct KillOnDrop<'a>(Option<&'a ProcessKiller>);

impl KillOnDrop<'_> {
    async fn kill_all(mut self) -> KillResult {
        // It is taken only afterwards: if this is dropped meanwhile, it sweeps again.
        let result = match self.0 {
            Some(killer) => killer.kill_all().await,
            None => KillResult::Clean,
        };
        self.0 = None;
        result
    }
}

impl Drop for KillOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(killer) = self.0 {
            killer.sweep_later();
        }
    }
}

/// The output of the command so far.
struct CommandOutput {
    /// `None` once it is closed.
    pipe: Option<pipe::Receiver>,
    kept: HeadTail,
}

impl CommandOutput {
    async fn read_until_ended(
        &mut self,
        spawned: &Spawned,
        timeout: Instant,
        until: CallDeadline<'_>,
    ) -> CommandEnd {
        let ended = spawned.ended();
        tokio::pin!(ended);
        loop {
            tokio::select! {
                ended = &mut ended => return CommandEnd::Ended(ended),
                () = until.cancel.cancelled() => return CommandEnd::Cancelled,
                () = tokio::time::sleep_until(until.deadline) => return CommandEnd::TurnOver,
                () = tokio::time::sleep_until(timeout) => return CommandEnd::TimedOut,
                () = self.read(), if self.pipe.is_some() => {}
            }
        }
    }

    async fn read_until_closed(&mut self, until: CallDeadline<'_>) {
        while self.pipe.is_some() {
            tokio::select! {
                () = self.read() => {}
                () = until.cancel.cancelled() => return,
            }
        }
    }

    /// Waits for output and reads it.
    async fn read(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        if pipe.readable().await.is_err() {
            self.pipe = None;
        }
        self.try_read();
    }

    /// Reads once, if there is output.
    fn try_read(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        let mut chunk = [0; READ_BYTES];
        match pipe.try_read(&mut chunk) {
            Ok(0) => self.pipe = None,
            Ok(count) => self.kept.feed(&chunk[..count]),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.pipe = None,
        }
    }

    /// Reads the rest of the pipe when all its writers have ended.
    ///
    /// It does not use the runtime, which may not know yet that there is more.
    fn read_rest(&mut self) {
        let Some(pipe) = self.pipe.take() else { return };
        // At most what the largest pipe holds. More can only come from a process that survived.
        for _ in 0..(1 << 20) / READ_BYTES * 16 {
            let mut chunk = [0; READ_BYTES];
            match rustix::io::retry_on_intr(|| rustix::io::read(&pipe, &mut chunk)) {
                Ok(0) | Err(_) => return,
                Ok(count) => self.kept.feed(&chunk[..count]),
            }
        }
    }
}

/// Processes that survive a sweep end the turn.
///
/// THREAT: a process outlives its call and watches the next one, or writes into the workspace while
/// the model does not expect it. Tried by
/// session::tests::alone::a_process_that_cannot_be_ended_ends_the_turn.
fn check_nothing_left(result: KillResult) -> Result<(), Fault> {
    let message = match result {
        KillResult::Clean => return Ok(()),
        KillResult::Unsafe(fault) => return Err(fault),
        KillResult::Survivors(None) => {
            "it is not known whether a command left processes".to_owned()
        }
        KillResult::Survivors(Some(1)) => "1 process of a command could not be ended".to_owned(),
        KillResult::Survivors(Some(count)) => {
            format!("{count} processes of a command could not be ended")
        }
    };
    Err(Fault::new(FaultKind::Sandbox, message))
}

fn report(
    end: &CommandEnd,
    wall: Duration,
    seconds: u64,
    kept: &HeadTail,
    limit: usize,
    out_of_memory: Option<String>,
) -> ToolResult {
    let (text, is_cut) = kept.text(limit);
    let wall = format!("Wall time: {:.1} seconds", wall.as_secs_f64());
    let lines =
        if is_cut { format!("\nTotal output lines: {}", kept.lines()) } else { String::new() };
    let mut result = ToolResult::default();
    let status = match end {
        CommandEnd::Ended(ExitStatus(code)) => {
            result.ok = *code == 0;
            result.exit = Some(*code);
            String::new()
        }
        CommandEnd::TimedOut => {
            result.exit = Some(TIMED_OUT);
            result.note = format!("timed out after {seconds} s");
            format!("command timed out after {seconds} s\n")
        }
        CommandEnd::TurnOver => {
            result.exit = Some(TIMED_OUT);
            result.note = "ended: the time of the turn is up".to_owned();
            "command ended: the time of the turn is up\n".to_owned()
        }
        CommandEnd::Cancelled => {
            result.note = "cancelled".to_owned();
            "aborted by user\n".to_owned()
        }
    };
    let code = result.exit.map(|code| format!("Exit code: {code}\n")).unwrap_or_default();
    let status = match out_of_memory {
        Some(why) => {
            let status = format!("{status}{why}\n");
            let notes = [std::mem::take(&mut result.note), why];
            result.note =
                notes.into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>().join("; ");
            status
        }
        None => status,
    };
    result.output = format!("{code}{wall}{lines}\nOutput:\n{status}{text}");
    result
}

#[cfg(test)]
mod tests;
