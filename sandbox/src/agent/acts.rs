//! The calls of one answer: reads together, writes alone, in the order they were asked for.

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

/// What acts, and what ends it.
pub(crate) struct ToolRunner {
    pub(crate) tools: Toolbox,
    pub(crate) report: Report,
    pub(crate) scrub: Scrub,
    /// Several calls at a time, where the model is one for that.
    pub(crate) parallel: bool,
    pub(crate) deadline: Instant,
    pub(crate) cancel: CancellationToken,
}

impl ToolRunner {
    /// Runs the calls and gives their outputs, in the order of the calls. A call that was not
    /// reached when the run was ended has none.
    ///
    /// A batch of reads is not joined by reads from behind a write: order stays fair.
    ///
    /// # Errors
    /// When the sandbox is no longer safe: no call after that one is started.
    pub(crate) async fn act(&self, calls: &[Call]) -> Result<Vec<String>, Fault> {
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

    /// Whether one of the calls may have changed the tree.
    pub(crate) fn may_write(&self, calls: &[Call]) -> bool {
        calls.iter().any(|call| self.tools.runs_alone(&call.name))
    }

    /// Nothing new may be started.
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
        self.report.say(started).await;
        let began = Instant::now();
        let called = self.tools.call(call, self.deadline, &self.cancel).await;
        let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Also of a call that ends the turn it is told that it ended, and why.
        let fault = called.as_ref().err().cloned();
        let result = called.unwrap_or_else(|fault| ToolResult::failed(fault.message));
        // THREAT: a command prints a copy of our token, and it goes to the model and into every
        // request from then on. Searched once: what is kept is clean. Tried by
        // `session::tests::alone::what_a_command_prints_of_our_token_is_removed`.
        let output = self.scrub.clean(result.output);
        if let Some(steps) = result.plan {
            self.report.say(Event::Plan { steps }).await;
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
        self.report.say(ended).await;
        fault.map_or(Ok(output), Err)
    }
}
