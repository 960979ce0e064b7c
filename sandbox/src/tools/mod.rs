//! The tools of the model. Each tool is one file of the same shape: its arguments, the definition
//! that the model sees, a title for people, and the call.
//!
//! Bad arguments, unknown tools and refusals are text for the model, and the turn goes on. Only a
//! sandbox that is no longer safe is an error, and it ends the turn.
//!
//! Absent: the order of calls (`agent::tool_runner`), the wire format (`shared::item`).

mod apply_patch;
mod bash;
mod change; // a change as counts and a diff
mod fit; // where the lines of a patch belong
pub(crate) mod ignored; // what git ignores
mod list_files;
mod memory; // whether memory ran out
pub(crate) mod output; // cuts results for the model
mod patch; // the grammar of a patch
pub(crate) mod path; // paths beneath the workspace
mod read_file;
mod update_plan;
pub(crate) mod walk; // directories, in a stable order
mod write_file;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::Arc;

use airlock_shared::defaults;
use airlock_shared::event::PlanStep;
use airlock_shared::item::{Call, Input};
use airlock_shared::job::Job;
use airlock_shared::model::{Model, PatchForm};
use airlock_shared::outcome::{Fault, FaultKind};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::exec::{ProcessKiller, Spawner, ToolUser, UserThread};
use path::Root;

/// All tools, for one user beneath one directory.
pub(crate) struct Toolbox {
    root: Arc<Root>,
    user: ToolUser,
    worker: UserThread,
    killer: ProcessKiller,
    spawner: Spawner,
    shells: &'static [bash::Shell],
    environment: Arc<[CString]>,
    patch: PatchForm,
    /// How many bytes of one result are sent to the model.
    limit: usize,
}

/// The result of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ToolResult {
    /// For the model, cut to the limit.
    pub(crate) output: String,
    pub(crate) ok: bool,
    /// A command's exit code.
    pub(crate) exit: Option<i32>,
    /// One line for people. It may be empty.
    pub(crate) note: String,
    /// The plan, if this call set one.
    pub(crate) plan: Option<Vec<PlanStep>>,
}

impl ToolResult {
    fn done(output: String, note: String) -> Self {
        Self { output, ok: true, note, ..Self::default() }
    }

    pub(crate) fn failed(output: impl Into<String>) -> Self {
        let output = output.into();
        Self { note: output::title(&output), output, ..Self::default() }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tool {
    Bash,
    ReadFile,
    ListFiles,
    WriteFile,
    ApplyPatch,
    UpdatePlan,
}

impl Tool {
    const ALL: [Self; 6] = [
        Self::Bash,
        Self::ReadFile,
        Self::ListFiles,
        Self::WriteFile,
        Self::ApplyPatch,
        Self::UpdatePlan,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Bash => bash::NAME,
            Self::ReadFile => read_file::NAME,
            Self::ListFiles => list_files::NAME,
            Self::WriteFile => write_file::NAME,
            Self::ApplyPatch => apply_patch::NAME,
            Self::UpdatePlan => update_plan::NAME,
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.name() == name)
    }
}

impl Toolbox {
    /// Starts the threads that tools need, so that none has to be started later.
    ///
    /// # Errors
    /// If the sandbox cannot be made safe, or the workspace cannot be opened by the tool user.
    pub(crate) fn new(job: &Job, model: &Model) -> Result<Self, Fault> {
        let user = ToolUser::new(job.workspace.uid, job.workspace.gid)?;
        let worker = UserThread::start(user)?;
        let killer = ProcessKiller::start(user)?;
        let path = job.workspace.path.clone();
        let root = worker.run_now(move || Root::open(&path))?.map_err(|error| {
            let path = &job.workspace.path;
            Fault::new(
                FaultKind::Workspace,
                format!("the workspace {path} cannot be used: {error}"),
            )
        })?;
        Ok(Self {
            root: Arc::new(root),
            user,
            worker,
            killer,
            spawner: Spawner::start()?,
            shells: bash::shells(),
            environment: environment(&job.env)?.into(),
            patch: model.patch,
            limit: model.tool_output_bytes,
        })
    }

