//! How a private key begins, in the forms that programs write: armoured, bare, UTF-16, and DER.
//! Source code and documents do not begin so.
//!
//! Deliberately absent: OpenPGP without armour, and keys inside JSON.

/// The first words of a key, in lower case.
const FIRST: &[&[u8]] = &[
    b"putty-user-key-file-",
    b"ssh private key file format",
    b"age-secret-key-1",
    b"-----begin openvpn static key",
];
/// The lines that `age-keygen`, `openvpn --genkey` and `openssl pkcs12` write before a key.
const BEFORE: &[&[u8]] = &[
    b"# created:",
    b"# public key:",
    b"# 2048 bit openvpn static key",
    b"bag attributes",
    b"key attributes",
    b"    friendlyname:",
    b"    localkeyid:",
    b"    microsoft ",
    b"    x509v3 ",
];
/// The object identifiers of key types, which follow the version in PKCS #8.
const KINDS: &[&[u8]] = &[
    b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01", // RSA
    b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01",     // elliptic curves
    b"\x06\x07\x2a\x86\x48\xce\x38\x04\x01",     // DSA
    b"\x06\x03\x2b\x65",                         // Ed25519 and its like
];
/// The object identifiers of encryption, which begin an encrypted PKCS #8 key.
const ENCRYPTED: &[&[u8]] =
    &[b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05", b"\x06\x0a\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01"];

/// Whether a file begins as a private key. `whole`: armour must have a body.
pub(super) fn begins(content: &[u8], whole: bool) -> bool {
    let narrow = match content {
        [0xff, 0xfe, rest @ ..] | [0xfe, 0xff, rest @ ..] => rest,
        [0, first, ..] | [first, 0, ..] if first.is_ascii_graphic() => content,
        _ => return is_text_of_one(content, whole) || is_der(content),
    };
    // UTF-16.
    let narrow: Vec<u8> = narrow.iter().copied().filter(|byte| *byte != 0).collect();
    is_text_of_one(&narrow, whole)
}

fn is_text_of_one(text: &[u8], whole: bool) -> bool {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).to_ascii_lowercase();
    let mut lines = text.split(|byte| matches!(byte, b'\n' | b'\r'));
    while let Some(line) = lines.next() {
        let trimmed = line.trim_ascii();
        if trimmed == b"-----begin ec parameters-----" {
            lines.find(|line| line.starts_with(b"-----end "));
        } else if !trimmed.is_empty()
            && trimmed != b"#"
            && !BEFORE.iter().any(|before| line.starts_with(before))
        {
            return is_first_line(trimmed)
                && (!whole || !trimmed.starts_with(b"----") || has_body(lines));
        }
    }
    false
}

/// Whether a body comes before the next marker.
fn has_body<'a>(lines: impl Iterator<Item = &'a [u8]>) -> bool {
    lines.take_while(|line| !line.starts_with(b"-----")).any(super::has_body)
}

fn is_first_line(line: &[u8]) -> bool {
    let says = |words: &[u8]| memchr::memmem::find(line, words).is_some();
    (line.starts_with(b"----") && says(b"begin ") && says(b"private key"))
        // signify and minisign
        || (line.starts_with(b"untrusted comment:") && says(b"secret key"))
        || FIRST.iter().any(|first| line.starts_with(first))
}

/// PKCS #1, PKCS #8, SEC 1 and PKCS #12. Public keys and certificates have no version this early.
fn is_der(content: &[u8]) -> bool {
    let Some(inner) = sequence(content) else { return false };
    match inner {
        // RSA: the modulus follows.
        [2, 1, 0, 2, 0x81 | 0x82, ..] => true,
        // An elliptic curve's, of 256, 384 or 521 bits.
        [2, 1, 1, 4, 0x20 | 0x30 | 0x42, ..] => true,
        // A key store: its content is a sequence that begins with PKCS #7 data.
        [2, 1, 3, rest @ ..] => sequence(rest)
            .is_some_and(|inner| inner.starts_with(b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07")),
        [2, 1, 0 | 1, rest @ ..] => is_one_of(rest, KINDS),
        _ => is_one_of(inner, ENCRYPTED),
    }
}

fn is_one_of(content: &[u8], kinds: &[&[u8]]) -> bool {
    sequence(content).is_some_and(|inner| kinds.iter().any(|kind| inner.starts_with(kind)))
}

/// The content of a sequence, as far as it was read.
fn sequence(content: &[u8]) -> Option<&[u8]> {
    match content {
        [0x30, 0x81, _, rest @ ..] | [0x30, 0x82, _, _, rest @ ..] => Some(rest),
        [0x30, length, rest @ ..] if *length < 0x80 => Some(rest),
        _ => None,
    }
}
