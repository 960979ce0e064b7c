//! Foreign text within our messages: one line, bounded, safe for a terminal, and in quotes that it
//! cannot end.

use crate::failure::SANDBOX_SAYS;
use crate::sanitize;

/// How much of a text from the sandbox is shown, in characters.
pub(super) const SHOWN: usize = 400;

/// The first `most` characters, in quotes.
pub(super) fn quoted(text: &str, most: usize) -> String {
    let begin: String = text.chars().take(4 * most).collect();
    let line = sanitize::line(&begin).replace(['“', '”'], "\"");
    let shown: String = line.chars().take(most).collect();
    let cut = if shown.len() < line.len() || begin.len() < text.len() { "…" } else { "" };
    format!("“{shown}{cut}”")
}

/// The same, marked as the sandbox's words.
///
/// THREAT: the sandbox's words look like ours, and a person does what they say. Tried by
/// `gate::claims::tests::what_the_host_did_not_see_is_marked_as_the_sandboxs_claim` and
/// `gate::policy::tests::named::a_refused_field_is_quoted_as_the_sandboxs`.
pub(super) fn quoted_from_sandbox(text: &str, most: usize) -> String {
    format!("{SANDBOX_SAYS}{}", quoted(text, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_stays_in_its_quotes() {
        for (text, expected) in [
            ("plain", "“plain”"),
            ("", "“”"),
            ("a” “b\u{1b}[2\nc", "“a\" \"b␛[2 c”"),
            ("1234567890", "“1234567890”"),
            ("12345678901", "“1234567890…”"),
            (&"x ".repeat(9_000), "“x x x x x …”"),
            (&" ".repeat(9_000), "“…”"),
        ] {
            assert_eq!(quoted(text, 10), expected, "{text:?}");
        }
    }
}
