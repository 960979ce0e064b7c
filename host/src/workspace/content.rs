//! Whether a file's content is a secret: a private key, a token of a well-known shape, or a
//! password in plain text. All of it is checked for names that ordinary files have too; for other
//! names only whether the content begins like a private key.
//!
//! Plain search in linear time: each byte is read for a few hits at most. Deliberately absent:
//! guesses by entropy.

mod key; // how a private key begins

/// At most this much of a file is read.
pub(super) const READ_BYTES: usize = 1 << 20;
/// The same for a name that says nothing: enough for the beginning of a key and a comment before
/// it.
pub(super) const KEY_BYTES: usize = 512;

/// At most this much of a token is read.
const TOKEN_BYTES: usize = 512;
/// At most this much of a value, or of a token with claims, is read.
const VALUE_BYTES: usize = 4 << 10;
/// A marker line begins at most this far before the words "private key".
const MARK_BYTES: usize = 40;
/// The body of a private key begins at most this far after its marker.
const BODY_BYTES: usize = 600;
/// At most this many values within another value are checked.
const NESTED: u32 = 8;

/// The prefixes of tokens, each with the least number of token characters that follow. One of them
/// is a digit.
const TOKENS: &[(&str, usize)] = &[
    ("sk-", 16),
    ("sk_live_", 16),
    ("rk_live_", 16),
    ("sk_test_", 16),
    ("whsec_", 16),
    ("ghp_", 30),
    ("gho_", 30),
    ("ghu_", 30),
    ("ghs_", 30),
    ("ghr_", 30),
    ("github_pat_", 22),
    ("glpat-", 16),
    ("glrt-", 16),
    ("gldt-", 16),
    ("glptt-", 16),
    ("xoxb-", 10),
    ("xoxp-", 10),
    ("xoxa-", 10),
    ("xoxr-", 10),
    ("xoxs-", 10),
    ("xoxe", 10),
    ("xapp-", 10),
    ("akia", 16),
    ("asia", 16),
    ("aiza", 30),
    ("ya29.", 20),
    ("npm_", 30),
    ("pypi-ageichlwas", 16),
    ("hf_", 30),
    ("dckr_pat_", 20),
    ("dop_v1_", 32),
    ("sg.", 40),
    ("shpat_", 24),
    ("shpss_", 24),
    ("sq0csp-", 24),
    ("pmak-", 24),
    ("lin_api_", 24),
    ("nrak-", 20),
    ("dapi", 30),
    ("hvs.", 20),
    ("xkeysib-", 32),
    ("age-secret-key-1", 40),
    ("tskey-", 16),
    ("rubygems_", 32),
    ("pul-", 32),
    ("r8_", 32),
    ("gsk_", 32),
    ("xai-", 32),
];

/// Words for a secret, at the end of a key that a value is assigned to.
const KEYS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "privatekey",
    "accesskey",
    "secretkey",
    "accountkey",
    "secretkeybase",
    "authkey",
    "auth",
    "pass",
    "pwd",
    "dbpassword",
    "encryptedpassword",
    "cleartextpassword",
    "clientkeydata",
];

/// What stands in place of a secret: a reference, an example, or a word without meaning.
const PLACEHOLDERS: &[&str] = &[
    "example",
    "your",
    "xxxx",
    "****",
    "....",
    "change",
    "placeholder",
    "dummy",
    "replace",
    "insert",
    "redacted",
    "sample",
    "todo",
    "fixme",
    "secretkeyref",
    "${",
    "{{",
    "<%",
    "$(",
    "process.env",
    "os.environ",
    "env(",
    "env[",
    "getenv",
    "env.",
];
const NOTHING: &[&str] = &[
    "true",
    "false",
    "null",
    "none",
    "nil",
    "undefined",
    "password",
    "passwd",
    "secret",
    "token",
    "postgres",
    "root",
    "admin",
    "test",
    "guest",
    "mysql",
    "required",
    "optional",
    "string",
];

/// What counts as a secret in a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SecretContent {
    /// A whole private key at the very beginning. The name is of source code or a document, which
    /// may quote the first line of a key.
    Document,
    /// The first line of a private key at the very beginning: the name says nothing.
    Key,
    /// Keys and tokens.
    Example,
    /// Keys, tokens and assigned values.
    Settings,
    /// The same, and a content that is a single value: the name says that it is a secret.
    Bare,
}

