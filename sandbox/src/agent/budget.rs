//! What a run may still use: steps and tokens as the backend reports them. Pure; the seconds are a
//! deadline that the turn waits on.

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
    /// Ask; `n` counts from 1, and the last one is asked without tools.
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

    /// A request was answered. `lost`: what went into tries that broke off, which are no steps.
    pub(crate) fn count(&mut self, usage: Usage, lost: Usage) {
        self.steps += 1;
        self.tokens = self.tokens.saturating_add(usage.total()).saturating_add(lost.total());
    }

    /// Which budget the host means when it says that one is spent: ours if we see it too.
    pub(crate) fn spent_elsewhere(&self, out_of_time: bool) -> Spent {
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
    fn tokens_that_were_used_end_the_run() {
        let mut ledger = BudgetLedger::new(Budget { steps: 9, tokens: 10, seconds: 1 });
        ledger.count(
            Usage { input: u64::MAX, output: u64::MAX, ..Usage::default() },
            Usage::default(),
        );
        assert_eq!(ledger.next(), NextStep::Spent(Spent::Tokens));
        assert_eq!(ledger.spent_elsewhere(false), Spent::Tokens);
        assert_eq!(ledger.spent_elsewhere(true), Spent::Seconds);
    }

    #[test]
    fn tokens_of_tries_that_broke_off_count() {
        let mut ledger = BudgetLedger::new(Budget { steps: 9, tokens: 10, seconds: 1 });
        ledger.count(Usage::default(), Usage { output: 10, ..Usage::default() });
        assert_eq!(ledger.next(), NextStep::Spent(Spent::Tokens));
    }

    #[test]
    fn nothing_may_be_nothing() {
        let ledger = BudgetLedger::new(Budget { steps: 0, tokens: 0, seconds: 0 });
        assert_eq!(ledger.next(), NextStep::Spent(Spent::Steps));
    }
}