    /// Why commands are not restricted by landlock. `None`: they are.
    pub(crate) fn unrestricted(&self) -> Option<&str> {
        self.spawner.unrestricted()
    }

    /// The definitions of the tools for the model, always in this order.
    pub(crate) fn definitions(&self) -> Vec<Value> {
        let definition = |tool: Tool| match tool {
            Tool::Bash => bash::definition(),
            Tool::ReadFile => read_file::definition(),
            Tool::ListFiles => list_files::definition(),
            Tool::WriteFile => write_file::definition(),
            Tool::ApplyPatch => apply_patch::definition(self.patch),
            Tool::UpdatePlan => update_plan::definition(),
        };
        Tool::ALL.into_iter().map(definition).collect()
    }

    /// Whether a call may change something, so that no other call may run beside it.
    pub(crate) fn runs_alone(&self, name: &str) -> bool {
        !matches!(Tool::named(name), Some(Tool::ReadFile | Tool::ListFiles))
    }

    /// A title of a call for people: one line.
    pub(crate) fn title(&self, call: &Call) -> String {
        let title = match Tool::named(&call.name) {
            Some(Tool::Bash) => arguments(call).ok().map(|a| bash::title(&a)),
            Some(Tool::ReadFile) => arguments(call).ok().map(|a| read_file::title(&a)),
            Some(Tool::ListFiles) => arguments(call).ok().map(|a| list_files::title(&a)),
            Some(Tool::WriteFile) => arguments(call).ok().map(|a| write_file::title(&a)),
            Some(Tool::ApplyPatch) => apply_patch::text(call).ok().map(|a| apply_patch::title(&a)),
            Some(Tool::UpdatePlan) => Some("plan".to_owned()),
            None => None,
        };
        title.unwrap_or_else(|| output::title(&call.name))
    }

    /// Runs a call. When this returns, all processes of the call have ended, also if it timed out
    /// or was cancelled.
    ///
    /// # Errors
    /// If the sandbox is no longer safe: processes of a command are left, or it may be readable. No
    /// further call may run.
    pub(crate) async fn call(
        &self,
        call: &Call,
        deadline: Instant,
        cancel: &CancellationToken,
    ) -> Result<ToolResult, Fault> {
        let until = CallDeadline { deadline, cancel };
        // THREAT: after `chmod -R 644 .` every later call fails, and no call can repair it. Tried by
        // tools::bash::tests::a_root_that_was_locked_is_opened_for_the_next_call.
        if self.root.is_locked() {
            let root = self.root.clone();
            self.worker.run(move || root.unlock()).await?;
        }
        match Tool::named(&call.name) {
            Some(Tool::Bash) => match arguments::<bash::Arguments>(call) {
                Ok(arguments) => match arguments.patch().map(str::to_owned) {
                    Some(patch) => self.on_files(Ok(patch), until, apply_patch::call).await,
                    None => bash::call(self, arguments, until).await,
                },
                Err(why) => Ok(ToolResult::failed(why)),
            },
            Some(Tool::ReadFile) => self.on_files(arguments(call), until, read_file::call).await,
            Some(Tool::ListFiles) => self.on_files(arguments(call), until, list_files::call).await,
            Some(Tool::WriteFile) => self.on_files(arguments(call), until, write_file::call).await,
            Some(Tool::ApplyPatch) => {
                self.on_files(apply_patch::text(call), until, apply_patch::call).await
            }
            Some(Tool::UpdatePlan) => match arguments(call) {
                Ok(arguments) => Ok(update_plan::call(arguments)),
                Err(why) => Ok(ToolResult::failed(why)),
            },
            None => Ok(ToolResult::failed(unknown(call))),
        }
    }

