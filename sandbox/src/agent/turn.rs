//! The turn: ask the model, act on what it calls, ask again, until it has an answer.
//!
//! No call is started before its answer was completed, and none is started twice: a stream that is
//! cut, and the retry that follows, cannot repeat what was done.

use airlock_shared::answer::Heard;
use airlock_shared::event::Event;
use airlock_shared::model::Model;
use airlock_shared::outcome::{Fault, FaultKind, Outcome, Spent, Stop};
use airlock_shared::request::Prompt;
use tokio::time::Instant;

use super::acts::ToolRunner;
use super::budget::{BudgetLedger, NextStep};
use super::empty_answers::{EmptyAnswerPolicy, EmptyAnswerVerdict};
use super::history::History;
use super::prompt;
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
    /// None: nothing has to be brought out.
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
            let heard = self.hear(answer.items).await;
            let mut texts = heard.texts;
            let text = texts.pop();
            if last {
                self.tell(texts).await;
                return stopped(Spent::Steps, text);
            }
            if heard.calls.is_empty() {
                match empty_answers.judge(text.is_some(), answer.more) {
                    EmptyAnswerVerdict::Done => {
                        self.tell(texts).await;
                        return Outcome::Finished { answer: text.unwrap_or_default() };
                    }
                    EmptyAnswerVerdict::GoOn => self.tell(texts.into_iter().chain(text)).await,
                    EmptyAnswerVerdict::Remind => self.history.say("user", prompt::EMPTY),
                    EmptyAnswerVerdict::GiveUp => {
                        return failed(FaultKind::Backend, "the model answers nothing");
                    }
                }
                continue;
            }
            empty_answers.restore();
            self.tell(texts.into_iter().chain(text)).await;
            let outputs = match self.tool_runner.act(&heard.calls).await {
                Ok(outputs) => outputs,
                Err(fault) => return Outcome::Failed { fault },
            };
            if let Some(so_far) = &mut self.so_far
                && self.tool_runner.may_write(&heard.calls)
            {
                so_far.touch();
            }
            for (call, output) in heard.calls.iter().zip(&outputs) {
                self.history.answer(call, output);
            }
            if let Some(outcome) = self.ended() {
                return outcome;
            }
        }
    }

    /// One request, tried as often as makes sense; cancelling and the deadline end it at once.
    async fn ask(&mut self, n: u32, last: bool) -> Result<Answer, Outcome> {
        if last {
            self.history.say("developer", prompt::LAST_STEP);
        }
        self.report.say(Event::Request { n }).await;
        let tools = if last { Vec::new() } else { self.tool_runner.tools.definitions() };
        let input = self.history.input();
        let prompt = Prompt { instructions: &self.instructions, tools: &tools, input };
        let answer = tokio::select! {
            biased;
            () = self.tool_runner.cancel.cancelled() => None,
            () = tokio::time::sleep_until(self.tool_runner.deadline) => None,
            answer = keeping(&mut self.so_far, self.client.answer(&self.model, prompt)) => {
                Some(answer.unwrap_or_else(|fault| Err(GiveUp::Fault(fault))))
            }
        };
        match answer {
            Some(Ok(answer)) => {
                self.report.say(Event::Usage { usage: answer.usage }).await;
                Ok(answer)
            }
            Some(Err(GiveUp::Fault(fault))) => Err(Outcome::Failed { fault }),
            Some(Err(GiveUp::Stop(reason))) => Err(Outcome::Stopped { reason, answer: None }),
            Some(Err(GiveUp::Budget)) => {
                let out_of_time = Instant::now() >= self.tool_runner.deadline;
                Err(stopped(self.ledger.spent_elsewhere(out_of_time), None))
            }
            None => Err(self.ended().unwrap_or_else(|| stopped(Spent::Seconds, None))),
        }
    }

    async fn hear(&mut self, items: Vec<serde_json::Value>) -> Heard {
        for item in &items {
            self.report.say(Event::Item { item: item.clone() }).await;
        }
        let heard = self.history.hear(items);
        if heard.refused > 0 {
            let text = format!("{} repeated or nameless calls were not run", heard.refused);
            self.report.note(text).await;
        }
        heard
    }

    async fn tell(&self, texts: impl IntoIterator<Item = String>) {
        for text in texts {
            self.report.say(Event::Text { text }).await;
        }
    }

    /// How the run was ended from outside, if it was.
    fn ended(&self) -> Option<Outcome> {
        if self.tool_runner.cancel.is_cancelled() {
            return Some(Outcome::Stopped { reason: Stop::Cancelled, answer: None });
        }
        (Instant::now() >= self.tool_runner.deadline).then(|| stopped(Spent::Seconds, None))
    }
}

/// An answer, and meanwhile the edits so far are brought out if it is time. What was begun of that
/// is waited for: the calls of the answer would change the tree under it.
///
/// # Errors
/// When the sandbox is no longer safe: then no answer is waited for.
async fn keeping<T>(
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
    let (answer, ()) = tokio::try_join!(async { Ok(answer.await) }, so_far.bring())?;
    Ok(answer)
}

fn stopped(spent: Spent, answer: Option<String>) -> Outcome {
    Outcome::Stopped { reason: Stop::Budget { spent }, answer }
}

fn failed(kind: FaultKind, message: &str) -> Outcome {
    Outcome::Failed { fault: Fault::new(kind, message) }
}
