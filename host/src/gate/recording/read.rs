//! Reads the file of a recording: lines, exchanges, and refusals of the host.

use std::fs::File;
use std::io::{self, BufRead, Read as _, Seek as _};

use airlock_shared::limits;
use airlock_shared::link::HostRefusal;
use serde_json::Value;

use super::{Exchange, PlayedAnswer, SHOWN, fits};
use crate::gate::quoted::quoted;

/// Copies a pipe into a temporary file, because a recording is read twice.
pub(super) fn seekable(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    let mut kept = tempfile::tempfile()?;
    io::copy(&mut file.take(limits::RECORDING_BYTES + 1), &mut kept)?;
    kept.rewind()?;
    Ok(kept)
}

/// Parses the line of an exchange.
pub(super) fn exchange(line: &[u8], n: usize) -> Result<Exchange, String> {
    fits(line, n).map_err(|why| format!("line {} {why}", n + 1))?;
    let exchange: Exchange = serde_json::from_slice(line).map_err(|error| {
        format!("line {} is not understood: {}", n + 1, quoted(&error.to_string(), SHOWN))
    })?;
    if exchange.n != n {
        return Err(format!("exchange {n} is missing: line {} is exchange {}", n + 1, exchange.n));
    }
    if exchange.events.is_some() == exchange.body.is_some() {
        return Err(format!("exchange {n} has no answer, or two"));
    }
    Ok(exchange)
}

/// One whole line. A last line without a newline was left by a crash, and is ignored.
pub(super) fn line(text: &mut impl BufRead, number: usize) -> Result<Option<Vec<u8>>, String> {
    let mut line = Vec::new();
    let most = limits::RECORDING_LINE_BYTES as u64;
    text.take(most)
        .read_until(b'\n', &mut line)
        .map_err(|error| format!("it cannot be read: {error}"))?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) if line.len() as u64 + 1 == most => Err(format!("line {number} is too long")),
        Some(_) => Ok(None),
    }
}

/// A recorded refusal of the host, with its words quoted.
///
/// THREAT: a stranger's recording tells a person in the host's name what to do. Tried by
/// `gate::recording::tests::what_the_host_refused_is_refused_again`.
pub(super) fn refusal(body: &Value) -> Option<PlayedAnswer> {
    let (refusal, why) = HostRefusal::of_body(body.to_string().as_bytes())?;
    // What depends on this turn alone (its key, its budget, its policy) is decided again, not played.
    let of_backend =
        [HostRefusal::Unreachable, HostRefusal::SignIn, HostRefusal::Policy, HostRefusal::TooLarge];
    let why = format!("recorded: {}", quoted(&why, SHOWN));
    of_backend.contains(&refusal).then_some(PlayedAnswer::Refused { refusal, why })
}
