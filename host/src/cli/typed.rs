//! Reads lines from stdin on a thread of its own: a read from a terminal cannot be cancelled, and
//! the program does not wait for the thread at its end.

use std::io::{BufRead, Read};

use airlock_shared::secret::Secret;
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

/// The most bytes of a line. A pasted address is shorter.
const LINE_BYTES: u64 = 8 << 10;

/// The lines of stdin, until it ends or the receiver is dropped.
pub(super) fn lines_of_stdin() -> mpsc::Receiver<Secret> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || send_lines(std::io::stdin().lock(), &sender));
    lines
}

/// No lines at all.
pub(super) fn nothing() -> mpsc::Receiver<Secret> {
    mpsc::channel(1).1
}

/// Exactly one line of stdin: the rest is for the next program. None: stdin ended.
pub(super) async fn line_of_stdin() -> Option<Secret> {
    let (sender, line) = oneshot::channel();
    // A session that is stopped does not wait for the line.
    std::thread::spawn(move || drop(sender.send(next(&mut std::io::stdin().lock()))));
    line.await.ok().flatten()
}

fn send_lines(mut input: impl BufRead, sender: &mpsc::Sender<Secret>) {
    while let Some(line) = next(&mut input) {
        if sender.blocking_send(line).is_err() {
            return;
        }
    }
}

fn next(input: &mut impl BufRead) -> Option<Secret> {
    // Allocated once: a buffer that grows leaves copies that are not wiped.
    let mut line = Zeroizing::new(Vec::with_capacity(LINE_BYTES as usize + 1));
    match input.by_ref().take(LINE_BYTES + 1).read_until(b'\n', &mut line) {
        Ok(0) | Err(_) => return None,
        Ok(_) => {}
    }
    if line.len() as u64 > LINE_BYTES {
        // The receiver sees that the line is too long; skip the rest of it.
        input.skip_until(b'\n').ok()?;
    }
    Some(Secret::new(String::from_utf8_lossy(&line).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_that_is_too_long_is_still_one_line() {
        let flood = "x".repeat(100_000);
        let text = format!("one\r\n{flood}\n\n  two ");
        let (sender, mut lines) = mpsc::channel(1);
        let reader = std::thread::spawn(move || send_lines(text.as_bytes(), &sender));
        let mut found = Vec::new();
        while let Some(line) = lines.recv().await {
            found.push(line.reveal().to_owned());
        }
        reader.join().expect("ended");
        assert_eq!(found.len(), 4);
        assert_eq!([&found[0], &found[2], &found[3]], ["one", "", "two"]);
        assert_eq!(found[1].len(), 8 * 1024 + 1);
    }
}
