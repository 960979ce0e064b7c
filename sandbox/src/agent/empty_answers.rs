//! An answer that calls nothing: the end, or not yet. Pure.

/// Answers in a row that say nothing at all before the run is given up.
const EMPTY_IN_A_ROW: u32 = 3;
/// Answers in a row that ask for another turn without a call before the last is taken as final.
const MORE_IN_A_ROW: u32 = 8;

#[derive(Default)]
pub(crate) struct EmptyAnswerPolicy {
    empty: u32,
    more: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EmptyAnswerVerdict {
    /// It is the answer.
    Done,
    /// The model wants to go on.
    GoOn,
    /// It said nothing: remind it.
    Remind,
    /// It said nothing, again and again.
    GiveUp,
}

impl EmptyAnswerPolicy {
    /// An answer came that called something.
    pub(crate) fn restore(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn judge(&mut self, said_something: bool, more: bool) -> EmptyAnswerVerdict {
        if more && self.more < MORE_IN_A_ROW {
            self.more += 1;
            return EmptyAnswerVerdict::GoOn;
        }
        if said_something {
            return EmptyAnswerVerdict::Done;
        }
        self.empty += 1;
        if self.empty < EMPTY_IN_A_ROW {
            EmptyAnswerVerdict::Remind
        } else {
            EmptyAnswerVerdict::GiveUp
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_answer_is_asked_about_and_then_given_up() {
        let mut empty_answers = EmptyAnswerPolicy::default();
        assert_eq!(empty_answers.judge(false, false), EmptyAnswerVerdict::Remind);
        assert_eq!(empty_answers.judge(false, false), EmptyAnswerVerdict::Remind);
        assert_eq!(empty_answers.judge(false, false), EmptyAnswerVerdict::GiveUp);
        empty_answers.restore();
        assert_eq!(empty_answers.judge(false, false), EmptyAnswerVerdict::Remind);
        assert_eq!(empty_answers.judge(true, false), EmptyAnswerVerdict::Done);
    }

    #[test]
    fn a_model_that_always_wants_more_comes_to_an_end() {
        let mut empty_answers = EmptyAnswerPolicy::default();
        for _ in 0..MORE_IN_A_ROW {
            assert_eq!(empty_answers.judge(true, true), EmptyAnswerVerdict::GoOn);
        }
        assert_eq!(empty_answers.judge(true, true), EmptyAnswerVerdict::Done);
    }
}
