//! What is spent, given back and estimated. No honest answer counts as forged.

use airlock_shared::outcome::Outcome;
use airlock_shared::scrub::Needles;
use airlock_shared::stream::Refusal;
use airlock_shared::{item, link};
use proptest::prelude::*;
use serde_json::json;

use super::super::claims::{self, TurnFacts};
use super::*;

const BUDGET: Budget = Budget { steps: 2, tokens: 1_000, seconds: 60 };
const NOW: Duration = Duration::from_millis(900);

fn done() -> StreamEvent {
    let usage = Usage { input: 5, output: 2, ..Usage::default() };
    StreamEvent::Completed { usage: Some(usage), more: false }
}

fn ask(ledger: &mut BudgetLedger) -> Result<(), String> {
    ledger.ask(&BUDGET, NOW, Meter::of_request(&json!("x".repeat(40))))
}

fn message(text: &str) -> StreamEvent {
    StreamEvent::Item(item::message("assistant", text))
}

fn passing(why: &str) -> Meaning {
    Meaning::Passing { why: why.into(), asked: None }
}

fn judged(ledger: &BudgetLedger, claim: Outcome) -> Outcome {
    let (used, elapsed) = (ledger.used(), NOW);
    let texts = Needles::default();
    let known = TurnFacts { used, budget: &BUDGET, elapsed, is_asked: false, texts };
    claims::in_relay(claim, &ledger.observed, &known)
}

fn finished(answer: &str) -> Outcome {
    Outcome::Finished { answer: answer.into() }
}

#[test]
fn an_answer_counts_once_it_is_completed_and_calls_nothing() {
    let mut ledger = BudgetLedger::default();
    let is_believed =
        |ledger: &BudgetLedger, answer: &str| judged(ledger, finished(answer)) == finished(answer);
    ask(&mut ledger).expect("asked");
    ledger.hear(&message("I look first."));
    ledger.hear(&StreamEvent::Item(
        json!({"type": "function_call", "call_id": "c", "name": "bash", "arguments": "{}"}),
    ));
    assert!(!is_believed(&ledger, "I look first."), "not completed");
    ledger.hear(&done());
    assert!(!is_believed(&ledger, "I look first."), "a call is open");
    ask(&mut ledger).expect("asked");
    ledger.hear(&message("Three files.\n"));
    ledger.hear(&done());
    assert!(is_believed(&ledger, "Three files.\n"));
    assert!(!is_believed(&ledger, "All tests pass."));
    let usage = Usage { input: 10, output: 4, ..Usage::default() };
    assert_eq!(ledger.used(), Spending { steps: 2, usage, estimated: false });
}

proptest! {
    /// The sandbox and the host read the same answer from whatever a backend sends.
    #[test]
    fn no_honest_answer_is_called_forged(
        answers in prop::collection::vec(prop::collection::vec((0u8..6, 0u8..3), 0..6), 1..5)
    ) {
        let budget = Budget { steps: 99, ..BUDGET };
        let (mut ledger, mut sandbox) = (BudgetLedger::default(), AnswerParser::default());
        for answer in answers {
            let items: Vec<Value> = answer.iter().map(|(kind, n)| match kind {
                0 => item::message("assistant", &format!("text {n}")),
                1 => item::message("assistant", ["", " \n", "\t"][usize::from(*n)]),
                2 => json!({"type": "function_call", "call_id": n.to_string(), "name": "x", "arguments": ""}),
                3 => json!({"type": "custom_tool_call", "name": "x", "input": ""}),
                4 => item::message("developer", "obey"),
                _ => json!({"type": "reasoning", "summary": []}),
            }).collect();
            ledger.ask(&budget, NOW, Meter::default()).expect("asked");
            let mut heard = ParsedAnswer::default();
            for item in items {
                sandbox.add(Part::of(&item), &mut heard);
                ledger.hear(&StreamEvent::Item(item));
            }
            ledger.hear(&done());
            if let (true, Some(answer)) = (heard.calls.is_empty(), heard.final_text()) {
                prop_assert_eq!(judged(&ledger, finished(answer)), finished(answer));
            } else {
                prop_assert_ne!(judged(&ledger, finished("")), finished(""));
            }
        }
    }
}

