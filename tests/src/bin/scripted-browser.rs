//! A program in a browser's place: `BROWSER=scripted-browser`. It goes to the address it is given
//! and agrees to what it is asked there. What it saw is added to the file named by
//! `SCRIPTED_BROWSER_LOG`, a line of JSON an answer.
//!
//! `SCRIPTED_BROWSER=deny` presses the other button; `look` goes no further than the first page;
//! `note` goes nowhere, and writes down the address alone.

use std::io::Write as _;
use std::process::ExitCode;

use airlock_tests::browser::Browser;
use serde_json::json;

fn main() -> ExitCode {
    let Some(url) = std::env::args().nth(1) else { return ExitCode::from(2) };
    let mut browser = Browser::default();
    let mode = std::env::var("SCRIPTED_BROWSER").unwrap_or_default();
    let ended = if mode == "note" { Ok(()) } else { visit(&mut browser, &url, &mode) };
    if let Some(file) = std::env::var_os("SCRIPTED_BROWSER_LOG") {
        let log = std::fs::OpenOptions::new().append(true).create(true).open(file);
        if let Ok(mut log) = log {
            // Whoever looks at it misses the line.
            drop(writeln!(log, "{}", json!({"argument": url})));
            for seen in &browser.seen {
                let line = json!({
                    "url": seen.url, "status": seen.status, "headers": seen.headers,
                    "body": seen.body,
                });
                drop(writeln!(log, "{line}"));
            }
        }
    }
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn visit(browser: &mut Browser, url: &str, mode: &str) -> Result<(), String> {
    let page = browser.go(url)?;
    if mode != "look" && page.body.contains("<form") {
        let answer = if mode == "deny" { "deny" } else { "allow" };
        browser.press(&page, ("answer", answer))?;
    }
    Ok(())
}