    /// Runs our own script in the same way as a command of the model.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub(crate) async fn script(
        &self,
        command: String,
        deadline: Instant,
        cancel: &CancellationToken,
    ) -> Result<ToolResult, Fault> {
        bash::call(self, bash::Arguments::new(command), CallDeadline { deadline, cancel }).await
    }

    /// Runs a file tool as the tool user. `stop` is cancelled when the turn's time is up or the
    /// turn is cancelled. We wait for the tool in any case, because it soon notices.
    async fn on_files<A: Send + 'static>(
        &self,
        arguments: Result<A, String>,
        until: CallDeadline<'_>,
        tool: fn(&Files<'_>, A) -> ToolResult,
    ) -> Result<ToolResult, Fault> {
        let arguments = match arguments {
            Ok(arguments) => arguments,
            Err(why) => return Ok(ToolResult::failed(why)),
        };
        let stop = until.cancel.child_token();
        let (root, limit, stopped) = (self.root.clone(), self.limit, stop.clone());
        let work =
            self.worker.run(move || tool(&Files { root: &root, limit, stop: &stopped }, arguments));
        tokio::pin!(work);
        tokio::select! {
            result = &mut work => result,
            () = tokio::time::sleep_until(until.deadline) => {
                stop.cancel();
                work.await
            }
        }
    }
}

/// When a call must end.
#[derive(Clone, Copy)]
struct CallDeadline<'a> {
    deadline: Instant,
    cancel: &'a CancellationToken,
}

/// What a file tool works with.
struct Files<'a> {
    root: &'a Root,
    limit: usize,
    stop: &'a CancellationToken,
}

impl Files<'_> {
    /// Call this again and again in a tool that may take long.
    fn check_stopped(&self) -> Result<(), String> {
        if self.stop.is_cancelled() { Err("aborted by user".to_owned()) } else { Ok(()) }
    }
}

/// The arguments of a call, or an error for the model.
fn arguments<A: serde::de::DeserializeOwned>(call: &Call) -> Result<A, String> {
    let (Input::Arguments(text) | Input::Raw(text)) = &call.input;
    // A tool without required arguments may be called without any.
    let text = if text.trim().is_empty() { "{}" } else { text };
    serde_json::from_str(text)
        .map_err(|error| format!("failed to parse function arguments: {error}"))
}

fn unknown(call: &Call) -> String {
    let kind = match call.input {
        Input::Arguments(_) => "unsupported call",
        Input::Raw(_) => "unsupported custom tool call",
    };
    let names: Vec<&str> = Tool::ALL.into_iter().map(Tool::name).collect();
    format!("{kind}: {}\nThe tools are: {}", output::title(&call.name), names.join(", "))
}

/// A tool definition in the function form.
fn function(name: &str, description: &str, properties: Value, required: &[&str]) -> Value {
    json!({
        "type": "function",
        "name": name,
        "description": description,
        "strict": false,
        "parameters": {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        },
    })
}

/// The whole environment of every command. The variables of the job take precedence over the fixed
/// ones.
fn environment(named: &BTreeMap<String, String>) -> Result<Vec<CString>, Fault> {
    let mut all: BTreeMap<&str, &str> = BTreeMap::from([
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", defaults::HOME_PATH),
        ("USER", "agent"),
        ("LOGNAME", "agent"),
        ("TMPDIR", "/tmp"),
        ("LANG", "C.UTF-8"),
        ("TERM", "dumb"),
        ("NO_COLOR", "1"),
        ("PAGER", "cat"),
        ("GIT_PAGER", "cat"),
        ("CI", "1"),
    ]);
    all.extend(named.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let entry = |(name, value): (&str, &str)| {
        let bad = || {
            let name = output::title(name);
            Fault::new(
                FaultKind::Sandbox,
                format!("`{name}` cannot be passed to commands as a variable"),
            )
        };
        if name.is_empty() || name.contains('=') {
            return Err(bad());
        }
        CString::new(format!("{name}={value}")).map_err(|_| bad())
    };
    all.into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests;
