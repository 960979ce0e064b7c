//! What is found however it is placed, and how often a byte is looked at.

use super::*;

#[test]
fn each_byte_is_read_a_bounded_number_of_times() {
    let most = 64 << 10;
    let hostile = |piece: &str| piece.repeat(most / piece.len()).into_bytes();
    let looked_at = |pieces: &mut dyn Iterator<Item = &[u8]>| pieces.map(<[u8]>::len).sum();
    let text = hostile("sk-");
    let once: usize = looked_at(&mut tokens(&text, found(&text, b"sk-"), TOKEN_BYTES));
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

/// In every form of text that programs write, after what they write before it.
#[test]
fn a_private_key_is_known_by_how_it_begins() {
    let keys = [
        "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nP2/56wAAA\n",
        "SSH PRIVATE KEY FILE FORMAT 1.1\n",
        "# created: 2024-01-01T00:00:00Z\n# public key: age1qyqszqgp\nAGE-SECRET-KEY-1QYQSZ\n",
        "#\n# 2048 bit OpenVPN static key\n#\n-----BEGIN OpenVPN Static key V1-----\n",
        "-\0-\0-\0-\0-\0B\0E\0G\0I\0N\0 \0P\0R\0I\0V\0A\0T\0E\0 \0K\0E\0Y\0-\0-\0-\0-\0-\0\n\0",
        "untrusted comment: signify secret key\nRWRCSwAAAA\n",
        "untrusted comment: minisign encrypted secret key\nRWRTY0Iy\n",
        "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n-----BEGIN EC PRIVATE KEY-----\nMHc\n",
        "Bag Attributes\n    friendlyName: me\n    localKeyID: 54 69\nKey Attributes: <No Attributes>\n-----BEGIN PRIVATE KEY-----\nMIIE\n",
    ];
    for key in keys {
        assert!(is_secret(key.as_bytes(), SecretContent::Key), "{key:?}");
    }
    let others = [
        "untrusted comment: signature from signify secret\nRWQ\n",
        "# created: 2024-01-01T00:00:00Z\n# public key: age1qyqszqgp\n",
        "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n",
        "\0\0",
        "-\0",
        "",
    ];
    for other in others {
        assert!(!is_secret(other.as_bytes(), SecretContent::Key), "{other:?}");
    }
}

/// DER says what it is by its first bytes: keys, and beside them a public key and a certificate.
#[test]
fn a_private_key_is_known_in_der() {
    let rsa = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
    let ec = b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01";
    let ed25519 = b"\x30\x05\x06\x03\x2b\x65\x70";
    let keys: [&[&[u8]]; 6] = [
        &[b"\x30\x82\x04\xbe\x02\x01\x00", rsa],
        &[b"\x30\x81\x87\x02\x01\x00", ec],
        &[b"\x30\x2e\x02\x01\x00", ed25519],
        &[b"\x30\x82\x04\xa4\x02\x01\x00\x02\x82\x01\x01\x00"],
        &[b"\x30\x77\x02\x01\x01\x04\x20"],
        &[b"\x30\x82\x09\x59\x02\x01\x03\x30\x82\x09\x1f\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"],
    ];
    let others: [&[&[u8]]; 4] = [
        &[b"\x30\x82\x01\x22", rsa],
        &[b"\x30\x2a", ed25519],
        &[b"\x30\x82\x03\x77\x30\x82\x02\x5f\xa0\x03\x02\x01\x02"],
        &[b"\x30\x82\x01\x0a\x02\x82\x01\x01\x00"],
    ];
    assert!(keys.iter().all(|key| is_secret(&key.concat(), SecretContent::Document)));
    assert!(!others.iter().any(|other| is_secret(&other.concat(), SecretContent::Key)));
}
