//! Who pays: the credential of a run, and the only place that holds one.
//!
//! Everybody else has a [`Signer`], which writes headers for one base and for no other. A secret
//! here cannot be printed, compared by accident or serialized; errors say where something stood
//! and never what it was.
//!
//! ```text
//! sign_in ─→ issuer ─→ received ─→ store        once, by a person
//! open ─→ login ─→ refresh ─→ store, issuer     every run
//! ```
//!
//! Absent on purpose: words of the command line, and writing another program's login.

pub mod sign_in; // up to three ways at once, the first to finish wins
mod browser; // the way of the browser: start page, cookie, callback on loopback
mod device; // the way of a code typed on another device
mod paste; // the way of an address pasted here
pub mod issuer; // who makes logins: exchange, refresh, revoke
pub mod store; // logins on disk
pub mod refresh; // the one refresher
pub mod received; // what the issuer gave becomes a login
pub mod claims; // what a token says of its owner
pub mod import; // the official client's login, read once
mod login; // a stored login as a signer
mod key; // an API key that a person gave
pub mod reach; // the way to one origin

use std::path::PathBuf;
use std::sync::Arc;

use airlock_shared::base::Base;
use airlock_shared::handoff::Secrets;
use airlock_shared::secret::Secret;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue};

/// The longest key or token that is taken.
const CREDENTIAL_BYTES: usize = 16 << 10;
/// Where a key of the variable `OPENAI_API_KEY` may go: it was issued for that origin.
const ENVIRONMENT_ORIGIN: &str = "https://api.openai.com";

/// Who pays for a run, for records and first lines. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The login's name, or `key`, or `recording`.
    pub name: String,
    pub kind: AccountKind,
    /// `plus`, `pro`, …; None: a key, or nobody has said.
    pub plan: Option<String>,
    pub base: Base,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountKind {
    ApiKey,
    ChatGpt,
    Replay,
}

impl AccountKind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ApiKey => "api key",
            Self::ChatGpt => "token file",
            Self::Replay => "replay",
        }
    }
}

impl Account {
    /// Nobody: the answers come from a recording.
    #[must_use]
    pub fn replay(base: Base) -> Self {
        Self { name: "recording".to_owned(), kind: AccountKind::Replay, plan: None, base }
    }
}

/// Unix seconds. Asked for, never read here, so that a test can say what time it is.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What a credential needs of its surroundings.
#[derive(Clone)]
pub struct Deps {
    /// One certificate authority more, PEM.
    pub ca: Option<String>,
    pub clock: Clock,
}

/// What a person chose to pay with.
pub enum Credential {
    /// A key read from stdin.
    Key(Secret),
    /// An access token that is not stored yet; nothing renews it.
    Token { token: Secret, account: Option<String> },
    /// A file that holds a key and nothing else.
    KeyFile(PathBuf),
    /// `<folder>/<name>.json`, a token file of ours.
    Login { name: String, folder: PathBuf },
    /// `OPENAI_API_KEY`, because the person said `--login env`.
    Environment,
}

/// Headers for one request to the signer's base.
pub struct Signed {
    /// Each value is marked sensitive.
    pub headers: HeaderMap,
    /// Which credential this was: what [`Signer::renew`] is told when the backend refuses it.
    pub generation: u64,
}

/// What enters the sandbox in handoff, and which credential that is.
pub struct HandedOver {
    pub secrets: Secrets,
    pub generation: u64,
}

/// Writes the headers that make a request ours.
pub trait Signer: Send + Sync {
    fn account(&self) -> Account;

    /// The authorization and account headers, for `account().base` only.
    fn sign(&self) -> BoxFuture<'_, Result<Signed, AuthError>>;

    /// The backend answered 401 to that generation. True: [`Signer::sign`] has another one now.
    fn renew(&self, refused: u64) -> BoxFuture<'_, Result<bool, AuthError>>;

