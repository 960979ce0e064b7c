//! What the turn may still use: steps, and tokens as the backend reports them. Pure. The seconds
//! are a deadline in `turn`.

use airlock_shared::job::Budget;
use airlock_shared::outcome::Spent;
use airlock_shared::stream::Usage;

pub(crate) struct BudgetLedger {
    budget: Budget,
    steps: u32,
    tokens: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// Ask the model. `n` counts from 1, and the last request has no tools.
    Ask {
        n: u32,
        last: bool,
    },
    Spent(Spent),
}

impl BudgetLedger {
    pub(crate) fn new(budget: Budget) -> Self {
        Self { budget, steps: 0, tokens: 0 }
    }

    pub(crate) fn next(&self) -> NextStep {
        if self.steps >= self.budget.steps {
            return NextStep::Spent(Spent::Steps);
        }
        if self.tokens >= self.budget.tokens {
            return NextStep::Spent(Spent::Tokens);
        }
        NextStep::Ask { n: self.steps + 1, last: self.steps + 1 == self.budget.steps }
    }

    /// Counts an answer. `lost`: the usage of tries that broke off, which are no steps.
    pub(crate) fn count(&mut self, usage: Usage, lost: Usage) {
        self.steps += 1;
        self.tokens = self.tokens.saturating_add(usage.total()).saturating_add(lost.total());
    }

    /// Which budget is spent, if the host says that one is.
    pub(crate) fn spent_by_host(&self, out_of_time: bool) -> Spent {
        match self.next() {
            _ if out_of_time => Spent::Seconds,
            NextStep::Spent(spent) => spent,
            NextStep::Ask { .. } => Spent::Steps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_step_is_known_before_it_is_taken() {
        let mut ledger = BudgetLedger::new(Budget { steps: 2, tokens: 10, seconds: 1 });
        assert_eq!(ledger.next(), NextStep::Ask { n: 1, last: false });
        ledger.count(Usage { input: 3, output: 2, ..Usage::default() }, Usage::default());
        assert_eq!(ledger.next(), NextStep::Ask { n: 2, last: true });
        ledger.count(Usage::default(), Usage::default());
        assert_eq!(ledger.next(), NextStep::Spent(Spent::Steps));
    }

    #[test]
    fn spent_tokens_end_the_turn() {
        let mut ledger = BudgetLedger::new(Budget { steps: 9, tokens: 10, seconds: 1 });
        ledger.count(
            Usage { input: u64::MAX, output: u64::MAX, ..Usage::default() },
            Usage::default(),
        );
        assert_eq!(ledger.next(), NextStep::Spent(Spent::Tokens));
        assert_eq!(ledger.spent_by_host(false), Spent::Tokens);
        assert_eq!(ledger.spent_by_host(true), Spent::Seconds);
    }

    #[test]
    fn tokens_of_tries_that_broke_off_count() {
        let mut ledger = BudgetLedger::new(Budget { steps: 9, tokens: 10, seconds: 1 });
        ledger.count(Usage::default(), Usage { output: 10, ..Usage::default() });
        assert_eq!(ledger.next(), NextStep::Spent(Spent::Tokens));
    }

    #[test]
    fn an_empty_budget_is_spent_at_once() {
        let ledger = BudgetLedger::new(Budget { steps: 0, tokens: 0, seconds: 0 });
        assert_eq!(ledger.next(), NextStep::Spent(Spent::Steps));
    }
}
