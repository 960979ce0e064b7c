//! What is found however it is placed, and how often a byte is looked at.

use super::*;

#[test]
fn no_byte_is_looked_at_again_and_again() {
    let most = 64 << 10;
    let hostile = |piece: &str| piece.repeat(most / piece.len()).into_bytes();
    let looked_at = |pieces: &mut dyn Iterator<Item = &[u8]>| pieces.map(<[u8]>::len).sum();
    let text = hostile("sk-");
    let once: usize = looked_at(&mut runs(&text, found(&text, b"sk-"), TOKEN_BYTES));
    assert!((1..=text.len()).contains(&once), "{once}");
    // From each hit to the end of the token it is many times as much.
    let again: usize = found(&text, b"sk-").map(|at| text.len() - at).sum();
    assert!(again > 1_000 * once);
    for piece in ["pass=", "pass='", "pass=\"", "pass:token>"] {
        let text = hostile(piece);
        let looked: usize = looked_at(&mut values(&text));
        assert!(looked <= (NESTED as usize + 1) * text.len(), "{piece}: {looked}");
    }
    for piece in ["sk-", "eyj", "eyj.", "pass=$", "://", "://a:", "private key-----"] {
        assert!(!is_secret(&hostile(piece), SecretContent::Example), "{piece}");
    }
}

#[test]
fn a_key_is_found_after_marks_without_one() {
    let example = "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----\n";
    assert!(!is_secret(example.as_bytes(), SecretContent::Example));
    let body = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7";
    let key = example.replace("...", body);
    assert!(is_secret(key.as_bytes(), SecretContent::Example));
    assert!(is_secret(format!("{example}{key}").as_bytes(), SecretContent::Example));
    let joined = format!("{}{key}", example.trim_end());
    assert!(is_secret(joined.as_bytes(), SecretContent::Example), "without a line between");
    // What comes after an example is none of it.
    let hash = format!("{example}sha512 {body}");
    assert!(!is_secret(hash.as_bytes(), SecretContent::Example));
}

#[test]
fn a_token_is_found_after_hits_that_are_none() {
    let token = "sk-proj-9Qm2xV7bT4kL0sW8";
    for before in ["sk-", "task-", "sk- ", "sk-your-key-here ", "eyj.eyj "] {
        let is_found = is_secret(format!("{before}{token}").as_bytes(), SecretContent::Example);
        assert!(is_found, "{before}");
    }
    let nested = "auth=$x&pass=$y&password=hunter2x";
    assert!(is_secret(nested.as_bytes(), SecretContent::Settings));
    assert!(!is_secret(b"auth=$x&pass=$y&password=$z", SecretContent::Settings));
}
