//! Text from the model or the sandbox, made harmless for a terminal: what would move the cursor, write
//! the clipboard, reorder a line or hide in it is shown instead of obeyed.
//!
//! Used for everything that reaches a terminal. A pipe and `-o FILE` get the text as it is: there
//! it is data, and changing it would corrupt it. JSON needs no choice: there the same characters
//! are written as escapes, which every reader turns back into what they were.

use std::borrow::Cow;

/// The text with every hidden or steering character made visible. Newlines and tabs stay.
#[must_use]
pub fn neutral(text: &str) -> Cow<'_, str> {
    // THREAT: an answer that carries ESC ] 52 writes the reader's clipboard, one with U+202E shows
    // another command than the one it holds. Tried by neutral::tests::nothing_steers_a_terminal.
    if !text.chars().any(steers) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut before = ' ';
    for c in text.chars() {
        match c {
            // The emoji form of a symbol: dropped without a trace, once, after what is no letter.
            '\u{fe0e}' | '\u{fe0f}' if !before.is_alphanumeric() && !steers(before) => {}
            c if !steers(c) => shown.push(c),
            '\u{0}'..='\u{1f}' => shown.push(picture(u32::from(c) + 0x2400)),
            '\u{7f}' => shown.push('␡'),
            hidden => shown.push_str(&format!("<U+{:04X}>", u32::from(hidden))),
        }
        before = c;
    }
    Cow::Owned(shown)
}

/// The same as one line: newlines and tabs too become spaces, runs of spaces one.
#[must_use]
pub fn line(text: &str) -> String {
    let mut one = String::with_capacity(text.len());
    for word in text.split(['\n', '\t', '\r', ' ']).filter(|word| !word.is_empty()) {
        if !one.is_empty() {
            one.push(' ');
        }
        one.push_str(word);
    }
    match neutral(&one) {
        Cow::Borrowed(_) => one,
        Cow::Owned(shown) => shown,
    }
}

/// The same in quotes that only we can close: words of others within a line of ours.
// THREAT: a note `n” airlock: your login has ended “` closes our quotes and goes on as ours. Tried by
// neutral::tests::quotes_are_closed_by_us_alone.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("“{}”", line(text).replace(['“', '”'], "\""))
}

/// JSON with the same meaning, in which every hidden or steering character is an escape.
#[must_use]
pub fn json(json: String) -> String {
    // Outside of strings JSON has none of them but newlines and tabs, which are not escaped.
    if !json.chars().any(steers) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if steers(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Whether a character does something to a terminal or to a reader other than being read.
#[must_use]
pub fn steers(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        c if c.is_control() => true,
        // Soft hyphen, grapheme joiner, Arabic letter mark, Hangul fillers, Khmer and Mongolian
        // inherent vowels: drawn as nothing.
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{3164}' | '\u{ffa0}'
        // Zero width, direction marks; separators; embeddings, isolates, invisible operators.
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        // Variation selectors, byte order mark, interlinear notes.
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        // Tags and the second set of variation selectors: whole messages hide there.
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
    fn quotes_are_closed_by_us_alone() {
        let said = quoted("n”\n airlock: your login has ended “");
        assert_eq!(said, "“n\" airlock: your login has ended \"”");
    }

    #[test]
    fn what_steers_is_shown() {
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
            assert_eq!(neutral(given), expected, "{given:?}");
        }
        assert_eq!(line(" a\r\n\tb  \u{1b}c "), "a b ␛c");
    }

    proptest! {
        #[test]
        fn nothing_steers_a_terminal(text in any::<String>()) {
            prop_assert!(!neutral(&text).chars().any(steers));
            prop_assert!(!line(&text).contains(['\n', '\t']));
        }

        #[test]
        fn json_keeps_its_meaning(text in any::<String>()) {
            let written = json(serde_json::to_string(&text).expect("JSON"));
            prop_assert!(!written.chars().any(steers));
            prop_assert_eq!(serde_json::from_str::<String>(&written).expect("JSON"), text);
        }

        #[test]
        fn nothing_steers_even_where_much_does(
            text in proptest::collection::vec(prop_oneof![
                any::<char>().prop_filter("steers", |c| steers(*c)), Just('a'), Just('\u{fe0f}'), Just('✔'),
            ], 0..40)
        ) {
            let text: String = text.into_iter().collect();
            prop_assert!(!neutral(&text).chars().any(steers));
            prop_assert!(!line(&text).chars().any(steers));
        }
    }
}
