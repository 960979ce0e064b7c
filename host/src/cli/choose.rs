//! Asks for a model at a terminal: by number, by name, or by a part of a name. The text that is
//! shown and the meaning of an answer are pure.
//!
//! Deliberately absent: cursor movement, and terminal modes that must be restored.

use std::io::{IsTerminal, Write};

use futures_util::future::BoxFuture;

use crate::cli::outlet::Outlet;
use crate::cli::progress::labelled;
use crate::cli::style::Style;
use crate::cli::typed;
use crate::sanitize;
use crate::session::{AskReason, Person, Question};
use crate::text::{self, COLUMNS};

/// Wrong answers before the session ends.
const TRIES: u32 = 3;
/// The rows of a terminal of unknown size.
const ROWS: usize = 24;
/// Rows without a name: the question, the number of further names, the answer.
const OTHER_ROWS: usize = 5;
/// The most columns of an answer that are quoted.
const QUOTED_COLUMNS: usize = 40;

/// The person at this process's terminal.
pub(super) struct AtTerminal {
    err: Outlet,
    rows: usize,
    style: Style,
}

impl AtTerminal {
    /// None: stdin or stderr is not a terminal, so no person can be asked. `err`: stderr.
    pub(super) fn of_this_process(err: Outlet, style: Style) -> Option<Self> {
        let (stdin, stderr) = (std::io::stdin(), std::io::stderr());
        if !stdin.is_terminal() || !stderr.is_terminal() {
            return None;
        }
        let rows = rustix::termios::tcgetwinsize(stderr).map(|size| usize::from(size.ws_row));
        let rows = rows.ok().filter(|rows| *rows > 0).unwrap_or(ROWS);
        Some(Self { err, rows, style })
    }
}

impl Person for AtTerminal {
    fn choose<'a>(&'a mut self, question: &'a Question) -> BoxFuture<'a, Option<String>> {
        Box::pin(async move {
            let (mut choosing, mut text) = Choosing::begin(question, self.rows, self.style);
            loop {
                let mut open = OpenLine::ask(&mut self.err, &text);
                let answer = typed::line_of_stdin().await?;
                open.is_ended = true;
                drop(open);
                match choosing.answer(answer.reveal()) {
                    Answered::Chosen(name) => return Some(name),
                    Answered::Again(again) => text = again,
                    Answered::GivenUp => return None,
                }
            }
        })
    }
}

/// A line that waits for an answer. If there is none (Ctrl-C, end of input), the line is ended, so
/// that the next text has its own line.
struct OpenLine<'a> {
    err: &'a mut Outlet,
    is_ended: bool,
}

impl<'a> OpenLine<'a> {
    /// Errors are ignored: if the terminal is gone, its input ends too.
    fn ask(err: &'a mut Outlet, text: &str) -> Self {
        let _ignored = err.write_all(text.as_bytes());
        Self { err, is_ended: false }
    }
}

impl Drop for OpenLine<'_> {
    fn drop(&mut self) {
        if !self.is_ended {
            let _ignored = self.err.write_all(b"\n");
        }
    }
}

/// The meaning of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Answered {
    Chosen(String),
    /// The text before the next answer.
    Again(String),
    GivenUp,
}

/// The dialogue: all names, and those that are shown now.
struct Choosing<'a> {
    names: &'a [String],
    shown: Vec<&'a str>,
    rows: usize,
    wrong: u32,
    style: Style,
}

impl<'a> Choosing<'a> {
    /// Starts the dialogue; also returns the first question.
    fn begin(question: &'a Question, rows: usize, style: Style) -> (Self, String) {
        let names = &question.names;
        let shown = names.iter().map(String::as_str).collect();
        let rows = rows.saturating_sub(OTHER_ROWS).max(1);
        let choosing = Self { names, shown, rows, wrong: 0, style };
        let models = text::counted(names.len() as u64, "model");
        let why = match &question.why {
            AskReason::NoDefault => format!("the backend lists {models} and has no default"),
            AskReason::Requested => format!("the backend lists {models}"),
            AskReason::NotListed(slug) => {
                let slug = sanitize::line(slug);
                format!(
                    "{slug} is stored with the login, but the backend does not list it any more"
                )
            }
        };
        let text = labelled("model", &format!("{why}. Which one?"), COLUMNS, style);
        let text = format!("{text}\n{}", choosing.list());
        (choosing, text)
    }

    fn list(&self) -> String {
        let numbered = self.shown.iter().take(self.rows).enumerate();
        let mut list: String =
            numbered.map(|(at, name)| format!("{:>9}  {name}\n", at + 1)).collect();
        let more = self.shown.len().saturating_sub(self.rows);
        if more > 0 {
            list += &self.line(&format!(
                "and {more} more: type a part of a name to see the names that contain it"
            ));
        }
        list + &self.prompt()
    }

    fn line(&self, text: &str) -> String {
        labelled("", text, COLUMNS, self.style) + "\n"
    }