/// Whether the beginning of a file is a secret.
pub(super) fn is_secret(content: &[u8], kind: SecretContent) -> bool {
    if key::begins(content, matches!(kind, SecretContent::Document | SecretContent::Example)) {
        return true;
    }
    if matches!(kind, SecretContent::Document | SecretContent::Key) {
        return false;
    }
    let text = content.to_ascii_lowercase();
    has_private_key(&text, kind)
        || has_token(&text)
        || (kind != SecretContent::Example && (has_password_in_address(&text) || assigns(&text)))
        || (kind == SecretContent::Bare && is_one_value(&text))
}

/// A password or a token alone: letters and digits, and no space.
fn is_one_value(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    text.len() <= VALUE_BYTES
        && is_value(text)
        && !text.iter().any(u8::is_ascii_whitespace)
        && text.iter().any(u8::is_ascii_digit)
        && text.iter().any(u8::is_ascii_alphabetic)
}

/// Every marker is checked: a placeholder may come before the real key. A body lies between its
/// marker and the next one.
// THREAT: an example's `-----BEGIN PRIVATE KEY-----` with dots comes before a real key.
// Tried by workspace::content::tests::a_key_is_found_after_marks_without_one.
fn has_private_key(text: &[u8], kind: SecretContent) -> bool {
    let marks = [&b"private key-----"[..], b"private key block-----", b"putty-user-key-file-"];
    if kind != SecretContent::Example {
        return marks.iter().any(|mark| found(text, mark).next().is_some());
    }
    marks.iter().any(|mark| {
        let hits: Vec<usize> = found(text, mark).collect();
        let next = hits.iter().skip(1).copied().chain([text.len()]);
        hits.iter().zip(next).any(|(at, next)| {
            let from = at + mark.len();
            !is_end(&text[..*at]) && has_body(&text[from..next.max(from).min(from + BODY_BYTES)])
        })
    })
}

/// Whether the text before a marker makes it the end of a key.
fn is_end(before: &[u8]) -> bool {
    let near = &before[before.len().saturating_sub(MARK_BYTES)..];
    let dashes = memchr::memmem::rfind(near, b"-----");
    dashes.is_some_and(|at| near[at..].starts_with(b"-----end "))
}

/// A line of base64.
fn has_body(near: &[u8]) -> bool {
    let mut length = 0;
    near.iter().any(|byte| {
        length = if is_base64(*byte) { length + 1 } else { 0 };
        length >= 40
    })
}

fn has_token(text: &[u8]) -> bool {
    TOKENS.iter().any(|(start, least)| {
        let is_word =
            |at: usize| at > 0 && (text[at - 1].is_ascii_alphanumeric() || text[at - 1] == b'_');
        let hits = found(text, start.as_bytes()).filter(|at| !is_word(*at));
        tokens(text, hits, TOKEN_BYTES)
            .map(|token| &token[start.len()..])
            .any(|token| token.len() >= *least && is_random(token))
    }) || has_jwt(text)
}

/// Three parts in base64, of which the first two are JSON.
fn has_jwt(text: &[u8]) -> bool {
    tokens(text, found(text, b"eyj"), VALUE_BYTES).any(|token| {
        let mut parts = token.split(|byte| *byte == b'.');
        let (head, body, tail) = (parts.next(), parts.next(), parts.next());
        head.is_some_and(|part| part.len() >= 15)
            && body.is_some_and(|part| part.starts_with(b"eyj"))
            && tail.is_some_and(|part| part.len() >= 20)
    })
}

/// The token at each hit. A hit within the token before it is skipped.
// THREAT: a repository's `.npmrc` of `sk-sk-sk-…` keeps the copy busy for half a minute.
// Tried by workspace::content::tests::each_byte_is_read_a_bounded_number_of_times.
fn tokens(
    text: &[u8],
    hits: impl Iterator<Item = usize>,
    most: usize,
) -> impl Iterator<Item = &[u8]> {
    let mut next = 0;
    hits.filter_map(move |at| {
        let rest = text.get(at..).filter(|_| at >= next)?;
        let rest = &rest[..rest.len().min(most)];
        let end = rest.iter().position(|byte| !is_token(*byte)).unwrap_or(rest.len());
        next = at + end;
        Some(&rest[..end])
    })
}

