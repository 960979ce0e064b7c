//! The agent: a model that is asked, tools that act, and what both have said so far.

mod turn; // ask, act, again

mod acts; // the calls of one answer
mod budget; // what the run may still use
mod history; // what was said, as it is sent again
mod empty_answers; // an answer that calls nothing
pub(crate) mod prompt; // our own words to the model

pub(crate) use acts::ToolRunner;
pub(crate) use budget::BudgetLedger;
pub(crate) use history::History;
pub(crate) use turn::Turn;
