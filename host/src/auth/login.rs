//! A stored login as a signer. It signs for its own base only. It renews the token before it
//! expires, and when the backend refuses it. Another process may have renewed it already, or the
//! person may have signed in again, so the file is always read first.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use airlock_shared::base::Base;
use airlock_shared::handoff::Secrets;
use airlock_shared::{request, secret::Secret};
use futures_util::future::BoxFuture;
use http::{HeaderMap, header};

use super::refresh::{RefreshCause, fresh_login};
use super::store::{Login, LoginKind, LoginStore};
use super::{Account, AccountKind, AuthError, Deps, HandedOver, Signed, Signer, bearer, sensitive};

/// How many earlier tokens of this session are still looked for: two more with each renewal.
const EARLIER_TOKENS: usize = 16;
/// A shorter account id could be found by chance in ordinary text.
const ACCOUNT_SCRUB_BYTES: usize = 16;
/// How long a request waits for a new token while the current one is valid.
const EARLY_TIMEOUT: Duration = Duration::from_secs(5);
/// Seconds until the next try after an early refresh has failed.
const EARLY_RETRY_SECONDS: u64 = 60;

pub(super) struct LoginSigner {
    name: String,
    store: LoginStore,
    base: Base,
    deps: Deps,
    current: Mutex<Current>,
}

/// The parts of a login that sign a request, and what must not be shown of it.
struct Current {
    kind: AccountKind,
    bearer: Secret,
    /// Signs nothing here: it is only looked for.
    refresh: Option<Secret>,
    account: Option<String>,
    plan: Option<String>,
    due: Option<u64>,
    expires_at: Option<u64>,
    model: Option<String>,
    /// Counts the tokens that this signer has adopted.
    generation: u64,
    earlier: Vec<Secret>,
}

