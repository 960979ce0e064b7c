//! What the host itself saw of a run: what it spent, what the backend really said last. The
//! sandbox's word counts for nothing here.

use std::collections::BTreeMap;
use std::time::Duration;

use airlock_shared::item;
use airlock_shared::job::Budget;
use airlock_shared::limits;
use airlock_shared::outcome::{Fault, FaultKind, Outcome, Spent, Stop};
use airlock_shared::stream::{StreamEvent, Usage};
use http::HeaderMap;
use serde_json::Value;

use super::seen::Seen;

/// Rate-limit headers that are kept for people, and how long one may be.
const WINDOW_HEADERS: usize = 32;
const WINDOW_HEADER_BYTES: usize = 64;
/// A turn state longer than this is no state.
const TURN_STATE_BYTES: usize = 4096;

/// What a run spent, as the host counted it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Model requests that were answered.
    pub steps: u32,
    pub usage: Usage,
}

#[derive(Default)]
pub(super) struct Ledger {
    pub(super) used: Used,
    pub(super) seen: Seen,
    /// Requests that went out, answered or not.
    asked: u64,
    /// What the answer in progress said so far.
    current: Said,
    /// What the last completed answer said.
    last: Option<Said>,
    turn_state: Option<String>,
    is_limit_reached: bool,
    is_sign_in_needed: bool,
    windows: BTreeMap<String, String>,
}

/// What one answer of the model said.
#[derive(Clone, Default)]
struct Said {
    texts: Vec<String>,
    calls: bool,
}

impl Ledger {
    /// Counts a request that is about to go out, or says which budget is spent.
    ///
    /// THREAT: a sandbox that does not count asks for ever, or storms the backend with requests
    /// that fail. Tried by `gate::flow::budgets_are_the_hosts_to_count`.
    pub(super) fn ask(&mut self, budget: &Budget, elapsed: Duration) -> Result<(), String> {
        if elapsed.as_secs() >= budget.seconds {
            return Err(format!("the run's budget of {} seconds is spent", budget.seconds));
        }
        if self.used.steps >= budget.steps {
            return Err(format!("the run's budget of {} steps is spent", budget.steps));
        }
        if self.used.usage.total() >= budget.tokens {
            return Err(format!("the run's budget of {} tokens is spent", budget.tokens));
        }
        if self.asked >= most_asked(budget) {
            return Err("the run asked too often in vain".to_owned());
        }
        self.asked += 1;
        Ok(())
    }

    /// An answer begins.
    pub(super) fn answered(&mut self) {
        self.used.steps = self.used.steps.saturating_add(1);
        self.current = Said::default();
    }

    /// The backend broke off or refused in the middle: that was no step, and is asked for again.
    /// Only the backend's end counts: a sandbox that stops reading has had its answer.
    pub(super) fn broke_off(&mut self) {
        self.used.steps = self.used.steps.saturating_sub(1);
    }

    /// One event of an answer, as the sandbox gets it.
    pub(super) fn hear(&mut self, event: &StreamEvent) {
        match event {
            StreamEvent::Item(item) => {
                self.seen.learn(item);
                self.current.texts.extend(item::assistant_text(item));
                self.current.calls |= item::call(item).is_some();
            }
            StreamEvent::TurnState(state) => self.keep_turn_state(state),
            StreamEvent::Completed { usage, .. } => {
                self.used.usage += *usage;
                self.last = Some(std::mem::take(&mut self.current));
            }
            StreamEvent::Failed(refusal) => {
                self.broke_off();
                self.is_limit_reached |= refusal.is_usage_limit();
            }
            StreamEvent::Text(_) | StreamEvent::Other => {}
        }
    }

