//! Shows one turn: its events as they come, its answer, and what to do next.
//!
//! ```text
//!            stdout                      stderr
//! default    the answer                  progress, changes, next
//! --json     every line, as JSON         nothing but a failure
//! -q         the answer                  nothing but a failure
//! ```

use std::path::{Path, PathBuf};

use crate::cli::config::OutputChoice;
use crate::cli::early_failure;
use crate::cli::progress::TurnProgress;
use crate::cli::screen::Screen;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, Standard};
use crate::session::public::{EventLine, OutcomeEvent, PublicEvent};

/// Prints the public lines of a turn.
pub struct TurnPrinter {
    screen: Screen,
    progress: TurnProgress,
    json: bool,
    quiet: bool,
    output: Option<PathBuf>,
    tree: Option<PathBuf>,
    ended: Option<OutcomeEvent>,
    /// Why a line could not be printed. The turn goes on, and its answer is still written.
    unshown: Option<Failure>,
}

impl TurnPrinter {
    #[must_use]
    pub fn new(choice: OutputChoice, screen: Screen) -> Self {
        let progress = TurnProgress::new(screen.columns, screen.err_style);
        let OutputChoice { json, quiet, output } = choice;
        Self { screen, progress, json, quiet, output, tree: None, ended: None, unshown: None }
    }

    /// Sets the person's directory: the answer is not written through a link in it.
    #[must_use]
    pub fn of_tree(self, tree: PathBuf) -> Self {
        Self { tree: Some(tree), ..self }
    }

    /// Shows one line. If stdout cannot be written, the end reports it.
    pub fn show(&mut self, line: &EventLine) {
        if let PublicEvent::Outcome(ended) = &line.what {
            self.ended = Some(ended.clone());
        }
        let drawn = self.progress.line(line);
        if self.json {
            if let Err(failure) = self.screen.print(&line.json()) {
                self.unshown.get_or_insert(failure);
            }
        } else if !self.quiet {
            self.screen.tell(&drawn);
        }
    }

    /// Prints the only line of a session that did not start.
    pub fn refuse(mut self, failure: &Failure) {
        if self.json {
            early_failure::print(&mut self.screen, failure);
        }
    }

    /// After the last line: prints the answer, the changes, and the failure if it did not finish.
    /// `short`: the session's id as used in commands.
    ///
    /// # Errors
    /// The answer, or a line before it, could not be written.
    pub fn end(self, short: &str, failure: Option<&Failure>) -> Result<(), Failure> {
        self.end_with(short, failure, false)
    }

    /// The same for the demo, which applies the changes itself: it shows no next command.
    ///
    /// # Errors
    /// As [`Self::end`].
    pub fn end_of_demo(self, short: &str) -> Result<(), Failure> {
        self.end_with(short, None, true)
    }

    fn end_with(
        mut self,
        short: &str,
        failure: Option<&Failure>,
        is_demo: bool,
    ) -> Result<(), Failure> {
        let ended = self.ended.take();
        let answer = ended.as_ref().and_then(|ended| ended.answer.as_deref());
        let saved = match (self.output.take(), answer) {
            (Some(file), Some(answer)) => self.write(&file, answer, short),
            _ => Ok(()),
        };
        let printed = match answer {
            Some(answer) if !self.json && !answer.is_empty() => {
                self.screen.print_untrusted(&with_newline(answer))
            }
            _ => Ok(()),
        };
        if let Some(ended) = &ended
            && !self.json
            && !self.quiet
        {
            let after = match is_demo {
                true => self.progress.what_changed(),
                false => self.progress.after_the_answer(short, ended.changes),
            };
            self.screen.tell(&after);
        }
        if let Some(failure) = failure {
            self.screen.fail(failure);
        }
        saved.and(printed).and(self.unshown.map_or(Ok(()), Err))
    }

    /// Writes the answer to the file of `-o`.
    fn write(&mut self, file: &Path, answer: &str, short: &str) -> Result<(), Failure> {
        let written = Output::open(file, self.tree.as_deref()).and_then(|output| {
            match output.standard() {
                // The answer is printed there anyway.
                Some(Standard::Out) => {}
                Some(Standard::Err) => self.screen.tell_untrusted(&with_newline(answer)),
                None => {
                    output.write(answer.as_bytes(), 0o666).map_err(|error| error.to_string())?
                }
            }
            Ok(())
        });
        written.map_err(|why| {
            let reason = format!("{} cannot be written: {why}", file.display());
            Failure::new(Exit::Failed, "output", reason).hint(format!("airlock show {short}"))
        })
    }
}

