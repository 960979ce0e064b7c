//! What is left of a secret where a text was cut. Who cuts often does not know the secret (in relay
//! credentials no tool does), and who knows it no longer finds it whole. Every cut of ours is marked
//! with a `…`: what a form begins with directly before one goes, and what it ends with directly
//! after one.

use super::forms::{Form, FormMatch, wrap};
use super::{MARK, Needles, Scrubber};

/// The mark of every cut: alone, or as `[… 12 bytes left out …]`, or as `… [+12 bytes]`.
pub(super) const CUT: char = '…';
/// Fewer bytes of a long secret are left: what all keys of a kind begin with is no secret.
const MOST_LEFT: usize = 16;
/// Of a short one half is left at most, and so many bytes.
const LEAST_LEFT: usize = 8;

impl Needles {
    /// A whole text without secrets and without parts of them at its cuts.
    ///
    /// THREAT: a command prints 4,920 letters and then a key, or a file has the key far down a line;
    /// the output is cut within the key, and is no longer what is looked for. Tried by
    /// `scrub::cuts::tests::what_a_cut_leaves_of_a_key_is_removed`.
    pub(super) fn without_cut_parts(&self, text: &str) -> Vec<u8> {
        let mut clean = Vec::with_capacity(text.len());
        let mut pieces = text.split(CUT).peekable();
        let mut is_after_cut = false;
        while let Some(piece) = pieces.next() {
            let is_before_cut = pieces.peek().is_some();
            let mut piece = piece.as_bytes();
            if is_after_cut {
                let (between, after) = piece.split_at(opening(piece));
                clean.extend_from_slice(between);
                let ends = |skipped| match self.ending(&after[skipped..]) {
                    0 => None,
                    length => Some(skipped + length),
                };
                let length = escape_ends(after).find_map(ends).unwrap_or(0);
                if length > 0 {
                    clean.extend_from_slice(MARK.as_bytes());
                }
                piece = &after[length..];
            }
            let before = piece.len() - if is_before_cut { closing(piece) } else { 0 };
            let (piece, between) = piece.split_at(before);
            let mut scrubber = Scrubber::new(self.clone());
            if is_before_cut {
                clean.extend(scrubber.feed(piece));
                let begun = self.beginning(&scrubber.held);
                if let Some(at) = begun {
                    scrubber.held.truncate(at);
                }
                clean.extend(scrubber.finish());
                clean.extend_from_slice(if begun.is_some() { MARK.as_bytes() } else { b"" });
                clean.extend_from_slice(between);
                clean.extend_from_slice(CUT.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                clean.extend(self.whole(piece));
            }
            is_after_cut = is_before_cut;
        }
        clean
    }

    /// Where in the end of a text a form begins that goes on behind it.
    fn beginning(&self, held: &[u8]) -> Option<usize> {
        let begins = |form: &Form, at: usize| match form.at(0, &held[at..]) {
            FormMatch::Partial(letters) => letters >= form.telling(),
            FormMatch::Whole(_) | FormMatch::None => false,
        };
        (0..held.len()).find(|at| self.forms().any(|form| begins(form, *at)))
    }

    /// How many bytes at the start of a text are the end of a form.
    fn ending(&self, text: &[u8]) -> usize {
        let longest = |form: &Form| {
            let last = form.text.len().saturating_sub(form.telling());
            let first = form.text.len().saturating_sub(text.len()).max(1);
            (first..=last).find_map(|from| match form.at(from, text) {
                FormMatch::Whole(length) => Some(length),
                FormMatch::Partial(_) | FormMatch::None => None,
            })
        };
        self.forms().filter_map(longest).max().unwrap_or(0)
    }

    fn forms(&self) -> impl Iterator<Item = &Form> {
        let forms = self.0.iter().flat_map(|inner| &inner.forms);
        forms.filter(|form| !form.is_word && form.text.len() >= LEAST_LEFT)
    }
}

impl Form {
    /// How many bytes of it, at its beginning or end, tell something.
    fn telling(&self) -> usize {
        (self.text.len() / 2).clamp(LEAST_LEFT, MOST_LEFT)
    }
}

/// How many bytes at the start of a text still belong to the mark before it.
fn opening(text: &[u8]) -> usize {
    let bracket = usize::from(text.first() == Some(&b']'));
    bracket + wrap(&text[bracket..]).min(text.len() - bracket)
}

/// How much of the start of a text the end of an escape may be, as JSON writes it: nothing first.
fn escape_ends(text: &[u8]) -> impl Iterator<Item = usize> {
    let digits = |text: &[u8]| text.iter().take(4).take_while(|it| it.is_ascii_hexdigit()).count();
    let whole = text.strip_prefix(b"u").filter(|rest| digits(rest) == 4).map(|_| 5);
    (0..=digits(text)).chain(whole)
}

/// How many bytes at the end of a text belong to the mark after it.
fn closing(text: &[u8]) -> usize {
    let mut rest = text.strip_suffix(b"[").unwrap_or(text);
    loop {
        rest = match rest {
            [before @ .., b'\n' | b'\r' | b' '] => before,
            // An escape, as JSON writes it.
            [before @ .., b'\\', b'n' | b'r'] => {
                let slashes = before.iter().rev().take_while(|byte| **byte == b'\\').count();
                &before[..before.len() - slashes]
            }
            _ => return text.len() - rest.len(),
        };
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::*;
    use crate::secret::Secret;

    fn key() -> String {
        format!("sk-proj-{}", ["Zq3", "x7K", "w_9", "-Ab"].concat().repeat(12))[..142].to_owned()
    }

    fn needles() -> Needles {
        Needles::for_texts(&[Secret::new(key())])
    }

    /// The longest part of a text that another one has.
    fn longest_left(text: &str, of: &str) -> usize {
        let length = |from: usize| {
            (1..=of.len() - from).take_while(|n| text.contains(&of[from..from + n])).count()
        };
        (0..of.len()).map(length).max().unwrap_or(0)
    }

    /// Each way in which we cut, with `kept` bytes of the key before or after.
    fn cuts(key: &str, kept: usize) -> Vec<String> {
        let (start, end) = (&key[..kept], &key[key.len() - kept..]);
        vec![
            format!("aaaa{start}\n[… 12345 bytes left out …]\nbbbb"),
            format!("aaaa\n[… 12345 bytes left out …]\n{end}\nbbbb"),
            format!("aaaa {start}\n[… 12345 bytes left out …]\n{end} bbbb"),
            format!("     1\taaaa{start}… [+42 bytes]\n     2\tend\n"),
            format!("echo {start}… [+42 bytes] …"),
            format!("it said {start}…"),
        ]
    }

    #[test]
    fn what_a_cut_leaves_of_a_key_is_removed() {
        let needles = needles();
        let encoded = STANDARD.encode(key());
        let wrapped = format!("{}\n{}\n{}", &encoded[..76], &encoded[76..152], &encoded[152..]);
        for kept in (10..22).chain((22..key().len()).step_by(17)) {
            for (form, spare) in [(key(), 0), (encoded.clone(), 3), (wrapped.clone(), 4)] {
                for text in cuts(&form, kept) {
                    let twice = json!({ "arguments": json!({ "a": text }).to_string() });
                    for text in [text.clone(), json!({ "a": text }).to_string(), twice.to_string()]
                    {
                        let clean = needles.text(&text).into_owned();
                        let left = longest_left(&clean, &form);
                        // The control: it was there.
                        let was = longest_left(&text, &form);
                        assert!(was >= kept.min(28), "{kept} {was}: {text}");
                        assert!(left < MOST_LEFT + spare, "{kept} {left}: {clean}");
                        if kept < MOST_LEFT {
                            assert_eq!(clean, text);
                        } else if kept > MOST_LEFT + spare {
                            assert!(clean.contains(MARK), "{clean}");
                        }
                        let without = clean.replace(MARK, "");
                        assert_eq!(text.matches(CUT).count(), without.matches(CUT).count());
                        assert_eq!(needles.text(&clean), clean);
                    }
                }
            }
        }
    }

    #[test]
    fn a_cut_within_an_escape_leaves_no_more() {
        let needles = needles();
        let escaped: String = key().chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
        let letters = |text: &str| text.matches("\\u00").count();
        for at in 0..=escaped.len() {
            let (start, end) = escaped.split_at(at);
            let texts =
                [format!("is {start}… [+9 bytes]"), format!("[… 9 bytes left out …]\n{end} is")];
            // The control: most of it is there.
            assert!(texts.iter().any(|text| letters(text) > 70));
            for text in texts {
                let clean = needles.text(&text);
                assert!(letters(&clean) <= MOST_LEFT, "{at}: {clean}");
            }
        }
    }

    #[test]
    fn a_part_stays_where_nothing_was_cut_and_a_whole_one_goes_beside_a_cut() {
        let part = &key()[..60];
        for text in [format!("{part} and … more"), part.to_owned(), format!("… [+1 bytes] {part}")]
        {
            assert_eq!(needles().text(&text), text);
        }
        let whole = format!("x{}\n[… 1 bytes left out …]\n{}y", key(), key());
        let clean = "x[secret removed]\n[… 1 bytes left out …]\n[secret removed]y";
        assert_eq!(needles().text(&whole), clean);
        // Of a short key less is left.
        let short = Needles::for_texts(&[Secret::new("sk-0123456789-abcdef".into())]);
        assert_eq!(short.text("is sk-0123456…"), "is [secret removed]…");
        assert_eq!(short.text("is sk-01234…"), "is sk-01234…");
        assert_eq!(
            short.text("… 1 bytes left out …]\n789-abcdef"),
            "… 1 bytes left out …]\n[secret removed]"
        );
    }
}
