//! The credential of a session. No other module holds one.
//!
//! Other modules get a [`Signer`], which writes headers for one base only. A secret cannot be
//! printed, serialized or compared by accident. An error names the place of a secret, never the
//! secret.
//!
//! ```text
//! sign_in ─→ issuer ─→ received ─→ store        once, by a person
//! open ─→ login ─→ refresh ─→ store, issuer     in every session
//! ```
//!
//! Absent on purpose: flags of the command line; writing another program's login.

pub mod sign_in; // up to three methods at once, the first to finish wins
mod browser; // sign-in in a browser: start page, cookie, callback on loopback
mod device; // sign-in with a code that is typed on another device
mod paste; // sign-in with an address that is pasted here
pub mod issuer; // requests to the issuer: exchange, refresh, revoke
pub mod store; // logins on disk
pub mod refresh; // one refresh at a time for all processes
pub mod received; // from the issuer's tokens to a login
pub mod claims; // what a token says about its owner
pub mod import; // the official client's login, read once
mod login; // a stored login as a signer
mod key; // an API key that a person gave
pub mod reach; // an HTTP client for one origin

use std::path::PathBuf;
use std::sync::Arc;

use airlock_shared::base::Base;
use airlock_shared::handoff::Secrets;
use airlock_shared::secret::Secret;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue};

/// The longest key or token that is accepted.
const CREDENTIAL_BYTES: usize = 16 << 10;
/// The one origin that a key in `OPENAI_API_KEY` may go to: the key was issued for it.
const ENVIRONMENT_ORIGIN: &str = "https://api.openai.com";

/// The account of a credential, as records and the first line show it. It holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The login's name, or `key`, or `recording`.
    pub name: String,
    pub kind: AccountKind,
    /// `plus`, `pro`, …; `None` for a key, or if the plan is not known.
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
    /// No account: the answers come from a recording.
    #[must_use]
    pub fn replay(base: Base) -> Self {
        Self { name: "recording".to_owned(), kind: AccountKind::Replay, plan: None, base }
    }
}

/// The time in Unix seconds. It is a parameter so that a test can set the time.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What a credential needs from its environment.
#[derive(Clone)]
pub struct Deps {
    /// An additional certificate authority, PEM.
    pub ca: Option<String>,
    pub clock: Clock,
}

/// The credential that a person chose.
pub enum Credential {
    /// A key read from stdin.
    Key(Secret),
    /// An access token that is not stored yet. It cannot be renewed.
    Token { token: Secret, account: Option<String> },
    /// A file that holds a key and nothing else.
    KeyFile(PathBuf),
    /// The login stored in `<directory>/<name>.json`.
    Login { name: String, directory: PathBuf },
    /// `OPENAI_API_KEY`, if the person gave `--login env`.
    Environment,
}

/// Headers for one request to the signer's base.
pub struct Signed {
    /// Each value is marked sensitive.
    pub headers: HeaderMap,
    /// Identifies the credential. [`Signer::renew`] takes it when the backend refused it.
    pub generation: u64,
}

/// The secrets that enter the sandbox in handoff, and the generation of the credential.
pub struct HandedOver {
    pub secrets: Secrets,
    pub generation: u64,
}

/// Writes the headers that authenticate a request.
pub trait Signer: Send + Sync {
    fn account(&self) -> Account;

    /// The authorization and account headers, for `account().base` only.
    fn sign(&self) -> BoxFuture<'_, Result<Signed, AuthError>>;

    /// Renews the credential after the backend answered 401 to this generation. True:
    /// [`Signer::sign`] now has another one.
    fn renew(&self, refused: u64) -> BoxFuture<'_, Result<bool, AuthError>>;

    /// The secrets that enter the sandbox in handoff.
    fn hand_over(&self) -> BoxFuture<'_, Result<HandedOver, AuthError>>;

    /// When [`Signer::sign`] renews the token, Unix seconds; `None`: never.
    fn due(&self) -> Option<u64> {
        None
    }

    /// The model that a person chose for this login, if one is stored with it.
    fn model(&self) -> Option<String> {
        None
    }

    /// Stores the model that a person chose. False: the credential is not a stored login.
    fn keep_model<'a>(&'a self, _slug: &'a str) -> BoxFuture<'a, Result<bool, AuthError>> {
        Box::pin(std::future::ready(Ok(false)))
    }

    /// Every secret that must be removed from answers and outputs.
    fn secrets_to_scrub(&self) -> Vec<Secret>;
}

