//! A token file of ours: `<folder>/<name>.json`, bound to the base and the issuer it was made for.
//!
//! ```text
//! {"v":1,"kind":"api_key"|"chatgpt","base":"https://…","issuer":"https://…"?,
//!  "api_key":"…"? ,"access_token":"…"?,"account_id":"…"?}
//! ```
//!
//! When the backend refuses the token the file is read again: another process of ours may have
//! renewed it. Absent on purpose: writing it.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use airlock_shared::base::Base;
use airlock_shared::handoff::Secrets;
use airlock_shared::{request, secret::Secret};
use futures_util::future::BoxFuture;
use http::{HeaderMap, header};
use rustix::fs::{Mode, OFlags};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    AuthError, CREDENTIAL_BYTES, Payer, PayerKind, Signed, Signer, bearer, checked, sensitive,
};

/// The only version of the file there is.
const VERSION: u32 = 1;
/// Two tokens and a little.
const FILE_BYTES: usize = 4 * CREDENTIAL_BYTES;
/// Earlier tokens of this run that are still scrubbed from answers.
const REMEMBERED: usize = 8;
/// An account id shorter than this would be found by chance in ordinary text.
const ACCOUNT_CANARY_BYTES: usize = 16;

pub(super) struct LoginSigner {
    name: String,
    path: PathBuf,
    base: Base,
    current: Mutex<Current>,
}

struct Current {
    tokens: Tokens,
    generation: u64,
    earlier: Vec<Secret>,
}

struct Tokens {
    kind: PayerKind,
    bearer: Secret,
    account: Option<String>,
}

#[derive(Deserialize)]
struct Wire {
    v: u32,
    kind: WireKind,
    base: String,
    issuer: Option<String>,
    api_key: Option<Secret>,
    access_token: Option<Secret>,
    account_id: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WireKind {
    ApiKey,
    #[serde(rename = "chatgpt")]
    ChatGpt,
}

/// The base that a login was made for.
pub(super) fn base_of(folder: &Path, name: &str) -> Result<Base, AuthError> {
    wire(&place_of(folder, name)?).map(|(_, base)| base)
}

fn place_of(folder: &Path, name: &str) -> Result<PathBuf, AuthError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(plain) {
        return Err(AuthError::Malformed {
            place: format!("login `{}`", name.escape_debug()),
            why: "a login's name is letters, digits, dashes, dots and underscores",
        });
    }
    Ok(folder.join(format!("{name}.json")))
}

impl LoginSigner {
    pub(super) fn open(folder: &Path, name: &str, base: &Base) -> Result<Self, AuthError> {
        let path = place_of(folder, name)?;
        let tokens = read(&path, base)?;
        let current = Mutex::new(Current { tokens, generation: 0, earlier: Vec::new() });
        Ok(Self { name: name.to_owned(), path, base: base.clone(), current })
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    /// Reads the file again under the lock, so that many refused requests read it once.
    fn renewed(&self, refused: u64) -> Result<bool, AuthError> {
        let mut current = self.current();
        if current.generation != refused {
            return Ok(true);
        }
        let fresh = read(&self.path, &self.base)?;
        if fresh.account != current.tokens.account {
            return Err(AuthError::OtherAccount { place: self.place() });
        }
        if fresh.bearer.matches(current.tokens.bearer.reveal().as_bytes()) {
            return Ok(false);
        }
        let old = std::mem::replace(&mut current.tokens, fresh);
        current.earlier.push(old.bearer);
        if current.earlier.len() > REMEMBERED {
            current.earlier.remove(0);
        }
        current.generation += 1;
        Ok(true)
    }

    fn signed(&self) -> Result<Signed, AuthError> {
        let current = self.current();
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, bearer(&current.tokens.bearer, &self.place())?);
        if let Some(account) = &current.tokens.account {
            headers.insert(request::ACCOUNT, sensitive(account, &self.place())?);
        }
        Ok(Signed { headers, generation: current.generation })
    }
}

