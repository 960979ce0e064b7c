//! Output files that are already open: a pipe, a file from a shell, a terminal.

use std::fs::File;
use std::io::{self, IsTerminal as _, Seek as _, Write};
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::{self, CWD, Mode, OFlags};

use crate::sanitize;

/// The most bytes that are sanitized at once.
const PIECE_BYTES: usize = 64 << 10;

/// One of this process's own output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standard {
    Out,
    Err,
}

/// An open descriptor, or `/dev/null`. Text for a terminal is sanitized, by whichever path the terminal
/// was named; everything else gets the bytes unchanged.
pub struct Stream {
    file: File,
    is_terminal: bool,
    pub(super) standard: Option<Standard>,
}

impl Stream {
    pub fn new(file: File, standard: Option<Standard>) -> Self {
        Self { is_terminal: file.is_terminal(), file, standard }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_terminal {
            return self.file.write(bytes);
        }
        let piece = &bytes[..bytes.len().min(PIECE_BYTES)];
        // A character that is cut by the end of the piece goes into the next piece.
        let whole = match std::str::from_utf8(piece) {
            Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => {
                &piece[..error.valid_up_to()]
            }
            _ => piece,
        };
        // THREAT: `-o /dev/fd/3` or `--record /dev/stderr` is a terminal, and an answer writes its
        // clipboard. Tried by cli::face::nothing_of_the_model_or_the_sandbox_steers_a_terminal.
        let shown = String::from_utf8_lossy(whole);
        self.file.write_all(sanitize::text(&shown).as_bytes())?;
        Ok(whole.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// An open descriptor, by the paths that a shell uses for it. None: the path is not such a path.
///
/// THREAT: `/dev/fd/9` is a lock or a journal of ours. Descriptors that we open have close-on-exec;
/// those that we inherited do not. Tried by
/// output::tests::only_descriptors_that_were_given_are_written_to.
pub(super) fn stream(path: &Path) -> Option<Result<Stream, String>> {
    let number = match path.to_str()? {
        "/dev/stdout" => "1",
        "/dev/stderr" => "2",
        path => path.strip_prefix("/dev/fd/").or_else(|| path.strip_prefix("/proc/self/fd/"))?,
    };
    let number = number.parse().ok().filter(|number: &i32| *number >= 0)?;
    let standard = match number {
        1 => Some(Standard::Out),
        2 => Some(Standard::Err),
        _ => None,
    };
    let open = descriptor(number).map(|file| Stream::new(file, standard));
    Some(open.ok_or_else(|| format!("descriptor {number} is not open for writing")))
}

fn descriptor(number: i32) -> Option<File> {
    let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
    let field = |name: &str| about.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let flags = OFlags::from_bits_retain(u32::from_str_radix(field("flags:")?, 8).ok()?);
    if flags.contains(OFlags::CLOEXEC) && number > 2 || flags & OFlags::RWMODE == OFlags::RDONLY {
        return None;
    }
    let copy = match number {
        1 => io::stdout().as_fd().try_clone_to_owned(),
        2 => io::stderr().as_fd().try_clone_to_owned(),
        // Opening it by its path gives a new file position, which is set to the old one below.
        number => {
            let flags = OFlags::WRONLY | (flags & OFlags::APPEND) | OFlags::CLOEXEC;
            let name = format!("/proc/self/fd/{number}");
            fs::openat(CWD, name, flags, Mode::empty()).map_err(io::Error::from)
        }
    };
    let mut file = File::from(copy.ok()?);
    if number > 2 && file.metadata().is_ok_and(|about| about.is_file()) {
        file.seek(io::SeekFrom::Start(field("pos:")?.parse().ok()?)).ok()?;
    }
    Some(file)
}
