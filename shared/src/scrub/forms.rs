//! The forms in which a secret appears in a text, and how they are found.
//!
//! Most programs wrap base64 (`base64`, PEM, YAML), so its lines are read as one.

use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// A secret shorter than this is not searched for in base64: its base64 would be found by chance.
const DERIVED_BYTES: usize = 12;
/// How many bytes of each form are in the joint search. The rest is compared.
pub(super) const BEGIN_BYTES: usize = 8;
/// The longest break between two lines of base64, its indentation included.
const WRAP_BYTES: usize = 64;
/// The first byte of a break. The last one begins an escape, as in JSON.
const WRAPS: [u8; 3] = [b'\n', b'\r', b'\\'];

pub(super) struct Form {
    pub(super) text: Zeroizing<Vec<u8>>,
    /// Found only if it is not part of a longer word.
    pub(super) is_word: bool,
    /// It is base64, which may be wrapped between any two letters.
    is_wrapped: bool,
}

/// Whether a form is at the start of a text.
pub(super) enum FormMatch {
    /// The whole form is there, with this length.
    Whole(usize),
    /// The text ends within the form, after this many of its bytes.
    Partial(usize),
    None,
}

impl Form {
    pub(super) fn plain(text: Vec<u8>) -> Self {
        Self { text: Zeroizing::new(text), is_word: false, is_wrapped: false }
    }

    /// All forms of a secret.
    pub(super) fn of(secret: &Secret) -> Vec<Self> {
        let raw = secret.reveal();
        let escaped = Zeroizing::new(raw.replace('\\', "\\\\").replace('"', "\\\""));
        let slashed = escaped.replace('/', "\\/").into_bytes();
        let mut forms = vec![
            Self::plain(raw.as_bytes().to_vec()),
            Self::plain(escaped.as_bytes().to_vec()),
            Self::plain(slashed),
        ];
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

    /// Whether the form, from its byte `from` on, is at the start of a text.
    pub(super) fn at(&self, from: usize, text: &[u8]) -> FormMatch {
        let form = &self.text[from..];
        if !self.is_wrapped {
            return if text.starts_with(form) {
                FormMatch::Whole(form.len())
            } else if form.starts_with(text) {
                FormMatch::Partial(text.len())
            } else {
                FormMatch::None
            };
        }
        // THREAT: a command prints `base64 key`, and no line of it is long enough to hold the key.
        // Tried by `scrub::forms::tests::base64_is_found_across_its_lines`.
        let mut at = 0;
        for (n, letter) in form.iter().enumerate() {
            if n > 0 {
                let length = line_break(&text[at..]);
                if length > WRAP_BYTES {
                    return FormMatch::None;
                }
                at += length;
            }
            match text.get(at) {
                None => return FormMatch::Partial(n),
                Some(found) if found == letter => at += 1,
                Some(_) => return FormMatch::None,
            }
        }
        FormMatch::Whole(at)
    }

    /// Prefixes of at most [`BEGIN_BYTES`]. Wherever the form is found, one of them is at its
    /// start.
    pub(super) fn prefixes(&self) -> Vec<Vec<u8>> {
        let begin = &self.text[..self.text.len().min(BEGIN_BYTES)];
        let mut begins = vec![begin.to_vec()];
        if self.is_wrapped {
            let ends = (1..begin.len()).flat_map(|end| WRAPS.map(|wrap| (end, wrap)));
            begins.extend(ends.map(|(end, wrap)| [&begin[..end], &[wrap]].concat()));
        }
        begins
    }
}

/// How many bytes at the start of a text only separate two lines. An incomplete escape counts: the
/// next bytes decide.
pub(super) fn line_break(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'\n' | b'\r' => at += 1,
            b' ' | b'\t' if at > 0 => at += 1,
            // `read_file` and `cat -n` number lines and put a tab after the number.
            b'0'..=b'9' if at > 0 => {
                let digits = text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                let after = &text[at + digits..];
                let slashes = after.iter().take_while(|byte| **byte == b'\\').count();
                match after.get(slashes) {
                    None => return text.len(),
                    Some(b'\t') if slashes == 0 => at += digits + 1,
                    Some(b't') if slashes > 0 => at += digits + slashes + 1,
                    Some(_) => return at,
                }
            }
            // JSON within JSON doubles the backslashes.
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

/// The characters of base64 that depend on the secret alone if it starts `shift` bytes into a group
/// of three.
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

    /// The output of the system's own `base64` for a text.
    #[expect(clippy::disallowed_methods, reason = "the test is about how a real program wraps")]
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

    /// The length of the longest part of an encoding that a text has, wrapped or not.
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
        // For each position of the key in a line, and for each line length.
        for before in 0..57 {
            for width in ["-w76", "-w1", "-w0"] {
                let printed = base64(&[width], &format!("{}{}\nnext", "x".repeat(before), key()));
                let printed_json = json!({ "output": printed }).to_string();
                let numbered = printed.lines().enumerate();
                let numbered: String =
                    numbered.map(|(n, line)| format!("{:>6}\t{line}\n", n + 1)).collect();
                let numbered_json = json!({ "output": numbered }).to_string();
                let indented = printed.replace('\n', "\r\n    ");
                let twice = json!({ "arguments": printed_json }).to_string();
                let encoded = inside_base64(&STANDARD_NO_PAD, before % 3, key().as_bytes());
                let encoded = String::from_utf8(encoded.to_vec()).expect("ASCII");
                // The control: all of it is there.
                assert_eq!(longest_left(&printed, &encoded), encoded.len());
                for text in [&printed, &printed_json, &indented, &twice, &numbered, &numbered_json]
                {
                    let clean = needles.text(text);
                    assert!(clean.contains(MARK), "{before} {width}: {clean}");
                    assert!(longest_left(&clean, &encoded) < 8, "{before} {width}: {clean}");
                }
                // In a stream, a byte at a time.
                let mut stream = Scrubber::new(needles.clone());
                let mut fed: Vec<u8> =
                    printed.bytes().flat_map(|byte| stream.feed(&[byte])).collect();
                fed.extend(stream.finish());
                assert_eq!(fed, needles.text(&printed).as_bytes());
            }
        }
    }

    proptest! {
        #[test]
        fn any_chunking_of_wrapped_text_gives_the_same(text in r"[ab1\n\\nt\t ]{0,60}", secrets in prop::collection::vec("[ab1]{1,9}", 0..4), plain in "[ab]{0,4}", cuts in prop::collection::vec(0_usize..60, 0..6)) {
            let wrapped = |text: String| Form { is_wrapped: true, ..Form::plain(text.into_bytes()) };
            let mut forms: Vec<Form> = secrets.iter().cloned().map(wrapped).collect();
            forms.push(Form::plain(plain.into_bytes()));
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
                // A secret with escapes or spaces in between is not separated by line breaks alone.
                if !text.contains([' ', '\t', '\\']) {
                    for secret in &secrets { prop_assert!(!piece.contains(secret), "{piece} holds {secret}"); }
                }
            }
        }
    }

    #[test]
    fn only_lines_are_read_as_one() {
        let needles = Needles::for_texts(&[Secret::new(key())]);
        let printed = base64(&["-w76"], &key());
        for between in ["\n#", "\\t", "\n\n.", "\n12 ", &"\n".repeat(WRAP_BYTES + 1)] {
            let text = printed.replace('\n', between);
            assert_eq!(needles.text(&text), text);
        }
        // Lines of other text are not joined.
        let torn = format!("{}\n{}", &key()[..70], &key()[70..]);
        assert_eq!(needles.text(&torn), torn);
    }
}
