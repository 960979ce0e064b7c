//! The issuer's messages, made safe to show: one short line without anything that could be a code,
//! a token or a verifier. The issuer may echo those that we sent.

use airlock_shared::secret::Secret;

/// The most characters that are shown.
const SHOWN: usize = 200;
/// A word of this length with a digit or an upper-case letter may be a credential.
const LONG: usize = 20;
/// A word that shares this many bytes with a secret that we sent is an echo of it.
const ECHOED: usize = 8;
/// The most characters that are read.
const READ: usize = 4096;

const REMOVED: &str = "[removed]";

/// The text as one safe line. `sent`: the secrets in the request.
pub(in crate::auth) fn sanitized(text: &str, sent: &[&Secret]) -> String {
    // Invisible characters are removed: they could hide a secret or move the cursor.
    let visible = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c });
    let visible = visible.filter(|c| is_visible(*c)).take(READ);
    let mut out = String::new();
    let mut word = String::new();
    for c in visible.chain([' ']) {
        if is_token(c) {
            word.push(c);
            continue;
        }
        // THREAT: an issuer or a proxy echoes the request, and the token is in the person's
        // terminal, log and bug report. Tried by auth::issuer::message::an_echo_is_removed.
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

/// The characters of codes and tokens, also in base64 and in percent-encoding.
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.~+/=%".contains(c)
}

fn is_secret(word: &str, sent: &[&Secret]) -> bool {
    if sent.iter().any(|secret| !secret.reveal().is_empty() && word.contains(secret.reveal())) {
        return true;
    }
    // An ordinary word, or an error code such as `refresh_token_invalidated`.
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
            assert_eq!(sanitized(given, &[&sent]), expected, "{given}");
        }
    }

    #[test]
    fn a_long_text_is_cut() {
        let text = sanitized(&"word ".repeat(10_000), &[]);
        assert_eq!(text.chars().count(), SHOWN + 1, "{text}");
        assert!(sanitized(&"a".repeat(1 << 20), &[]).chars().count() <= SHOWN + 1);
    }

    proptest! {
        #[test]
        fn no_secret_is_shown(
            before in ".{0,40}", after in ".{0,40}", sent in "[A-Za-z0-9_.~-]{16,90}",
        ) {
            let text = sanitized(&format!("{before}{sent}{after}"), &[&secret(&sent)]);
            prop_assert!(!text.contains(&sent), "{}", text);
        }
    }
}