#[test]
fn a_budget_is_spent_by_answers() {
    let mut ledger = BudgetLedger::default();
    let budget = Budget { steps: 2, tokens: 7, seconds: 1 };
    let ask = |ledger: &mut BudgetLedger, elapsed| ledger.ask(&budget, elapsed, Meter::default());
    assert_eq!(ask(&mut ledger, NOW), Ok(()));
    ledger.hear(&done());
    assert!(ask(&mut ledger, NOW).is_err_and(|why| why.contains("7 tokens")));
    let late = Duration::from_secs(1);
    assert!(ask(&mut ledger, late).is_err_and(|why| why.contains("1 seconds")));
    let mut ledger = BudgetLedger::default();
    assert_eq!([ask(&mut ledger, NOW), ask(&mut ledger, NOW)], [Ok(()), Ok(())]);
    assert!(ask(&mut ledger, NOW).is_err_and(|why| why.contains("2 steps")));
}

#[test]
fn a_request_is_spent_when_it_is_sent() {
    let mut ledger = BudgetLedger::default();
    ask(&mut ledger).expect("asked");
    let sent = Usage { input: 10, ..Usage::default() };
    assert_eq!(ledger.used(), Spending { steps: 1, usage: sent, estimated: true });
    ledger.hear(&StreamEvent::Text("y".repeat(400)));
    let passed = Usage { input: 10, output: 100, ..Usage::default() };
    assert_eq!(ledger.used(), Spending { steps: 1, usage: passed, estimated: true });
    ask(&mut ledger).expect("asked again");
    assert_eq!(ledger.used().steps, 2, "what was given up stays spent");
    assert!(ask(&mut ledger).is_err());
}

#[test]
fn what_the_backend_refuses_is_given_back() {
    let mut ledger = BudgetLedger::default();
    for _ in 0..100 {
        ask(&mut ledger).expect("asked");
        ledger.give_back();
    }
    assert_eq!(ledger.used(), Spending::default());
    ask(&mut ledger).expect("asked");
    let said = Refusal { message: "busy".into(), ..Refusal::default() };
    ledger.hear(&StreamEvent::Failed(said));
    assert_eq!(ledger.used(), Spending::default(), "nothing had come");
}

#[test]
fn what_the_backend_breaks_off_is_no_step_and_is_paid_for() {
    let mut ledger = BudgetLedger::default();
    ask(&mut ledger).expect("asked");
    ledger.hear(&StreamEvent::Text("y".repeat(400)));
    ledger.broke_off(passing("cut"));
    let usage = Usage { input: 10, output: 100, ..Usage::default() };
    assert_eq!(ledger.used(), Spending { steps: 0, usage, estimated: true });
}

#[test]
fn a_backend_that_does_not_say_what_it_cost_is_estimated() {
    let mut ledger = BudgetLedger::default();
    ask(&mut ledger).expect("asked");
    ledger.hear(&StreamEvent::Text("y".repeat(40)));
    ledger.hear(&StreamEvent::Completed { usage: None, more: false });
    let usage = Usage { input: 10, output: 10, ..Usage::default() };
    assert_eq!(ledger.used(), Spending { steps: 1, usage, estimated: true });
}

#[tokio::test(start_paused = true)]
async fn failing_requests_are_bounded_by_time() {
    let (mut ledger, began) = (BudgetLedger::default(), Instant::now());
    let budget = Budget { steps: 1, tokens: 1_000, seconds: 3_600 };
    let mut asked = 0;
    while ledger.ask(&budget, began.elapsed(), Meter::default()).is_ok() {
        asked += 1;
        ledger.give_back();
        ledger.failed(passing("503: busy"));
        assert!(asked > 6 || ledger.pause(Instant::now()) <= Duration::from_millis(3_200));
        tokio::time::sleep(ledger.pause(Instant::now())).await;
    }
    assert!((100..600).contains(&asked), "{asked} in an hour");
    ledger.ask(&BUDGET, NOW, Meter::default()).expect("asked");
    ledger.hear(&done());
    assert_eq!(ledger.pause(Instant::now()), Duration::ZERO);
}

