//! Logins on disk. No other module knows their layout.
//!
//! ```text
//! logins/            0700
//!   NAME.json        0600, one login, replaced whole: {"v":2,"kind":…,"base":…, …}
//!   NAME.json.part   a new NAME.json while it is written
//!   NAME.json.next   the login that a refresh will store: its space is reserved before the issuer
//!                    is asked, and it is renamed to NAME.json when it is complete on disk
//!   NAME.lock        locked while NAME changes; never deleted, so that all lock the same inode.
//!                    Holds the last failure to reach the issuer
//! ```

mod layout; // the JSON of one login
mod directory; // files that only our user can have written
mod locked; // one login under its lock
#[cfg(test)]
pub(super) mod tests; // links, modes, owners, pipes, full disks, torn files

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use airlock_shared::base::Base;
use airlock_shared::secret::Secret;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::AuthError;
use super::issuer::IssuerUrl;
use directory::Directory;

pub(crate) use directory::{DIRECTORY_IS_LINK, DIRECTORY_IS_OPEN};

pub use locked::{LastFailure, LockedLogin, ReservedFile};

/// How long to wait for a lock: longer than a request to an issuer takes.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);
/// The pause between two tries.
const LOCK_RETRY: Duration = Duration::from_millis(10);
/// How long before its end a token is renewed, in seconds (codex protocol, B.2).
pub const EARLY_SECONDS: u64 = 300;

