//! Credentials taken out of text that somebody else wrote: a backend that echoes our headers, a
//! command that prints a key file.
//!
//! Each secret is looked for as it is, however JSON escapes it, and inside base64, in one line or in
//! many. In a stream only a proper prefix of such a form is held back, so that it stays a stream.
//! What a cut of ours left of one goes too. What somebody disguises on purpose, or cuts in two, is
//! not found.

use std::borrow::Cow;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::secret::Secret;
use forms::{BEGIN_BYTES, Form, FormMatch};

mod cuts; // what a cut left of one
mod escape; // letters as JSON may write them
mod forms; // what a secret can stand in a text as

/// What stands in a secret's place. It is safe in JSON and in a header.
pub const MARK: &str = "[secret removed]";
/// A shorter value is too likely to be an ordinary word.
const SHORTEST_BYTES: usize = 16;
/// Values that are written where a key must stand and there is none. Those shorter than
/// [`SHORTEST_BYTES`] (`EMPTY`, `ollama`, `lm-studio`, `none`, `dummy`, …) need no entry.
const PLACEHOLDERS: [&str; 6] = [
    "sk-no-key-required",
    "no-api-key-required",
    "your-api-key-here",
    "your_api_key_here",
    "your-openai-api-key",
    "your_openai_api_key",
];

/// Whether a text of others can be searched for this without tearing up ordinary words.
#[must_use]
pub fn is_findable(secret: &Secret) -> bool {
    let value = secret.reveal();
    let is_placeholder = PLACEHOLDERS.iter().any(|known| known.eq_ignore_ascii_case(value));
    value.len() >= SHORTEST_BYTES && !is_placeholder
}

/// What is looked for. Clones share it.
#[derive(Clone, Default)]
pub struct Needles(Option<Arc<Inner>>);

struct Inner {
    /// Longest first.
    forms: Vec<Form>,
    /// Finds where a form may begin; none: any byte may.
    begins: Option<AhoCorasick>,
}

impl Inner {
    fn next(&self, bytes: &[u8]) -> Option<usize> {
        match &self.begins {
            Some(begins) => begins.find(bytes).map(|found| found.start()),
            None => (!bytes.is_empty()).then_some(0),
        }
    }
}

impl Needles {
    /// For what others say: events, answers, requests. Short secrets and placeholders are left
    /// out, because `ollama` is a key and a word.
    #[must_use]
    pub fn for_texts(secrets: &[Secret]) -> Self {
        let findable = secrets.iter().filter(|secret| is_findable(secret));
        Self::new(findable.flat_map(Form::of).collect())
    }

    /// For headers and for our own messages: every secret, a short one as a whole word. A message
    /// can be scrubbed twice.
    #[must_use]
    pub fn for_messages(secrets: &[Secret]) -> Self {
        let form = |secret| {
            let is_word = !is_findable(secret);
            Form::of(secret).into_iter().map(move |mut form| {
                form.is_word = is_word;
                form
            })
        };
        let mut forms: Vec<Form> = secrets.iter().flat_map(form).collect();
        if !forms.is_empty() {
            // The key `secret` is not looked for in the mark.
            forms.push(Form::plain(MARK.as_bytes()));
        }
        Self::new(forms)
    }

    fn new(mut forms: Vec<Form>) -> Self {
        forms.retain(|form| !form.text.is_empty());
        if forms.is_empty() {
            return Self::default();
        }
        forms.sort_by_key(|form| std::cmp::Reverse(form.text.len()));
        let begins = forms.iter().flat_map(Form::begins);
        let begins = AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(begins);
        Self(Some(Arc::new(Inner { forms, begins: begins.ok() })))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// A whole text without secrets, and without parts of one where it was cut.
    #[must_use]
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let Some(inner) = &self.0 else { return Cow::Borrowed(text) };
        let clean = if text.contains(cuts::CUT) {
            self.without_cut_parts(text)
        } else if inner.next(text.as_bytes()).is_some() {
            self.whole(text.as_bytes())
        } else {
            return Cow::Borrowed(text);
        };
        // Secrets are whole characters, and so is what is left.
        Cow::Owned(String::from_utf8_lossy(&clean).into_owned())
    }

