//! The output streams: stdout for the result, stderr for everything else.

use std::io::{self, ErrorKind, IsTerminal, Write};

use crate::cli::environment::Environment;
use crate::cli::style::Style;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::sanitize;

/// The two streams and their properties.
pub struct Screen {
    pub out: Box<dyn Write + Send>,
    pub err: Box<dyn Write + Send>,
    pub out_is_terminal: bool,
    pub err_is_terminal: bool,
    /// Of stderr, if it is a terminal.
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

    /// Prints text of ours to stdout. It must be sanitized.
    ///
    /// # Errors
    /// It cannot be written. A reader that is gone is no error: it has read enough.
    pub fn print(&mut self, text: &str) -> Result<(), Failure> {
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        written.or_else(|error| write_result(&error))
    }

    /// Prints text of the model or the sandbox to stdout: sanitized on a terminal, else unchanged.
    ///
    /// # Errors
    /// As [`Screen::print`].
    pub fn print_untrusted(&mut self, text: &str) -> Result<(), Failure> {
        // THREAT: an answer clears the screen and draws a fake prompt. Tried by
        // cli::turn_printer::tests::an_answer_is_sanitized_on_a_terminal_and_unchanged_in_a_pipe.
        match self.out_is_terminal {
            true => self.print(&sanitize::text(text)),
            false => self.print(text),
        }
    }

    /// The same for text that is too large for memory: what `write` writes is printed in chunks.
    ///
    /// # Errors
    /// As [`Screen::print`]; the inner result is that of `write`.
    pub fn stream_untrusted(
        &mut self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<io::Result<()>, Failure> {
        let mut pieces = TextChunks { screen: self, held: Vec::new(), ended: None };
        let written = write(&mut pieces).and_then(|()| pieces.write_chunk(true));
        match pieces.ended {
            Some(end) => end.map(Ok),
            None => Ok(written),
        }
    }

    /// Prints text of ours to stderr. It must be sanitized. Errors are ignored.
    pub fn tell(&mut self, text: &str) {
        let _ = self.err.write_all(text.as_bytes()).and_then(|()| self.err.flush());
    }

    /// Prints text of the model or the sandbox to stderr: sanitized on a terminal, else unchanged.
    pub fn tell_untrusted(&mut self, text: &str) {
        match self.err_is_terminal {
            true => self.tell(&sanitize::text(text)),
            false => self.tell(text),
        }
    }

    /// Prints a failure to stderr, with its headline in colour.
    pub fn fail(&mut self, failure: &Failure) {
        let text = failure.to_string();
        let text = match text.split_once(':') {
            Some((headline, rest)) => format!("{}:{rest}\n", self.err_style.bad(headline)),
            None => text + "\n",
        };
        self.tell(&text);
    }
}

/// The size of a chunk.
const CHUNK_BYTES: usize = 64 << 10;

/// Untrusted text on its way to stdout.
struct TextChunks<'a> {
    screen: &'a mut Screen,
    held: Vec<u8>,
    /// Set when writing failed or the reader is gone.
    ended: Option<Result<(), Failure>>,
}

impl TextChunks<'_> {
    /// Writes the chunk, up to the last complete character.
    fn write_chunk(&mut self, is_last: bool) -> io::Result<()> {
        let is_incomplete = |error: std::str::Utf8Error| error.error_len().is_none();
        let whole = match std::str::from_utf8(&self.held) {
            Err(error) if !is_last && is_incomplete(error) => error.valid_up_to(),
            _ => self.held.len(),
        };
        let rest = self.held.split_off(whole);
        let held = std::mem::replace(&mut self.held, rest);
        let text = String::from_utf8_lossy(&held);
        let shown = match self.screen.out_is_terminal {
            true => sanitize::text(&text),
            false => text,
        };
        let out = &mut self.screen.out;
        let written = out.write_all(shown.as_bytes()).and_then(|()| out.flush());
        written.inspect_err(|error| self.ended = Some(write_result(error)))
    }
}

impl Write for TextChunks<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.len().min(CHUNK_BYTES);
        self.held.extend_from_slice(&bytes[..fits]);
        if self.held.len() >= CHUNK_BYTES {
            self.write_chunk(false)?;
        }
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The result of a failed write. A reader that is gone is no error: it has read enough.
fn write_result(error: &io::Error) -> Result<(), Failure> {
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

    /// Characters of several bytes cross the ends of chunks: none is split, and none is unsafe.
    #[test]
    fn untrusted_text_is_printed_in_chunks_and_is_complete() {
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
            let written = screen.stream_untrusted(|out| {
                text.as_bytes().chunks(1_021).try_for_each(|piece| out.write_all(piece))
            });
            assert!(matches!(written, Ok(Ok(()))));
            let text_out = String::from_utf8(paper.1.lock().unwrap().clone()).unwrap();
            let expected =
                if out_is_terminal { sanitize::text(&text).into_owned() } else { text.clone() };
            assert!(text_out == expected);
            assert!(paper.0.lock().unwrap().iter().all(|bytes| *bytes <= 2 * CHUNK_BYTES));
        }
    }

    #[test]
    fn a_reader_that_is_gone_ends_the_stream_without_an_error() {
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
        let mut calls = 0;
        let written = screen.stream_untrusted(|out| {
            (0..100).try_for_each(|_| {
                calls += 1;
                out.write_all(&[b'x'; CHUNK_BYTES])
            })
        });
        assert!(matches!(written, Ok(Ok(()))));
        assert_eq!(calls, 1);
        let unreadable = screen.stream_untrusted(|_| Err(ErrorKind::NotFound.into()));
        assert!(matches!(unreadable, Ok(Err(_))));
    }
}
