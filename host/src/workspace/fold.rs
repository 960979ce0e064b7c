//! File names as other systems compare them. On such a system, two names that differ here may be
//! one file. So every comparison of names with a list uses this module.
//!
//! Deliberately absent: composed and decomposed letters (`é` as one character or as two), which
//! only macOS treats as one name.

/// A name without what some systems ignore: the case of letters (NTFS, APFS, exFAT, ext4 with
/// `casefold`), dots and spaces at the end (NTFS), and characters that HFS+ ignores.
// THREAT: the agent writes `.VSCode`, `.vſcode` or `.vscode.`, and on such a system it is the
// editor's folder. Tried by workspace::autorun::tests::a_name_is_known_in_any_spelling.
pub(super) fn folded(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    if text.is_ascii() {
        return text.trim_end_matches(['.', ' ']).to_ascii_lowercase();
    }
    let text: String = text.chars().filter(|&c| !is_ignored(c)).collect();
    // To upper case and back: some letters share a capital letter.
    text.trim_end_matches(['.', ' ']).to_uppercase().to_lowercase()
}

/// The names that NTFS reads in one name: a backslash separates, and a colon begins a stream's
/// name.
pub(super) fn read_by_ntfs(name: &[u8]) -> impl Iterator<Item = String> {
    let plain = |name: &[u8]| folded(name.split(|byte| *byte == b':').next().unwrap_or_default());
    name.split(|byte| *byte == b'\\').map(plain)
}

/// HFS+ ignores these characters when it compares names.
fn is_ignored(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_some_system_takes_for_one_name_is_one() {
        for (one, other) in [
            ("HEAD", "head"),
            ("config.", "config"),
            ("config. .", "config"),
            ("con\u{200c}fig", "config"),
            ("config.\u{feff}", "config"),
            ("\u{c9}tat", "\u{e9}tat"),
            (".v\u{17f}code", ".vscode"),
        ] {
            assert_eq!(folded(one.as_bytes()), folded(other.as_bytes()), "{one}");
        }
        for (one, other) in [("a", "b"), ("a:b", "a"), ("a\\b", "b"), (".a", "a"), (" a", "a")] {
            assert_ne!(folded(one.as_bytes()), folded(other.as_bytes()), "{one}");
        }
    }
}