/// Why there is no usable credential: one variant for each consequence. Never a part of a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is no credential: a person must sign in or give a key.
    #[error("{place}: there is no credential")]
    Missing { place: String },
    /// It cannot be trusted: it is a link, has another owner, or others can read it.
    #[error("{place}: {why}")]
    Unsafe { place: String, why: &'static str },
    /// It cannot be parsed.
    #[error("{place}: {why}")]
    Malformed { place: String, why: &'static str },
    /// It is for another base.
    #[error("{place} is a credential for {bound}; {asked} needs another one, given explicitly")]
    OtherBase { place: String, bound: String, asked: String },
    /// The login now belongs to another account than at the start of the session.
    #[error("{place}: it belongs to another account now")]
    OtherAccount { place: String },
    /// The login cannot be used any more. The person must sign in again.
    #[error("the login was {}", why.describe(*at))]
    Ended { login: String, why: store::EndReason, at: u64 },
    /// The token has expired, and no new one came from the issuer. A later try may succeed.
    #[error("the login cannot be renewed: {issuer}: {why}")]
    Unreachable { issuer: String, why: String },
    /// The login cannot be stored: the disk is full, or the directory is read-only.
    #[error("the login cannot be stored: {place}: {why}")]
    Store { place: String, why: String },
}

/// Opens the credential that a person chose, for one base.
///
/// # Errors
/// If it is missing, cannot be trusted or parsed, or belongs to another base.
pub fn open(choice: Credential, base: &Base, deps: &Deps) -> Result<Arc<dyn Signer>, AuthError> {
    match choice {
        Credential::Key(key) => Ok(Arc::new(key::KeySigner::new(key, "the key given", base)?)),
        Credential::Token { token, account } => {
            let signer = key::KeySigner::new(token, "the token given", base)?;
            Ok(Arc::new(signer.with_account(account)))
        }
        Credential::KeyFile(path) => Ok(Arc::new(key::KeySigner::from_file(&path, base)?)),
        Credential::Environment => {
            let place = "OPENAI_API_KEY";
            // THREAT: a copied command line names another base, and the key that all OpenAI tools
            // of this machine share is sent there. Tried by
            // auth::tests::a_key_from_the_environment_goes_to_its_issuer_only.
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
        Credential::Login { name, directory } => {
            Ok(Arc::new(login::LoginSigner::open(&directory, &name, base, deps)?))
        }
    }
}

/// The base of the login `name` in `directory`.
///
/// # Errors
/// As [`open`].
pub fn base_of(directory: &std::path::Path, name: &str) -> Result<Base, AuthError> {
    Ok(store::LoginStore::new(directory).read(name)?.base)
}

/// The text of a key or token without the white space around it, which an editor may add. It must
/// be printable ASCII, so that it can be sent as a header.
fn checked(secret: &Secret, place: &str) -> Result<Secret, AuthError> {
    let malformed = |why| AuthError::Malformed { place: place.to_owned(), why };
    let text = secret.reveal().trim();
    if text.is_empty() {
        return Err(AuthError::Missing { place: place.to_owned() });
    }
    if text.len() > CREDENTIAL_BYTES {
        return Err(malformed("it is too long for a key or token"));
    }
    // JSON escapes a quote or a backslash, so that it takes two bytes on disk; one is reserved.
    if !text.bytes().all(|byte| byte.is_ascii_graphic() && !br#""\"#.contains(&byte)) {
        return Err(malformed("a key or token is printable ASCII without spaces or quotes"));
    }
    Ok(Secret::new(text.to_owned()))
}

/// `Bearer …`, marked as sensitive so that no library prints it.
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
    fn a_key_from_the_environment_goes_to_its_issuer_only() {
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
    async fn a_key_signs_and_cannot_be_renewed() {
        let key = Credential::Key(Secret::new("sk-canary-1\n".to_owned()));
        let signer = open(key, &base("https://api.openai.com"), &deps()).expect("a signer");
        let signed = signer.sign().await.expect("signed");
        let value = &signed.headers[http::header::AUTHORIZATION];
        assert_eq!(value.as_bytes(), b"Bearer sk-canary-1");
        assert_eq!(format!("{value:?}"), "Sensitive");
        assert_eq!(signer.renew(signed.generation).await, Ok(false));
        assert_eq!(signer.account().kind.as_str(), "api key");
        assert!(signer.secrets_to_scrub().iter().any(|canary| canary.matches(b"sk-canary-1")));
    }
}
