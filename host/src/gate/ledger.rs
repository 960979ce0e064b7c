//! What the host itself saw of a turn: what it spent, and the backend's last answer. Nothing here
//! relies on what the sandbox says.
//!
//! ```text
//! a request is spent when it is sent ─┬─ refused by the backend, or not reached: given back
//!                                     ├─ broken off by the backend: what passed is counted
//!                                     ├─ completed: what the backend says it cost
//!                                     └─ abandoned by the sandbox: spent, and estimated
//! ```

use std::time::Duration;

use airlock_shared::answer::{AnswerParser, ParsedAnswer, Part};
use airlock_shared::item::{Call, Input};
use airlock_shared::job::Budget;
use airlock_shared::limits;
use airlock_shared::meter::Meter;
use airlock_shared::outcome::{Fault, FaultKind};
use airlock_shared::refusal::{self, Meaning};
use airlock_shared::stream::{StreamEvent, Usage};
use http::HeaderMap;
use serde_json::Value;
use tokio::time::Instant;

use super::claims::Observed;
use super::seen::SeenItems;

/// How long a backend is silent before the sandbox abandons the request. This is somewhat less than the
/// sandbox waits, because its clock starts before ours.
const SILENCE: Duration = Duration::from_secs(limits::STREAM_IDLE_SECONDS - 30);
/// The longest turn state that is kept.
const TURN_STATE_BYTES: usize = 4096;
/// A request surely costs at least its estimate divided by this: sixteen bytes are more than one token,
/// even in text that is mostly spaces. An estimate that is too high must not stop an honest sandbox.
const SURELY: u64 = 4;
/// How often the pause between failing requests doubles: up to 6.4 s.
const DOUBLINGS: u32 = 6;

/// What a turn spent, as the host counted it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spending {
    /// Model requests that were answered, or abandoned by the sandbox.
    pub steps: u32,
    pub usage: Usage,
    /// The backend did not report all of the cost: a part is estimated from its size.
    pub estimated: bool,
}

#[derive(Default)]
pub(super) struct BudgetLedger {
    /// What is settled.
    used: Spending,
    /// The exchange in progress.
    open: Option<Open>,
    pub(super) seen: SeenItems,
    pub(super) observed: Observed,
    /// The parts so far of the answer in progress.
    current: Vec<Part>,
    parser: AnswerParser,
    /// Requests in a row that failed, and when the last of them did.
    failures: u32,
    failed_at: Option<Instant>,
    turn_state: Option<String>,
}

/// An exchange that has not ended.
struct Open {
    meter: Meter,
    /// When the backend last sent something.
    heard_at: Instant,
}

impl Spending {
    /// Counts an answer that the sandbox did not read to its end: it is a step, too.
    fn give_up(&mut self, meter: &Meter) {
        self.steps = self.steps.saturating_add(1);
        self.estimate(meter);
    }

    fn estimate(&mut self, meter: &Meter) {
        self.usage += meter.usage();
        self.estimated = true;
    }
}