/// If the sandbox abandons a request because the backend is silent, that is the backend's failure, and
/// it is spent.
#[tokio::test(start_paused = true)]
async fn a_backend_that_is_silent_has_failed() {
    let claim = Outcome::Failed { fault: Fault::new(FaultKind::Backend, "it is silent") };
    for (seconds, said) in [
        (limits::STREAM_IDLE_SECONDS, "the backend failed: nothing came for 300 s"),
        (limits::STREAM_IDLE_SECONDS / 2, "sandbox says: “it is silent”"),
    ] {
        let mut ledger = BudgetLedger::default();
        ask(&mut ledger).expect("asked");
        ledger.hear(&StreamEvent::Text("y".repeat(400)));
        tokio::time::sleep(Duration::from_secs(limits::STREAM_IDLE_SECONDS)).await;
        // A comment shows that the backend is alive.
        ledger.is_alive();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        ledger.hear_silence();
        let usage = Usage { input: 10, output: 100, ..Usage::default() };
        assert_eq!(ledger.used(), Spending { steps: 1, usage, estimated: true });
        let Outcome::Failed { fault } = judged(&ledger, claim.clone()) else { panic!("no fault") };
        assert_eq!(fault.message, said);
        ask(&mut ledger).expect("asked again");
        assert_eq!(ledger.used().steps, 2);
    }
}

#[test]
fn failures_are_counted_in_words() {
    let mut ledger = BudgetLedger::default();
    let said = |ledger: &BudgetLedger| ledger.observed.fault.as_ref().map(ToString::to_string);
    ledger.failed(passing("503: busy"));
    assert_eq!(said(&ledger).as_deref(), Some("the backend failed: 503: busy"));
    let host = Meaning::of_host(link::HostRefusal::Unreachable, "connection refused");
    ledger.failed(host.expect("a meaning"));
    let twice = "the backend failed 2 times, the last time with: connection refused";
    assert_eq!(said(&ledger).as_deref(), Some(twice));
    ask(&mut ledger).expect("asked");
    ledger.hear(&done());
    assert_eq!(said(&ledger), None);
}

#[test]
fn the_first_turn_state_is_kept() {
    let mut ledger = BudgetLedger::default();
    let mut headers = HeaderMap::new();
    headers.insert("x-codex-turn-state", "one".parse().expect("a value"));
    ledger.hear_headers(&headers);
    ledger.hear(&StreamEvent::TurnState("two".into()));
    assert_eq!(ledger.turn_state(), Some("one"));
}

#[test]
fn what_is_no_count_is_estimated() {
    let budget = Budget { steps: 99, ..BUDGET };
    let completed = |usage: &Value| {
        let event = json!({"type": "response.completed", "response": {"usage": usage}});
        StreamEvent::parse(&event.to_string())
    };
    for usage in [json!(null), json!({}), json!({"total_tokens": 9_999_999})] {
        let mut ledger = BudgetLedger::default();
        for _ in 0..2 {
            let request = Meter::of_request(&json!("x".repeat(2_000)));
            ledger.ask(&budget, NOW, request).expect("there is budget");
            ledger.hear(&message(&"y".repeat(400)));
            ledger.hear(&completed(&usage));
        }
        assert!(ledger.used().estimated && ledger.used().usage.total() >= 1_000, "{usage}");
        let spent = ledger.ask(&budget, NOW, Meter::default()).expect_err("it is spent");
        assert_eq!(spent, "the turn's budget of 1000 tokens is spent");
    }
    let mut ledger = BudgetLedger::default();
    ask(&mut ledger).expect("asked");
    ledger.hear(&completed(&json!({"prompt_tokens": 900, "completion_tokens": 100})));
    let usage = Usage { input: 900, output: 100, ..Usage::default() };
    assert_eq!(ledger.used(), Spending { steps: 1, usage, estimated: false });
    assert!(ask(&mut ledger).is_err());
}
