//! What to do after an answer without calls. Pure.

/// After this many empty answers in a row the turn fails.
const EMPTY_IN_A_ROW: u32 = 3;
/// The model may ask to go on without a call this often in a row. The next answer is final.
const MORE_IN_A_ROW: u32 = 8;

#[derive(Default)]
pub(crate) struct EmptyAnswerPolicy {
    empty: u32,
    more: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EmptyAnswerVerdict {
    /// It is the final answer.
    Done,
    /// The model wants to go on.
    Continue,
    /// The answer is empty: remind the model.
    Remind,
    /// Too many answers were empty.
    GiveUp,
}

impl EmptyAnswerPolicy {
    /// Call this after an answer with calls.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn judge(&mut self, has_text: bool, more: bool) -> EmptyAnswerVerdict {
        if more && self.more < MORE_IN_A_ROW {
            self.more += 1;
            return EmptyAnswerVerdict::Continue;
        }
        if has_text {
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
    fn an_empty_answer_gets_reminders_and_then_fails() {
        let mut empty_answers = EmptyAnswerPolicy::default();
        assert_eq!(empty_answers.judge(false, false), EmptyAnswerVerdict::Remind);
        assert_eq!(empty_answers.judge(false, false), EmptyAnswerVerdict::Remind);
        assert_eq!(empty_answers.judge(false, false), EmptyAnswerVerdict::GiveUp);
        empty_answers.reset();
        assert_eq!(empty_answers.judge(false, false), EmptyAnswerVerdict::Remind);
        assert_eq!(empty_answers.judge(true, false), EmptyAnswerVerdict::Done);
    }

    #[test]
    fn a_model_that_always_wants_more_comes_to_an_end() {
        let mut empty_answers = EmptyAnswerPolicy::default();
        for _ in 0..MORE_IN_A_ROW {
            assert_eq!(empty_answers.judge(true, true), EmptyAnswerVerdict::Continue);
        }
        assert_eq!(empty_answers.judge(true, true), EmptyAnswerVerdict::Done);
    }
}
