//! The directory of logins, and access to them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use airlock_shared::base::Base;

use super::LoginError;
use crate::auth::issuer::{Issuer, IssuerUrl};
use crate::auth::store::{Login, LoginStore};
use crate::auth::{self, AuthError, Clock, Credential, Deps, Signer};
use crate::clock;

/// More than one login takes on the disk.
const LOGIN_BYTES: usize = 64 << 10;
/// The timeout for revoking a login that is not stored.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(3);

/// The directory of logins, with what is needed to use them.
#[derive(Clone)]
pub struct Logins {
    pub(super) store: LoginStore,
    pub(super) directory: PathBuf,
    pub(super) deps: Deps,
}

impl Logins {
    /// `ca`: an additional certificate authority, PEM.
    #[must_use]
    pub fn new(directory: &Path, ca: Option<String>) -> Self {
        Self::at(directory, Deps { ca, clock: Arc::new(clock::seconds) as Clock })
    }

    pub(super) fn at(directory: &Path, deps: Deps) -> Self {
        Self { store: LoginStore::new(directory), directory: directory.to_owned(), deps }
    }

    /// Unix seconds.
    #[must_use]
    pub fn now(&self) -> u64 {
        (self.deps.clock)()
    }

    /// The base of the login. `None`: there is no such login, or it cannot be read.
    #[must_use]
    pub fn base(&self, name: &str) -> Option<Base> {
        self.store.read(name).ok().map(|login| login.base)
    }

    pub(super) fn issuer(&self, url: IssuerUrl) -> Result<Issuer, LoginError> {
        let host = url.host().to_owned();
        Issuer::open(url, self.deps.ca.as_deref()).map_err(|error| LoginError::issuer(host, &error))
    }

    pub(super) fn signer(&self, name: &str, base: &Base) -> Result<Arc<dyn Signer>, AuthError> {
        let choice = Credential::Login { name: name.to_owned(), directory: self.directory.clone() };
        auth::open(choice, base, &self.deps)
    }

    /// Checks that a login can be written, before a person signs in. Leaves no file and no
    /// directory behind.
    pub(super) fn check_room(&self) -> Result<(), AuthError> {
        let existing = self.directory.ancestors().find(|directory| directory.is_dir());
        let existing = existing.unwrap_or(&self.directory);
        let written = tempfile::tempfile_in(existing).and_then(|mut file| {
            file.write_all(&[0; LOGIN_BYTES])?;
            file.sync_all()
        });
        written.map_err(|error| AuthError::Store {
            place: existing.display().to_string(),
            why: error.to_string(),
        })
    }

    /// Revokes a login that was granted and is not stored, if the issuer answers quickly. Otherwise
    /// its token is only dropped, and no one else has it.
    pub(super) async fn revoke_unstored(&self, login: &Login) {
        let (Some(url), Some(token)) = (&login.issuer, &login.refresh) else { return };
        let Ok(issuer) = self.issuer(url.clone()) else { return };
        let _ = tokio::time::timeout(REVOKE_TIMEOUT, issuer.revoke(token, true)).await;
    }
}
