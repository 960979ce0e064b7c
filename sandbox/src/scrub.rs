//! Removes the secrets of this process from text that we did not write: a backend echoes our
//! headers, a command prints a key.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use airlock_shared::scrub::Needles;
use airlock_shared::secret::Secret;

/// The secrets of this process. Clones share them. With relay credentials the host has the token,
/// and scrubs what we send it.
#[derive(Clone, Default)]
pub(crate) struct Scrub(Arc<Mutex<KnownSecrets>>);

#[derive(Default)]
struct KnownSecrets {
    secrets: Vec<Secret>,
    texts: Needles,
    messages: Needles,
}

impl Scrub {
    pub(crate) fn add(&self, secret: Secret) {
        let mut known = self.known();
        known.secrets.push(secret);
        known.texts = Needles::for_texts(&known.secrets);
        known.messages = Needles::for_messages(&known.secrets);
    }

    /// The text without secrets, and without parts of secrets beside a cut. A short key stays,
    /// because it may be a word.
    ///
    /// THREAT: the backend repeats the token in a message, or a command prints it. The text goes
    /// into an event, and the event into a log. Tried by
    /// `session::tests::alone::a_token_the_backend_echoes_is_removed`.
    pub(crate) fn clean(&self, text: String) -> String {
        let texts = self.known().texts.clone();
        texts.text(&text).into_owned()
    }

    /// One of our own messages without secrets, on one line. A short key is removed too.
    pub(crate) fn message(&self, text: &str) -> String {
        let messages = self.known().messages.clone();
        one_line(&messages.text(text))
    }

    fn known(&self) -> MutexGuard<'_, KnownSecrets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message of others as one line of at most 400 characters.
pub(crate) fn one_line(text: &str) -> String {
    const MAX_CHARS: usize = 400;
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if word.is_empty() {
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().take(MAX_CHARS + 1));
        if line.chars().count() > MAX_CHARS {
            let mut cut: String = line.chars().take(MAX_CHARS - 1).collect();
            cut.push('…');
            return cut;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_removed_wherever_it_stands() {
        let scrub = Scrub::default();
        scrub.add(Secret::new("sk-0123456789-abc".into()));
        scrub.add(Secret::new("ollama".into()));
        let text = "a sk-0123456789-abcsk-0123456789-abc of ollama";
        assert_eq!(scrub.clean(text.into()), "a [secret removed][secret removed] of ollama");
        assert_eq!(scrub.message("you sent \n ollama"), "you sent [secret removed]");
    }

    #[test]
    fn a_secret_is_found_in_json_too() {
        let scrub = Scrub::default();
        scrub.add(Secret::new("a\"b\\c-0123456789ab".into()));
        let line = serde_json::json!({"text": "it is a\"b\\c-0123456789ab"}).to_string();
        assert_eq!(scrub.clean(line), r#"{"text":"it is [secret removed]"}"#);
    }

    #[test]
    fn a_message_becomes_one_bounded_line() {
        assert_eq!(one_line(" a\r\n\tb\u{1b}[2J "), "a b [2J");
        assert_eq!(one_line(&"x".repeat(9_000)).chars().count(), 400);
        assert!(one_line(&"x".repeat(9_000)).ends_with('…'), "a cut is marked");
        assert_eq!(one_line(&"é ".repeat(9_000)).chars().count(), 400);
    }
}
