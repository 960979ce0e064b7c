//! One login under its lock: no other process changes it meanwhile.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::directory::{self, Directory};
use super::{Login, layout};
use crate::auth::AuthError;

/// The longest record of a failure that is read.
const LAST_FAILURE_BYTES: u64 = 4096;

/// A locked login. Dropping it releases the lock.
pub struct LockedLogin {
    directory: Arc<Directory>,
    /// `NAME.json`, within the directory.
    file: String,
    path: PathBuf,
    lock: File,
    /// Another process or thread had the lock first.
    has_waited: bool,
}

/// The last failed request to the issuer, with the token of this digest. Callers that waited for
/// the lock read it, so that they do not ask again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailure {
    /// SHA-256 of the refresh token, hexadecimal.
    pub token: String,
    /// Unix seconds.
    pub at: u64,
    pub why: String,
}

impl LockedLogin {
    pub(super) fn new(
        directory: Arc<Directory>,
        name: &str,
        path: PathBuf,
        lock: File,
        has_waited: bool,
    ) -> Self {
        Self { directory, file: format!("{name}.json"), path, lock, has_waited }
    }

    /// The last failure, if this caller has waited for the lock.
    #[must_use]
    pub fn last_failure(&self) -> Option<LastFailure> {
        let mut lock = Some(&self.lock).filter(|_| self.has_waited)?;
        let mut text = Vec::new();
        lock.rewind().ok()?;
        lock.take(LAST_FAILURE_BYTES).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Records a failure for the callers that wait for the lock.
    pub fn record_failure(&self, failure: &LastFailure) {
        let mut lock = &self.lock;
        let written = serde_json::to_vec(failure).map_err(std::io::Error::from).and_then(|text| {
            lock.set_len(0)?;
            lock.rewind()?;
            lock.write_all(&text)
        });
        if let Err(error) = written {
            tracing::debug!(%error, "the failure cannot be recorded");
        }
    }

    fn next(&self) -> String {
        format!("{}.next", self.file)
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn failed(&self, error: &std::io::Error) -> AuthError {
        directory::failed(&self.path, error)
    }

    /// Reads the login. If a refresh was interrupted after its answer was on disk, it is finished
    /// first.
    ///
    /// # Errors
    /// As [`super::LoginStore::read`].
    pub fn read(&self) -> Result<Login, AuthError> {
        let missing = || AuthError::Missing { place: self.place() };
        let text = self.directory.read(&self.file)?.ok_or_else(missing)?;
        let current = layout::parse(&text, &self.place())?;
        let pending = match self.directory.read(&self.next()) {
            Ok(None) => return Ok(current),
            // The reserved file may be larger than the login in it.
            Ok(Some(reserved)) => {
                let length =
                    reserved.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                layout::parse(&reserved[..length], "").ok().map(|next| (next, length))
            }
            Err(_) => None,
        };
        match pending {
            Some((next, length)) if completes_refresh(&current, &next) => {
                let finished = self.directory.finish(&self.next(), &self.file, length);
                finished.map_err(|error| self.failed(&error))?;
                tracing::info!(login = self.file, "an interrupted renewal is finished");
                Ok(next)
            }
            _ => {
                // A reserved file without a complete answer. If it cannot be removed, the next
                // refresh replaces it.
                let _stays = self.directory.remove(&self.next());
                Ok(current)
            }
        }
    }

    /// Replaces the login: mode 0600, file and directory synced.
    ///
    /// # Errors
    /// `Store`; `Malformed` if it is too large.
    pub fn write(&self, login: &Login) -> Result<(), AuthError> {
        let text = layout::serialize(login).ok_or_else(|| too_large(self.place()))?;
        self.directory.replace(&self.file, &text).map_err(|error| self.failed(&error))
    }

    /// Reserves disk space for the next login before the issuer is asked, so that a full disk is
    /// noticed before the old token is used.
    ///
    /// # Errors
    /// `Store`.
    pub fn reserve(&self) -> Result<ReservedFile, AuthError> {
        let next = self.next();
        let file = self.directory.reserve(&next).map_err(|error| self.failed(&error))?;
        let directory = Arc::clone(&self.directory);
        Ok(ReservedFile {
            directory,
            file,
            next,
            login: self.file.clone(),
            path: self.path.clone(),
        })
    }

    /// Deletes the login. `false`: it did not exist.
    ///
    /// # Errors
    /// `Store`.
    pub fn delete(&self) -> Result<bool, AuthError> {
        let deleted = || {
            let was_there = self.directory.remove(&self.file)?;
            self.directory.remove(&self.next())?;
            self.directory.remove(&format!("{}.part", self.file))?;
            self.directory.sync()?;
            Ok(was_there)
        };
        deleted().map_err(|error| self.failed(&error))
    }
}

/// Whether `next` is the result of a refresh of `current` that was begun and not finished.
fn completes_refresh(current: &Login, next: &Login) -> bool {
    let same_account = current.account.is_none() || current.account == next.account;
    // THREAT: a file that an earlier login left replaces the login that a person has signed in to
    // since. Tried by auth::store::tests::a_pending_file_of_an_earlier_login_is_not_used.
    current.is_interrupted()
        && next.intent.is_none()
        && next.generation == current.generation + 1
        && same_account
        && (current.kind, &current.base, &current.issuer) == (next.kind, &next.base, &next.issuer)
}

fn too_large(place: String) -> AuthError {
    AuthError::Malformed { place, why: "it is too large" }
}

/// A file with reserved disk space for one login.
pub struct ReservedFile {
    directory: Arc<Directory>,
    file: File,
    next: String,
    login: String,
    path: PathBuf,
}

impl ReservedFile {
    /// Writes the login to the file, syncs it, and renames it into place.
    ///
    /// # Errors
    /// `Store`; `Malformed` if it is too large.
    pub fn commit(mut self, login: &Login) -> Result<(), AuthError> {
        let text =
            layout::serialize(login).ok_or_else(|| too_large(self.path.display().to_string()))?;
        let written = self.write(&text);
        written.map_err(|error| directory::failed(&self.path, &error))?;
        tracing::debug!(target: "airlock_host::auth::refresh", step = "written");
        let renamed = self.directory.rename(&self.next, &self.login);
        renamed.map_err(|error| directory::failed(&self.path, &error))?;
        tracing::debug!(target: "airlock_host::auth::refresh", step = "renamed");
        Ok(())
    }

    fn write(&mut self, text: &[u8]) -> std::io::Result<()> {
        self.file.rewind()?;
        self.file.write_all(text)?;
        self.file.set_len(text.len() as u64)?;
        self.file.sync_all()
    }

    /// Removes the file: there is no login to store.
    pub fn release(self) {
        // If it stays, the next reader under the lock removes it.
        let _stays = self.directory.remove(&self.next);
    }
}
