//! The turn: ask the model, run the calls of its answer, ask again, until it gives a final answer.
//!
//! No call is started before its answer is complete, and no call is started twice. So a stream that
//! is cut and the retry after it cannot repeat a call.

use airlock_shared::answer::ParsedAnswer;
use airlock_shared::event::Event;
use airlock_shared::model::Model;
use airlock_shared::outcome::{Fault, FaultKind, Outcome, Spent, Stop};
use airlock_shared::request::Prompt;
use tokio::time::Instant;

use super::budget::{BudgetLedger, NextStep};
use super::empty_answers::{EmptyAnswerPolicy, EmptyAnswerVerdict};
use super::history::History;
use super::prompt;
use super::tool_runner::ToolRunner;
use crate::keep::InterimChanges;
use crate::report::Report;
use crate::responses::{Answer, Client, GiveUp};

pub(crate) struct Turn {
    pub(crate) client: Client,
    pub(crate) model: Model,
    pub(crate) instructions: String,
    pub(crate) history: History,
    pub(crate) ledger: BudgetLedger,
    pub(crate) tool_runner: ToolRunner,
    /// `None`: no changes have to be sent.
    pub(crate) so_far: Option<InterimChanges>,
    pub(crate) report: Report,
}

impl Turn {
    pub(crate) async fn run(mut self) -> Outcome {
        let mut empty_answers = EmptyAnswerPolicy::default();
        loop {
            let (n, last) = match self.ledger.next() {
                NextStep::Ask { n, last } => (n, last),
                NextStep::Spent(spent) => return stopped(spent, None),
            };
            let answer = match self.ask(n, last).await {
                Ok(answer) => answer,
                Err(outcome) => return outcome,
            };
            self.ledger.count(answer.usage, answer.lost);
            let more = answer.more;
            let answer = self.add_answer(answer.items).await;
            let mut texts = answer.texts;
            let text = texts.pop();
            if last {
                self.report_texts(texts).await;
                return stopped(Spent::Steps, text);
            }
            if answer.calls.is_empty() {
                match empty_answers.judge(text.is_some(), more) {
                    EmptyAnswerVerdict::Done => {
                        self.report_texts(texts).await;
                        return Outcome::Finished { answer: text.unwrap_or_default() };
                    }
                    EmptyAnswerVerdict::Continue => {
                        self.report_texts(texts.into_iter().chain(text)).await;
                    }
                    EmptyAnswerVerdict::Remind => self.history.add_message("user", prompt::EMPTY),
                    EmptyAnswerVerdict::GiveUp => {
                        return failed(FaultKind::Backend, "the model gives no answer");
                    }
                }
                continue;
            }
            empty_answers.reset();
            self.report_texts(texts.into_iter().chain(text)).await;
            let outputs = match self.tool_runner.run_calls(&answer.calls).await {
                Ok(outputs) => outputs,
                Err(fault) => return Outcome::Failed { fault },
            };
            if let Some(so_far) = &mut self.so_far
                && self.tool_runner.may_write(&answer.calls)
            {
                so_far.touch();
            }
            for (call, output) in answer.calls.iter().zip(&outputs) {
                self.history.add_output(call, output);
            }
            if let Some(outcome) = self.ended() {
                return outcome;
            }
        }
    }

    /// One request with its retries. Cancelling and the deadline end it at once.
    async fn ask(&mut self, n: u32, last: bool) -> Result<Answer, Outcome> {
        if last {
            self.history.add_message("developer", prompt::LAST_STEP);
        }
        self.report.send(Event::Request { n }).await;
        let tools = if last { Vec::new() } else { self.tool_runner.tools.definitions() };
        let input = self.history.input();
        let prompt = Prompt { instructions: &self.instructions, tools: &tools, input };
        let answer = tokio::select! {
            biased;
            () = self.tool_runner.cancel.cancelled() => None,
            () = tokio::time::sleep_until(self.tool_runner.deadline) => None,
            answer = with_interim_changes(&mut self.so_far, self.client.answer(&self.model, prompt)) => {
                Some(answer.unwrap_or_else(|fault| Err(GiveUp::Fault(fault))))
            }
        };
        match answer {
            Some(Ok(answer)) => {
                self.report.send(Event::Usage { usage: answer.usage }).await;
                Ok(answer)
            }
            Some(Err(GiveUp::Fault(fault))) => Err(Outcome::Failed { fault }),
            Some(Err(GiveUp::Stop(reason))) => Err(Outcome::Stopped { reason, answer: None }),
            Some(Err(GiveUp::Budget)) => {
                let out_of_time = Instant::now() >= self.tool_runner.deadline;
                Err(stopped(self.ledger.spent_by_host(out_of_time), None))
            }
            None => Err(self.ended().unwrap_or_else(|| stopped(Spent::Seconds, None))),
        }
    }

    async fn add_answer(&mut self, items: Vec<serde_json::Value>) -> ParsedAnswer {
        for item in &items {
            self.report.send(Event::Item { item: item.clone() }).await;
        }
        let answer = self.history.add_answer(items);
        if answer.refused > 0 {
            let text =
                format!("{} calls with a repeated or missing id were not run", answer.refused);
            self.report.note(text).await;
        }
        answer
    }

    async fn report_texts(&self, texts: impl IntoIterator<Item = String>) {
        for text in texts {
            self.report.send(Event::Text { text }).await;
        }
    }

    /// The outcome if the turn was cancelled or its time is up.
    fn ended(&self) -> Option<Outcome> {
        if self.tool_runner.cancel.is_cancelled() {
            return Some(Outcome::Stopped { reason: Stop::Cancelled, answer: None });
        }
        (Instant::now() >= self.tool_runner.deadline).then(|| stopped(Spent::Seconds, None))
    }
}

/// Waits for an answer, and sends the edits so far meanwhile if it is time. Sending is waited for
/// too, because the calls of the answer may change the workspace.
///
/// # Errors
/// If the sandbox is no longer safe. Then the answer is not waited for.
async fn with_interim_changes<T>(
    so_far: &mut Option<InterimChanges>,
    answer: impl Future<Output = T>,
) -> Result<T, Fault> {
    let Some(so_far) = so_far else { return Ok(answer.await) };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => return Ok(answer),
        () = so_far.due() => {}
    }
    let (answer, ()) = tokio::try_join!(async { Ok(answer.await) }, so_far.send())?;
    Ok(answer)
}

fn stopped(spent: Spent, answer: Option<String>) -> Outcome {
    Outcome::Stopped { reason: Stop::Budget { spent }, answer }
}

fn failed(kind: FaultKind, message: &str) -> Outcome {
    Outcome::Failed { fault: Fault::new(kind, message) }
}
