//! A stored login as a signer: bound to the base it was made for, renewed before its token ends and
//! when the backend refuses it. Another process may have renewed it, or a person signed in again:
//! what is in the file is always looked at first.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use airlock_shared::base::Base;
use airlock_shared::handoff::Secrets;
use airlock_shared::{request, secret::Secret};
use futures_util::future::BoxFuture;
use http::{HeaderMap, header};

use super::refresh::{RefreshCause, refreshed};
use super::store::{Login, LoginKind, LoginStore};
use super::{Account, AccountKind, AuthError, Deps, HandedOver, Signed, Signer, bearer, sensitive};

/// Earlier tokens of this run that are still scrubbed from answers.
const REMEMBERED: usize = 8;
/// An account id shorter than this would be found by chance in ordinary text.
const ACCOUNT_CANARY_BYTES: usize = 16;
/// How long a request waits for a newer token while the one that is there is good.
const EARLY_PATIENCE: Duration = Duration::from_secs(5);
/// After an early refresh that failed, the next one, in seconds.
const AGAIN_SECONDS: u64 = 60;

pub(super) struct LoginSigner {
    name: String,
    store: LoginStore,
    base: Base,
    deps: Deps,
    current: Mutex<Current>,
}

/// What of a login signs; its refresh token stays on disk.
struct Current {
    kind: AccountKind,
    bearer: Secret,
    account: Option<String>,
    plan: Option<String>,
    due: Option<u64>,
    expires_at: Option<u64>,
    model: Option<String>,
    /// Of this signer: grows with each token that is taken.
    generation: u64,
    earlier: Vec<Secret>,
}

impl Current {
    fn of(login: &Login) -> Self {
        let kind = match login.kind {
            LoginKind::ApiKey => AccountKind::ApiKey,
            LoginKind::ChatGpt => AccountKind::ChatGpt,
        };
        Self {
            kind,
            bearer: login.bearer.clone(),
            account: login.account.clone(),
            plan: login.plan.clone(),
            due: login.due(),
            expires_at: login.expires_at,
            model: login.model.clone(),
            generation: 0,
            earlier: Vec::new(),
        }
    }

    fn is_good(&self, now: u64) -> bool {
        self.expires_at.is_none_or(|expires| now < expires)
    }
}

