//! The texts a secret can stand in a text as, and where one of them stands.
//!
//! JSON may write any letter as an escape, each encoder other ones, and JSON within JSON escapes the
//! escapes: they are undone while a text is compared, and backslashes alone mean nothing. Base64 is
//! wrapped by most who write it (`base64`, PEM, YAML), and its lines stand behind something in a
//! diff, a quotation or what `grep -n` prints: its lines are read as one.

use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::escape::{self, Escape};
use crate::secret::Secret;

/// A secret shorter than this is looked for as it is only: its base64 would be found by chance.
const DERIVED_BYTES: usize = 12;
/// How many bytes of a form are searched for at once with all others; the rest is compared.
pub(super) const BEGIN_BYTES: usize = 8;
/// The longest break between two lines of base64, and the most that stands before a line.
const WRAP_BYTES: usize = 64;

pub(super) struct Form {
    /// Without backslashes: [`escape::undone`].
    pub(super) text: Zeroizing<Vec<u8>>,
    /// Found only where it is no part of a longer word.
    pub(super) is_word: bool,
    /// Base64, which may be wrapped between any two of its letters.
    is_wrapped: bool,
}

/// How a form stands at the start of a text.
pub(super) enum FormMatch {
    /// It is there, so many bytes long.
    Whole(usize),
    /// The text ends within it, after so many of its bytes.
    Partial(usize),
    None,
}

/// How far a form and a text go along with each other.
struct Along {
    letters: usize,
    bytes: usize,
    /// Nothing but the text's end parts them.
    is_text_over: bool,
}

impl Form {
    pub(super) fn plain(text: &[u8]) -> Self {
        Self { text: escape::undone(text), is_word: false, is_wrapped: false }
    }

    /// All of a secret.
    pub(super) fn of(secret: &Secret) -> Vec<Self> {
        let raw = secret.reveal();
        let mut forms = vec![Self::plain(raw.as_bytes())];
        if raw.len() >= DERIVED_BYTES {
            for shift in 0..3_usize {
                for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
                    let text = inside_base64(&engine, shift, raw.as_bytes());
                    forms.push(Self { text, is_word: false, is_wrapped: true });
                }
            }
        }
        forms.dedup_by(|a, b| a.text == b.text && a.is_wrapped == b.is_wrapped);
        forms
    }

    /// How what it is from its byte `from` on stands at the start of a text.
    // THREAT: a command prints the key as its language's JSON writer does, `\u002b` for `+`. Tried by
    // `scrub::escape::tests::a_secret_is_found_however_it_is_escaped`.
    // THREAT: a command prints `base64 key`, and no line of it is long enough to hold the key. Tried
    // by `scrub::forms::tests::base64_is_found_across_its_lines`.
    pub(super) fn at(&self, from: usize, text: &[u8]) -> FormMatch {
        let form = &self.text[from..];
        if escape::is_of_a_word(text) {
            return FormMatch::None;
        }
        let first = self.along(form, text);
        let (mut letters, mut at, mut is_text_over) =
            (first.letters, first.bytes, first.is_text_over);
        loop {
            if letters == form.len() {
                return FormMatch::Whole(at);
            }
            if is_text_over {
                return FormMatch::Partial(letters);
            }
            let gap = if self.is_wrapped && letters > 0 { wrap(&text[at..]) } else { 0 };
            if gap == 0 || gap > WRAP_BYTES {
                return FormMatch::None;
            }
            at += gap;
            let (rest, line) = (&form[letters..], &text[at..]);
            // What goes along with a line to its end is the line.
            let whole = |start: &usize| {
                let along = self.along(rest, &line[*start..]);
                let after = &line[start + along.bytes..];
                let is_line = along.letters == rest.len()
                    || along.is_text_over
                    || (along.letters > 0 && wrap(after) > 0);
                is_line.then_some((*start, along))
            };
            let (starts, is_open) = starts(line);
            match starts.iter().find_map(whole) {
                Some((start, along)) => {
                    letters += along.letters;
                    at += start + along.bytes;
                    is_text_over = along.is_text_over;
                }
                // What comes next may be the line.
                None if is_open => return FormMatch::Partial(letters),
                None => return FormMatch::None,
            }
        }
    }

    /// Letter by letter, up to a break where there may be one.
    fn along(&self, form: &[u8], text: &[u8]) -> Along {
        let (mut letters, mut at) = (0, 0);
        let mut is_text_over = false;
        while letters < form.len() {
            match text.get(at) {
                None => is_text_over = true,
                Some(b'\\') if self.is_wrapped && letters > 0 && wrap(&text[at..]) > 0 => break,
                Some(b'\\') => match Escape::at(&text[at..]) {
                    Escape::Letter { bytes, length } if form[letters..].starts_with(&bytes) => {
                        letters += bytes.len();
                        at += length;
                        continue;
                    }
                    Escape::Begun => is_text_over = true,
                    Escape::Letter { .. } | Escape::Not => {}
                },
                Some(byte) if *byte == form[letters] => {
                    letters += 1;
                    at += 1;
                    continue;
                }
                Some(_) => {}
            }
            break;
        }
        Along { letters, bytes: at, is_text_over }
    }

    /// The texts of at most [`BEGIN_BYTES`] one of which stands wherever the form does.
    pub(super) fn begins(&self) -> Vec<Vec<u8>> {
        let begin = &self.text[..self.text.len().min(BEGIN_BYTES)];
        let breaks: &[u8] = if self.is_wrapped { b"\\\n\r" } else { b"\\" };
        let ends = (1..begin.len()).flat_map(|end| breaks.iter().map(move |wrap| (end, *wrap)));
        let mut begins = vec![begin.to_vec(), b"\\u".to_vec(), b"\\\\".to_vec()];
        if let Some(first) = begin.first().filter(|first| !first.is_ascii_alphanumeric()) {
            begins.push(vec![b'\\', *first]);
        }
        begins.extend(ends.map(|(end, wrap)| [&begin[..end], &[wrap]].concat()));
        begins
    }
}

