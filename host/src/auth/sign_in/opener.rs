//! Starts the person's browser, if that is a program with a window of its own.
//!
//! A text browser would take this terminal, on which the other ways are shown and an address may be
//! pasted. Nobody could sign in with one either: the issuer's page needs scripts.

use std::path::Path;

use webbrowser::{Browser, BrowserOptions};

/// Programs that take the terminal, or only fetch.
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
/// Any of these says that a window can be shown.
const DISPLAYS: [&str; 3] = ["DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"];

/// Whether a browser was started at this address.
pub(super) fn open(address: &str) -> bool {
    let said = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let has_display = !cfg!(target_os = "linux") || DISPLAYS.iter().any(|it| said(it).is_some());
    if !has_window(said("BROWSER").as_deref(), has_display) {
        return false;
    }
    let mut options = BrowserOptions::new();
    // Nothing of a browser's is shown between our lines, and it reads nothing of what is pasted.
    options.with_suppress_output(true);
    webbrowser::open_browser_with_options(Browser::Default, address, &options).is_ok()
}

/// `browser`: `$BROWSER`, commands between colons. Without it the desktop's own is taken; where
/// there is no desktop that would be a text browser.
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
