//! One login that nobody else changes meanwhile.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::folder::{self, Folder};
use super::{Login, layout};
use crate::auth::AuthError;

/// The longest word that is read.
const WORD_BYTES: u64 = 4096;

/// Held until it is dropped.
pub struct Locked {
    folder: Arc<Folder>,
    /// `NAME.json`, within the folder.
    file: String,
    path: PathBuf,
    lock: File,
    /// Somebody else had the lock when it was asked for.
    has_waited: bool,
}

/// What whoever had the lock found out, for those who wait for it meanwhile: that the issuer could
/// not be asked with the token of this digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailure {
    /// SHA-256 of the refresh token, hexadecimal.
    pub token: String,
    /// Unix seconds.
    pub at: u64,
    pub why: String,
}

impl Locked {
    pub(super) fn new(
        folder: Arc<Folder>,
        name: &str,
        path: PathBuf,
        lock: File,
        has_waited: bool,
    ) -> Self {
        Self { folder, file: format!("{name}.json"), path, lock, has_waited }
    }

    /// The word that was left last, for those who waited; nobody else has a use for it.
    #[must_use]
    pub fn word(&self) -> Option<LastFailure> {
        let mut lock = Some(&self.lock).filter(|_| self.has_waited)?;
        let mut text = Vec::new();
        lock.rewind().ok()?;
        lock.take(WORD_BYTES).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Leaves a word to those who wait.
    pub fn leave(&self, word: &LastFailure) {
        let mut lock = &self.lock;
        let left = serde_json::to_vec(word).map_err(std::io::Error::from).and_then(|text| {
            lock.set_len(0)?;
            lock.rewind()?;
            lock.write_all(&text)
        });
        if let Err(error) = left {
            tracing::debug!(%error, "whoever waits finds it out again");
        }
    }

    fn next(&self) -> String {
        format!("{}.next", self.file)
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn failed(&self, error: &std::io::Error) -> AuthError {
        folder::failed(&self.path, error)
    }

    /// What is there now; a refresh that was cut after its answer was on disk is finished first.
    ///
    /// # Errors
    /// As [`super::LoginStore::read`]; `Missing` where there is none.
    pub fn read(&self) -> Result<Login, AuthError> {
        let missing = || AuthError::Missing { place: self.place() };
        let text = self.folder.read(&self.file)?.ok_or_else(missing)?;
        let current = layout::parse(&text, &self.place())?;
        let left = match self.folder.read(&self.next()) {
            Ok(None) => return Ok(current),
            // The room may be larger than what was put there.
            Ok(Some(room)) => {
                let length = room.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                layout::parse(&room[..length], "").ok().map(|next| (next, length))
            }
            Err(_) => None,
        };
        match left {
            Some((next, length)) if follows(&current, &next) => {
                let finished = self.folder.finish(&self.next(), &self.file, length);
                finished.map_err(|error| self.failed(&error))?;
                tracing::info!(login = self.file, "a renewal that was cut off is finished");
                Ok(next)
            }
            _ => {
                // Room that was taken for an answer that never came. What stays is taken again.
                let _stays = self.folder.remove(&self.next());
                Ok(current)
            }
        }
    }

    /// Replaces it whole: 0600, file and folder synced.
    ///
    /// # Errors
    /// `LoginStore`.
    pub fn write(&self, login: &Login) -> Result<(), AuthError> {
        let text = layout::text(login).ok_or_else(|| too_large(self.place()))?;
        self.folder.replace(&self.file, &text).map_err(|error| self.failed(&error))
    }

    /// Takes room on the disk for the next login, before anything is asked of the issuer: a full
    /// disk must not be noticed when the old token is used up.
    ///
    /// # Errors
    /// `LoginStore`.
    pub fn reserve(&self) -> Result<ReservedFile, AuthError> {
        let next = self.next();
        let file = self.folder.reserve(&next).map_err(|error| self.failed(&error))?;
        let folder = Arc::clone(&self.folder);
        Ok(ReservedFile { folder, file, next, login: self.file.clone(), path: self.path.clone() })
    }

    /// Removes it. `false`: there was none.
    ///
    /// # Errors
    /// `LoginStore`.
    pub fn delete(&self) -> Result<bool, AuthError> {
        let deleted = || {
            let was_there = self.folder.remove(&self.file)?;
            self.folder.remove(&self.next())?;
            self.folder.remove(&format!("{}.part", self.file))?;
            self.folder.sync()?;
            Ok(was_there)
        };
        deleted().map_err(|error| self.failed(&error))
    }
}

/// Whether `next` is what a refresh of `current`, begun and not ended, was about to put there.
fn follows(current: &Login, next: &Login) -> bool {
    let same_account = current.account.is_none() || current.account == next.account;
    // THREAT: what an earlier login left behind takes the place of the one that a person signed in
    // to since. Tried by auth::store::tests::what_an_earlier_login_left_behind_is_not_taken.
    current.is_interrupted()
        && next.intent.is_none()
        && next.generation == current.generation + 1
        && same_account
        && (current.kind, &current.base, &current.issuer) == (next.kind, &next.base, &next.issuer)
}

fn too_large(place: String) -> AuthError {
    AuthError::Malformed { place, why: "it is too large" }
}

/// Room on the disk for one login.
pub struct ReservedFile {
    folder: Arc<Folder>,
    file: File,
    next: String,
    login: String,
    path: PathBuf,
}

impl ReservedFile {
    /// Writes it there, syncs it, and renames it into place.
    ///
    /// # Errors
    /// `LoginStore`.
    pub fn commit(mut self, login: &Login) -> Result<(), AuthError> {
        let text = layout::text(login).ok_or_else(|| too_large(self.path.display().to_string()))?;
        let written = self.put(&text);
        written.map_err(|error| folder::failed(&self.path, &error))?;
        tracing::debug!(target: "airlock_host::auth::refresh", step = "written");
        let renamed = self.folder.rename(&self.next, &self.login);
        renamed.map_err(|error| folder::failed(&self.path, &error))?;
        tracing::debug!(target: "airlock_host::auth::refresh", step = "renamed");
        Ok(())
    }

    fn put(&mut self, text: &[u8]) -> std::io::Result<()> {
        self.file.rewind()?;
        self.file.write_all(text)?;
        self.file.set_len(text.len() as u64)?;
        self.file.sync_all()
    }

    /// Gives it back: there is nothing to put there.
    pub fn release(self) {
        // What stays is removed by the next who has the lock.
        let _stays = self.folder.remove(&self.next);
    }
}