/// How many bytes a text begins with that only part two lines. An escape that is not whole counts:
/// what comes next decides.
pub(super) fn wrap(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'\n' | b'\r' => at += 1,
            b' ' | b'\t' if at > 0 => at += 1,
            // What numbers lines, as `read_file` and `cat -n`, puts a tab behind the number.
            b'0'..=b'9' if at > 0 => {
                let digits = text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                let behind = &text[at + digits..];
                let slashes = behind.iter().take_while(|byte| **byte == b'\\').count();
                match behind.get(slashes) {
                    None => return text.len(),
                    Some(b'\t') if slashes == 0 => at += digits + 1,
                    Some(b't') if slashes > 0 => at += digits + slashes + 1,
                    Some(_) => return at,
                }
            }
            // A JSON text within a JSON text doubles them.
            b'\\' => {
                let slashes = text[at..].iter().take_while(|byte| **byte == b'\\').count();
                match text.get(at + slashes) {
                    None => return at + slashes,
                    Some(b'n' | b'r') => at += slashes + 1,
                    Some(_) => return at,
                }
            }
            _ => return at,
        }
        if at > WRAP_BYTES {
            break;
        }
    }
    at
}

/// Where in a line of others its base64 may begin: at once, or behind anything that is no letter and
/// no digit, as a diff, a quotation, a number or a file's name puts it there. And whether more of
/// the line may come that decides.
fn starts(line: &[u8]) -> (Vec<usize>, bool) {
    let mut starts = vec![0];
    let mut at = 0;
    while at < WRAP_BYTES {
        match line.get(at) {
            None => return (starts, true),
            Some(b'\n' | b'\r') => break,
            // Whether they end the line is decided by what comes behind them.
            Some(b'\\') if line[at..].iter().all(|byte| *byte == b'\\') => return (starts, true),
            Some(b'\\') if wrap(&line[at..]) > 0 => break,
            Some(b'\\') => match Escape::at(&line[at..]) {
                Escape::Letter { length, .. } => {
                    at += length;
                    starts.push(at);
                }
                Escape::Begun => return (starts, true),
                Escape::Not => break,
            },
            Some(byte) => {
                at += 1;
                if !byte.is_ascii_alphanumeric() {
                    starts.push(at);
                }
            }
        }
    }
    (starts, false)
}

