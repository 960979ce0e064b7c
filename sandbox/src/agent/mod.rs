//! The agent: it asks the model, runs the tool calls, and keeps the conversation.

mod turn; // ask the model, run its calls, ask again

mod tool_runner; // the calls of one answer
mod budget; // what the turn may still use
mod history; // the conversation so far
mod empty_answers; // an answer without calls
pub(crate) mod prompt; // our own messages to the model

pub(crate) use budget::BudgetLedger;
pub(crate) use history::History;
pub(crate) use tool_runner::ToolRunner;
pub(crate) use turn::Turn;
