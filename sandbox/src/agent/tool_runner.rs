//! Runs the tool calls of one answer: reads in parallel, writes alone, in the order of the calls.

use airlock_shared::event::Event;
use airlock_shared::item::Call;
use airlock_shared::limits;
use airlock_shared::outcome::Fault;
use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::prompt;
use crate::report::Report;
use crate::scrub::Scrub;
use crate::tools::{ToolResult, Toolbox};

/// Runs tool calls until the deadline, or until it is cancelled.
pub(crate) struct ToolRunner {
    pub(crate) tools: Toolbox,
    pub(crate) report: Report,
    pub(crate) scrub: Scrub,
    /// Several calls at a time, if the model supports that.
    pub(crate) parallel: bool,
    pub(crate) deadline: Instant,
    pub(crate) cancel: CancellationToken,
}

impl ToolRunner {
    /// Runs the calls and returns their outputs, in the order of the calls. A call that was not
    /// started before the turn ended has no output.
    ///
    /// Reads after a write wait for the write: they see what it wrote.
    ///
    /// # Errors
    /// If the sandbox is no longer safe. No further call is started.
    pub(crate) async fn run_calls(&self, calls: &[Call]) -> Result<Vec<String>, Fault> {
        let mut outputs = Vec::with_capacity(calls.len());
        let most = calls.len().min(limits::CALLS_AT_ONCE);
        while outputs.len() < most && !self.is_over() {
            let rest = &calls[outputs.len()..most];
            let reads = rest.iter().take_while(|call| !self.tools.runs_alone(&call.name)).count();
            let batch = if self.parallel { reads.max(1) } else { 1 };
            for output in join_all(rest[..batch].iter().map(|call| self.run(call))).await {
                outputs.push(output?);
            }
        }
        if outputs.len() == most {
            outputs.resize(calls.len(), prompt::TOO_MANY_CALLS.to_owned());
        }
        Ok(outputs)
    }

    /// Whether one of the calls may have changed the workspace.
    pub(crate) fn may_write(&self, calls: &[Call]) -> bool {
        calls.iter().any(|call| self.tools.runs_alone(&call.name))
    }

    /// Whether nothing new may be started.
    pub(crate) fn is_over(&self) -> bool {
        self.cancel.is_cancelled() || Instant::now() >= self.deadline
    }

    async fn run(&self, call: &Call) -> Result<String, Fault> {
        let (call_id, tool) = (call.call_id.clone(), call.name.clone());
        let title = self.tools.title(call);
        let started = Event::CallStarted {
            call_id: call_id.clone(),
            tool: tool.clone(),
            title: title.clone(),
        };
        self.report.send(started).await;
        let began = Instant::now();
        let result = self.tools.call(call, self.deadline, &self.cancel).await;
        let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        // A call that ends the turn is reported as ended too, with the reason.
        let fault = result.as_ref().err().cloned();
        let result = result.unwrap_or_else(|fault| ToolResult::failed(fault.message));
        // THREAT: a command prints a copy of our token, and every later request sends it to the
        // model. The output is scrubbed before it is stored. Tried by
        // `session::tests::alone::what_a_command_prints_of_our_token_is_removed`.
        let output = self.scrub.clean(result.output);
        if let Some(steps) = result.plan {
            self.report.send(Event::Plan { steps }).await;
        }
        let ended = Event::CallEnded {
            call_id,
            tool,
            title,
            ok: result.ok,
            exit: result.exit,
            ms,
            note: result.note,
            output: output.clone(),
        };
        self.report.send(ended).await;
        fault.map_or(Ok(output), Err)
    }
}
