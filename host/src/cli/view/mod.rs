//! Records and changes as people and programs read them: `runs`, `show`, `apply`, `discard`. Plain
//! values in, text out; where they come from is the store's business.

pub mod changes; // what apply and discard did
pub mod run; // one record: a row of a table, or all of it