/// One login.
#[derive(Clone)]
pub struct Login {
    pub kind: LoginKind,
    /// The only base that its credential may go to.
    pub base: Base,
    /// The issuer, the only one that may renew or revoke it. `None`: a key.
    pub issuer: Option<IssuerUrl>,
    /// The API key or the access token.
    pub bearer: Secret,
    /// The refresh token, which works only once. `None`: a key, or an access token given alone.
    pub refresh: Option<Secret>,
    pub account: Option<String>,
    pub email: Option<String>,
    pub plan: Option<String>,
    /// Unix seconds by this machine's clock: the time it was received plus its lifetime. `None`:
    /// not known; it is valid until the backend refuses it.
    pub expires_at: Option<u64>,
    pub signed_in_at: Option<u64>,
    pub refreshed_at: Option<u64>,
    /// Counts the refreshes.
    pub generation: u64,
    /// The model that a person chose, if the backend has no default.
    pub model: Option<String>,
    /// A refresh with the token of this digest was begun; its result is not known.
    pub intent: Option<RefreshIntent>,
    /// The issuer does not renew the token of this digest any more.
    pub ended: Option<LoginEnd>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginKind {
    ApiKey,
    #[serde(rename = "chatgpt")]
    ChatGpt,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshIntent {
    /// SHA-256 of the refresh token, hexadecimal.
    pub token: String,
    /// Unix seconds.
    pub at: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginEnd {
    pub why: EndReason,
    /// SHA-256 of the refresh token, hexadecimal.
    pub token: String,
    /// Unix seconds.
    pub at: u64,
}

/// Why a login cannot be renewed any more (codex protocol, B.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// `refresh_token_expired`
    Expired,
    /// `refresh_token_reused`: another program used it up.
    Reused,
    /// `refresh_token_invalidated`: signed out elsewhere, or the password was changed.
    Revoked,
    /// A refresh was interrupted between the issuer's answer and the write to disk.
    Interrupted,
    /// The issuer answered with another account's tokens.
    OtherAccount,
    /// Refused with `invalid_grant` or a code that is not known here.
    Refused,
    /// The access token has expired, and there is no refresh token.
    Ended,
}

impl Login {
    /// When its token should be renewed, Unix seconds: five minutes before it expires, or after
    /// half of a lifetime that is shorter than that. `None`: there is no refresh token, the expiry
    /// is not known, or the issuer has refused to renew it.
    #[must_use]
    pub fn due(&self) -> Option<u64> {
        let expires = self.expires_at?;
        self.refresh.as_ref().filter(|_| self.ended().is_none())?;
        let made = self.refreshed_at.or(self.signed_in_at);
        let lifetime = made.and_then(|made| expires.checked_sub(made));
        let early = lifetime.filter(|life| *life <= EARLY_SECONDS).map(|life| life / 2);
        Some(expires.saturating_sub(early.unwrap_or(EARLY_SECONDS)))
    }

    /// Whether its token is valid by this machine's clock.
    #[must_use]
    pub fn is_good(&self, now: u64) -> bool {
        self.expires_at.is_none_or(|expires| now < expires)
    }

    /// SHA-256 of its refresh token, hexadecimal.
    #[must_use]
    pub fn digest(&self) -> Option<String> {
        let token = self.refresh.as_ref()?;
        let digest = Sha256::digest(token.reveal().as_bytes());
        Some(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Why the issuer does not renew the current refresh token.
    #[must_use]
    pub fn ended(&self) -> Option<&LoginEnd> {
        self.ended.as_ref().filter(|ended| self.digest().as_ref() == Some(&ended.token))
    }

    /// Why the login cannot be used any more: its token has expired, and the issuer does not renew
    /// it or there is no refresh token. `None`: it can be used.
    #[must_use]
    pub fn ended_now(&self, now: u64) -> Option<LoginEnd> {
        match (self.is_good(now), self.ended()) {
            (true, _) => None,
            (false, Some(ended)) => Some(ended.clone()),
            (false, None) if self.refresh.is_some() => None,
            (false, None) => {
                let at = self.expires_at.unwrap_or(now);
                Some(LoginEnd { why: EndReason::Ended, token: String::new(), at })
            }
        }
    }

    /// Whether a refresh with the current token was begun and its result is not known.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        let intent = self.intent.as_ref();
        intent.is_some_and(|intent| self.digest().as_ref() == Some(&intent.token))
    }
}

impl LoginEnd {
    /// A description: `revoked on 21 Nov 09:14 UTC (signed out in another place)`.
    #[must_use]
    pub fn describe(&self) -> String {
        self.why.describe(self.at)
    }
}

impl EndReason {
    /// The cause, in a few words.
    #[must_use]
    pub fn cause(self) -> &'static str {
        match self {
            Self::Expired => "not used for too long (refresh_token_expired)",
            Self::Reused => "used up by another program (refresh_token_reused)",
            Self::Revoked => "signed out in another place",
            Self::Interrupted => "a renewal was interrupted after the issuer had answered",
            Self::OtherAccount => "it was renewed for another account",
            Self::Refused => "the issuer does not renew it any more",
            Self::Ended => "there is no refresh token",
        }
    }

    /// A description of what happened to the login, which was noticed at `at`.
    #[must_use]
    pub fn describe(self, at: u64) -> String {
        let at = i64::try_from(at).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
        let on = at.map(|at| at.strftime(" on %-d %b %H:%M UTC").to_string()).unwrap_or_default();
        let cause = self.cause();
        match self {
            Self::Reused => cause.to_owned(),
            Self::Expired => format!("{cause}, seen{on}"),
            Self::Revoked => format!("revoked{on} ({cause})"),
            Self::Interrupted => format!("lost{on}: {cause}"),
            Self::OtherAccount | Self::Refused => format!("refused{on}: {cause}"),
            Self::Ended => format!("no longer valid{on}: {cause}"),
        }
    }
}

/// The directory of logins.
#[derive(Clone, Debug)]
pub struct LoginStore {
    directory: PathBuf,
}

impl LoginStore {
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// The path of the login's file, for messages.
    ///
    /// # Errors
    /// The name is not a login's name.
    pub fn path(&self, name: &str) -> Result<PathBuf, AuthError> {
        if !is_name(name) {
            return Err(AuthError::Malformed {
                place: format!("login `{}`", name.escape_debug()),
                why: "a login's name may have letters, digits, dashes, dots and underscores",
            });
        }
        Ok(self.directory.join(format!("{name}.json")))
    }

    /// The names of all logins, sorted. No file is opened.
    ///
    /// # Errors
    /// The directory cannot be read. One that does not exist is empty.
    pub fn names(&self) -> Result<Vec<String>, AuthError> {
        let entries = match std::fs::read_dir(&self.directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| directory::failed(&self.directory, &error))?,
        };
        let named = |entry: std::fs::DirEntry| {
            let file = entry.file_name().into_string().ok()?;
            let name = file.strip_suffix(".json")?;
            is_name(name).then(|| name.to_owned())
        };
        let mut names: Vec<String> = entries.flatten().filter_map(named).collect();
        names.sort();
        Ok(names)
    }

    /// Opens, checks and parses the file. Takes no lock and changes nothing.
    ///
    /// # Errors
    /// `Missing`, `Unsafe`, `Malformed`.
    pub fn read(&self, name: &str) -> Result<Login, AuthError> {
        let path = self.path(name)?;
        let missing = || AuthError::Missing { place: path.display().to_string() };
        let directory = Directory::open(&self.directory)?.ok_or_else(missing)?;
        let text = directory.read(&format!("{name}.json"))?.ok_or_else(missing)?;
        layout::parse(&text, &path.display().to_string())
    }

    /// Locks one login, across threads and processes. Creates the directory if it does not exist.
    ///
    /// # Errors
    /// `Store`: the directory cannot be written, or another process holds the lock for too long.
    pub async fn lock(&self, name: &str) -> Result<LockedLogin, AuthError> {
        let path = self.path(name)?;
        let directory = Arc::new(Directory::create_or_open(&self.directory)?);
        let lock = directory.open_lock(&format!("{name}.lock"))?;
        let deadline = Instant::now() + LOCK_TIMEOUT;
        let mut has_waited = false;
        loop {
            // THREAT: two processes refresh with one token, and the issuer takes it for stolen.
            // Tried by login::refresh::forty_processes_refresh_once.
            match lock.try_lock() {
                Ok(()) => return Ok(LockedLogin::new(directory, name, path, lock, has_waited)),
                Err(std::fs::TryLockError::Error(error)) => {
                    return Err(directory::failed(&self.directory, &error));
                }
                Err(std::fs::TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(AuthError::Store {
                        place: path.display().to_string(),
                        why: "another process has been changing it for a minute".to_owned(),
                    });
                }
                Err(std::fs::TryLockError::WouldBlock) => tokio::time::sleep(LOCK_RETRY).await,
            }
            has_waited = true;
        }
    }
}

/// Whether it can be a login's name, which is never a path and never a hidden file.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && name.len() <= 64 && !name.starts_with('.') && name.chars().all(plain)
}
