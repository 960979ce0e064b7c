//! Where words go: stdout for what was asked for, stderr for everything else.

use std::io::{ErrorKind, IsTerminal, Write};

use crate::cli::environment::Environment;
use crate::cli::style::Style;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::neutral;

/// The two streams, and what is known of them.
pub struct Screen {
    pub out: Box<dyn Write + Send>,
    pub err: Box<dyn Write + Send>,
    pub out_is_terminal: bool,
    /// Of stderr, where it is a terminal.
    pub columns: Option<usize>,
    /// For stdout.
    pub out_style: Style,
    /// For stderr.
    pub err_style: Style,
}

impl Screen {
    /// The streams of this process.
    #[must_use]
    pub fn of_this_process(environment: &Environment) -> Self {
        let err_is_terminal = std::io::stderr().is_terminal();
        let out_is_terminal = std::io::stdout().is_terminal();
        let size = rustix::termios::tcgetwinsize(std::io::stderr());
        Self {
            out: Box::new(std::io::stdout()),
            err: Box::new(std::io::stderr()),
            out_is_terminal,
            columns: size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0),
            out_style: Style::of(environment, out_is_terminal),
            err_style: Style::of(environment, err_is_terminal),
        }
    }

    /// Text of ours on stdout, already neutral.
    ///
    /// # Errors
    /// When it cannot be written. A reader that has gone is no error: it has read enough.
    pub fn print(&mut self, text: &str) -> Result<(), Failure> {
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        match written {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                let reason = format!("stdout cannot be written: {error}");
                Err(Failure::new(Exit::Failed, "output", reason))
            }
            _ => Ok(()),
        }
    }

    /// Text of the model or the box on stdout: neutral on a terminal, as it is elsewhere.
    ///
    /// # Errors
    /// As [`Screen::print`].
    pub fn print_foreign(&mut self, text: &str) -> Result<(), Failure> {
        // THREAT: an answer that clears the screen and draws another one's prompt. Tried by
        // cli::face::tests::an_answer_is_neutral_on_a_terminal_and_whole_in_a_pipe.
        match self.out_is_terminal {
            true => self.print(&neutral::neutral(text)),
            false => self.print(text),
        }
    }

    /// Text of ours on stderr, already neutral. Nobody is told where nobody listens.
    pub fn tell(&mut self, text: &str) {
        let _ = self.err.write_all(text.as_bytes()).and_then(|()| self.err.flush());
    }

    /// A failure on stderr: its headline in colour where there is colour.
    pub fn fail(&mut self, failure: &Failure) {
        let said = failure.to_string();
        let said = match said.split_once(':') {
            Some((headline, rest)) => format!("{}:{rest}\n", self.err_style.bad(headline)),
            None => said + "\n",
        };
        self.tell(&said);
    }
}