    /// What enters the sandbox in handoff.
    fn hand_over(&self) -> BoxFuture<'_, Result<HandedOver, AuthError>>;

    /// When [`Signer::sign`] will look for a newer token, Unix seconds; None: it never needs to.
    fn due(&self) -> Option<u64> {
        None
    }

    /// The model that a person chose for this credential, where it is kept with it.
    fn model(&self) -> Option<String> {
        None
    }

    /// Keeps such a choice. False: the credential is not stored, so nothing is kept with it.
    fn keep_model<'a>(&'a self, _slug: &'a str) -> BoxFuture<'a, Result<bool, AuthError>> {
        Box::pin(std::future::ready(Ok(false)))
    }

    /// Every text that must be scrubbed from whatever comes back.
    fn canaries(&self) -> Vec<Secret>;
}

/// Why there is no credential. One variant for each consequence; never a part of a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is nothing there: a person must sign in or give a key.
    #[error("{place}: no credential is there")]
    Missing { place: String },
    /// It is there and cannot be trusted: a link, another owner, readable by others.
    #[error("{place}: {why}")]
    Unsafe { place: String, why: &'static str },
    /// It is there and cannot be understood.
    #[error("{place}: {why}")]
    Malformed { place: String, why: &'static str },
    /// It is good, and not for this base.
    #[error("{place} is a credential for {bound}; {asked} needs another one, given explicitly")]
    OtherBase { place: String, bound: String, asked: String },
    /// The login changed its account under the run.
    #[error("{place}: it belongs to another account now")]
    OtherAccount { place: String },
    /// The login is gone: the issuer will not renew it. Signing in again mends it.
    #[error("the login was {}", why.words(*at))]
    Ended { login: String, why: store::EndReason, at: u64 },
    /// The token has ended and the issuer could not be asked for the next one. Later may do.
    #[error("the login cannot be renewed: {issuer}: {why}")]
    Unreachable { issuer: String, why: String },
    /// Where logins are kept cannot be written: a full disk, a read-only folder.
    #[error("the login cannot be kept: {place}: {why}")]
    Store { place: String, why: String },
}

/// Opens the credential a person chose, for one base.
///
/// # Errors
/// When it is missing, cannot be trusted or understood, or belongs to another base.
pub fn open(choice: Credential, base: &Base, deps: &Deps) -> Result<Arc<dyn Signer>, AuthError> {
    match choice {
        Credential::Key(key) => Ok(Arc::new(key::KeySigner::new(key, "the key given", base)?)),
        Credential::Token { token, account } => {
            let signer = key::KeySigner::new(token, "the token given", base)?;
            Ok(Arc::new(signer.of_account(account)))
        }
        Credential::KeyFile(path) => Ok(Arc::new(key::KeySigner::from_file(&path, base)?)),
        Credential::Environment => {
            let place = "OPENAI_API_KEY";
            // THREAT: a base in a copied command line collects the key that every OpenAI tool on
            // this machine shares. Tried by auth::tests::a_key_of_the_environment_goes_to_its_issuer_only.
            if base.origin() != ENVIRONMENT_ORIGIN {
                return Err(AuthError::OtherBase {
                    place: place.to_owned(),
                    bound: ENVIRONMENT_ORIGIN.to_owned(),
                    asked: base.origin(),
                });
            }
            let key =
                std::env::var(place).map_err(|_| AuthError::Missing { place: place.to_owned() })?;
            Ok(Arc::new(key::KeySigner::new(Secret::new(key), place, base)?))
        }
        Credential::Login { name, folder } => {
            Ok(Arc::new(login::LoginSigner::open(&folder, &name, base, deps)?))
        }
    }
}

/// The base that the login `name` in `folder` was made for.
///
/// # Errors
/// As [`open`].
pub fn base_of(folder: &std::path::Path, name: &str) -> Result<Base, AuthError> {
    Ok(store::LoginStore::new(folder).read(name)?.base)
}

/// Takes the text of a key or token: white space at its ends is the editor's, anything else but
/// printable ASCII is a mistake that must not become a header.
fn checked(secret: &Secret, place: &str) -> Result<Secret, AuthError> {
    let malformed = |why| AuthError::Malformed { place: place.to_owned(), why };
    let text = secret.reveal().trim();
    if text.is_empty() {
        return Err(AuthError::Missing { place: place.to_owned() });
    }
    if text.len() > CREDENTIAL_BYTES {
        return Err(malformed("it is too long for a key or token"));
    }
    // A quote or a backslash is two bytes on disk, and there is room for one.
    if !text.bytes().all(|byte| byte.is_ascii_graphic() && !br#""\"#.contains(&byte)) {
        return Err(malformed("a key or token is printable ASCII without spaces or quotes"));
    }
    Ok(Secret::new(text.to_owned()))
}

/// `Bearer …`, marked sensitive so that no library prints it.
fn bearer(secret: &Secret, place: &str) -> Result<HeaderValue, AuthError> {
    let text = zeroize::Zeroizing::new(format!("Bearer {}", secret.reveal()));
    sensitive(&text, place)
}

fn sensitive(text: &str, place: &str) -> Result<HeaderValue, AuthError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| AuthError::Malformed {
        place: place.to_owned(),
        why: "it cannot be sent as a header",
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(text: &str) -> Base {
        Base::parse(text).expect("a base")
    }

    fn deps() -> Deps {
        Deps { ca: None, clock: Arc::new(|| 0) }
    }

    #[test]
    fn a_key_of_the_environment_goes_to_its_issuer_only() {
        for elsewhere in ["https://codex.example.org", "https://api.openai.com.example.org"] {
            let error =
                open(Credential::Environment, &base(elsewhere), &deps()).err().expect("refused");
            assert!(matches!(error, AuthError::OtherBase { .. }), "{error}");
        }
    }

    #[test]
    fn a_key_that_cannot_be_a_header_is_refused_without_being_shown() {
        let long = "x".repeat(17 << 10);
        let cases =
            ["", "  \n", "sk-a b", "sk-a\r\nx-evil: 1", "sk-ä", "\"sk-a\"", "sk-\\a", &long];
        for given in cases {
            let key = Credential::Key(Secret::new(given.to_owned()));
            let error = open(key, &base("https://api.openai.com"), &deps()).err().expect("refused");
            let text = error.to_string();
            assert!(given.trim().is_empty() || !text.contains(given.trim()), "{text}");
        }
    }

    #[tokio::test]
    async fn a_token_signs_for_its_account() {
        let account = Some("acct-1".to_owned());
        let token = Credential::Token { token: Secret::new("token-canary".to_owned()), account };
        let signer = open(token, &base("https://chatgpt.com"), &deps()).expect("a signer");
        let signed = signer.sign().await.expect("signed");
        assert_eq!(signed.headers[http::header::AUTHORIZATION].as_bytes(), b"Bearer token-canary");
        assert_eq!(signed.headers[airlock_shared::request::ACCOUNT].as_bytes(), b"acct-1");
        assert_eq!(signer.account().kind, AccountKind::ChatGpt);
    }

    #[tokio::test]
    async fn a_key_signs_and_has_no_better_one() {
        let key = Credential::Key(Secret::new("sk-canary-1\n".to_owned()));
        let signer = open(key, &base("https://api.openai.com"), &deps()).expect("a signer");
        let signed = signer.sign().await.expect("signed");
        let value = &signed.headers[http::header::AUTHORIZATION];
        assert_eq!(value.as_bytes(), b"Bearer sk-canary-1");
        assert_eq!(format!("{value:?}"), "Sensitive");
        assert_eq!(signer.renew(signed.generation).await, Ok(false));
        assert_eq!(signer.account().kind.as_str(), "api key");
        assert!(signer.canaries().iter().any(|canary| canary.matches(b"sk-canary-1")));
    }
}
