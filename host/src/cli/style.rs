//! Colour: only on a terminal, and never the only sign of anything.

use crate::cli::environment::Environment;

/// Whether to use colour, decided once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    coloured: bool,
}

impl Style {
    /// Respects <https://no-color.org> and terminals without colour.
    #[must_use]
    pub fn of(environment: &Environment, is_terminal: bool) -> Self {
        let plain = environment.text("NO_COLOR").is_some()
            || environment.text("TERM").is_none_or(|terminal| terminal == "dumb");
        Self { coloured: is_terminal && !plain }
    }

    fn sgr(self, code: &str, text: &str) -> String {
        if self.coloured && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    /// For success.
    #[must_use]
    pub fn good(self, text: &str) -> String {
        self.sgr("32", text)
    }

    /// For errors.
    #[must_use]
    pub fn bad(self, text: &str) -> String {
        self.sgr("31", text)
    }

    /// For less important text.
    #[must_use]
    pub fn faint(self, text: &str) -> String {
        self.sgr("2", text)
    }
}