/// The characters of base64 that depend on the secret alone when it starts `shift` bytes into a
/// group of three.
fn inside_base64(engine: &impl base64::Engine, shift: usize, raw: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut shifted = Zeroizing::new(vec![0; shift]);
    shifted.extend_from_slice(raw);
    let whole = shifted.len() * 8 / 6;
    let text = Zeroizing::new(engine.encode(&*shifted));
    let from = [0, 2, 3][shift];
    Zeroizing::new(text.as_bytes()[from..whole].to_vec())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use proptest::prelude::*;
    use serde_json::json;

    use super::super::{MARK, Needles, Scrubber};
    use super::*;

    /// What the system's own `base64` makes of a text.
    #[expect(clippy::disallowed_methods, reason = "how a real program wraps is what is tried")]
    fn base64(arguments: &[&str], text: &str) -> String {
        let mut program = Command::new("base64")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("base64");
        program.stdin.take().expect("piped").write_all(text.as_bytes()).expect("read");
        String::from_utf8(program.wait_with_output().expect("ended").stdout).expect("ASCII")
    }

    fn key() -> String {
        format!("sk-proj-{}", ["Zq3", "x7K", "w_9", "-Ab"].concat().repeat(12))[..142].to_owned()
    }

    /// The longest run of letters of an encoding that a text has, wherever it is wrapped.
    fn longest_left(text: &str, encoded: &str) -> usize {
        let text = text.replace("\\\\n", "").replace("\\n", "").replace(['\n', '\r', ' '], "");
        let from = 0..encoded.len();
        let length = |from: usize| {
            (1..=encoded.len() - from)
                .take_while(|n| text.contains(&encoded[from..from + n]))
                .count()
        };
        from.map(length).max().unwrap_or(0)
    }

    #[test]
    fn base64_is_found_across_its_lines() {
        let needles = Needles::for_texts(&[Secret::new(key())]);
        // Wherever the key begins in a line, and however long its lines are.
        for before in 0..57 {
            for width in ["-w76", "-w1", "-w0"] {
                let said = base64(&[width], &format!("{}{}\nnext", "x".repeat(before), key()));
                let said_json = json!({ "output": said }).to_string();
                let numbered = said.lines().enumerate();
                let numbered: String =
                    numbered.map(|(n, line)| format!("{:>6}\t{line}\n", n + 1)).collect();
                let numbered_json = json!({ "output": numbered }).to_string();
                let indented = said.replace('\n', "\r\n    ");
                let twice = json!({ "arguments": said_json }).to_string();
                let told = inside_base64(&STANDARD_NO_PAD, before % 3, key().as_bytes());
                let told = String::from_utf8(told.to_vec()).expect("ASCII");
                // The control: all of it is there, and in many lines.
                assert_eq!(longest_left(&said, &told), told.len());
                for text in [&said, &said_json, &indented, &twice, &numbered, &numbered_json] {
                    let clean = needles.text(text);
                    assert!(clean.contains(MARK), "{before} {width}: {clean}");
                    assert!(longest_left(&clean, &told) < 8, "{before} {width}: {clean}");
                }
                // In a stream, a byte at a time.
                let mut stream = Scrubber::new(needles.clone());
                let mut fed: Vec<u8> = said.bytes().flat_map(|byte| stream.feed(&[byte])).collect();
                fed.extend(stream.finish());
                assert_eq!(fed, needles.text(&said).as_bytes());
            }
        }
    }

    /// As a diff, a quotation, YAML, source text, `grep -n` and `grep -rn` show base64.
    #[test]
    fn base64_is_found_behind_what_stands_before_its_lines() {
        let needles = Needles::for_texts(&[Secret::new(key())]);
        for width in ["-w76", "-w20", "-w1"] {
            for before in
                ["+", "-", "> ", "> > ", "| ", "   12\t+", "1:", "a/b.txt:12:", "// ", "  - "]
            {
                let said = base64(&[width], &format!("is {}\nnext", key()));
                let said: String = said.lines().map(|line| format!("{before}{line}\n")).collect();
                let twice = json!({ "a": json!({ "b": said }).to_string() }).to_string();
                for text in [said.clone(), json!({ "a": said }).to_string(), twice] {
                    let clean = needles.text(&text).into_owned();
                    // But for the letters that its neighbours in the text have a part in.
                    assert_eq!(clean.matches(MARK).count(), 1, "{width} {before}: {clean}");
                    assert!(clean.len() < before.len() * 12 + 120, "{width} {before}: {clean}");
                }
                let mut stream = Scrubber::new(needles.clone());
                let mut fed: Vec<u8> = said.bytes().flat_map(|byte| stream.feed(&[byte])).collect();
                fed.extend(stream.finish());
                assert_eq!(fed, needles.text(&said).as_bytes());
            }
        }
    }

    proptest! {
        #[test]
        fn any_chunking_of_wrapped_text_gives_the_same(text in r"[ab1\n\\nt\t +:u]{0,60}", secrets in prop::collection::vec("[ab1]{1,9}", 0..4), plain in "[ab]{0,4}", cuts in prop::collection::vec(0_usize..60, 0..6)) {
            let wrapped = |text: String| Form { is_wrapped: true, ..Form::plain(text.as_bytes()) };
            let mut forms: Vec<Form> = secrets.iter().cloned().map(wrapped).collect();
            forms.push(Form::plain(plain.as_bytes()));
            let needles = Needles::new(forms);
            let whole = needles.text(&text).into_owned();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            cuts.push(text.len());
            let (mut from, mut pieces) = (0, Vec::new());
            let mut streaming = Scrubber::new(needles);
            for cut in cuts {
                pieces.extend(streaming.feed(&text.as_bytes()[from..cut]));
                from = cut;
            }
            pieces.extend(streaming.finish());
            prop_assert_eq!(whole.as_bytes(), &pieces);
            for piece in whole.split(MARK) {
                let piece = piece.replace(r"\n", "").replace(['\n', ' '], "");
                // What stays between escapes and spaces was not parted by lines alone.
                if !text.contains([' ', '\t', '\\', '+', ':']) {
                    for secret in &secrets { prop_assert!(!piece.contains(secret), "{piece} holds {secret}"); }
                }
            }
        }
    }

    #[test]
    fn only_lines_are_read_as_one() {
        let needles = Needles::for_texts(&[Secret::new(key())]);
        let said = base64(&["-w76"], &key());
        let far = format!("\n{}", "x".repeat(WRAP_BYTES) + " ");
        for between in [" ", "\\t", "\nx", ".\n", &far, &"\n".repeat(WRAP_BYTES + 1)] {
            let text = said.replace('\n', between);
            assert_eq!(needles.text(&text), text);
        }
        // What is not base64 is not put together.
        let torn = format!("{}\n{}", &key()[..70], &key()[70..]);
        assert_eq!(needles.text(&torn), torn);
    }
}
