//! `bash`: one command, with nothing left of it afterwards.
//!
//! ```text
//! started → ended ──────────┐
//!         → timed out       ├→ everything of the tool user ended → what was written
//!         → cancelled       │
//!         → the run is over ┘
//! ```
//!
//! Absent: sessions that live from call to call, and input to a running command.

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

/// What a shell says of a command that ran out of time.
const TIMED_OUT: i32 = 124;
/// One read of the pipe.
const READ_BYTES: usize = 64 << 10;

/// A shell, and its arguments before the command.
pub(super) type Shell = (&'static CStr, &'static [&'static CStr]);
const BASH: &[&CStr] = &[c"bash", c"--noprofile", c"--norc", c"-c"];
const SH: &[&CStr] = &[c"sh", c"-c"];
/// Those we know, the best first.
const SHELLS: [Shell; 4] =
    [(c"/bin/bash", BASH), (c"/usr/bin/bash", BASH), (c"/bin/sh", SH), (c"/usr/bin/sh", SH)];

/// Those from the first on that the image has, so that no call looks for it again.
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
        "Runs a command with bash (sh where there is no bash) and returns its exit code and output, \
         stdout and stderr in order. Every call is a new shell: nothing of it runs on or is \
         remembered, so no background processes, no `cd` that lasts. There is no terminal, no input \
         and no network. Long output is cut in the middle. Ends after {} seconds unless told \
         otherwise.",
        limits::COMMAND_SECONDS
    );
    super::function(
        NAME,
        &description,
        json!({
            "command": {"type": "string", "description": "The command, as typed into a shell"},
            "workdir": {"type": "string", "description": "The folder to run it in, from the workspace's root; the root by default"},
            "timeout_seconds": {"type": "integer", "description": format!("When to end it; at most {}", limits::COMMAND_SECONDS_MOST)},
        }),
        &["command"],
    )
}

pub(super) fn title(arguments: &Arguments) -> String {
    format!("$ {}", output::title(&arguments.command))
}

impl Arguments {
    /// A command in the workspace's root, for as long as a command may take.
    pub(super) fn of(command: String) -> Self {
        Self { command, workdir: None, timeout_seconds: None }
    }

    /// The patch, if the command is nothing but one: models trained on another shell write
    /// `apply_patch <<'EOF'` there.
    pub(super) fn patch(&self) -> Option<&str> {
        let command = self.command.trim();
        let rest = command.strip_prefix("apply_patch")?.trim_start();
        (rest.starts_with("<<") && self.workdir.is_none()).then_some(command)
    }
}

enum CommandEnd {
    Ended(ExitStatus),
    TimedOut,
    RunOver,
    Cancelled,
}

pub(super) async fn call(
    toolbox: &Toolbox,
    arguments: Arguments,
    until: CallDeadline<'_>,
) -> Result<ToolResult, Fault> {
    let seconds = arguments.timeout_seconds.unwrap_or(limits::COMMAND_SECONDS);
    let seconds = seconds.clamp(1, limits::COMMAND_SECONDS_MOST);
    let started = Instant::now();
    // A call that was dropped may still be swept: that must not reach this one.
    nothing_left(toolbox.killer.wait_pending().await)?;
    let memory = OomCounter::begin();
    let sweeping = KillOnDrop(Some(&toolbox.killer));
    let (spawned, output) = match start(toolbox, arguments).await {
        Ok(started) => started,
        Err(StartError::Told(result)) => {
            nothing_left(sweeping.kill_all().await)?;
            return Ok(result);
        }
        Err(StartError::Unsafe(fault)) => return Err(fault),
    };
    let mut written =
        CommandOutput { pipe: Some(output), kept: HeadTail::new(limits::COMMAND_OUTPUT_BYTES) };

    let end = written.until_ended(&spawned, started + Duration::from_secs(seconds), until).await;
    if matches!(end, CommandEnd::Ended(_)) {
        let linger = Duration::from_millis(limits::COMMAND_LINGER_MS);
        // Late output is welcome and not waited for longer.
        let _ = tokio::time::timeout(linger, written.until_closed(until)).await;
    }
    nothing_left(sweeping.kill_all().await)?;
    written.rest();
    let wall = started.elapsed();
    Ok(report(&end, wall, seconds, &written.kept, toolbox.limit, memory.ran_out()))
}

/// Why no command was started.
enum StartError {
    /// For the model.
    Told(ToolResult),
    /// The sandbox is no longer safe.
    Unsafe(Fault),
}

impl StartError {
    fn told(why: impl Into<String>) -> Self {
        Self::Told(ToolResult::failed(why))
    }
}