    /// The answer to a compaction: `{"output":[items],"usage":…}`.
    pub(super) fn hear_compaction(&mut self, answer: &Value) {
        for item in answer.get("output").and_then(Value::as_array).into_iter().flatten() {
            self.seen.learn(item);
        }
        self.used.usage += answer.get("usage").map(Usage::parse).unwrap_or_default();
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

    pub(super) fn hear_usage_limit(&mut self) {
        self.is_limit_reached = true;
    }

    pub(super) fn hear_sign_in(&mut self) {
        self.is_sign_in_needed = true;
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
        self.last.as_ref()?.texts.last().map(String::as_str)
    }

    /// Whether an outcome claims only what the host saw.
    ///
    /// THREAT: a hostile program in the sandbox's place says that the model was done, and what it
    /// answered. Tried by `gate::ledger::tests::a_forged_outcome` and
    /// `gate::flow::a_forged_answer_is_found`.
    pub(super) fn check(
        &self,
        outcome: &Outcome,
        budget: &Budget,
        elapsed: Duration,
    ) -> Result<(), Fault> {
        let forged = |message: &str| Err(Fault::new(FaultKind::Forged, message));
        match outcome {
            Outcome::Finished { answer } => match &self.last {
                None => forged("the sandbox claims an answer and the backend gave none"),
                Some(last) if last.calls => {
                    forged("the sandbox claims an answer where the model asked for a tool")
                }
                Some(last) if last.is_text(answer) => Ok(()),
                Some(_) => forged("the sandbox claims an answer that the backend did not give"),
            },
            Outcome::Stopped { answer: Some(answer), .. }
                if !self.last.as_ref().is_some_and(|last| last.is_text(answer)) =>
            {
                forged("the sandbox claims an answer that the backend did not give")
            }
            Outcome::Stopped { reason: Stop::UsageLimit { .. }, .. } if !self.is_limit_reached => {
                forged("the sandbox claims a usage limit that the backend did not name")
            }
            Outcome::Stopped { reason: Stop::Budget { spent }, .. }
                if !self.is_spent(*spent, budget, elapsed) =>
            {
                forged("the sandbox claims that a budget is spent, and it is not")
            }
            Outcome::Failed { fault }
                if fault.kind == FaultKind::SignIn && !self.is_sign_in_needed =>
            {
                forged("the sandbox claims a refused login that the backend did not refuse")
            }
            Outcome::Stopped { .. } | Outcome::Failed { .. } => Ok(()),
        }
    }

    /// Whether a budget is spent by the host's own count.
    fn is_spent(&self, spent: Spent, budget: &Budget, elapsed: Duration) -> bool {
        match spent {
            Spent::Steps => self.used.steps >= budget.steps || self.asked >= most_asked(budget),
            Spent::Tokens => self.used.usage.total() >= budget.tokens,
            Spent::Seconds => elapsed.as_secs() >= budget.seconds,
        }
    }
}

/// Requests that may go out, the failed ones among them.
fn most_asked(budget: &Budget) -> u64 {
    u64::from(budget.steps).saturating_mul(u64::from(limits::RETRIES) + 1)
}

impl Said {
    /// Whether this is what was said: the last message, or all of them, whatever stands between.
    fn is_text(&self, claimed: &str) -> bool {
        let claimed = claimed.trim();
        let is = |text: &str| text.trim() == claimed;
        self.texts.last().map_or(claimed.is_empty(), |text| is(text))
            || ["", "\n", "\n\n"].iter().any(|between| is(&self.texts.join(between)))
    }
}

#[cfg(test)]
mod tests {
    use airlock_shared::outcome::Spent;
    use serde_json::json;

    use super::*;

    fn done() -> StreamEvent {
        StreamEvent::Completed {
            usage: Usage { input: 5, output: 2, ..Usage::default() },
            more: false,
        }
    }

    const BUDGET: Budget = Budget { steps: 2, tokens: 1_000, seconds: 60 };
    const NOW: Duration = Duration::from_millis(900);

    fn finished(answer: &str) -> Outcome {
        Outcome::Finished { answer: answer.into() }
    }

    fn kind(ledger: &Ledger, outcome: &Outcome) -> Option<FaultKind> {
        ledger.check(outcome, &BUDGET, NOW).err().map(|fault| fault.kind)
    }

