//! What the issuer said, fit to be shown: one line, bounded, and nothing in it that could be a
//! code, a token or a verifier, its own echo of ours among them.

use airlock_shared::secret::Secret;

/// Characters that are shown.
const SHOWN: usize = 200;
/// A word as long as this, with a digit or an upper-case letter in it, may be a credential.
const LONG: usize = 20;
/// So much of a secret of ours in one word is an echo of it.
const ECHOED: usize = 8;
/// Characters that are looked at.
const READ: usize = 4096;

const REMOVED: &str = "[removed]";

/// `sent`: the secrets of the request that this answers.
pub(in crate::auth) fn shown(text: &str, sent: &[&Secret]) -> String {
    // What cannot be seen must not hide a secret from the search below, nor move a cursor.
    let seen = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c });
    let seen = seen.filter(|c| is_visible(*c)).take(READ);
    let mut out = String::new();
    let mut word = String::new();
    for c in seen.chain([' ']) {
        if is_token(c) {
            word.push(c);
            continue;
        }
        // THREAT: an issuer, or what stands before it, echoes the request, and the token is in the
        // person's terminal, log and bug report. Tried by auth::issuer::said::an_echo_is_removed.
        out.push_str(if is_secret(&word, sent) { REMOVED } else { &word });
        word.clear();
        if !(c == ' ' && (out.is_empty() || out.ends_with(' '))) {
            out.push(c);
        }
    }
    let out = out.trim_end();
    match out.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &out[..end]),
        None => out.to_owned(),
    }
}

fn is_visible(c: char) -> bool {
    let is_format = matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{ffff}' | '\u{e0000}'..='\u{e0fff}');
    !c.is_control() && !is_format
}

/// What codes, tokens, their base64 and their percent-encoding are made of.
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.~+/=%".contains(c)
}

fn is_secret(word: &str, sent: &[&Secret]) -> bool {
    if sent.iter().any(|secret| !secret.reveal().is_empty() && word.contains(secret.reveal())) {
        return true;
    }
    // A word of prose, or a code such as `refresh_token_invalidated`.
    if word.chars().all(|c| c.is_ascii_lowercase() || "_-.".contains(c)) {
        return false;
    }
    let echoes = |secret: &&Secret| {
        word.as_bytes().windows(ECHOED).any(|piece| {
            std::str::from_utf8(piece).is_ok_and(|piece| secret.reveal().contains(piece))
        })
    };
    word.len() >= LONG || sent.iter().any(echoes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[test]
    fn an_echo_is_removed() {
        let sent = secret("rt_Zk29-canary_x");
        let cases = [
            ("no token: rt_Zk29-canary_x!", "no token: [removed]!"),
            ("token=rt_Zk29-canary_x&x", "[removed]&x"),
            ("the first of it, Zk29-can, and no more", "the first of it, [removed], and no more"),
            ("rt_Zk\u{200b}29-canary_x", "[removed]"),
            ("\"rt_Zk29\u{7}-canary_x\"", "\"[removed]\""),
            ("a jwt eyJhbGciOiJSUzI1NiJ9.eyJh.sig", "a jwt [removed]"),
            ("refresh_token_invalidated by  the\nowner", "refresh_token_invalidated by the owner"),
            ("\u{1b}[31mred\u{202e}", "[31mred"),
            ("", ""),
        ];
        for (given, expected) in cases {
            assert_eq!(shown(given, &[&sent]), expected, "{given}");
        }
    }

    #[test]
    fn it_is_short_whatever_was_said() {
        let text = shown(&"word ".repeat(10_000), &[]);
        assert_eq!(text.chars().count(), SHOWN + 1, "{text}");
        assert!(shown(&"a".repeat(1 << 20), &[]).chars().count() <= SHOWN + 1);
    }

    proptest! {
        #[test]
        fn no_secret_comes_through(
            before in ".{0,40}", after in ".{0,40}", sent in "[A-Za-z0-9_.~-]{16,90}",
        ) {
            let text = shown(&format!("{before}{sent}{after}"), &[&secret(&sent)]);
            prop_assert!(!text.contains(&sent), "{}", text);
        }
    }
}
