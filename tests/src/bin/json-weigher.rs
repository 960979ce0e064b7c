//! Parses the lines of JSON on its stdin to values, holds them all, and says how much memory it
//! ever had: what a reader needs that takes things as they come.

#![expect(clippy::print_stdout, reason = "a program for tests")]

use std::io::BufRead as _;

fn main() {
    let lines = std::io::stdin().lock().split(b'\n').map_while(Result::ok);
    let values: Vec<serde_json::Value> =
        lines.filter_map(|line| serde_json::from_slice(&line).ok()).collect();
    println!("{} {}", values.len(), airlock_tests::peak::of("self").unwrap_or_default());
}
