//! What the model can do in the sandbox. Each tool is one file of one shape: its arguments, the
//! definition the model sees, a title for people, and the call.
//!
//! Bad arguments, unknown tools and refusals are text for the model, and the turn goes on. Only a
//! sandbox that is no longer safe is an error, and it ends the turn.
//!
//! Absent: who asks and in what order (`agent::turn`), the wire (`shared::item`).

mod apply_patch;
mod bash;
mod change; // what a change looks like
mod fit; // where its lines belong
pub(crate) mod ignored; // what git ignores
mod list_files;
mod memory; // when it runs out
pub(crate) mod output; // how much the model gets to see
mod patch; // its grammar
pub(crate) mod path; // beneath the workspace
mod read_file;
mod update_plan;
pub(crate) mod walk; // folders, in a stable order
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

/// All tools, acting as one user beneath one folder.
pub(crate) struct Toolbox {
    root: Arc<Root>,
    user: ToolUser,
    worker: UserThread,
    killer: ProcessKiller,
    spawner: Spawner,
    shells: &'static [bash::Shell],
    environment: Arc<[CString]>,
    patch: PatchForm,
    /// What the model gets to see of one result, in bytes.
    limit: usize,
}

/// What one call came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ToolResult {
    /// For the model, cut to what it gets to see.
    pub(crate) output: String,
    pub(crate) ok: bool,
    /// A command's exit code.
    pub(crate) exit: Option<i32>,
    /// One line for people; may be empty.
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
    /// When the sandbox cannot be made safe, or the workspace cannot be opened by the tool user.
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

    /// Why commands may write wherever their user may, if they may.
    pub(crate) fn unrestricted(&self) -> Option<&str> {
        self.spawner.unrestricted()
    }

    /// What the model is told of the tools, always in this order.
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

    /// Whether a call changes anything, so that nothing may run beside it.
    pub(crate) fn runs_alone(&self, name: &str) -> bool {
        !matches!(Tool::named(name), Some(Tool::ReadFile | Tool::ListFiles))
    }

    /// One line for people about a call, before it runs.
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

    /// Acts. What the call started has ended when this returns, in time, late or cancelled.
    ///
    /// # Errors
    /// When the sandbox is no longer safe: processes of a command are left, or it may be readable.
    /// Nothing more may run in it.
    pub(crate) async fn call(
        &self,
        call: &Call,
        deadline: Instant,
        cancel: &CancellationToken,
    ) -> Result<ToolResult, Fault> {
        let until = CallDeadline { deadline, cancel };
        // THREAT: `chmod -R 644 .` ends every later call, and no call can mend it. Tried by
        // tools::bash::tests::a_root_that_was_locked_is_opened_for_the_next_call.
        if self.root.is_locked() {
            let root = self.root.clone();
            self.worker.run(move || root.give_back()).await?;
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

    /// Runs a script of ours as the model's commands are run.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub(crate) async fn script(
        &self,
        command: String,
        deadline: Instant,
        cancel: &CancellationToken,
    ) -> Result<ToolResult, Fault> {
        bash::call(self, bash::Arguments::of(command), CallDeadline { deadline, cancel }).await
    }

    /// Runs a file tool as the tool user. It is told to stop when the run's time is up or the run
    /// is cancelled, and is waited for either way: none of them takes long to notice.
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
    /// To be asked wherever a tool may work for long.
    fn stopped(&self) -> Result<(), String> {
        if self.stop.is_cancelled() { Err("aborted by user".to_owned()) } else { Ok(()) }
    }
}

/// The arguments of a call, or what to tell the model.
fn arguments<A: serde::de::DeserializeOwned>(call: &Call) -> Result<A, String> {
    let (Input::Arguments(text) | Input::Raw(text)) = &call.input;
    // A tool without required arguments may be called with none.
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

/// A definition in the function form.
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

/// What every command finds in its environment, and nothing else: the named variables of the job
/// win over what is fixed.
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