impl Signer for LoginSigner {
    fn payer(&self) -> Payer {
        let kind = self.current().tokens.kind;
        Payer { name: self.name.clone(), kind, base: self.base.clone() }
    }

    fn sign(&self) -> BoxFuture<'_, Result<Signed, AuthError>> {
        Box::pin(async { self.signed() })
    }

    fn renew(&self, refused: u64) -> BoxFuture<'_, Result<bool, AuthError>> {
        Box::pin(async move { self.renewed(refused) })
    }

    fn hand_over(&self) -> BoxFuture<'_, Result<Secrets, AuthError>> {
        Box::pin(async {
            let current = self.current();
            let bearer = Some(current.tokens.bearer.clone());
            Ok(Secrets { bearer, account_id: current.tokens.account.clone() })
        })
    }

    fn canaries(&self) -> Vec<Secret> {
        let current = self.current();
        let account = current.tokens.account.iter();
        let account = account.filter(|account| account.len() >= ACCOUNT_CANARY_BYTES);
        let tokens = current.earlier.iter().chain([&current.tokens.bearer]).cloned();
        tokens.chain(account.cloned().map(Secret::new)).collect()
    }
}

/// Opens, trusts and understands the file, in that order.
fn read(path: &Path, base: &Base) -> Result<Tokens, AuthError> {
    let place = path.display().to_string();
    let malformed = |why| AuthError::Malformed { place: place.clone(), why };
    let (wire, bound) = wire(path)?;
    // THREAT: a base in a copied command line or a configuration file collects somebody's login.
    // Tried by auth::login::tests::a_login_goes_to_its_own_base_only.
    if bound != *base {
        return Err(AuthError::OtherBase {
            place,
            bound: bound.to_string(),
            asked: base.to_string(),
        });
    }
    let (kind, secret) = match wire.kind {
        WireKind::ApiKey => (PayerKind::ApiKey, wire.api_key),
        WireKind::ChatGpt => (PayerKind::ChatGpt, wire.access_token),
    };
    let secret = secret.ok_or_else(|| AuthError::Missing { place: place.clone() })?;
    if let Some(account) = &wire.account_id {
        let plain = account.bytes().all(|byte| byte.is_ascii_graphic());
        if account.is_empty() || account.len() > 256 || !plain {
            return Err(malformed("its account is not one"));
        }
    }
    Ok(Tokens { kind, bearer: checked(&secret, &place)?, account: wire.account_id })
}

