//! Where logins are, and what using one takes.

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

/// What one login takes on the disk, and more.
const LOGIN_BYTES: usize = 64 << 10;
/// How long anybody waits for a login that nobody wants to be revoked.
const GIVING_BACK: Duration = Duration::from_secs(3);

/// The folder of logins, and the surroundings of whoever uses one.
#[derive(Clone)]
pub struct Logins {
    pub(super) store: LoginStore,
    pub(super) folder: PathBuf,
    pub(super) deps: Deps,
}

impl Logins {
    /// `ca`: one certificate authority more, PEM.
    #[must_use]
    pub fn new(folder: &Path, ca: Option<String>) -> Self {
        Self::at(folder, Deps { ca, clock: Arc::new(clock::seconds) as Clock })
    }

    pub(super) fn at(folder: &Path, deps: Deps) -> Self {
        Self { store: LoginStore::new(folder), folder: folder.to_owned(), deps }
    }

    /// Unix seconds.
    #[must_use]
    pub fn now(&self) -> u64 {
        (self.deps.clock)()
    }

    /// Where the login of that name may go. None: there is none that can be read.
    #[must_use]
    pub fn base(&self, name: &str) -> Option<Base> {
        self.store.read(name).ok().map(|login| login.base)
    }

    pub(super) fn issuer(&self, url: IssuerUrl) -> Result<Issuer, LoginError> {
        let host = url.host().to_owned();
        Issuer::open(url, self.deps.ca.as_deref()).map_err(|error| LoginError::issuer(host, &error))
    }

    pub(super) fn signer(&self, name: &str, base: &Base) -> Result<Arc<dyn Signer>, AuthError> {
        let choice = Credential::Login { name: name.to_owned(), folder: self.folder.clone() };
        auth::open(choice, base, &self.deps)
    }

    /// Whether a login could be written: noticed before a person signs in, not after. Leaves
    /// nothing behind, not even a folder.
    pub(super) fn room(&self) -> Result<(), AuthError> {
        let there = self.folder.ancestors().find(|folder| folder.is_dir());
        let there = there.unwrap_or(&self.folder);
        let tried = tempfile::tempfile_in(there).and_then(|mut file| {
            file.write_all(&[0; LOGIN_BYTES])?;
            file.sync_all()
        });
        tried.map_err(|error| AuthError::Store {
            place: there.display().to_string(),
            why: error.to_string(),
        })
    }

    /// Signs out a login that was granted and is not kept, where that can be done quickly. What is
    /// dropped instead is known to nobody either.
    pub(super) async fn give_back(&self, login: &Login) {
        let (Some(url), Some(token)) = (&login.issuer, &login.refresh) else { return };
        let Ok(issuer) = self.issuer(url.clone()) else { return };
        let _ = tokio::time::timeout(GIVING_BACK, issuer.revoke(token, true)).await;
    }
}
