//! Reads the official client's `auth.json` once (codex protocol, B.1), and never writes it.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use airlock_shared::secret::Secret;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::claims::is_account_id;
use super::{AuthError, CREDENTIAL_BYTES, checked};

/// Room for three tokens, a key and the rest.
const FILE_BYTES: usize = 6 * CREDENTIAL_BYTES;

/// What an `auth.json` holds.
pub enum AuthFile {
    ApiKey(Secret),
    ChatGpt { access: Secret, refresh: Option<Secret>, id: Option<Secret>, account: Option<String> },
}

#[derive(Deserialize)]
struct AuthJson {
    auth_mode: Option<String>,
    #[serde(rename = "OPENAI_API_KEY")]
    api_key: Option<Secret>,
    tokens: Option<AuthFileTokens>,
}

#[derive(Deserialize)]
struct AuthFileTokens {
    id_token: Option<Secret>,
    access_token: Option<Secret>,
    refresh_token: Option<Secret>,
    account_id: Option<String>,
}

/// # Errors
/// `Missing`, `Unsafe` (another owner, a link), `Malformed`.
pub fn read(file: &Path) -> Result<AuthFile, AuthError> {
    let place = file.display().to_string();
    let missing = || AuthError::Missing { place: place.clone() };
    let distrusted = |why| AuthError::Unsafe { place: place.clone(), why };
    let malformed = |why| AuthError::Malformed { place: place.clone(), why };
    // THREAT: another user's file becomes the login, and the work goes to that user's account.
    // Tried by auth::import::tests::a_file_of_another_user_or_a_link_is_refused.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = match rustix::fs::open(file, flags, Mode::empty()) {
        Ok(descriptor) => std::fs::File::from(descriptor),
        Err(Errno::NOENT) => return Err(missing()),
        Err(Errno::LOOP) => return Err(distrusted("it is a symbolic link")),
        Err(_) => return Err(distrusted("it cannot be opened")),
    };
    let about = opened.metadata().map_err(|_| distrusted("its owner and mode cannot be read"))?;
    if !about.is_file() {
        return Err(distrusted("it is not a regular file"));
    }
    if about.uid() != rustix::process::geteuid().as_raw() {
        return Err(distrusted("it belongs to another user"));
    }
    let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES + 1));
    let read = opened.take(FILE_BYTES as u64 + 1).read_to_end(&mut text);
    read.map_err(|_| distrusted("it cannot be read"))?;
    if text.len() > FILE_BYTES {
        return Err(malformed("it is too large"));
    }
    let found: AuthJson = serde_json::from_slice(&text)
        .map_err(|_| malformed("it is not a login of the official client"))?;
    // Without a mode the key is used first, as in the official client.
    let is_key = match found.auth_mode.as_deref() {
        Some(mode) => mode == "apikey",
        None => found.api_key.is_some(),
    };
    if is_key {
        return checked(&found.api_key.ok_or_else(missing)?, &place).map(AuthFile::ApiKey);
    }
    let tokens = found.tokens.ok_or_else(missing)?;
    let token = |token: Option<Secret>| {
        // The string is empty if a parent process of the client holds the token.
        let given = token.filter(|token| !token.reveal().trim().is_empty());
        given.map(|token| checked(&token, &place)).transpose()
    };
    Ok(AuthFile::ChatGpt {
        access: token(tokens.access_token)?.ok_or_else(missing)?,
        refresh: token(tokens.refresh_token)?,
        id: token(tokens.id_token)?,
        account: tokens.account_id.filter(|id| is_account_id(id)),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn read_text(text: &str) -> Result<AuthFile, AuthError> {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("auth.json");
        std::fs::write(&file, text).expect("written");
        read(&file)
    }

    #[test]
    fn both_kinds_of_login_are_found() {
        let text = r#"{"OPENAI_API_KEY":null,"tokens":{"id_token":"i.i.i","access_token":"a.a.a",
            "refresh_token":"rt","account_id":"acct"},"last_refresh":"2026-11-21T09:00:00Z"}"#;
        let Ok(AuthFile::ChatGpt { access, refresh, id, account }) = read_text(text) else {
            panic!("not found");
        };
        assert!(access.matches(b"a.a.a") && account.as_deref() == Some("acct"));
        assert!(refresh.is_some_and(|token| token.matches(b"rt")));
        assert!(id.is_some_and(|token| token.matches(b"i.i.i")));
        let text = r#"{"OPENAI_API_KEY":"sk-1","tokens":null}"#;
        assert!(matches!(read_text(text), Ok(AuthFile::ApiKey(key)) if key.matches(b"sk-1")));
        let text = r#"{"auth_mode":"chatgptAuthTokens","OPENAI_API_KEY":"sk-1",
            "tokens":{"access_token":"a.a.a","refresh_token":""}}"#;
        assert!(matches!(read_text(text), Ok(AuthFile::ChatGpt { refresh: None, .. })));
    }

    #[test]
    fn a_file_of_another_user_or_a_link_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("auth.json");
        assert!(matches!(read(&file), Err(AuthError::Missing { .. })));
        assert!(matches!(read(directory.path()), Err(AuthError::Unsafe { .. })));
        std::fs::write(&file, r#"{"OPENAI_API_KEY":"sk-canary"}"#).expect("written");
        let link = directory.path().join("link.json");
        symlink(&file, &link).expect("a link");
        assert!(matches!(read(&link), Err(AuthError::Unsafe { .. })));
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&file, Some(4242), None).expect("given away");
            assert!(matches!(read(&file), Err(AuthError::Unsafe { .. })));
        }
        for junk in ["", "sk-canary", "{}", r#"{"OPENAI_API_KEY":"sk-canary \n x"}"#] {
            let error = read_text(junk).err().expect("refused");
            assert!(!error.to_string().contains("canary"), "{error}");
        }
    }
}