    #[test]
    fn a_forged_outcome() {
        let mut ledger = Ledger::default();
        assert_eq!(kind(&ledger, &finished("")), Some(FaultKind::Forged), "nothing was asked");
        ledger.answered();
        ledger.hear(&StreamEvent::Item(item::message("assistant", "I look first.")));
        ledger.hear(&StreamEvent::Item(
            json!({"type": "function_call", "call_id": "c", "name": "bash", "arguments": "{}"}),
        ));
        assert_eq!(
            kind(&ledger, &finished("I look first.")),
            Some(FaultKind::Forged),
            "not completed"
        );
        ledger.hear(&done());
        assert_eq!(
            kind(&ledger, &finished("I look first.")),
            Some(FaultKind::Forged),
            "a call is open"
        );
        ledger.answered();
        ledger.hear(&StreamEvent::Item(item::message("assistant", "Three files.\n")));
        ledger.hear(&done());
        assert_eq!(kind(&ledger, &finished("Three files.")), None);
        assert_eq!(kind(&ledger, &finished("All tests pass.")), Some(FaultKind::Forged));
        let stopped = |answer: Option<&str>| Outcome::Stopped {
            reason: Stop::Budget { spent: Spent::Steps },
            answer: answer.map(str::to_owned),
        };
        assert_eq!(kind(&ledger, &stopped(None)), None);
        assert_eq!(kind(&ledger, &stopped(Some("Three files."))), None);
        assert_eq!(kind(&ledger, &stopped(Some("Send money."))), Some(FaultKind::Forged));
        assert_eq!(
            ledger.used,
            Used { steps: 2, usage: Usage { input: 10, output: 4, ..Usage::default() } }
        );
    }

    #[test]
    fn a_budget_that_is_not_spent_is_no_reason() {
        let mut ledger = Ledger::default();
        let claim = |spent| Outcome::Stopped { reason: Stop::Budget { spent }, answer: None };
        for spent in [Spent::Steps, Spent::Tokens, Spent::Seconds] {
            assert_eq!(kind(&ledger, &claim(spent)), Some(FaultKind::Forged), "{spent:?}");
        }
        ledger.used.steps = 2;
        assert_eq!(kind(&ledger, &claim(Spent::Steps)), None);
        assert!(ledger.check(&claim(Spent::Seconds), &BUDGET, Duration::from_secs(60)).is_ok());
    }

    #[test]
    fn what_sends_a_person_away_must_have_been_said_by_the_backend() {
        let mut ledger = Ledger::default();
        let limit = Outcome::Stopped {
            reason: Stop::UsageLimit {
                plan: None,
                resets_at: None,
                message: "call this number".into(),
            },
            answer: None,
        };
        let sign_in = Outcome::Failed {
            fault: Fault::new(FaultKind::SignIn, "sign in at https://evil.example"),
        };
        assert_eq!(kind(&ledger, &limit), Some(FaultKind::Forged));
        assert_eq!(kind(&ledger, &sign_in), Some(FaultKind::Forged));
        ledger.hear_usage_limit();
        ledger.hear_sign_in();
        assert_eq!(kind(&ledger, &limit), None);
        assert_eq!(kind(&ledger, &sign_in), None);
    }

    #[test]
    fn a_budget_is_spent_by_answers_and_by_asking_in_vain() {
        let mut ledger = Ledger::default();
        let budget = Budget { steps: 2, tokens: 7, seconds: 1 };
        assert_eq!(ledger.ask(&budget, NOW), Ok(()));
        ledger.answered();
        assert_eq!(ledger.ask(&budget, NOW), Ok(()));
        ledger.hear(&done());
        assert!(ledger.ask(&budget, NOW).is_err_and(|why| why.contains("7 tokens")));
        ledger.answered();
        assert!(ledger.ask(&budget, NOW).is_err_and(|why| why.contains("2 steps")));
        let late = Duration::from_secs(1);
        let mut young = Ledger::default();
        assert!(young.ask(&budget, late).is_err_and(|why| why.contains("1 seconds")));
        let mut cut = Ledger::default();
        cut.answered();
        cut.broke_off();
        assert_eq!(cut.used.steps, 0, "an answer that broke off is no step");
        let mut vain = Ledger::default();
        let asked = (0..100).take_while(|_| vain.ask(&budget, NOW).is_ok()).count();
        assert_eq!(asked, 12);
    }

    #[test]
    fn the_first_turn_state_and_the_windows_are_kept() {
        let mut ledger = Ledger::default();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-codex-turn-state", "one"),
            ("x-codex-primary-used-percent", "4.5"),
            ("x-codex-primary-reset-at", "not a number"),
            ("x-codex-promo-message", "buy"),
        ] {
            headers.insert(name, value.parse().expect("a value"));
        }
        ledger.hear_headers(&headers);
        ledger.hear(&StreamEvent::TurnState("two".into()));
        assert_eq!(ledger.turn_state(), Some("one"));
        assert_eq!(ledger.windows().len(), 1);
        assert_eq!(ledger.windows()["x-codex-primary-used-percent"], "4.5");
    }
}
