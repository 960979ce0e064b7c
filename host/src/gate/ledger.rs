//! What the host itself saw of a run: what it spent, what the backend really said last. The
//! sandbox's word counts for nothing here.
//!
//! ```text
//! a request is spent when it is sent ─┬─ refused by the backend, or not reached: given back
//!                                     ├─ broken off by the backend: what passed is paid for
//!                                     ├─ completed: what the backend says it cost
//!                                     └─ given up by the sandbox: spent, and estimated
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use airlock_shared::answer::{Heard, Listener, Part};
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

use super::claims::Saw;
use super::seen::Seen;

/// Rate-limit headers that are kept for people, and how long one may be.
const WINDOW_HEADERS: usize = 32;
const WINDOW_HEADER_BYTES: usize = 64;
/// A turn state longer than this is no state.
const TURN_STATE_BYTES: usize = 4096;
/// How often the pause between failing requests doubles: up to 6.4 s.
const DOUBLINGS: u32 = 6;

/// What a run spent, as the host counted it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Model requests that were answered, or given up by the sandbox.
    pub steps: u32,
    pub usage: Usage,
    /// The backend did not say what all of it cost: a part is estimated by its bytes.
    pub estimated: bool,
}

#[derive(Default)]
pub(super) struct Ledger {
    /// What is settled.
    used: Used,
    /// The exchange under way.
    open: Option<Meter>,
    pub(super) seen: Seen,
    pub(super) saw: Saw,
    /// What the answer in progress said so far.
    current: Vec<Part>,
    listener: Listener,
    /// Requests in a row that failed, and when the last of them did.
    failures: u32,
    failed_at: Option<Instant>,
    turn_state: Option<String>,
    windows: BTreeMap<String, String>,
}

impl Used {
    fn estimate(&mut self, meter: &Meter) {
        self.usage += meter.usage();
        self.estimated = true;
    }
}