impl BudgetLedger {
    /// How long a request must wait after failed ones: half as long as an honest sandbox waits.
    ///
    /// THREAT: failed requests cost nothing, so a sandbox floods the backend with them. Tried by
    /// `gate::ledger::tests::failing_requests_are_bounded_by_time`.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        let Some(at) = self.failed_at.filter(|_| self.failures > 0) else { return Duration::ZERO };
        let doublings = (self.failures - 1).min(DOUBLINGS);
        let pause = Duration::from_millis((limits::RETRY_FIRST_MS / 2) << doublings);
        pause.saturating_sub(now.saturating_duration_since(at))
    }

    /// Counts a request that is about to be sent, or returns which budget is spent.
    ///
    /// THREAT: a sandbox ignores its budget and asks for ever. Tried by
    /// `gate::flow::the_host_counts_the_budgets`.
    pub(super) fn ask(
        &mut self,
        budget: &Budget,
        elapsed: Duration,
        request: Meter,
    ) -> Result<(), String> {
        // THREAT: a sandbox resets its stream before the end and gets the answer without cost.
        // Tried by `gate::given_up::what_the_sandbox_abandons_is_spent`.
        self.hear_silence();
        self.used = self.used();
        self.open = None;
        if elapsed.as_secs() >= budget.seconds {
            return Err(format!("the turn's budget of {} seconds is spent", budget.seconds));
        }
        if self.used.steps >= budget.steps {
            return Err(format!("the turn's budget of {} steps is spent", budget.steps));
        }
        if self.used.usage.total() >= budget.tokens {
            return Err(format!("the turn's budget of {} tokens is spent", budget.tokens));
        }
        // THREAT: a request of megabytes is sent for the last token of the budget. Tried by
        // gate::flow::a_request_that_the_budget_has_no_room_for_is_not_sent.
        let at_least = request.usage().input / SURELY;
        self.observed.has_no_room =
            self.used.usage.total().saturating_add(at_least) > budget.tokens;
        if self.observed.has_no_room {
            let what = "tokens has no room for a request of this size";
            return Err(format!("the turn's budget of {} {what}", budget.tokens));
        }
        self.open = Some(Open { meter: request, heard_at: Instant::now() });
        self.current.clear();
        Ok(())
    }

    /// The backend sent something for the answer in progress, if only a comment.
    pub(super) fn is_alive(&mut self) {
        if let Some(open) = &mut self.open {
            open.heard_at = Instant::now();
        }
    }

    /// Records a failure if the backend was silent for so long that the sandbox abandons the request. A
    /// sandbox that reports this tells the truth.
    pub(super) fn hear_silence(&mut self) {
        if let Some(open) = self.open.take_if(|open| open.heard_at.elapsed() >= SILENCE) {
            self.used.give_up(&open.meter);
            self.failed(Meaning::of_silence());
        }
    }

    /// What is spent by now, including the exchange in progress.
    pub(super) fn used(&self) -> Spending {
        let mut used = self.used;
        if let Some(open) = &self.open {
            used.give_up(&open.meter);
        }
        used
    }

    /// The backend refused the request that was just counted, or could not be reached: it cost nothing.
    pub(super) fn give_back(&mut self) {
        self.open = None;
    }

    /// The backend broke off or failed within an answer. That is not a step, because the sandbox asks
    /// again, but what passed is counted. Only the backend's end counts as such: a sandbox that stops
    /// reading has had its answer.
    pub(super) fn broke_off(&mut self, meaning: Meaning) {
        if let Some(open) = self.open.take().filter(|open| open.meter.saw_answer()) {
            self.used.estimate(&open.meter);
        }
        self.failed(meaning);
    }

    /// Records why a request failed.
    pub(super) fn failed(&mut self, meaning: Meaning) {
        self.failures = self.failures.saturating_add(1);
        self.failed_at = Some(Instant::now());
        match meaning {
            Meaning::Limit(limit) => self.observed.limit = Some(limit),
            Meaning::Fault(fault) if fault.kind == FaultKind::SignIn => {
                self.observed.sign_in = Some(fault);
            }
            Meaning::Fault(fault) => self.observed.fault = Some(fault),
            Meaning::Passing { why, asked } => {
                self.observed.fault = Some(refusal::given_up(self.failures, &why, asked));
            }
        }
    }

    /// An answer is too large: the sandbox finds the same, and does not ask again.
    pub(super) fn too_large(&mut self, what: &str) {
        let why = format!("{what} is too large");
        self.observed.fault = Some(Fault::new(FaultKind::Context, why));
    }

    /// Records one event of an answer, as the sandbox gets it.
    pub(super) fn hear(&mut self, event: &StreamEvent) {
        if let Some(open) = &mut self.open {
            open.meter.count(event);
        }
        match event {
            StreamEvent::Item(item) => {
                self.seen.learn(item);
                self.current.push(light(Part::of(item)));
            }
            StreamEvent::TurnState(state) => self.keep_turn_state(state),
            StreamEvent::Completed { usage, .. } => {
                let mut heard = ParsedAnswer::default();
                for part in self.current.drain(..) {
                    self.parser.add(part, &mut heard);
                }
                self.observed.last = Some(heard);
                self.completed(*usage);
            }
            StreamEvent::Failed(refusal) => self.broke_off(Meaning::of_stream(refusal)),
            StreamEvent::Text(_) | StreamEvent::Piece(_) | StreamEvent::Other => {}
        }
    }

    /// Records the answer to a compaction: `{"output":[items],"usage":…}`.
    pub(super) fn hear_compaction(&mut self, answer: &Value) {
        for item in answer.get("output").and_then(Value::as_array).into_iter().flatten() {
            self.seen.learn(item);
            if let Some(open) = &mut self.open {
                open.meter.count(&StreamEvent::Item(item.clone()));
            }
        }
        self.completed(answer.get("usage").and_then(Usage::parse));
    }

    /// The exchange in progress is complete; the backend may have reported its cost.
    fn completed(&mut self, usage: Option<Usage>) {
        let Some(Open { meter, .. }) = self.open.take() else { return };
        self.used.steps = self.used.steps.saturating_add(1);
        match usage {
            Some(usage) => self.used.usage += usage,
            None => self.used.estimate(&meter),
        }
        (self.failures, self.observed.fault) = (0, None);
    }

    /// Keeps the turn state from the headers of an answer.
    pub(super) fn hear_headers(&mut self, headers: &HeaderMap) {
        self.is_alive();
        if let Some(Ok(state)) =
            headers.get(airlock_shared::request::TURN_STATE).map(|value| value.to_str())
        {
            self.keep_turn_state(state);
        }
    }

    /// Keeps the first state of the turn.
    fn keep_turn_state(&mut self, state: &str) {
        let is_header = state.len() <= TURN_STATE_BYTES
            && state.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if is_header {
            self.turn_state.get_or_insert_with(|| state.to_owned());
        }
    }

    pub(super) fn turn_state(&self) -> Option<&str> {
        self.turn_state.as_deref()
    }

    /// The last message of the last completed answer.
    #[cfg(test)]
    pub(super) fn last_answer(&self) -> Option<&str> {
        self.observed.last.as_ref()?.final_text()
    }
}

/// The part without a call's input, which can be large and is not needed.
fn light(part: Part) -> Part {
    match part {
        Part::Call(call) => Part::Call(Call { input: Input::Raw(String::new()), ..call }),
        other => other,
    }
}

#[cfg(test)]
mod tests;