    /// Bytes without secrets.
    #[must_use]
    pub fn bytes(&self, bytes: Vec<u8>) -> Vec<u8> {
        if self.is_empty() { bytes } else { self.whole(&bytes) }
    }

    /// The same of every string in a value. True: something was removed.
    pub fn value(&self, value: &mut Value) -> bool {
        if self.is_empty() {
            return false;
        }
        match value {
            Value::String(text) => {
                let Cow::Owned(clean) = self.text(text) else { return false };
                let is_changed = clean != *text;
                *text = clean;
                is_changed
            }
            Value::Array(list) => list.iter_mut().fold(false, |any, each| self.value(each) | any),
            Value::Object(map) => map.values_mut().fold(false, |any, each| self.value(each) | any),
            _ => false,
        }
    }

    fn whole(&self, bytes: &[u8]) -> Vec<u8> {
        Scrubber::new(self.clone()).scrub(bytes, true)
    }
}

/// Takes bytes, gives them without secrets; any chunking gives the same.
pub struct Scrubber {
    needles: Needles,
    /// A proper prefix of a form, seen at the end of what came so far.
    held: Zeroizing<Vec<u8>>,
}

impl Scrubber {
    #[must_use]
    pub fn new(needles: Needles) -> Self {
        Self { needles, held: Zeroizing::default() }
    }

