//! Removes credentials from what comes back, as it streams: a backend that echoes our headers must
//! not tell the sandbox, a record or a cassette what they were.
//!
//! Each secret is looked for as it is, as JSON escapes it, and inside base64. Only a proper prefix
//! of such a form is held back, so that a stream stays a stream. What a backend disguises on
//! purpose cannot be found; it has the secret anyway.

use airlock_shared::secret::Secret;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// What stands in a secret's place. It is safe in JSON and in a header.
const REMOVED: &[u8] = b"[secret removed]";
/// A secret shorter than this is looked for as it is only: its base64 would be found by chance.
const DERIVED_BYTES: usize = 12;

/// Takes bytes, gives them without secrets; any chunking gives the same.
pub(crate) struct Scrubber {
    /// The forms, longest first.
    forms: Vec<Zeroizing<Vec<u8>>>,
    /// Whether a form starts with this byte.
    starts: [bool; 256],
    /// A proper prefix of a form, seen at the end of what came so far.
    held: Zeroizing<Vec<u8>>,
}

impl Scrubber {
    pub(crate) fn new(secrets: &[Secret]) -> Self {
        let mut forms: Vec<Zeroizing<Vec<u8>>> = secrets.iter().flat_map(forms).collect();
        forms.retain(|form| !form.is_empty());
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        let mut starts = [false; 256];
        for form in &forms {
            starts[usize::from(form[0])] = true;
        }
        Self { forms, starts, held: Zeroizing::new(Vec::new()) }
    }

    /// The bytes that can go on; the rest is held until more comes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.scrub(bytes, false)
    }

    /// What was still held.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        self.scrub(&[], true)
    }

    /// A whole text at once.
    pub(crate) fn whole(mut self, bytes: &[u8]) -> Vec<u8> {
        self.scrub(bytes, true)
    }

    fn scrub(&mut self, bytes: &[u8], is_last: bool) -> Vec<u8> {
        let mut joined = std::mem::take(&mut self.held);
        joined.extend_from_slice(bytes);
        let mut clean = Vec::with_capacity(joined.len());
        let mut at = 0;
        while at < joined.len() {
            let rest = &joined[at..];
            if !self.starts[usize::from(rest[0])] {
                clean.push(rest[0]);
                at += 1;
                continue;
            }
            // Longest first: a secret that begins another does not leave the other's end behind.
            let could = |form: &&Zeroizing<Vec<u8>>| {
                rest.starts_with(form) || (!is_last && form.starts_with(rest))
            };
            match self.forms.iter().find(could) {
                Some(form) if rest.len() >= form.len() => {
                    clean.extend_from_slice(REMOVED);
                    at += form.len();
                }
                Some(_) => {
                    self.held.extend_from_slice(rest);
                    break;
                }
                None => {
                    clean.push(rest[0]);
                    at += 1;
                }
            }
        }
        clean
    }
}

/// The texts a secret can stand in an answer as.
fn forms(secret: &Secret) -> Vec<Zeroizing<Vec<u8>>> {
    let raw = secret.reveal();
    let mut forms = vec![Zeroizing::new(raw.as_bytes().to_vec())];
    let escaped = Zeroizing::new(raw.replace('\\', "\\\\").replace('"', "\\\""));
    forms.push(Zeroizing::new(escaped.replace('/', "\\/").into_bytes()));
    forms.push(Zeroizing::new(escaped.as_bytes().to_vec()));
    if raw.len() >= DERIVED_BYTES {
        for shift in 0..3_usize {
            for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
                forms.push(inside_base64(&engine, shift, raw.as_bytes()));
            }
        }
    }
    forms.dedup();
    forms
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
    use base64::Engine as _;
    use proptest::prelude::*;

    use super::*;

    fn scrubber(secrets: &[&str]) -> Scrubber {
        let secrets: Vec<Secret> =
            secrets.iter().map(|text| Secret::new((*text).to_owned())).collect();
        Scrubber::new(&secrets)
    }

    #[test]
    fn every_form_is_removed() {
        let secret = r#"sk-canary/"0123456789"#;
        let lines = [
            format!("Authorization: Bearer {secret}!"),
            serde_json::json!({ "echo": secret }).to_string(),
            serde_json::json!({ "echo": secret }).to_string().replace('/', "\\/"),
            STANDARD_NO_PAD.encode(format!("Bearer {secret} and more")),
            STANDARD_NO_PAD.encode(format!("xBearer {secret} and more")),
            URL_SAFE_NO_PAD.encode(format!("xyBearer {secret} and more")),
        ];
        for line in lines {
            let clean = scrubber(&[secret]).whole(line.as_bytes());
            let clean = String::from_utf8(clean).expect("text");
            assert!(clean.contains("[secret removed]"), "{line} → {clean}");
            assert!(!clean.contains("canary"), "{line} → {clean}");
        }
    }

    #[test]
    fn only_a_proper_prefix_is_held_back() {
        let mut scrubber = scrubber(&["secret"]);
        assert_eq!(scrubber.feed(b"data: sec"), b"data: ");
        assert_eq!(scrubber.feed(b"ond\n\n"), b"second\n\n");
        assert_eq!(scrubber.feed(b"s"), b"");
        assert_eq!(scrubber.finish(), b"s");
    }

    #[test]
    fn a_secret_that_begins_another_leaves_nothing_of_it() {
        assert_eq!(
            scrubber(&["ab", "abcd"]).whole(b"xabcdy ab"),
            b"x[secret removed]y [secret removed]"
        );
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_and_no_secret(text in "[abc]{0,60}", secrets in prop::collection::vec("[abc]{2,6}", 0..4), cuts in prop::collection::vec(0_usize..60, 0..6)) {
            let known: Vec<&str> = secrets.iter().map(String::as_str).collect();
            let whole = scrubber(&known).whole(text.as_bytes());
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            cuts.push(text.len());
            let (mut from, mut pieces, mut streaming) = (0, Vec::new(), scrubber(&known));
            for cut in cuts {
                pieces.extend(streaming.feed(&text.as_bytes()[from..cut]));
                from = cut;
            }
            pieces.extend(streaming.finish());
            prop_assert_eq!(&whole, &pieces);
            // The mark is not of the alphabet but for a few letters; cut it out to look between.
            let text = String::from_utf8(whole).expect("text");
            for piece in text.split("[secret removed]") {
                for secret in &known { prop_assert!(!piece.contains(secret), "{piece} holds {secret}"); }
            }
        }
    }
}