fn with_newline(answer: &str) -> String {
    let newline = if answer.ends_with('\n') { "" } else { "\n" };
    format!("{answer}{newline}")
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use airlock_shared::outcome::{Outcome, Spent, Stop};
    use airlock_shared::stream::Usage;

    use super::*;
    use crate::cli::style::Style;
    use crate::session::public::{ChangesAre, ChangesEvent};

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("paper").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Paper {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("paper").clone()).expect("text")
        }
    }

    /// What is on stdout and stderr after a turn with this outcome.
    fn shown(choice: OutputChoice, out_is_terminal: bool, outcome: &Outcome) -> (String, String) {
        let (out, err) = (Paper::default(), Paper::default());
        let screen = Screen {
            out: Box::new(out.clone()),
            err: Box::new(err.clone()),
            out_is_terminal,
            err_is_terminal: false,
            columns: None,
            out_style: Style::default(),
            err_style: Style::default(),
        };
        let mut turn_printer = TurnPrinter::new(choice, screen);
        let changes = PublicEvent::Changes(ChangesEvent::default());
        let exit = Exit::of(outcome);
        let ended = OutcomeEvent::of(outcome, exit, 1, Usage::default(), ChangesAre::Kept);
        for (n, what) in [changes, PublicEvent::Outcome(ended)].into_iter().enumerate() {
            turn_printer.show(&EventLine::new(n as u64 + 1, "7c41ff", 1_000, what));
        }
        let now = jiff::Timestamp::UNIX_EPOCH;
        turn_printer.end("7c41", Failure::of(outcome, now).as_ref()).expect("ended");
        (out.text(), err.text())
    }

    fn answer(text: &str) -> Outcome {
        Outcome::Finished { answer: text.into() }
    }

    #[test]
    fn the_answer_is_alone_on_stdout() {
        let (out, err) = shown(OutputChoice::default(), true, &answer("All good."));
        assert_eq!(out, "All good.\n");
        assert_eq!(
            err,
            " 1.0s  done · 1 request · 0 in · 0 out\n           \
             nothing is written to your directory yet\n\
             next       airlock diff 7c41    airlock apply 7c41    airlock discard 7c41\n"
        );
        let quiet = OutputChoice { quiet: true, ..OutputChoice::default() };
        assert_eq!(shown(quiet, true, &answer("x\n")), ("x\n".to_owned(), String::new()));
    }

    #[test]
    fn an_answer_is_sanitized_on_a_terminal_and_unchanged_in_a_pipe() {
        let quiet = OutputChoice { quiet: true, ..OutputChoice::default() };
        let hostile = answer("\u{1b}]52;c;aGk=\u{7}");
        assert_eq!(shown(quiet.clone(), true, &hostile).0, "␛]52;c;aGk=␇\n");
        assert_eq!(shown(quiet, false, &hostile).0, "\u{1b}]52;c;aGk=\u{7}\n");
    }

    #[test]
    fn json_has_every_line_and_nothing_else() {
        let json = OutputChoice { json: true, ..OutputChoice::default() };
        let (out, err) = shown(json, true, &answer("\u{1b}[2J\u{202e}"));
        let lines: Vec<serde_json::Value> =
            out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1]["event"], "outcome");
        assert_eq!(lines[1]["answer"], "\u{1b}[2J\u{202e}");
        assert!(!out.chars().any(crate::sanitize::is_unsafe));
        assert_eq!(err, "");
    }

    #[test]
    fn a_spent_budget_still_gives_its_answer_and_the_reason() {
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("last.txt");
        let output = Some(file.clone());
        let choice = OutputChoice { quiet: true, output, json: false };
        let reason = Stop::Budget { spent: Spent::Steps };
        let outcome = Outcome::Stopped { reason, answer: Some("so far".into()) };
        let (out, err) = shown(choice, true, &outcome);
        assert_eq!(out, "so far\n");
        assert_eq!(
            err,
            "budget spent: no requests left; the model still answered\n\
             airlock run --steps N …\n"
        );
        assert_eq!(std::fs::read_to_string(file).expect("written"), "so far");
    }
}