impl LoginSigner {
    pub(super) fn open(
        folder: &Path,
        name: &str,
        base: &Base,
        deps: &Deps,
    ) -> Result<Self, AuthError> {
        let store = LoginStore::new(folder);
        let login = store.read(name)?;
        let current = Mutex::new(Current::of(&login));
        let (name, base, deps) = (name.to_owned(), base.clone(), deps.clone());
        let signer = Self { name, store, base, deps, current };
        signer.bound(&login)?;
        Ok(signer)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> String {
        self.store.path(&self.name).map(|path| path.display().to_string()).unwrap_or_default()
    }

    fn bound(&self, login: &Login) -> Result<(), AuthError> {
        // THREAT: a base in a copied command line or a configuration file collects somebody's login.
        // Tried by auth::login::tests::a_login_goes_to_its_own_base_only.
        if login.base != self.base {
            return Err(AuthError::OtherBase {
                place: self.place(),
                bound: login.base.to_string(),
                asked: self.base.to_string(),
            });
        }
        Ok(())
    }

    /// Takes what the file holds now. True: it is another token.
    fn take(&self, login: &Login) -> Result<bool, AuthError> {
        self.bound(login)?;
        let mut current = self.current();
        if current.account.is_some() && current.account != login.account {
            return Err(AuthError::OtherAccount { place: self.place() });
        }
        let is_new = !login.bearer.matches(current.bearer.reveal().as_bytes());
        let old = std::mem::replace(&mut *current, Current::of(login));
        (current.generation, current.earlier) = (old.generation, old.earlier);
        if is_new {
            current.generation += 1;
            current.earlier.push(old.bearer);
            if current.earlier.len() > REMEMBERED {
                current.earlier.remove(0);
            }
        }
        Ok(is_new)
    }

    async fn refreshed(&self, cause: RefreshCause) -> Result<Login, AuthError> {
        let (ca, clock) = (self.deps.ca.as_deref(), &self.deps.clock);
        refreshed(&self.store, &self.name, cause, ca, clock).await
    }

    /// Renews a token near its end. Where that fails a good one goes on.
    async fn renewed_early(&self) -> Result<(), AuthError> {
        let now = (self.deps.clock)();
        let (is_due, is_good) = {
            let current = self.current();
            (current.due.is_some_and(|due| due <= now), current.is_good(now))
        };
        if is_good && !is_due {
            return Ok(());
        }
        if !is_good {
            return self.take(&self.refreshed(RefreshCause::Early).await?).map(|_| ());
        }
        let early = tokio::time::timeout(EARLY_PATIENCE, self.refreshed(RefreshCause::Early)).await;
        match early {
            Ok(Ok(login)) => {
                self.take(&login)?;
            }
            Ok(Err(error)) => tracing::warn!(%error, "the token goes on without being renewed"),
            Err(_) => tracing::warn!("the issuer is slow; the token goes on meanwhile"),
        }
        let mut current = self.current();
        if current.due.is_some_and(|due| due <= now) {
            current.due = Some(now.saturating_add(AGAIN_SECONDS));
        }
        Ok(())
    }

    /// The file is read first: whoever signed in again, or renewed it, spares the issuer.
    async fn renewed(&self, refused: u64) -> Result<bool, AuthError> {
        if self.current().generation != refused {
            return Ok(true);
        }
        let login = self.store.read(&self.name)?;
        if self.take(&login)? {
            return Ok(true);
        }
        if login.refresh.is_none() {
            return Ok(false);
        }
        let login = self.refreshed(RefreshCause::Refused(login.generation)).await?;
        self.take(&login)
    }

    /// Everything else in the file stays, as it is by then.
    async fn kept_model(&self, slug: &str) -> Result<(), AuthError> {
        let locked = self.store.lock(&self.name).await?;
        let login = locked.read()?;
        // THREAT: somebody signs in to another account or base while a person chooses, and a name
        // from one backend's list is asked of another. Tried by
        // auth::login::tests::a_model_is_kept_with_the_login_it_was_chosen_for.
        self.take(&login)?;
        let login = Login { model: Some(slug.to_owned()), ..login };
        locked.write(&login)?;
        self.take(&login).map(drop)
    }

    fn signed(&self) -> Result<Signed, AuthError> {
        let current = self.current();
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, bearer(&current.bearer, &self.name)?);
        if let Some(account) = &current.account {
            headers.insert(request::ACCOUNT, sensitive(account, &self.name)?);
        }
        Ok(Signed { headers, generation: current.generation })
    }
}

impl Signer for LoginSigner {
    fn account(&self) -> Account {
        let current = self.current();
        let (kind, plan) = (current.kind, current.plan.clone());
        Account { name: self.name.clone(), kind, plan, base: self.base.clone() }
    }

    fn sign(&self) -> BoxFuture<'_, Result<Signed, AuthError>> {
        Box::pin(async {
            self.renewed_early().await?;
            self.signed()
        })
    }

    fn renew(&self, refused: u64) -> BoxFuture<'_, Result<bool, AuthError>> {
        Box::pin(self.renewed(refused))
    }

    fn hand_over(&self) -> BoxFuture<'_, Result<HandedOver, AuthError>> {
        Box::pin(async {
            self.renewed_early().await?;
            let current = self.current();
            let bearer = Some(current.bearer.clone());
            let secrets = Secrets { bearer, account_id: current.account.clone() };
            Ok(HandedOver { secrets, generation: current.generation })
        })
    }

    fn due(&self) -> Option<u64> {
        self.current().due
    }

    fn model(&self) -> Option<String> {
        self.current().model.clone()
    }

    fn keep_model<'a>(&'a self, slug: &'a str) -> BoxFuture<'a, Result<bool, AuthError>> {
        Box::pin(async move { self.kept_model(slug).await.map(|()| true) })
    }

    fn canaries(&self) -> Vec<Secret> {
        let current = self.current();
        let account = current.account.iter();
        let account = account.filter(|account| account.len() >= ACCOUNT_CANARY_BYTES);
        let tokens = current.earlier.iter().chain([&current.bearer]).cloned();
        tokens.chain(account.cloned().map(Secret::new)).collect()
    }
}

#[cfg(test)]
mod tests;