/// `scheme://user:password@host`.
fn has_password_in_address(text: &[u8]) -> bool {
    found(text, b"://").any(|at| {
        let rest = &text[at + 3..];
        let end = rest.iter().position(|byte| b" \t\r\n/\"'<>`".contains(byte));
        let authority = &rest[..end.unwrap_or(rest.len())];
        let Some(host) = authority.iter().rposition(|byte| *byte == b'@') else { return false };
        let Some(name) = authority.iter().position(|byte| *byte == b':') else { return false };
        name < host && is_value(&authority[name + 1..host])
    })
}

/// `password = hunter2x` in a dozen formats: a key that means a secret, then `=`, `:`, the end of a
/// tag or `define(…,`, then a value in plain text.
fn assigns(text: &[u8]) -> bool {
    text.split(|byte| matches!(byte, b'\n' | b'\r' | b';' | b'{')).any(assigns_one)
}

fn assigns_one(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    // A comment is an example.
    if line.starts_with(b"#") || line.starts_with(b"//") && !line.contains(&b'=') {
        return false;
    }
    values(line).any(is_value)
}

/// The values that are assigned to keys that mean a secret.
fn values(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let defines = line.starts_with(b"define");
    let (mut end, mut nested) = (0, 0);
    line.iter().enumerate().filter_map(move |(at, byte)| {
        let assigns = matches!(byte, b'=' | b':' | b'>') || (defines && *byte == b',');
        if !assigns {
            return None;
        }
        let key = line[..at].trim_ascii_end();
        let key = key.strip_suffix(b"\"").or_else(|| key.strip_suffix(b"'")).unwrap_or(key);
        let start = key.iter().rposition(|byte| !is_key(*byte)).map_or(0, |at| at + 1);
        let key: Vec<u8> = key[start..].iter().copied().filter(u8::is_ascii_alphanumeric).collect();
        if !KEYS.iter().any(|word| key.ends_with(word.as_bytes())) {
            return None;
        }
        nested = if at < end { nested + 1 } else { 0 };
        if nested > NESTED {
            return None;
        }
        let value = value(&line[at + 1..])?;
        end = end.max(at + 1 + value.len());
        Some(value)
    })
}

/// The value after an assignment, without its quotes. None: a plain word in quotes, as in a
/// catalogue of translations.
fn value(rest: &[u8]) -> Option<&[u8]> {
    let rest = rest.trim_ascii_start();
    let rest = rest.strip_prefix(b"=").unwrap_or(rest).trim_ascii_start();
    let quote = rest.first().copied().filter(|byte| matches!(byte, b'"' | b'\''));
    let rest = if quote.is_some() { &rest[1..] } else { rest };
    let rest = &rest[..rest.len().min(VALUE_BYTES)];
    let ends = |byte: &u8| match quote {
        Some(quote) => *byte == quote,
        None => byte.is_ascii_whitespace() || matches!(byte, b'<' | b',' | b')'),
    };
    let value = &rest[..rest.iter().position(ends).unwrap_or(rest.len())];
    let is_word = value.iter().all(|byte| byte.is_ascii_alphabetic() || !byte.is_ascii());
    (quote.is_none() || !is_word).then_some(value)
}

/// Whether a value is in plain text: six characters or more, and not a placeholder.
fn is_value(value: &[u8]) -> bool {
    let known = |words: &[&str], is: fn(&[u8], &[u8]) -> bool| {
        words.iter().any(|word| is(value, word.as_bytes()))
    };
    value.len() >= 6
        && !value.contains(&b' ')
        && !matches!(value[0], b'$' | b'%' | b'<' | b'[' | b'{' | b'@' | b'*' | b'&')
        && !known(NOTHING, |value, word| value == word)
        && !known(PLACEHOLDERS, |value, word| found(value, word).next().is_some())
}

/// Whether a token looks random: with digits, with many different characters, and without words of
/// examples.
fn is_random(token: &[u8]) -> bool {
    let mut seen = [false; 256];
    token.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    token.iter().any(u8::is_ascii_digit)
        && seen.iter().filter(|seen| **seen).count() >= 8
        && !["example", "your", "xxxx", "placeholder"]
            .iter()
            .any(|word| found(token, word.as_bytes()).next().is_some())
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

fn is_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

/// The positions of `wanted` in a text.
fn found(text: &[u8], wanted: &[u8]) -> impl Iterator<Item = usize> {
    memchr::memmem::find_iter(text, wanted).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests;