/// Starts the first shell there is, in the folder asked for.
async fn start(
    toolbox: &Toolbox,
    arguments: Arguments,
) -> Result<(Spawned, pipe::Receiver), StartError> {
    let command = CString::new(arguments.command)
        .map_err(|_| StartError::told("the command has a NUL byte in it"))?;
    let workdir = arguments.workdir.unwrap_or_default();
    let workdir = toolbox.root.within(&workdir).map_err(StartError::told)?;
    let opened;
    let directory = if workdir == WorkspacePath::root() {
        // What was said of this call is on its way before it starts.
        tokio::task::yield_now().await;
        toolbox.root.as_fd()
    } else {
        let root = toolbox.root.clone();
        let open = move || root.folder(&workdir, OFlags::PATH);
        let folder = toolbox.worker.run(open).await.map_err(StartError::Unsafe)?;
        opened = folder.map_err(StartError::told)?;
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
    let mut spawned = toolbox.spawner.spawn(launch).map_err(refused)?;
    let output = spawned.output().and_then(pipe::Receiver::from_owned_fd);
    let output = output.map_err(|error| StartError::told(format!("execution error: {error}")))?;
    Ok((spawned, output))
}

fn refused(error: SpawnError) -> StartError {
    match error {
        SpawnError::NoProgram => StartError::told(
            "there is no shell in this image (neither bash nor sh): no command can run. The other tools work.",
        ),
        SpawnError::TooLong => StartError::told(
            "the command is too long for the kernel (128 KiB): write it to a file and run that",
        ),
        SpawnError::Failed(step, error) => {
            StartError::told(format!("execution error: {step}: {error}"))
        }
        SpawnError::Unsafe(fault) => StartError::Unsafe(fault),
    }
}

/// Ends all processes of the tool user, also when the call is dropped half way.
struct KillOnDrop<'a>(Option<&'a ProcessKiller>);

impl KillOnDrop<'_> {
    async fn kill_all(mut self) -> KillResult {
        // Taken only once it is done: dropped meanwhile, it sweeps again.
        let swept = match self.0 {
            Some(killer) => killer.kill_all().await,
            None => KillResult::Clean,
        };
        self.0 = None;
        swept
    }
}

impl Drop for KillOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(killer) = self.0 {
            killer.sweep_later();
        }
    }
}

/// What the command wrote so far.
struct CommandOutput {
    /// `None` once it is closed.
    pipe: Option<pipe::Receiver>,
    kept: HeadTail,
}

impl CommandOutput {
    async fn until_ended(
        &mut self,
        spawned: &Spawned,
        late: Instant,
        until: CallDeadline<'_>,
    ) -> CommandEnd {
        let ended = spawned.ended();
        tokio::pin!(ended);
        loop {
            tokio::select! {
                ended = &mut ended => return CommandEnd::Ended(ended),
                () = until.cancel.cancelled() => return CommandEnd::Cancelled,
                () = tokio::time::sleep_until(until.deadline) => return CommandEnd::RunOver,
                () = tokio::time::sleep_until(late) => return CommandEnd::TimedOut,
                () = self.more(), if self.pipe.is_some() => {}
            }
        }
    }

    async fn until_closed(&mut self, until: CallDeadline<'_>) {
        while self.pipe.is_some() {
            tokio::select! {
                () = self.more() => {}
                () = until.cancel.cancelled() => return,
            }
        }
    }

    /// Waits for output and takes it.
    async fn more(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        if pipe.readable().await.is_err() {
            self.pipe = None;
        }
        self.take();
    }

    /// Takes one read's worth, if it is there.
    fn take(&mut self) {
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

    /// What is left in the pipe when nobody writes any more.
    ///
    /// Read past the runtime, which would say that nothing is there until it has looked again.
    fn rest(&mut self) {
        let Some(pipe) = self.pipe.take() else { return };
        // As much as the largest pipe holds; more comes only from a survivor.
        for _ in 0..(1 << 20) / READ_BYTES * 16 {
            let mut chunk = [0; READ_BYTES];
            match rustix::io::retry_on_intr(|| rustix::io::read(&pipe, &mut chunk)) {
                Ok(0) | Err(_) => return,
                Ok(count) => self.kept.feed(&chunk[..count]),
            }
        }
    }
}

/// A sweep that left something ends the turn.
///
/// THREAT: a process that outlives its call watches the next one, or writes into the tree behind the
/// model's back. Tried by session::tests::alone::a_process_that_cannot_be_ended_ends_the_turn.
fn nothing_left(swept: KillResult) -> Result<(), Fault> {
    let message = match swept {
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
    ran_out: Option<String>,
) -> ToolResult {
    let (text, is_cut) = kept.text(limit);
    let wall = format!("Wall time: {:.1} seconds", wall.as_secs_f64());
    let lines =
        if is_cut { format!("\nTotal output lines: {}", kept.lines()) } else { String::new() };
    let mut result = ToolResult::default();
    let said = match end {
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
        CommandEnd::RunOver => {
            result.exit = Some(TIMED_OUT);
            result.note = "ended: the run's time is up".to_owned();
            "command ended: the run's time is up\n".to_owned()
        }
        CommandEnd::Cancelled => {
            result.note = "cancelled".to_owned();
            "aborted by user\n".to_owned()
        }
    };
    let code = result.exit.map(|code| format!("Exit code: {code}\n")).unwrap_or_default();
    let said = match ran_out {
        Some(why) => {
            let said = format!("{said}{why}\n");
            let notes = [std::mem::take(&mut result.note), why];
            result.note =
                notes.into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>().join("; ");
            said
        }
        None => said,
    };
    result.output = format!("{code}{wall}{lines}\nOutput:\n{said}{text}");
    result
}

#[cfg(test)]
mod tests;
