//! Cuts results to what is sent to the model, and escapes names.
//!
//! Everything is pure. Absent: removing terminal escapes. The host does that for people, and the
//! model may see the bytes that a program wrote.

use std::collections::VecDeque;
use std::fmt::Write as _;

/// Head and tail of a stream of any length, in bounded memory.
pub(super) struct HeadTail {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    /// The most bytes of head and of tail.
    half: usize,
    bytes: u64,
    newlines: u64,
    ends_in_newline: bool,
}

impl HeadTail {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            head: Vec::new(),
            tail: VecDeque::new(),
            half: limit / 2,
            bytes: 0,
            newlines: 0,
            ends_in_newline: true,
        }
    }

    pub(super) fn feed(&mut self, mut chunk: &[u8]) {
        let Some(last) = chunk.last() else { return };
        self.ends_in_newline = *last == b'\n';
        self.bytes += chunk.len() as u64;
        self.newlines += chunk.iter().filter(|byte| **byte == b'\n').count() as u64;
        let room = (self.half - self.head.len()).min(chunk.len());
        self.head.extend_from_slice(&chunk[..room]);
        chunk = &chunk[room..];
        chunk = &chunk[chunk.len().saturating_sub(self.half)..];
        let over = (self.tail.len() + chunk.len()).saturating_sub(self.half);
        self.tail.drain(..over);
        self.tail.extend(chunk);
    }

    /// Lines of the whole stream, including an unfinished last one.
    pub(super) fn lines(&self) -> u64 {
        self.newlines + u64::from(!self.ends_in_newline)
    }

    /// What is kept, as text of at most `limit` bytes and the mark, and whether something is
    /// missing.
    pub(super) fn text(&self, limit: usize) -> (String, bool) {
        let (front, back) = self.tail.as_slices();
        let kept = self.head.len() + self.tail.len();
        let missing = self.bytes - kept as u64;
        if missing == 0 {
            let whole = [&self.head, front, back].concat();
            let text = String::from_utf8_lossy(&whole);
            return (cut(&text, limit), text.len() > limit);
        }
        let head = String::from_utf8_lossy(&self.head);
        let tail = [front, back].concat();
        let tail = String::from_utf8_lossy(&tail);
        (join(&head, &tail, missing, limit), true)
    }
}

/// `text` itself, or its start and its end with a mark between them that says how much is missing.
pub(super) fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit { text.to_owned() } else { join(text, text, 0, limit) }
}

/// The start of `head` and the end of `tail`. If `missing` is 0, both are the same text.
fn join(head: &str, tail: &str, missing: u64, limit: usize) -> String {
    let first = &head[..head.floor_char_boundary(limit / 2)];
    let from = tail.len().saturating_sub(limit - limit / 2);
    let last = &tail[tail.ceil_char_boundary(from)..];
    let whole = if missing == 0 { head.len() } else { head.len() + tail.len() };
    let left_out = missing + (whole - first.len() - last.len()) as u64;
    format!("{first}\n[… {left_out} bytes left out …]\n{last}")
}

/// The start of a text, on a character boundary, with a mark if something is missing.
pub(super) fn start(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let kept = &text[..text.floor_char_boundary(limit)];
    format!("{kept}… [+{} bytes]", text.len() - kept.len())
}

/// One line for people: the first line of a text, escaped and cut.
pub(super) fn title(text: &str) -> String {
    let mut lines = text.trim().lines();
    let first = lines.next().unwrap_or_default();
    let more = if lines.next().is_some() { " …" } else { "" };
    format!("{}{more}", start(&escaped(first.as_bytes()), 160))
}

/// A name on one line, with invisible characters as escapes.
pub(crate) fn escaped(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if is_hidden(letter) {
                out.extend(letter.escape_default());
            } else {
                out.push(letter);
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// Control characters, and marks that reorder or hide text.
fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// `3 lines`, `1 line`.
pub(super) fn counted(number: impl Into<u64>, one: &str) -> String {
    match number.into() {
        1 => format!("1 {one}"),
        number if one.ends_with('y') => format!("{number} {}ies", &one[..one.len() - 1]),
        number => format!("{number} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cut_says_how_much_is_left_out() {
        assert_eq!(cut("abcdefghij", 4), "ab\n[… 6 bytes left out …]\nij");
        assert_eq!(cut("abcd", 4), "abcd");
        assert_eq!(start("abcdef", 4), "abcd… [+2 bytes]");
        assert_eq!(title(" ls -la\necho x\n"), "ls -la …");
        assert_eq!(
            [counted(1_u64, "entry"), counted(2_u64, "entry"), counted(0_u64, "line")],
            ["1 entry", "2 entries", "0 lines"]
        );
    }

    #[test]
    fn a_name_cannot_hide_or_reorder_text() {
        assert_eq!(
            escaped("a\n\u{1b}[2J\u{202e}\u{200b}é".as_bytes()),
            r"a\n\u{1b}[2J\u{202e}\u{200b}é"
        );
        assert_eq!(escaped(b"\xff\xfe a"), r"\xff\xfe a");
    }

    #[test]
    fn head_and_tail_of_long_output_are_kept() {
        let mut kept = HeadTail::new(8);
        kept.feed(b"start");
        for _ in 0..1000 {
            kept.feed(b"xxxxxxxxx\n");
        }
        kept.feed(b"end");
        assert_eq!(kept.lines(), 1001);
        assert_eq!(kept.text(100).0, "star\n[… 10000 bytes left out …]\n\nend");
    }

    proptest! {
        #[test]
        fn head_and_tail_are_those_of_the_whole(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..20), half in 1_usize..16) {
            let mut kept = HeadTail::new(half * 2);
            for chunk in &chunks {
                kept.feed(chunk);
            }
            let whole = chunks.concat();
            let tail: Vec<u8> = kept.tail.iter().copied().collect();
            prop_assert_eq!(&kept.head[..], &whole[..whole.len().min(half)]);
            let rest = &whole[whole.len().min(half)..];
            prop_assert_eq!(&tail[..], &rest[rest.len().saturating_sub(half)..]);
            prop_assert_eq!(kept.bytes, whole.len() as u64);
            let _ = kept.text(half);
        }

        #[test]
        fn a_cut_is_never_longer_than_its_limit_and_the_mark(text in ".{0,200}", limit in 0_usize..100) {
            let short = cut(&text, limit);
            prop_assert!(short.len() <= limit.max(text.len().min(limit)) + 60);
            prop_assert!(text.len() > limit || short == text);
        }
    }
}
