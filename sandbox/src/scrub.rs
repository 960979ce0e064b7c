//! Secrets taken out of text that somebody else wrote: a backend that echoes our headers in an
//! error or in its stream must not make us repeat them.

use std::sync::{Arc, Mutex, PoisonError};

use airlock_shared::secret::Secret;
use zeroize::Zeroizing;

/// What stands where a secret stood.
const MARK: &str = "[secret removed]";
/// Shorter values are no secrets worth hiding, and would tear up ordinary text.
const SHORTEST: usize = 8;

/// The secrets of this process; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Scrub(Arc<Mutex<Vec<Secret>>>);

impl Scrub {
    pub(crate) fn add(&self, secret: Secret) {
        if secret.reveal().len() < SHORTEST {
            return;
        }
        let mut secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What we clean is often JSON, where some characters are written differently.
        if let Ok(quoted) = serde_json::to_string(secret.reveal()).map(Zeroizing::new) {
            let written = &quoted[1..quoted.len() - 1];
            if written != secret.reveal() {
                secrets.push(Secret::new(written.to_owned()));
            }
        }
        secrets.push(secret);
    }

    /// The text without any of them.
    ///
    /// THREAT: the backend repeats the token in a message, the message goes into an event, and the
    /// event into a log. Tried by `session::tests::alone::a_token_the_backend_echoes_is_removed`.
    pub(crate) fn clean(&self, mut text: String) -> String {
        for secret in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if text.contains(secret.reveal()) {
                text = text.replace(secret.reveal(), MARK);
            }
        }
        text
    }
}

/// One line of at most 400 characters: what a message of somebody else becomes before it is shown.
pub(crate) fn one_line(text: &str) -> String {
    const MOST: usize = 400;
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if word.is_empty() {
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().take(MOST));
        if line.chars().count() > MOST {
            let mut cut: String = line.chars().take(MOST - 1).collect();
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
        scrub.add(Secret::new("sk-0123456789".into()));
        scrub.add(Secret::new("a".into()));
        assert_eq!(
            scrub.clean("a sk-0123456789sk-0123456789".into()),
            "a [secret removed][secret removed]"
        );
    }

    #[test]
    fn a_secret_is_found_in_json_too() {
        let scrub = Scrub::default();
        scrub.add(Secret::new("a\"b\\c-0123".into()));
        let line = serde_json::json!({"text": "it is a\"b\\c-0123"}).to_string();
        assert_eq!(scrub.clean(line), r#"{"text":"it is [secret removed]"}"#);
    }

    #[test]
    fn a_message_becomes_one_bounded_line() {
        assert_eq!(one_line(" a\r\n\tb\u{1b}[2J "), "a b [2J");
        assert_eq!(one_line(&"x".repeat(9_000)).chars().count(), 400);
        assert_eq!(one_line(&"é ".repeat(9_000)).chars().count(), 400);
    }
}
