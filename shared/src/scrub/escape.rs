//! One letter of a text as JSON may write it: behind a backslash, or by its number. JSON within
//! JSON escapes the backslashes too, so that a run of them counts as one; and it may write the
//! backslash, and each letter of a number, by their numbers.

use zeroize::Zeroizing;

/// The longest run of backslashes that is one: JSON within JSON, six times.
const RUN_BYTES: usize = 64;
/// The longest letter.
const LETTER_BYTES: usize = 512;
/// How often the letters of a number are themselves numbers: JSON within JSON, four times.
const DEPTH: u32 = 3;

/// What a backslash at the start of a text makes of what follows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Escape {
    /// It stands for these bytes, and is so long.
    Letter { bytes: Vec<u8>, length: usize },
    /// The text ends within it.
    Begun,
    /// No backslash is here, or more of them than are an escape.
    Not,
}

/// One letter, by its byte or by its number in UTF-16.
#[derive(Clone, Copy)]
enum Unit {
    Byte(u8),
    Number(u16),
}

/// Why there is none.
enum NoUnit {
    Begun,
    Not,
}

impl Escape {
    pub(super) fn at(text: &[u8]) -> Self {
        if text.first() != Some(&b'\\') {
            return Self::Not;
        }
        match Self::read(&text[..text.len().min(LETTER_BYTES)]) {
            Ok((bytes, length)) => Self::Letter { bytes, length },
            Err(NoUnit::Begun) if text.len() < LETTER_BYTES => Self::Begun,
            Err(_) => Self::Not,
        }
    }

    fn read(text: &[u8]) -> Result<(Vec<u8>, usize), NoUnit> {
        let (first, length) = match unit(text, DEPTH)? {
            (Unit::Byte(byte), length) => return Ok((vec![byte], length)),
            (Unit::Number(number), length) => (number, length),
        };
        let letter = |units: &[u16], length| match char::decode_utf16(units.iter().copied()).next()
        {
            Some(Ok(char)) => Ok((char.encode_utf8(&mut [0; 4]).as_bytes().to_vec(), length)),
            _ => Err(NoUnit::Not),
        };
        if !(0xd800..0xdc00).contains(&first) {
            return letter(&[first], length);
        }
        // Two numbers make one letter that is beyond 16 bits.
        match unit(&text[length..], DEPTH)? {
            (Unit::Number(second), more) => letter(&[first, second], length + more),
            (Unit::Byte(_), _) => Err(NoUnit::Not),
        }
    }
}

fn unit(text: &[u8], depth: u32) -> Result<(Unit, usize), NoUnit> {
    match text.first() {
        None => return Err(NoUnit::Begun),
        Some(b'\\') => {}
        Some(byte) => return Ok((Unit::Byte(*byte), 1)),
    }
    let mut at = 0;
    // The backslash itself is written as an escape.
    let mut is_within = false;
    loop {
        let slashes = run(&text[at..])?;
        at += slashes;
        // Each nesting doubles a run: another number of them holds an escaped backslash.
        is_within |= slashes > 0 && !slashes.is_power_of_two();
        let Some(byte) = text.get(at) else { return Err(NoUnit::Begun) };
        at += 1;
        if *byte != b'u' {
            return Ok((Unit::Byte(*byte), at));
        }
        let (mut number, length) = match digits(&text[at..], depth) {
            Err(NoUnit::Not) => return Ok((Unit::Byte(b'u'), at)),
            read => read?,
        };
        at += length;
        if is_within && number == u16::from(b'u') {
            match digits(&text[at..], depth) {
                Err(NoUnit::Not) => {}
                read => {
                    let (within, length) = read?;
                    (number, at) = (within, at + length);
                }
            }
        }
        if number != u16::from(b'\\') {
            return Ok((Unit::Number(number), at));
        }
        is_within = true;
    }
}

/// Four hexadecimal digits, each of them a letter.
fn digits(text: &[u8], depth: u32) -> Result<(u16, usize), NoUnit> {
    // THREAT: `\u\u\u…` without an end, until there is no stack. Tried by
    // `scrub::escape::tests::what_has_no_end_is_let_through`.
    let Some(depth) = depth.checked_sub(1) else { return Err(NoUnit::Not) };
    let (mut number, mut at) = (0, 0);
    for _ in 0..4 {
        let (digit, length) = unit(&text[at..], depth)?;
        let digit = match digit {
            Unit::Byte(byte) => char::from(byte).to_digit(16),
            Unit::Number(number) => char::from_u32(number.into()).and_then(|c| c.to_digit(16)),
        };
        let digit = digit.and_then(|digit| u16::try_from(digit).ok()).ok_or(NoUnit::Not)?;
        (number, at) = (number << 4 | digit, at + length);
    }
    Ok((number, at))
}

/// How many backslashes a text begins with.
fn run(text: &[u8]) -> Result<usize, NoUnit> {
    match text.iter().take(RUN_BYTES + 1).take_while(|byte| **byte == b'\\').count() {
        slashes if slashes > RUN_BYTES => Err(NoUnit::Not),
        slashes if slashes == text.len() => Err(NoUnit::Begun),
        slashes => Ok(slashes),
    }
}

/// Whether a text begins with backslashes before an ordinary letter, as in `\n` or `C:\key`: what
/// is looked for begins behind them.
pub(super) fn is_of_a_word(text: &[u8]) -> bool {
    let Ok(slashes @ 1..) = run(text) else { return false };
    let rest = &text[slashes..];
    let is_number = rest[0] == b'u' && !matches!(digits(&rest[1..], DEPTH), Err(NoUnit::Not));
    rest[0].is_ascii_alphanumeric() && !is_number
}

