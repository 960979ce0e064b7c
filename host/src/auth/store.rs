//! Logins on disk, and the only place that knows their layout.
//!
//! ```text
//! logins/            0700
//!   NAME.json        0600, one login, replaced whole: {"v":2,"kind":…,"base":…, …}
//!   NAME.json.part   the same while it is written
//!   NAME.json.next   the login that a refresh is about to put there: room taken before the issuer
//!                    is asked, renamed over NAME.json when all of it is on disk
//!   NAME.lock        locked by whoever changes NAME; never deleted, so that nobody locks another
//!                    inode. Holds the last word of one who had it: that the issuer was not reached
//! ```

mod layout; // one login as the text of a file
mod folder; // files that only we can have written
mod locked; // one login that nobody else changes meanwhile
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
use folder::Folder;

pub(crate) use folder::{LINK, OPEN};

pub use locked::{LastFailure, Locked, ReservedFile};

/// How long a lock is waited for: longer than any issuer is.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);
/// How often it is tried.
const LOCK_EVERY: Duration = Duration::from_millis(10);
/// How long before its end a token is renewed, in seconds (codex protocol, B.2).
pub const EARLY_SECONDS: u64 = 300;

/// One login, whole.
#[derive(Clone)]
pub struct Login {
    pub kind: LoginKind,
    /// Where its credential may go, and nowhere else.
    pub base: Base,
    /// Who made it, and who alone may renew or revoke it. None: a key.
    pub issuer: Option<IssuerUrl>,
    /// The API key or the access token.
    pub bearer: Secret,
    /// Single-use. None: a key, or an access token given alone.
    pub refresh: Option<Secret>,
    pub account: Option<String>,
    pub email: Option<String>,
    pub plan: Option<String>,
    /// Unix seconds by this machine's clock: when it was received, and its lifetime. None: unknown,
    /// it is good until it is refused.
    pub expires_at: Option<u64>,
    pub signed_in_at: Option<u64>,
    pub refreshed_at: Option<u64>,
    /// Grows with each refresh.
    pub generation: u64,
    /// The model that a person chose for it, where its backend has no default.
    pub model: Option<String>,
    /// A refresh was begun with the token of this digest, and its end is not known.
    pub intent: Option<RefreshIntent>,
    /// The issuer will not renew the token of this digest any more.
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

/// Why a login is gone for good (codex protocol, B.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// `refresh_token_expired`
    Expired,
    /// `refresh_token_reused`: another program used it up.
    Reused,
    /// `refresh_token_invalidated`: signed out elsewhere, password changed.
    Revoked,
    /// A refresh of ours was cut between the issuer's answer and our write.
    Interrupted,
    /// The issuer answered with another account's tokens.
    OtherAccount,
    /// Refused for good with a code we do not know, `invalid_grant` among them.
    Refused,
    /// The access token has ended and there is nothing to renew it with.
    Ended,
}

impl Login {
    /// When its token should be renewed, Unix seconds: five minutes before its end, or at half of a
    /// life that is shorter than that. None: there is nothing to renew it with, or nobody knows
    /// when it ends, or its issuer has said no.
    #[must_use]
    pub fn due(&self) -> Option<u64> {
        let expires = self.expires_at?;
        self.refresh.as_ref().filter(|_| self.ended().is_none())?;
        let made = self.refreshed_at.or(self.signed_in_at);
        let lifetime = made.and_then(|made| expires.checked_sub(made));
        let early = lifetime.filter(|life| *life <= EARLY_SECONDS).map(|life| life / 2);
        Some(expires.saturating_sub(early.unwrap_or(EARLY_SECONDS)))
    }

    /// Whether its token is good, as far as this machine's clock knows.
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

    /// The issuer's last word on the refresh token that is there now.
    #[must_use]
    pub fn ended(&self) -> Option<&LoginEnd> {
        self.ended.as_ref().filter(|ended| self.digest().as_ref() == Some(&ended.token))
    }

    /// What it ended of, where it is of no use any more: its token has ended, and the issuer renews
    /// it no more or there is nothing to renew it with.
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

    /// Whether a refresh with the token that is there now was begun, and its end is not known.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        let intent = self.intent.as_ref();
        intent.is_some_and(|intent| self.digest().as_ref() == Some(&intent.token))
    }
}

