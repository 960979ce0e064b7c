//! Names as other systems compare them. A folder that lies on one of those, or is carried there,
//! has one file where we see two names; so every comparison of names goes through here.
//!
//! Deliberately absent: composed and decomposed letters (`é` as one character or as two), which
//! only macOS takes for one name.

/// A name without what some system ignores: the case of letters (NTFS, APFS, exFAT, ext4 with
/// `casefold`), dots and spaces at its end (NTFS), and what HFS+ passes over.
// THREAT: `.VSCode`, `.vſcode` or `.vscode.` is the editor's folder where case is folded or dots
// are dropped. Tried by workspace::autorun::tests::a_name_is_known_in_any_spelling.
pub(super) fn folded(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    if text.is_ascii() {
        return text.trim_end_matches(['.', ' ']).to_ascii_lowercase();
    }
    let text: String = text.chars().filter(|&c| !is_ignored(c)).collect();
    // There and back: some letters have a capital in common.
    text.trim_end_matches(['.', ' ']).to_uppercase().to_lowercase()
}

/// The names that NTFS reads in one: a backslash separates, and a stream's name follows a colon.
pub(super) fn read_by_ntfs(name: &[u8]) -> impl Iterator<Item = String> {
    let plain = |name: &[u8]| folded(name.split(|byte| *byte == b':').next().unwrap_or_default());
    name.split(|byte| *byte == b'\\').map(plain)
}

/// HFS+ passes over these when it compares names.
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