impl Ledger {
    /// How long a request must wait that follows on failed ones: half of what an honest sandbox
    /// waits by itself.
    ///
    /// THREAT: requests that fail cost nothing, so a sandbox storms the backend with them. Tried by
    /// `gate::ledger::tests::failing_requests_are_bounded_by_time`.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        let Some(at) = self.failed_at.filter(|_| self.failures > 0) else { return Duration::ZERO };
        let doublings = (self.failures - 1).min(DOUBLINGS);
        let pause = Duration::from_millis((limits::RETRY_FIRST_MS / 2) << doublings);
        pause.saturating_sub(now.saturating_duration_since(at))
    }

    /// Spends a request that is about to go out, or says which budget is spent.
    ///
    /// THREAT: a sandbox that does not count asks for ever. Tried by
    /// `gate::flow::budgets_are_the_hosts_to_count`.
    pub(super) fn ask(
        &mut self,
        budget: &Budget,
        elapsed: Duration,
        request: Meter,
    ) -> Result<(), String> {
        // THREAT: a sandbox that resets its stream before the end has had its answer for nothing.
        // Tried by `gate::given_up::what_the_sandbox_gives_up_is_spent`.
        self.used = self.used();
        self.open = None;
        if elapsed.as_secs() >= budget.seconds {
            return Err(format!("the run's budget of {} seconds is spent", budget.seconds));
        }
        if self.used.steps >= budget.steps {
            return Err(format!("the run's budget of {} steps is spent", budget.steps));
        }
        if self.used.usage.total() >= budget.tokens {
            return Err(format!("the run's budget of {} tokens is spent", budget.tokens));
        }
        self.open = Some(request);
        self.current.clear();
        Ok(())
    }

    /// What is spent by now, the exchange under way among it.
    pub(super) fn used(&self) -> Used {
        let mut used = self.used;
        if let Some(meter) = &self.open {
            used.steps = used.steps.saturating_add(1);
            used.estimate(meter);
        }
        used
    }

    /// The backend refused the request that was just spent, or could not be reached: it cost
    /// nothing.
    pub(super) fn give_back(&mut self) {
        self.open = None;
    }

    /// The backend broke off or refused in the middle: that was no step, and is asked for again,
    /// but what passed is paid for. Only the backend's end counts: a sandbox that stops reading has
    /// had its answer.
    pub(super) fn broke_off(&mut self, meaning: Meaning) {
        if let Some(meter) = self.open.take().filter(Meter::has_heard) {
            self.used.estimate(&meter);
        }
        self.failed(meaning);
    }

    /// Why a request came to nothing.
    pub(super) fn failed(&mut self, meaning: Meaning) {
        self.failures = self.failures.saturating_add(1);
        self.failed_at = Some(Instant::now());
        match meaning {
            Meaning::Limit(limit) => self.saw.limit = Some(limit),
            Meaning::Fault(fault) if fault.kind == FaultKind::SignIn => {
                self.saw.sign_in = Some(fault);
            }
            Meaning::Fault(fault) => self.saw.fault = Some(fault),
            Meaning::Passing { why, asked } => {
                self.saw.fault = Some(refusal::given_up(self.failures, &why, asked));
            }
        }
    }

    /// An answer is larger than its bound: the sandbox finds the same, and it is not asked again.
    pub(super) fn too_large(&mut self, what: &str) {
        let why = format!("{what} is larger than its bound");
        self.saw.fault = Some(Fault::new(FaultKind::Context, why));
    }

    /// One event of an answer, as the sandbox gets it.
    pub(super) fn hear(&mut self, event: &StreamEvent) {
        if let Some(meter) = &mut self.open {
            meter.hear(event);
        }
        match event {
            StreamEvent::Item(item) => {
                self.seen.learn(item);
                self.current.push(light(Part::of(item)));
            }
            StreamEvent::TurnState(state) => self.keep_turn_state(state),
            StreamEvent::Completed { usage, .. } => {
                let mut heard = Heard::default();
                for part in self.current.drain(..) {
                    self.listener.hear(part, &mut heard);
                }
                self.saw.last = Some(heard);
                self.completed(*usage);
            }
            StreamEvent::Failed(refusal) => self.broke_off(Meaning::of_stream(refusal)),
            StreamEvent::Text(_) | StreamEvent::Piece(_) | StreamEvent::Other => {}
        }
    }

    /// The answer to a compaction: `{"output":[items],"usage":…}`.
    pub(super) fn hear_compaction(&mut self, answer: &Value) {
        for item in answer.get("output").and_then(Value::as_array).into_iter().flatten() {
            self.seen.learn(item);
            if let Some(meter) = &mut self.open {
                meter.hear(&StreamEvent::Item(item.clone()));
            }
        }
        self.completed(answer.get("usage").filter(|usage| usage.is_object()).map(Usage::parse));
    }

    /// The exchange under way came to its end, and the backend may say what it cost.
    fn completed(&mut self, usage: Option<Usage>) {
        let Some(meter) = self.open.take() else { return };
        self.used.steps = self.used.steps.saturating_add(1);
        match usage {
            Some(usage) => self.used.usage += usage,
            None => self.used.estimate(&meter),
        }
        (self.failures, self.saw.fault) = (0, None);
    }

    /// The headers of an answer: the turn's state, and how full the account's windows are.
    pub(super) fn hear_headers(&mut self, headers: &HeaderMap) {
        if let Some(Ok(state)) =
            headers.get(airlock_shared::request::TURN_STATE).map(|value| value.to_str())
        {
            self.keep_turn_state(state);
        }
        for (name, value) in headers {
            let name = name.as_str();
            let is_window = name.starts_with("x-codex-")
                && ["-used-percent", "-window-minutes", "-reset-at"]
                    .iter()
                    .any(|end| name.ends_with(end));
            let is_number = value.len() <= WINDOW_HEADER_BYTES
                && value.as_bytes().iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
            if let (true, true, Ok(value)) = (is_window, is_number, value.to_str())
                && (self.windows.len() < WINDOW_HEADERS || self.windows.contains_key(name))
            {
                self.windows.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// The first state of a turn is the turn's; a run is one turn.
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

    pub(super) fn windows(&self) -> &BTreeMap<String, String> {
        &self.windows
    }

    /// The last message of the last completed answer.
    pub(super) fn last_answer(&self) -> Option<&str> {
        self.saw.last.as_ref()?.answer()
    }
}

/// The part without what a call carries, which can be large and decides nothing.
fn light(part: Part) -> Part {
    match part {
        Part::Call(call) => Part::Call(Call { input: Input::Raw(String::new()), ..call }),
        other => other,
    }
}

#[cfg(test)]
mod tests;