impl LoginEnd {
    /// What the login was: `revoked on 21 Nov 09:14 UTC (signed out in another place)`.
    #[must_use]
    pub fn words(&self) -> String {
        self.why.words(self.at)
    }
}

impl EndReason {
    /// How that came, in a few words.
    #[must_use]
    pub fn said(self) -> &'static str {
        match self {
            Self::Expired => "not used for too long (refresh_token_expired)",
            Self::Reused => "used up by another program (refresh_token_reused)",
            Self::Revoked => "signed out in another place",
            Self::Interrupted => "a renewal was cut off after the issuer had answered it",
            Self::OtherAccount => "it was renewed for another account",
            Self::Refused => "its issuer renews it no more",
            Self::Ended => "there is nothing to renew it with",
        }
    }

    /// What the login was, as it was found at `at`.
    #[must_use]
    pub fn words(self, at: u64) -> String {
        let at = i64::try_from(at).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
        let on = at.map(|at| at.strftime(" on %-d %b %H:%M UTC").to_string()).unwrap_or_default();
        let said = self.said();
        match self {
            Self::Reused => said.to_owned(),
            Self::Expired => format!("{said}, seen{on}"),
            Self::Revoked => format!("revoked{on} ({said})"),
            Self::Interrupted => format!("lost{on}: {said}"),
            Self::OtherAccount | Self::Refused => format!("stopped{on}: {said}"),
            Self::Ended => format!("at its end{on}: {said}"),
        }
    }
}

/// The folder of logins.
#[derive(Clone, Debug)]
pub struct LoginStore {
    folder: PathBuf,
}

impl LoginStore {
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Where the login is, for messages.
    ///
    /// # Errors
    /// A name that could be a path.
    pub fn path(&self, name: &str) -> Result<PathBuf, AuthError> {
        if !is_name(name) {
            return Err(AuthError::Malformed {
                place: format!("login `{}`", name.escape_debug()),
                why: "a login's name is letters, digits, dashes, dots and underscores",
            });
        }
        Ok(self.folder.join(format!("{name}.json")))
    }

    /// Names of all logins, sorted. None of them was opened.
    ///
    /// # Errors
    /// A folder that cannot be read; one that does not exist is empty.
    pub fn names(&self) -> Result<Vec<String>, AuthError> {
        let entries = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| folder::failed(&self.folder, &error))?,
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

    /// Opens, trusts and understands the file, in that order. Takes no lock and changes nothing.
    ///
    /// # Errors
    /// `Missing`, `Unsafe`, `Malformed`.
    pub fn read(&self, name: &str) -> Result<Login, AuthError> {
        let path = self.path(name)?;
        let missing = || AuthError::Missing { place: path.display().to_string() };
        let folder = Folder::open(&self.folder)?.ok_or_else(missing)?;
        let text = folder.read(&format!("{name}.json"))?.ok_or_else(missing)?;
        layout::parse(&text, &path.display().to_string())
    }

    /// The lock of one login, across threads and processes; waits for whoever has it, not for ever.
    /// Makes the folder where there is none.
    ///
    /// # Errors
    /// `LoginStore`: the folder cannot be written, or somebody holds the lock for too long.
    pub async fn lock(&self, name: &str) -> Result<Locked, AuthError> {
        let path = self.path(name)?;
        let folder = Arc::new(Folder::make(&self.folder)?);
        let lock = folder.open_lock(&format!("{name}.lock"))?;
        let patience = Instant::now() + LOCK_PATIENCE;
        let mut has_waited = false;
        loop {
            // THREAT: two programs renew at once, and the issuer takes the second for a thief's.
            // Tried by login::refresh::forty_processes_refresh_once.
            match lock.try_lock() {
                Ok(()) => return Ok(Locked::new(folder, name, path, lock, has_waited)),
                Err(std::fs::TryLockError::Error(error)) => {
                    return Err(folder::failed(&self.folder, &error));
                }
                Err(std::fs::TryLockError::WouldBlock) if Instant::now() >= patience => {
                    return Err(AuthError::Store {
                        place: path.display().to_string(),
                        why: "another process has been changing it for a minute".to_owned(),
                    });
                }
                Err(std::fs::TryLockError::WouldBlock) => tokio::time::sleep(LOCK_EVERY).await,
            }
            has_waited = true;
        }
    }
}

/// Whether it can be a login's name: never a path, never hidden.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && name.len() <= 64 && !name.starts_with('.') && name.chars().all(plain)
}
