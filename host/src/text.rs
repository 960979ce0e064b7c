//! Formats numbers, times and columns for people. Pure.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The longest line that we print for people, on every terminal.
pub const COLUMNS: usize = 96;

/// The columns that the text takes. The text must be sanitized.
#[must_use]
pub fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// The text in at most `columns`, with `…` at the end if it was truncated.
#[must_use]
pub fn truncate(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used >= columns {
            break;
        }
        kept.push(c);
    }
    kept.truncate(kept.trim_end().len());
    if columns > 0 {
        kept.push('…');
    }
    kept
}

/// The text followed by spaces up to `columns`.
#[must_use]
pub fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// Lines of at most `columns`, broken at spaces; every line after the first starts with `indent`.
/// A word that is longer than a line is not broken.
#[must_use]
pub fn wrap(text: &str, columns: usize, indent: &str) -> String {
    let mut wrapped = String::new();
    let mut used = 0;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let needed = width(word);
        if used > 0 && used + 1 + needed > columns {
            wrapped.push('\n');
            wrapped.push_str(indent);
            used = width(indent);
        } else if used > 0 {
            wrapped.push(' ');
            used += 1;
        }
        wrapped.push_str(word);
        used += needed;
    }
    wrapped
}

/// `1,234,567`
#[must_use]
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `940`, `6.1k`, `118k`, `91.2M`
#[must_use]
pub fn short_number(number: u64) -> String {
    scaled(number, 1_000, &["", "k", "M", "G", "T", "P", "E"])
}

/// `412 B`, `3.1 MB`: decimal, as file managers show sizes.
#[must_use]
pub fn bytes(number: u64) -> String {
    scaled(number, 1_000, &[" B", " kB", " MB", " GB", " TB", " PB", " EB"])
}

/// `512 MiB`, `2 GiB`: for limits, which are set in powers of two.
#[must_use]
pub fn limit(number: u64) -> String {
    let text = scaled(number, 1_024, &[" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"]);
    text.replace(".0 ", " ")
}

fn scaled(number: u64, step: u64, units: &[&str]) -> String {
    let mut unit = 0;
    let mut size = 1_u64;
    while unit + 1 < units.len() && number / size >= step {
        size = size.saturating_mul(step);
        unit += 1;
    }
    let whole = number / size;
    if unit == 0 || whole >= 100 {
        return format!("{whole}{}", units[unit]);
    }
    let tenth = (number % size).saturating_mul(10) / size;
    format!("{whole}.{tenth}{}", units[unit])
}

/// `0.1s`, `72.0s`, `2m11s`, `1h02m`: for columns.
#[must_use]
pub fn time(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0..100 => format!("{seconds}.{}s", ms % 1_000 / 100),
        100..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
    }
}

/// `31 s`, `12 min`, `1 h 52 min`, `3 d 4 h`: for sentences.
#[must_use]
pub fn long_time(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// The percentage of `part` in `whole`; `None` if `whole` is 0.
#[must_use]
pub fn share(part: u64, whole: u64) -> Option<u64> {
    part.min(whole).saturating_mul(100).checked_div(whole)
}

/// `1 file`, `2 files`
#[must_use]
pub fn counted(number: u64, one: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {one}{s}", thousands(number))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_and_times() {
        let shown = [thousands(0), thousands(999), thousands(41_210), thousands(1_234_567)];
        assert_eq!(shown, ["0", "999", "41,210", "1,234,567"]);
        let shown = [short_number(940), short_number(6_149), short_number(118_900)];
        assert_eq!(shown, ["940", "6.1k", "118k"]);
        assert_eq!([bytes(12), bytes(3_149_000), bytes(u64::MAX)], ["12 B", "3.1 MB", "18.4 EB"]);
        assert_eq!([limit(2 << 30), limit(512 << 20)], ["2 GiB", "512 MiB"]);
        let shown = [time(40), time(99_990), time(131_000), time(3_725_000)];
        assert_eq!(shown, ["0.0s", "99.9s", "2m11s", "1h02m"]);
        let shown = [long_time(31), long_time(720), long_time(6_720), long_time(270_000)];
        assert_eq!(shown, ["31 s", "12 min", "1 h 52 min", "3 d 3 h"]);
        assert_eq!([share(88, 100), share(1, 0), share(9, 3)], [Some(88), None, Some(100)]);
        assert_eq!([counted(1, "file"), counted(412, "file")], ["1 file", "412 files"]);
    }

    #[test]
    fn truncating_and_wrapping() {
        assert_eq!(truncate("short", 5), "short");
        assert_eq!(truncate("a longer one", 8), "a longe…");
        assert_eq!(truncate("名前名前", 5), "名前…");
        assert_eq!(wrap("one two three", 8, "  "), "one two\n  three");
        assert_eq!(wrap("https://a.very.long.example", 8, ""), "https://a.very.long.example");
    }

    proptest! {
        #[test]
        fn truncated_text_fits(text in any::<String>(), columns in 0_usize..40) {
            let text = crate::sanitize::line(&text);
            prop_assert!(width(&truncate(&text, columns)) <= columns);
        }
    }
}