/// The file as it is, and the base it was made for.
fn wire(path: &Path) -> Result<(Wire, Base), AuthError> {
    let place = path.display().to_string();
    let distrusted = |why| AuthError::Unsafe { place: place.clone(), why };
    let malformed = |why| AuthError::Malformed { place: place.clone(), why };
    // THREAT: a local attacker swaps the file for a link or a pipe of their own.
    // Tried by auth::login::tests::a_file_that_cannot_be_trusted_is_refused.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(descriptor) => std::fs::File::from(descriptor),
        Err(rustix::io::Errno::NOENT) => return Err(AuthError::Missing { place }),
        Err(rustix::io::Errno::LOOP) => return Err(distrusted("it is a symbolic link")),
        Err(_) => return Err(distrusted("it cannot be opened")),
    };
    let about = file.metadata().map_err(|_| distrusted("it cannot be looked at"))?;
    if !about.is_file() {
        return Err(distrusted("it is not a regular file"));
    }
    if about.uid() != rustix::process::geteuid().as_raw() {
        return Err(distrusted("it belongs to another user"));
    }
    if about.mode() & 0o077 != 0 {
        return Err(distrusted("others can read it (chmod 600)"));
    }
    let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES + 1));
    file.take(FILE_BYTES as u64 + 1)
        .read_to_end(&mut text)
        .map_err(|_| distrusted("it cannot be read"))?;
    if text.len() > FILE_BYTES {
        return Err(malformed("it is too large"));
    }
    let wire: Wire =
        serde_json::from_slice(&text).map_err(|_| malformed("it is not a token file of ours"))?;
    if wire.v != VERSION {
        return Err(malformed("it is of another version"));
    }
    let bound = Base::parse(&wire.base).map_err(|_| malformed("its base is not a URL"))?;
    if wire.issuer.as_deref().is_some_and(|issuer| Base::parse(issuer).is_err()) {
        return Err(malformed("its issuer is not a URL"));
    }
    Ok((wire, bound))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const BASE: &str = "https://chatgpt.com/backend-api/codex";

    fn write(folder: &Path, name: &str, text: &str, mode: u32) {
        let path = folder.join(format!("{name}.json"));
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode");
    }

    fn login(token: &str, account: &str) -> String {
        format!(
            r#"{{"v":1,"kind":"chatgpt","issuer":"https://auth.openai.com","base":"{BASE}","access_token":"{token}","account_id":"{account}"}}"#
        )
    }

    fn open(folder: &Path, name: &str, base: &str) -> Result<LoginSigner, AuthError> {
        LoginSigner::open(folder, name, &Base::parse(base).expect("a base"))
    }

    #[test]
    fn a_file_that_cannot_be_trusted_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "open", &login("canary-token", "acct"), 0o644);
        write(folder.path(), "good", &login("canary-token", "acct"), 0o600);
        write(folder.path(), "junk", "canary-token", 0o600);
        write(
            folder.path(),
            "next",
            &login("canary-token", "a").replace("\"v\":1", "\"v\":2"),
            0o600,
        );
        symlink(folder.path().join("good.json"), folder.path().join("link.json")).expect("a link");
        std::fs::create_dir(folder.path().join("folder.json")).expect("a folder");
        for name in ["open", "junk", "next", "link", "folder", "none", "../good", "", ".x", "a/b"] {
            let error = open(folder.path(), name, BASE).err().unwrap_or_else(|| panic!("{name}"));
            assert!(!error.to_string().contains("canary-token"), "{error}");
        }
        assert!(open(folder.path(), "good", BASE).is_ok());
    }

    #[test]
    fn a_login_goes_to_its_own_base_only() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "me", &login("token", "acct"), 0o600);
        for elsewhere in
            ["https://codex.example.org", "https://chatgpt.com/other", "http://127.0.0.1:1"]
        {
            let error = open(folder.path(), "me", elsewhere).err().expect("refused");
            assert!(matches!(error, AuthError::OtherBase { .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn a_refused_token_is_read_again_and_the_old_one_is_still_scrubbed() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "me", &login("token-one", "account-0123456789"), 0o600);
        let signer = open(folder.path(), "me", BASE).expect("a login");
        assert_eq!(signer.renew(0).await, Ok(false), "nothing newer");
        write(folder.path(), "me", &login("token-two", "account-0123456789"), 0o600);
        assert_eq!(signer.renew(0).await, Ok(true));
        assert_eq!(signer.renew(0).await, Ok(true), "already renewed by another request");
        let signed = signer.sign().await.expect("signed");
        assert_eq!(signed.headers[header::AUTHORIZATION].as_bytes(), b"Bearer token-two");
        assert_eq!(signed.headers[request::ACCOUNT].as_bytes(), b"account-0123456789");
        assert_eq!(signed.generation, 1);
        let canaries = signer.canaries();
        for canary in ["token-one", "token-two", "account-0123456789"] {
            assert!(canaries.iter().any(|known| known.matches(canary.as_bytes())), "{canary}");
        }
        write(folder.path(), "me", &login("token-three", "another"), 0o600);
        let other = signer.renew(1).await;
        assert!(matches!(other, Err(AuthError::OtherAccount { .. })), "another account");
    }
}
