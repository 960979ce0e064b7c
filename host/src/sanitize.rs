//! Makes text from the model or the sandbox safe for a terminal. Characters that move the cursor,
//! write the clipboard, reorder a line or are invisible are shown as visible text.
//!
//! Used for everything that reaches a terminal. A pipe and `-o FILE` get the text unchanged: there
//! it is data, and a change would corrupt it. In JSON the same characters are written as escapes,
//! which every reader turns back.

use std::borrow::Cow;

/// The text with every unsafe character made visible. Newlines and tabs stay.
#[must_use]
pub fn text(text: &str) -> Cow<'_, str> {
    // THREAT: an answer with ESC ] 52 writes the reader's clipboard; one with U+202E shows another
    // command than it contains. Tried by sanitize::tests::nothing_steers_a_terminal.
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut previous = ' ';
    for c in text.chars() {
        match c {
            // The emoji form of a symbol: dropped, once, and only if no letter or digit precedes.
            '\u{fe0e}' | '\u{fe0f}' if !previous.is_alphanumeric() && !is_unsafe(previous) => {}
            c if !is_unsafe(c) => shown.push(c),
            '\u{0}'..='\u{1f}' => shown.push(picture(u32::from(c) + 0x2400)),
            '\u{7f}' => shown.push('␡'),
            hidden => shown.push_str(&format!("<U+{:04X}>", u32::from(hidden))),
        }
        previous = c;
    }
    Cow::Owned(shown)
}

/// The same on one line: newlines and tabs become spaces, and several spaces become one.
#[must_use]
pub fn line(text: &str) -> String {
    let mut one = String::with_capacity(text.len());
    for word in text.split(['\n', '\t', '\r', ' ']).filter(|word| !word.is_empty()) {
        if !one.is_empty() {
            one.push(' ');
        }
        one.push_str(word);
    }
    match self::text(&one) {
        Cow::Borrowed(_) => one,
        Cow::Owned(shown) => shown,
    }
}

/// The same in quotes that only we can close: untrusted text within a line of ours.
// THREAT: a note `n” airlock: your login has ended “` closes our quotes, and the rest looks like ours.
// Tried by sanitize::tests::only_we_close_quotes.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("“{}”", line(text).replace(['“', '”'], "\""))
}

/// JSON with the same meaning, in which every unsafe character is an escape.
#[must_use]
pub fn json(json: String) -> String {
    // Outside strings, JSON has no such characters but newlines and tabs, which stay.
    if !json.chars().any(is_unsafe) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_unsafe(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Whether a character acts on a terminal, changes the order of text, or is invisible.
#[must_use]
pub fn is_unsafe(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        c if c.is_control() => true,
        // Soft hyphen, grapheme joiner, Arabic letter mark, Hangul fillers, Khmer and Mongolian
        // inherent vowels: invisible.
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{3164}' | '\u{ffa0}'
        // Zero width, direction marks; separators; embeddings, isolates, invisible operators.
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        // Variation selectors, byte order mark, interlinear notes.
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        // Tags and the second set of variation selectors: they can hide whole messages.
        | '\u{e0000}'..='\u{e0fff}' => true,
        _ => false,
    }
}

fn picture(code: u32) -> char {
    char::from_u32(code).unwrap_or('\u{fffd}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_we_close_quotes() {
        let quote = quoted("n”\n airlock: your login has ended “");
        assert_eq!(quote, "“n\" airlock: your login has ended \"”");
    }

    #[test]
    fn unsafe_characters_are_shown() {
        let cases = [
            ("plain\ttext\nétoile 名前 😀", "plain\ttext\nétoile 名前 😀"),
            ("\u{1b}]52;c;aGk=\u{7}", "␛]52;c;aGk=␇"),
            ("\u{9b}31m", "<U+009B>31m"),
            ("50%\rok", "50%␍ok"),
            ("rm \u{202e}gpj.exe", "rm <U+202E>gpj.exe"),
            ("a\u{200b}b\u{feff}", "a<U+200B>b<U+FEFF>"),
            ("hi\u{e0041}", "hi<U+E0041>"),
            ("✔\u{fe0f} done", "✔ done"),
            ("a\u{fe0f} ✔\u{fe0f}\u{fe0f}", "a<U+FE0F> ✔<U+FE0F>"),
            ("x\u{2028}y\u{7f}", "x<U+2028>y␡"),
        ];
        for (given, expected) in cases {
            assert_eq!(text(given), expected, "{given:?}");
        }
        assert_eq!(line(" a\r\n\tb  \u{1b}c "), "a b ␛c");
    }

    proptest! {
        #[test]
        fn nothing_steers_a_terminal(text in any::<String>()) {
            prop_assert!(!super::text(&text).chars().any(is_unsafe));
            prop_assert!(!line(&text).contains(['\n', '\t']));
        }

        #[test]
        fn json_keeps_its_meaning(text in any::<String>()) {
            let written = json(serde_json::to_string(&text).expect("JSON"));
            prop_assert!(!written.chars().any(is_unsafe));
            prop_assert_eq!(serde_json::from_str::<String>(&written).expect("JSON"), text);
        }

        #[test]
        fn nothing_steers_a_terminal_even_in_text_full_of_unsafe_characters(
            text in proptest::collection::vec(prop_oneof![
                any::<char>().prop_filter("unsafe", |c| is_unsafe(*c)), Just('a'), Just('\u{fe0f}'), Just('✔'),
            ], 0..40)
        ) {
            let text: String = text.into_iter().collect();
            prop_assert!(!super::text(&text).chars().any(is_unsafe));
            prop_assert!(!line(&text).chars().any(is_unsafe));
        }
    }
}
