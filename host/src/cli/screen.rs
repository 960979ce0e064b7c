//! Where words go: stdout for what was asked for, stderr for everything else.

use std::io::{self, ErrorKind, IsTerminal, Write};

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
    pub err_is_terminal: bool,
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
            err_is_terminal,
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
        written.or_else(|error| told(&error))
    }

    /// Text of the model or the sandbox on stdout: neutral on a terminal, as it is elsewhere.
    ///
    /// # Errors
    /// As [`Screen::print`].
    pub fn print_foreign(&mut self, text: &str) -> Result<(), Failure> {
        // THREAT: an answer that clears the screen and draws another one's prompt. Tried by
        // cli::turn_printer::tests::an_answer_is_neutral_on_a_terminal_and_whole_in_a_pipe.
        match self.out_is_terminal {
            true => self.print(&neutral::neutral(text)),
            false => self.print(text),
        }
    }

    /// The same for text that is too much to be held at once: what `write` writes goes on in
    /// pieces.
    ///
    /// # Errors
    /// As [`Screen::print`], and what `write` itself says, apart.
    pub fn stream_foreign(
        &mut self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<io::Result<()>, Failure> {
        let mut pieces = TextChunks { screen: self, held: Vec::new(), ended: None };
        let written = write(&mut pieces).and_then(|()| pieces.go_on(true));
        match pieces.ended {
            Some(end) => end.map(Ok),
            None => Ok(written),
        }
    }

    /// Text of ours on stderr, already neutral. Nobody is told where nobody listens.
    pub fn tell(&mut self, text: &str) {
        let _ = self.err.write_all(text.as_bytes()).and_then(|()| self.err.flush());
    }

    /// Text of the model or the sandbox on stderr: neutral on a terminal, as it is elsewhere.
    pub fn tell_foreign(&mut self, text: &str) {
        match self.err_is_terminal {
            true => self.tell(&neutral::neutral(text)),
            false => self.tell(text),
        }
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

/// What is held before it goes on.
const PIECE_BYTES: usize = 64 << 10;

/// Foreign text on its way to stdout.
struct TextChunks<'a> {
    screen: &'a mut Screen,
    held: Vec<u8>,
    /// Nothing can be written any more, or nobody reads.
    ended: Option<Result<(), Failure>>,
}

impl TextChunks<'_> {
    /// Writes what is held, up to the last whole character.
    fn go_on(&mut self, is_last: bool) -> io::Result<()> {
        let is_torn = |error: std::str::Utf8Error| error.error_len().is_none();
        let whole = match std::str::from_utf8(&self.held) {
            Err(error) if !is_last && is_torn(error) => error.valid_up_to(),
            _ => self.held.len(),
        };
        let rest = self.held.split_off(whole);
        let held = std::mem::replace(&mut self.held, rest);
        let text = String::from_utf8_lossy(&held);
        let shown = match self.screen.out_is_terminal {
            true => neutral::neutral(&text),
            false => text,
        };
        let out = &mut self.screen.out;
        let written = out.write_all(shown.as_bytes()).and_then(|()| out.flush());
        written.inspect_err(|error| self.ended = Some(told(error)))
    }
}

impl Write for TextChunks<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.len().min(PIECE_BYTES);
        self.held.extend_from_slice(&bytes[..fits]);
        if self.held.len() >= PIECE_BYTES {
            self.go_on(false)?;
        }
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What becomes of words that cannot be written. A reader that has gone is no error: it has read
/// enough.
fn told(error: &io::Error) -> Result<(), Failure> {
    if error.kind() == ErrorKind::BrokenPipe {
        return Ok(());
    }
    Err(Failure::new(Exit::Failed, "output", format!("stdout cannot be written: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Paper(
        std::sync::Arc<std::sync::Mutex<Vec<usize>>>,
        std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
    );

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(bytes.len());
            self.1.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Characters of several bytes lie across the ends of pieces; nothing is torn, nothing steers.
    #[test]
    fn foreign_text_goes_on_in_pieces_and_is_the_same() {
        let text = format!("x{}", "é\u{1b}😀\n".repeat(40_000));
        for out_is_terminal in [true, false] {
            let paper = Paper::default();
            let mut screen = Screen {
                out: Box::new(paper.clone()),
                err: Box::new(io::sink()),
                out_is_terminal,
                err_is_terminal: false,
                columns: None,
                out_style: Style::default(),
                err_style: Style::default(),
            };
            let written = screen.stream_foreign(|out| {
                text.as_bytes().chunks(1_021).try_for_each(|piece| out.write_all(piece))
            });
            assert!(matches!(written, Ok(Ok(()))));
            let said = String::from_utf8(paper.1.lock().unwrap().clone()).unwrap();
            let expected =
                if out_is_terminal { neutral::neutral(&text).into_owned() } else { text.clone() };
            assert!(said == expected);
            assert!(paper.0.lock().unwrap().iter().all(|bytes| *bytes <= 2 * PIECE_BYTES));
        }
    }

    #[test]
    fn a_reader_that_has_gone_ends_it_and_is_no_error() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut screen = Screen {
            out: Box::new(Gone),
            err: Box::new(io::sink()),
            out_is_terminal: false,
            err_is_terminal: false,
            columns: None,
            out_style: Style::default(),
            err_style: Style::default(),
        };
        let mut asked = 0;
        let written = screen.stream_foreign(|out| {
            (0..100).try_for_each(|_| {
                asked += 1;
                out.write_all(&[b'x'; PIECE_BYTES])
            })
        });
        assert!(matches!(written, Ok(Ok(()))));
        assert_eq!(asked, 1);
        let unreadable = screen.stream_foreign(|_| Err(ErrorKind::NotFound.into()));
        assert!(matches!(unreadable, Ok(Err(_))));
    }
}
