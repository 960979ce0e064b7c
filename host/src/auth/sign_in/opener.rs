//! Starts the person's browser, if it has a window of its own.
//!
//! A text browser would use this terminal, where the other methods are shown and an address can be
//! pasted. It could not sign in either, because the issuer's page needs scripts.

use std::path::Path;

use webbrowser::{Browser, BrowserOptions};

/// Programs that use the terminal or only download.
const TEXT_BROWSERS: [&str; 12] = [
    "lynx",
    "links",
    "links2",
    "elinks",
    "w3m",
    "eww",
    "netrik",
    "retawq",
    "browsh",
    "curl",
    "wget",
    "www-browser",
];
/// If one of these is set, a window can be shown.
const DISPLAYS: [&str; 3] = ["DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"];

/// Opens the address in the browser. True: the browser was started.
pub(super) fn open(address: &str) -> bool {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let has_display =
        !cfg!(target_os = "linux") || DISPLAYS.iter().any(|name| variable(name).is_some());
    if !has_window(variable("BROWSER").as_deref(), has_display) {
        return false;
    }
    let mut options = BrowserOptions::new();
    // The browser writes nothing to this terminal and reads nothing from it.
    options.with_suppress_output(true);
    webbrowser::open_browser_with_options(Browser::Default, address, &options).is_ok()
}

/// Whether the browser has a window. `browser`: `$BROWSER`, commands separated by colons. Without
/// it the desktop's browser is used; without a desktop that would be a text browser.
fn has_window(browser: Option<&str>, has_display: bool) -> bool {
    let Some(commands) = browser else { return has_display };
    let programs = commands.split(':').filter_map(|command| command.split_whitespace().next());
    let names = programs.filter_map(|program| Path::new(program).file_name()?.to_str());
    !names.into_iter().any(|name| TEXT_BROWSERS.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_browser_is_started() {
        for text in ["lynx", "/usr/bin/w3m", "links -g %s", "firefox:elinks", "www-browser", "curl"]
        {
            assert!(!has_window(Some(text), true), "{text}");
        }
        for window in ["firefox", "/opt/links.app/browser %s", "code --open-url %s"] {
            assert!(has_window(Some(window), false), "{window}");
        }
        assert!(has_window(None, true) && !has_window(None, false));
    }
}
