//! An answer that calls nothing: the end, or not yet. Pure.

/// Answers in a row that say nothing at all before the run is given up.
const EMPTY_IN_A_ROW: u32 = 3;
/// Answers in a row that ask for another turn without a call before the last is taken as final.
const MORE_IN_A_ROW: u32 = 8;

#[derive(Default)]
pub(crate) struct Patience {
    empty: u32,
    more: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the answer.
    Done,
    /// The model wants to go on.
    GoOn,
    /// It said nothing: remind it.
    Remind,
    /// It said nothing, again and again.
    GiveUp,
}

impl Patience {
    /// An answer came that called something.
    pub(crate) fn restore(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn judge(&mut self, said_something: bool, more: bool) -> Verdict {
        if more && self.more < MORE_IN_A_ROW {
            self.more += 1;
            return Verdict::GoOn;
        }
        if said_something {
            return Verdict::Done;
        }
        self.empty += 1;
        if self.empty < EMPTY_IN_A_ROW { Verdict::Remind } else { Verdict::GiveUp }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_answer_is_asked_about_and_then_given_up() {
        let mut patience = Patience::default();
        assert_eq!(patience.judge(false, false), Verdict::Remind);
        assert_eq!(patience.judge(false, false), Verdict::Remind);
        assert_eq!(patience.judge(false, false), Verdict::GiveUp);
        patience.restore();
        assert_eq!(patience.judge(false, false), Verdict::Remind);
        assert_eq!(patience.judge(true, false), Verdict::Done);
    }

    #[test]
    fn a_model_that_always_wants_more_comes_to_an_end() {
        let mut patience = Patience::default();
        for _ in 0..MORE_IN_A_ROW {
            assert_eq!(patience.judge(true, true), Verdict::GoOn);
        }
        assert_eq!(patience.judge(true, true), Verdict::Done);
    }
}