impl Current {
    fn from_login(login: &Login) -> Self {
        let kind = match login.kind {
            LoginKind::ApiKey => AccountKind::ApiKey,
            LoginKind::ChatGpt => AccountKind::ChatGpt,
        };
        Self {
            kind,
            bearer: login.bearer.clone(),
            refresh: login.refresh.clone(),
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

    fn tokens(&self) -> impl Iterator<Item = &Secret> {
        [&self.bearer].into_iter().chain(&self.refresh)
    }

    fn has(&self, token: &Secret) -> bool {
        self.tokens().any(|own| own.matches(token.reveal().as_bytes()))
    }
}

impl LoginSigner {
    pub(super) fn open(
        directory: &Path,
        name: &str,
        base: &Base,
        deps: &Deps,
    ) -> Result<Self, AuthError> {
        let store = LoginStore::new(directory);
        let login = store.read(name)?;
        let current = Mutex::new(Current::from_login(&login));
        let (name, base, deps) = (name.to_owned(), base.clone(), deps.clone());
        let signer = Self { name, store, base, deps, current };
        signer.check_base(&login)?;
        Ok(signer)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> String {
        self.store.path(&self.name).map(|path| path.display().to_string()).unwrap_or_default()
    }

    fn check_base(&self, login: &Login) -> Result<(), AuthError> {
        // THREAT: a copied command line or configuration names another base, and the login is sent
        // there. Tried by auth::login::tests::a_login_goes_to_its_own_base_only.
        if login.base != self.base {
            return Err(AuthError::OtherBase {
                place: self.place(),
                bound: login.base.to_string(),
                asked: self.base.to_string(),
            });
        }
        Ok(())
    }

    /// Adopts the login that the file holds now. True: its token is a new one.
    fn adopt(&self, login: &Login) -> Result<bool, AuthError> {
        self.check_base(login)?;
        let mut current = self.current();
        if current.account.is_some() && current.account != login.account {
            return Err(AuthError::OtherAccount { place: self.place() });
        }
        let is_new = !login.bearer.matches(current.bearer.reveal().as_bytes());
        let old = std::mem::replace(&mut *current, Current::from_login(login));
        let replaced: Vec<Secret> =
            old.tokens().filter(|token| !current.has(token)).cloned().collect();
        (current.generation, current.earlier) = (old.generation + u64::from(is_new), old.earlier);
        current.earlier.extend(replaced);
        let forgotten = current.earlier.len().saturating_sub(EARLIER_TOKENS);
        current.earlier.drain(..forgotten);
        Ok(is_new)
    }

    async fn fresh_login(&self, cause: RefreshCause) -> Result<Login, AuthError> {
        let (ca, clock) = (self.deps.ca.as_deref(), &self.deps.clock);
        fresh_login(&self.store, &self.name, cause, ca, clock).await
    }

    /// Renews a token that expires soon. If that fails, a valid token stays in use.
    async fn renew_if_due(&self) -> Result<(), AuthError> {
        let now = (self.deps.clock)();
        let (is_due, is_good) = {
            let current = self.current();
            (current.due.is_some_and(|due| due <= now), current.is_good(now))
        };
        if is_good && !is_due {
            return Ok(());
        }
        if !is_good {
            return self.adopt(&self.fresh_login(RefreshCause::Early).await?).map(|_| ());
        }
        let early =
            tokio::time::timeout(EARLY_TIMEOUT, self.fresh_login(RefreshCause::Early)).await;
        match early {
            Ok(Ok(login)) => {
                self.adopt(&login)?;
            }
            Ok(Err(error)) => tracing::warn!(%error, "the token stays in use without a renewal"),
            Err(_) => tracing::warn!("the issuer is slow; the token stays in use"),
        }
        let mut current = self.current();
        if current.due.is_some_and(|due| due <= now) {
            current.due = Some(now.saturating_add(EARLY_RETRY_SECONDS));
        }
        Ok(())
    }

    /// Reads the file first: if it holds a new token, the issuer is not asked.
    async fn renew_refused(&self, refused: u64) -> Result<bool, AuthError> {
        if self.current().generation != refused {
            return Ok(true);
        }
        let login = self.store.read(&self.name)?;
        if self.adopt(&login)? {
            return Ok(true);
        }
        if login.refresh.is_none() {
            return Ok(false);
        }
        let login = self.fresh_login(RefreshCause::Refused(login.generation)).await?;
        self.adopt(&login)
    }

    /// Stores the model, and changes nothing else in the file.
    async fn store_model(&self, slug: &str) -> Result<(), AuthError> {
        let locked = self.store.lock(&self.name).await?;
        let login = locked.read()?;
        // THREAT: the login gets another account or base while a person chooses, and a model from
        // one backend's list is requested from another backend. Tried by
        // auth::login::tests::a_model_is_kept_with_the_login_it_was_chosen_for.
        self.adopt(&login)?;
        let login = Login { model: Some(slug.to_owned()), ..login };
        locked.write(&login)?;
        self.adopt(&login).map(drop)
    }

    fn headers(&self) -> Result<Signed, AuthError> {
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
            self.renew_if_due().await?;
            self.headers()
        })
    }

    fn renew(&self, refused: u64) -> BoxFuture<'_, Result<bool, AuthError>> {
        Box::pin(self.renew_refused(refused))
    }

    fn hand_over(&self) -> BoxFuture<'_, Result<HandedOver, AuthError>> {
        Box::pin(async {
            self.renew_if_due().await?;
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
        Box::pin(async move { self.store_model(slug).await.map(|()| true) })
    }

    /// THREAT: a command prints a copy of the login's file, and the refresh token, which is good for
    /// weeks, goes to the model and into the records. Tried by
    /// `auth::login::tests::what_renews_a_login_is_looked_for_too`.
    fn secrets_to_scrub(&self) -> Vec<Secret> {
        let current = self.current();
        let account = current.account.iter();
        let account = account.filter(|account| account.len() >= ACCOUNT_SCRUB_BYTES);
        let tokens = current.earlier.iter().chain(current.tokens()).cloned();
        tokens.chain(account.cloned().map(Secret::new)).collect()
    }
}

#[cfg(test)]
mod tests;