    fn prompt(&self) -> String {
        labelled("", "type its number, its name, or a part of its name:", COLUMNS, self.style) + " "
    }

    /// A number wins over a name: the person reads the number beside the name, and a backend may
    /// have a model with the name `1`.
    fn answer(&mut self, typed: &str) -> Answered {
        let typed = typed.trim();
        let mut seen = self.shown.iter().take(self.rows);
        let number = typed.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        if let Some(name) = number.and_then(|at| seen.nth(at)) {
            return Answered::Chosen((*name).to_owned());
        }
        if let Some(name) = self.names.iter().find(|name| *name == typed) {
            return Answered::Chosen(name.clone());
        }
        let part = typed.to_ascii_lowercase();
        let has = |name: &&str| !part.is_empty() && name.to_ascii_lowercase().contains(&part);
        let found: Vec<&str> = self.names.iter().map(String::as_str).filter(has).collect();
        match found.as_slice() {
            [] => {
                self.wrong += 1;
                if self.wrong == TRIES {
                    return Answered::GivenUp;
                }
                let typed = text::truncate(&sanitize::line(typed), QUOTED_COLUMNS);
                let text = match typed.as_str() {
                    "" => "nothing was typed".to_owned(),
                    typed => format!("no model's name contains `{typed}`"),
                };
                Answered::Again(self.line(&text) + &self.prompt())
            }
            [name] => Answered::Chosen((*name).to_owned()),
            _ => {
                self.shown = found;
                Answered::Again(self.list())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(why: AskReason, names: &[&str]) -> Question {
        Question { why, names: names.iter().map(|&name| name.to_owned()).collect() }
    }

    fn chosen(name: &str) -> Answered {
        Answered::Chosen(name.to_owned())
    }

    const PROMPT: &str = "           type its number, its name, or a part of its name: ";

    #[test]
    fn a_few_models_are_shown_and_chosen_by_number_name_or_part() {
        let question = question(AskReason::NoDefault, &["dall-e-2", "gpt-5.5", "GPT-4", "2"]);
        let begin = || Choosing::begin(&question, 24, Style::default());
        let expected = "model      the backend lists 4 models and has no default. Which one?\n        \
                        1  dall-e-2\n        2  gpt-5.5\n        3  GPT-4\n        4  2\n";
        assert_eq!(begin().1, format!("{expected}{PROMPT}"));
        let answers = [
            ("1", "dall-e-2"),
            (" 2 ", "gpt-5.5"),
            ("4", "2"),
            ("GPT-4", "GPT-4"),
            ("dall", "dall-e-2"),
            ("gpt-4", "GPT-4"),
        ];
        for (typed, expected) in answers {
            assert_eq!(begin().0.answer(typed), chosen(expected), "{typed}");
        }
        let several = format!("        1  gpt-5.5\n        2  GPT-4\n{PROMPT}");
        let mut choosing = begin().0;
        assert_eq!(choosing.answer("gpt"), Answered::Again(several));
        assert_eq!(choosing.answer("1"), chosen("gpt-5.5"));
    }

    #[test]
    fn of_many_models_one_screen_is_shown_and_a_part_finds_the_others() {
        let names: Vec<String> = (1..=300).map(|n| format!("m-{n:03}")).collect();
        let question = Question { why: AskReason::Requested, names };
        let (mut choosing, text) = Choosing::begin(&question, 24, Style::default());
        assert_eq!(text.lines().count(), 22);
        assert!(
            text.starts_with("model      the backend lists 300 models. Which one?\n"),
            "{text}"
        );
        assert!(text.contains("       19  m-019\n           and 281 more: "), "{text}");
        // A number that is not on the screen is a part of a name.
        let Answered::Again(found) = choosing.answer("20") else { panic!("too early") };
        assert!(found.starts_with("        1  m-020\n        2  m-120\n"), "{found}");
        assert_eq!(choosing.answer("2"), chosen("m-120"));
        assert_eq!(choosing.answer("m-277"), chosen("m-277"));
        assert_eq!(Choosing::begin(&question, 0, Style::default()).1.lines().count(), 4);
    }

    #[test]
    fn three_wrong_answers_are_enough() {
        let question = question(AskReason::NotListed("old".to_owned()), &["a", "b"]);
        let (mut choosing, text) = Choosing::begin(&question, 24, Style::default());
        assert!(text.starts_with(
            "model      old is stored with the login, but the backend does not list it any more. \
             Which one?\n"
        ));
        let wrong = |text: &str| Answered::Again(format!("           {text}\n{PROMPT}"));
        assert_eq!(choosing.answer(""), wrong("nothing was typed"));
        let text = format!("no model's name contains `␛[2J{}…`", "x".repeat(35));
        assert_eq!(choosing.answer(&format!("\u{1b}[2J{}", "x".repeat(4_000))), wrong(&text));
        assert_eq!(choosing.answer("3"), Answered::GivenUp);
    }
}