    /// The bytes that can go on; the rest is held until more comes.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.scrub(bytes, false)
    }

    /// What was still held.
    pub fn finish(&mut self) -> Vec<u8> {
        self.scrub(&[], true)
    }

    fn scrub(&mut self, bytes: &[u8], is_last: bool) -> Vec<u8> {
        let mut joined = std::mem::take(&mut self.held);
        joined.extend_from_slice(bytes);
        let Some(needles) = &self.needles.0 else { return joined.to_vec() };
        // From here on a form may have begun whose beginning is not whole yet.
        let tail =
            if is_last { joined.len() } else { joined.len().saturating_sub(BEGIN_BYTES - 1) };
        let mut clean = Vec::with_capacity(joined.len());
        let mut at = 0;
        while at < joined.len() {
            if at < tail {
                let next = needles.next(&joined[at..]).map_or(tail, |next| tail.min(at + next));
                clean.extend_from_slice(&joined[at..next]);
                at = next;
            }
            let rest = &joined[at..];
            if rest.is_empty() {
                break;
            }
            // Longest first: a secret that begins another does not leave the other's end behind.
            let could = |form: &Form| match form.at(0, rest) {
                FormMatch::Whole(length) => {
                    let is_it = !form.is_word || stands_alone(&joined[..at], &rest[length..]);
                    is_it.then_some(Some(length))
                }
                FormMatch::Partial(_) => (!is_last).then_some(None),
                FormMatch::None => None,
            };
            match needles.forms.iter().find_map(could) {
                Some(Some(length)) => {
                    clean.extend_from_slice(MARK.as_bytes());
                    at += length;
                }
                Some(None) => {
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

fn stands_alone(before: &[u8], after: &[u8]) -> bool {
    let in_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte);
    !before.last().is_some_and(in_word) && !after.first().is_some_and(in_word)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn secrets(secrets: &[&str]) -> Vec<Secret> {
        secrets.iter().map(|text| Secret::new((*text).to_owned())).collect()
    }

    /// Looks for anything, however short.
    fn needles(known: &[&str]) -> Needles {
        Needles::new(secrets(known).iter().flat_map(Form::of).collect())
    }

    #[test]
    fn every_form_is_removed() {
        let secret = r#"sk-canary/"0123456789"#;
        let lines = [
            format!("Authorization: Bearer {secret}!"),
            json!({ "echo": secret }).to_string(),
            json!({ "echo": secret }).to_string().replace('/', "\\/"),
            STANDARD_NO_PAD.encode(format!("Bearer {secret} and more")),
            STANDARD_NO_PAD.encode(format!("xBearer {secret} and more")),
            URL_SAFE_NO_PAD.encode(format!("xyBearer {secret} and more")),
        ];
        for line in lines {
            let clean = Needles::for_texts(&secrets(&[secret])).text(&line).into_owned();
            assert!(clean.contains(MARK), "{line} → {clean}");
            assert!(!clean.contains("canary"), "{line} → {clean}");
        }
    }

    #[test]
    fn short_keys_and_placeholders_do_not_tear_up_text() {
        let known = secrets(&["ollama", "EMPTY", "sk-no-key-required", "SK-NO-KEY-REQUIRED"]);
        let text = "ollama serves llama; EMPTY is a word; the key is sk-no-key-required";
        assert_eq!(Needles::for_texts(&known).text(text), text);
        assert!(Needles::for_texts(&known).is_empty());
        let long = secrets(&["sk-canary-0123456"]);
        assert_eq!(Needles::for_texts(&long).text("is sk-canary-0123456?"), "is [secret removed]?");
    }

    #[test]
    fn our_own_messages_lose_a_short_key_where_it_is_a_word() {
        let messages = Needles::for_messages(&secrets(&["ollama", "secret"]));
        let once =
            messages.text("Bearer ollama: no model ollama-3 for ollamas, secret").into_owned();
        assert_eq!(
            once,
            "Bearer [secret removed]: no model ollama-3 for ollamas, [secret removed]"
        );
        assert_eq!(messages.text(&once), once);
    }

    #[test]
    fn strings_within_a_value_are_cleaned() {
        let needles = Needles::for_texts(&secrets(&["sk-canary-0123456"]));
        let mut value = json!({"a": ["x", {"b": "is sk-canary-0123456"}], "c": 1});
        assert!(needles.value(&mut value));
        assert_eq!(value, json!({"a": ["x", {"b": "is [secret removed]"}], "c": 1}));
        assert!(!needles.value(&mut value));
    }

    #[test]
    fn only_a_proper_prefix_is_held_back() {
        let mut scrubber = Scrubber::new(needles(&["secret"]));
        assert_eq!(scrubber.feed(b"data: sec"), b"data: ");
        assert_eq!(scrubber.feed(b"ond\n\n"), b"second\n\n");
        assert_eq!(scrubber.feed(b"s"), b"");
        assert_eq!(scrubber.finish(), b"s");
        let mut scrubber = Scrubber::new(needles(&["a-long-secret-of-23-bytes"]));
        assert_eq!(scrubber.feed(b"data: a-long-secret-of"), b"data: ");
        assert_eq!(scrubber.feed(b"-23-bytes."), b"[secret removed].");
    }

    #[test]
    fn a_secret_that_begins_another_leaves_nothing_of_it() {
        assert_eq!(
            needles(&["ab", "abcd"]).text("xabcdy ab"),
            "x[secret removed]y [secret removed]"
        );
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_and_no_secret(text in "[abc]{0,60}", secrets in prop::collection::vec("[abc]{2,12}", 0..4), cuts in prop::collection::vec(0_usize..60, 0..6)) {
            let known: Vec<&str> = secrets.iter().map(String::as_str).collect();
            let whole = needles(&known).text(&text).into_owned();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            cuts.push(text.len());
            let (mut from, mut pieces) = (0, Vec::new());
            let mut streaming = Scrubber::new(needles(&known));
            for cut in cuts {
                pieces.extend(streaming.feed(&text.as_bytes()[from..cut]));
                from = cut;
            }
            pieces.extend(streaming.finish());
            prop_assert_eq!(whole.as_bytes(), &pieces);
            // The mark is not of the alphabet but for a few letters; cut it out to look between.
            for piece in whole.split(MARK) {
                for secret in &known { prop_assert!(!piece.contains(secret), "{piece} holds {secret}"); }
            }
        }
    }
}
