//! Records and changes as people and programs read them: `runs`, `show`, `apply`, `discard`. Plain
//! values in, text out; where they come from is the store's business.

pub mod changes; // what apply and discard did
pub mod triggers; // the names that apply goes by
pub mod session; // one record: a row of a table, or all of it
pub mod sign_in; // signing in, line by line
pub mod logins; // what status and logout say

use serde_json::Value;

use crate::neutral;

/// One object on a line of its own, its fields in this order after `"v":1`.
fn object(fields: &[(&str, Value)]) -> String {
    let mut text = "{\"v\":1".to_owned();
    for (name, value) in fields {
        text.push_str(&format!(",\"{name}\":{value}"));
    }
    text.push('}');
    neutral::json(text) + "\n"
}
