//! Shows records, changes and logins to people and programs. Plain values in, text out.

pub mod changes; // what apply and discard did
pub mod triggers; // the file names that apply checks
pub mod session; // one record: as a row of a table, or complete
pub mod sign_in; // a sign-in, line by line
pub mod logins; // the output of status and logout

use serde_json::Value;

use crate::sanitize;

/// One JSON object on its own line, with its fields in this order after `"v":1`.
fn object(fields: &[(&str, Value)]) -> String {
    let mut text = "{\"v\":1".to_owned();
    for (name, value) in fields {
        text.push_str(&format!(",\"{name}\":{value}"));
    }
    text.push('}');
    sanitize::json(text) + "\n"
}
