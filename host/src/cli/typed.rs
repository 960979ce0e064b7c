//! Lines as a person types them, on a thread of its own: reading a terminal cannot be broken off,
//! and nobody waits for the thread when the program ends.

use std::io::{BufRead, Read};

use airlock_shared::secret::Secret;
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

/// A pasted address is shorter; what is over it is not taken.
const LINE_BYTES: u64 = 8 << 10;

/// The lines of stdin, until it ends or nobody listens.
pub(super) fn lines_of_stdin() -> mpsc::Receiver<Secret> {
    let (give, lines) = mpsc::channel(1);
    std::thread::spawn(move || hand_on(std::io::stdin().lock(), &give));
    lines
}

/// No lines at all.
pub(super) fn nothing() -> mpsc::Receiver<Secret> {
    mpsc::channel(1).1
}

/// One line of stdin, and no more of it: what is typed later is for the next program. None: it
/// ended.
pub(super) async fn line_of_stdin() -> Option<Secret> {
    let (give, line) = oneshot::channel();
    // A run that was stopped meanwhile does not wait for it.
    std::thread::spawn(move || drop(give.send(next(&mut std::io::stdin().lock()))));
    line.await.ok().flatten()
}

fn hand_on(mut input: impl BufRead, give: &mpsc::Sender<Secret>) {
    while let Some(line) = next(&mut input) {
        if give.blocking_send(line).is_err() {
            return;
        }
    }
}

fn next(input: &mut impl BufRead) -> Option<Secret> {
    // Grown once: a text that reallocates leaves an unwiped copy behind.
    let mut line = Zeroizing::new(Vec::with_capacity(LINE_BYTES as usize + 1));
    match input.by_ref().take(LINE_BYTES + 1).read_until(b'\n', &mut line) {
        Ok(0) | Err(_) => return None,
        Ok(_) => {}
    }
    if line.len() as u64 > LINE_BYTES {
        // Said to be too long by whoever takes it; the rest of it is no line of its own.
        input.skip_until(b'\n').ok()?;
    }
    Some(Secret::new(String::from_utf8_lossy(&line).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_is_a_line_and_a_flood_is_one_too() {
        let flood = "x".repeat(100_000);
        let text = format!("one\r\n{flood}\n\n  two ");
        let (give, mut lines) = mpsc::channel(1);
        let reader = std::thread::spawn(move || hand_on(text.as_bytes(), &give));
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