/// A text with its escapes undone and without its backslashes.
pub(super) fn undone(text: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut undone = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut at = 0;
    while at < text.len() {
        match Escape::at(&text[at..]) {
            Escape::Letter { bytes, length } => {
                undone.extend_from_slice(&bytes);
                at += length;
            }
            Escape::Begun | Escape::Not => {
                undone.extend((text[at] != b'\\').then_some(text[at]));
                at += 1;
            }
        }
    }
    undone
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::{MARK, Needles, Scrubber};
    use crate::secret::Secret;

    const KEY: &str = r#"sk/red+team="KEY"&<0123;45\6789>é😀abcdef'."#;

    fn needles(secret: &str) -> Needles {
        Needles::for_texts(&[Secret::new(secret.to_owned())])
    }

    /// A JSON string in which each character is escaped in the way that its choice names.
    fn written(text: &str, ways: &[u8]) -> String {
        let number = |c: char, is_upper: bool| {
            let units = c.encode_utf16(&mut [0; 2]).to_vec();
            let unit = |unit: &u16| match is_upper {
                true => format!("\\u{unit:04X}"),
                false => format!("\\u{unit:04x}"),
            };
            units.iter().map(unit).collect::<String>()
        };
        let character = |(c, way): (char, &u8)| match (way, c) {
            (0, _) => number(c, false),
            (1, _) => number(c, true),
            (_, '"' | '\\') => format!("\\{c}"),
            (2, '/') => "\\/".to_owned(),
            (_, '\n') => "\\n".to_owned(),
            _ => c.to_string(),
        };
        let body: String = text.chars().zip(ways.iter().cycle()).map(character).collect();
        format!("\"{body}\"")
    }

    proptest! {
        #[test]
        fn a_secret_is_found_however_it_is_escaped(
            ways in prop::collection::vec(0_u8..4, 1..60),
            again in prop::collection::vec(0_u8..4, 1..300),
            end in "[ -~]{0,9}",
        ) {
            let once = written(&format!("is \n{KEY} {end}"), &ways);
            let twice = written(&once, &again);
            // The control: each says the key to who reads JSON.
            let read: Value = serde_json::from_str(&twice).expect("JSON");
            prop_assert_eq!(read.as_str(), Some(once.as_str()));
            let read: Value = serde_json::from_str(&once).expect("JSON");
            prop_assert!(read.as_str().is_some_and(|text| text.contains(KEY)));
            for text in [&once, &twice] {
                let clean = needles(KEY).text(text).into_owned();
                let read: Value = serde_json::from_str(&clean).expect("it is JSON still");
                let mut said = read.as_str().expect("a text").to_owned();
                if text == &twice {
                    said = serde_json::from_str(&said).expect("it is JSON still");
                }
                prop_assert_eq!(said, format!("is \n{MARK} {end}"));
            }
        }

        #[test]
        fn any_chunking_of_escapes_gives_the_same(
            text in r"([ab /]|\\|\\u|0061|\\u0061|\\u002f|\\u005c|\\\\|\\n|\n){0,30}",
            secrets in prop::collection::vec("[ab/]{2,6}", 1..4),
            cuts in prop::collection::vec(0_usize..90, 0..6),
        ) {
            let forms = secrets.iter().map(|text| super::super::Form::plain(text.as_bytes()));
            let needles = Needles::new(forms.collect());
            let whole = needles.bytes(text.clone().into_bytes());
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
            prop_assert_eq!(whole, pieces);
        }
    }

    #[test]
    fn what_common_writers_make_of_a_key_is_found() {
        let key = "sk/red+team=KEY&<0123;45,6789>abcdefABCDEF.";
        for written in [
            r"sk/red+team=KEY\u0026\u003c0123;45,6789\u003eabcdefABCDEF.",
            r"sk/red\u002Bteam=KEY\u0026\u003C0123;45,6789\u003EabcdefABCDEF.",
            r"sk\/red+team\u003dKEY\u0026\u003c0123;45,6789\u003eabcdefABCDEF.",
            r"\u0073\u006b\u002fred+team=KEY&<0123;45,6789>abcdefABCDEF.",
            r"sk\\u002fred+team=KEY&<0123;45,6789>abcdefABCDE\\u0046.",
            r"sk\u005cu002fred+team=KEY&<0123;45,6789>abcdefABCDEF.",
            r"sk\/red\+team\=KEY\&\<0123\;45,6789\>abcdefABCDEF.",
        ] {
            assert_eq!(needles(key).text(&format!("a {written} b")), format!("a {MARK} b"));
        }
        // Backslashes before it are somebody else's, and what is another letter is another text.
        assert_eq!(needles(key).text(&format!(r"C:\{key}")), format!(r"C:\{MARK}"));
        let other = json!(r"sk/red+team=KEY\u0027").to_string();
        assert_eq!(needles(key).text(&other), other);
    }

    #[test]
    fn what_has_no_end_is_let_through() {
        let needles = needles("sk-canary-0123456789");
        for endless in ["\\", "\\u", "\\u005c", "\\u0"] {
            let text = format!("s{}k-canary", endless.repeat(3_000));
            assert_eq!(needles.text(&text), text);
            let mut stream = Scrubber::new(needles.clone());
            let said: Vec<u8> = text.bytes().flat_map(|byte| stream.feed(&[byte])).collect();
            assert!(said.len() + 10 > text.len(), "{endless} {}", said.len());
        }
    }
}
