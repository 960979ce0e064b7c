//! Refreshes a login once, however many threads and processes want it: each takes the login's lock,
//! reads the login again, and only then asks the issuer.
//!
//! ```text
//! lock → read → newer than mine? adopt it
//!             → ended for this token? report it, do not ask
//!             → reserve disk space → write intent → ask → commit → use
//! ```
//!
//! A refresh token works only once. A process that is killed between the issuer's answer and the
//! rename loses the new token. The intent is written before the request, so the next start knows
//! that this may have happened.

use airlock_shared::secret::Secret;
use tokio::sync::Semaphore;

use super::issuer::{Issuer, IssuerError, IssuerUrl};
use super::store::{
    EndReason, LastFailure, LockedLogin, Login, LoginEnd, LoginStore, RefreshIntent, ReservedFile,
};
use super::{AuthError, Clock, received};

/// Why a fresh token is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshCause {
    /// The token may expire within [`super::store::EARLY_SECONDS`]. A failure does no harm while it
    /// is valid.
    Early,
    /// The backend refused the token of this generation.
    Refused(u64),
}

/// What to do with a login that was read under its lock.
#[derive(Debug, PartialEq, Eq)]
enum RefreshDecision {
    /// Use it: the token is valid.
    Use,
    Ask,
    Ended(LoginEnd),
}

/// More refreshes than one process ever has at once.
const MAX_REFRESHES: u32 = 1024;
/// The refreshes of this process that have not ended: each holds one permit.
static IN_FLIGHT: Semaphore = Semaphore::const_new(MAX_REFRESHES as usize);

/// The login with a token that is valid now, as far as this machine knows. A caller that stops
/// waiting does not cancel the refresh: [`wait_for_refreshes`] waits for it.
///
/// # Errors
/// `Ended`: the login cannot be used any more. `Unreachable`: the token has expired, and no new one
/// came from the issuer.
pub async fn fresh_login(
    store: &LoginStore,
    name: &str,
    cause: RefreshCause,
    ca: Option<&str>,
    clock: &Clock,
) -> Result<Login, AuthError> {
    let called_at = clock();
    let locked = match store.lock(name).await {
        Ok(locked) => locked,
        Err(error) => return fall_back_to(store.read(name)?, cause, clock(), error),
    };
    step("locked");
    let login = locked.read()?;
    step("read");
    match decide(&login, cause, clock()) {
        RefreshDecision::Use => return Ok(login),
        RefreshDecision::Ended(ended) => {
            if login.ended().is_some() && login.is_good(clock()) {
                remember(&locked, expired_now(&login, clock()));
            }
            return Err(ended_error(name, &ended));
        }
        RefreshDecision::Ask => {}
    }
    let refresh = Refresh {
        name: name.to_owned(),
        is_good: is_good(&login, cause, clock()),
        ca: ca.map(str::to_owned),
        clock: clock.clone(),
        locked,
        login,
    };
    // THREAT: an issuer does not answer, and each waiting caller waits for the full timeout, one
    // after the other. Tried by
    // auth::refresh::tests::a_caller_that_waited_for_a_silent_issuer_does_not_ask_it_again.
    if let Some(failure) = refresh.locked.last_failure()
        && !refresh.is_good
        && failure.at >= called_at
        && refresh.login.digest().as_ref() == Some(&failure.token)
    {
        return Err(refresh.unreachable(failure.why));
    }
    let in_flight = IN_FLIGHT.acquire().await;
    // THREAT: Ctrl-C or a caller's timeout comes between the issuer's answer and the write to disk,
    // and the login is lost. Tried by
    // auth::refresh::tests::a_caller_that_stops_waiting_does_not_cancel_the_refresh.
    let task = tokio::task::spawn_blocking(move || {
        let _in_flight = in_flight;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(refresh.run()),
            Err(error) => Err(refresh.unreachable(error.to_string())),
        }
    });
    task.await.unwrap_or_else(|error| {
        Err(AuthError::Unreachable { issuer: name.to_owned(), why: error.to_string() })
    })
}

/// Waits until all refreshes of this process have ended.
pub async fn wait_for_refreshes() {
    let _all = IN_FLIGHT.acquire_many(MAX_REFRESHES).await;
}

/// Whether the token can be used: it has not expired, and the backend has not refused it.
fn is_good(login: &Login, cause: RefreshCause, now: u64) -> bool {
    login.is_good(now) && cause != RefreshCause::Refused(login.generation)
}

fn decide(login: &Login, cause: RefreshCause, now: u64) -> RefreshDecision {
    let is_good = is_good(login, cause, now);
    let is_due = login.due().is_some_and(|due| due <= now);
    let expired = || LoginEnd { why: EndReason::Ended, token: String::new(), at: now };
    match (is_good, login.ended()) {
        (true, _) if !is_due || login.is_interrupted() => RefreshDecision::Use,
        (false, Some(ended)) => RefreshDecision::Ended(ended.clone()),
        (false, None) if login.refresh.is_none() => RefreshDecision::Ended(expired()),
        _ => RefreshDecision::Ask,
    }
}

/// The login as it is, if its token is valid; else the error.
fn fall_back_to(
    login: Login,
    cause: RefreshCause,
    now: u64,
    error: AuthError,
) -> Result<Login, AuthError> {
    if !is_good(&login, cause, now) {
        return Err(error);
    }
    tracing::warn!(%error, "the token is still valid and stays in use without a renewal");
    Ok(login)
}

/// The login with its token marked as expired: the backend refused it.
fn expired_now(login: &Login, now: u64) -> Login {
    let expires_at = Some(login.expires_at.map_or(now, |at| at.min(now)));
    Login { expires_at, ..login.clone() }
}

/// Writes the login. If that fails, the next start asks the issuer again.
fn remember(locked: &LockedLogin, login: Login) {
    if let Err(error) = locked.write(&login) {
        tracing::warn!(%error, "the state of the login cannot be stored");
    }
}

fn ended_error(name: &str, ended: &LoginEnd) -> AuthError {
    AuthError::Ended { login: name.to_owned(), why: ended.why, at: ended.at }
}

/// Reports a step of the refresh. A test uses this to kill the process between two steps.
fn step(step: &'static str) {
    tracing::debug!(step);
}

/// One refresh. It holds the login's lock.
struct Refresh {
    name: String,
    login: Login,
    /// The current token can be used even if the refresh fails.
    is_good: bool,
    locked: LockedLogin,
    ca: Option<String>,
    clock: Clock,
}

impl Refresh {
    async fn run(self) -> Result<Login, AuthError> {
        let result = self.refresh().await;
        let stored = || self.locked.read().unwrap_or_else(|_| self.login.clone());
        match result {
            Err(error) if self.is_good => {
                fall_back_to(stored(), RefreshCause::Early, (self.clock)(), error)
            }
            Err(AuthError::Unreachable { issuer, why }) => {
                if let Some(token) = self.login.digest() {
                    self.locked.record_failure(&LastFailure {
                        token,
                        at: (self.clock)(),
                        why: why.clone(),
                    });
                }
                Err(AuthError::Unreachable { issuer, why })
            }
            result => result,
        }
    }

    async fn refresh(&self) -> Result<Login, AuthError> {
        let (Some(token), Some(digest)) = (&self.login.refresh, self.login.digest()) else {
            return Err(AuthError::Missing { place: self.name.clone() });
        };
        let url = self.login.issuer.clone().unwrap_or_default();
        let issuer = Issuer::open(url.clone(), self.ca.as_deref());
        let issuer = issuer.map_err(|error| self.unreachable(error.to_string()))?;
        // THREAT: the disk is full, and that is noticed only after the old token was used. Tried by
        // auth::refresh::tests::the_issuer_is_not_asked_without_disk_space.
        let reserved = self.locked.reserve()?;
        step("reserved");
        let intent = Some(RefreshIntent { token: digest.clone(), at: (self.clock)() });
        let written = self.locked.write(&Login { intent, ..self.login.clone() });
        if let Err(error) = written {
            reserved.release();
            return Err(error);
        }
        step("intended");
        let answer = self.ask_issuer(&issuer, token).await;
        let answer = answer.and_then(|tokens| {
            let now = (self.clock)();
            if let Some(skew) = received::clock_skew(tokens.date, now, url.host()) {
                tracing::warn!("{skew}");
            }
            let fresh = received::apply_refresh(&self.login, &tokens, now, &self.name);
            Ok((fresh.map_err(RefreshError::Auth)?, tokens.access.is_some()))
        });
        match answer {
            Ok((fresh, is_usable)) => {
                self.store(reserved, &fresh);
                step("done");
                match is_usable || self.is_good {
                    true => Ok(fresh),
                    false => Err(self.unreachable("its answer holds no access token".to_owned())),
                }
            }
            Err(failed) => {
                let error = self.record_failure(failed, digest, &url);
                reserved.release();
                Err(error)
            }
        }
    }

    /// Stores the new login. The old refresh token is used up, so if this fails, at least this
    /// process can use the new token. The intent that stays tells the next start what happened.
    fn store(&self, reserved: ReservedFile, fresh: &Login) {
        let stored = reserved.commit(fresh).or_else(|error| {
            tracing::warn!(%error, "the reserved file cannot be used; trying another file");
            self.locked.write(fresh)
        });
        if let Err(error) = stored {
            tracing::warn!(%error, "the renewed login is not stored and works only in this process: sign in again");
        }
    }

    async fn ask_issuer(
        &self,
        issuer: &Issuer,
        token: &Secret,
    ) -> Result<super::issuer::Tokens, RefreshError> {
        step("asked");
        let answer = issuer.refresh(token).await;
        step("answered");
        answer.map_err(RefreshError::Issuer)
    }

    /// Stores what the failure says about the login, and gives the error.
    fn record_failure(&self, failed: RefreshError, digest: String, url: &IssuerUrl) -> AuthError {
        let ended = |why| LoginEnd { why, token: digest, at: (self.clock)() };
        match failed {
            RefreshError::Issuer(IssuerError::Gone { why, message }) => {
                // An interrupted refresh has probably used the token, not another program.
                let interrupted = self.login.is_interrupted() && why != EndReason::Expired;
                let ended = ended(if interrupted { EndReason::Interrupted } else { why });
                tracing::debug!(message, "the issuer does not renew this login any more");
                self.remember_end(&ended);
                ended_error(&self.name, &ended)
            }
            RefreshError::Auth(AuthError::OtherAccount { place }) => {
                self.remember_end(&ended(EndReason::OtherAccount));
                AuthError::OtherAccount { place }
            }
            // An unknown refusal, which would be the same the next time. While the token is valid
            // it does no harm; afterwards the person must sign in again.
            RefreshError::Issuer(IssuerError::Refused { status: 400 | 401, message })
                if !self.is_good =>
            {
                tracing::debug!(message, "the issuer refuses to renew this login");
                let ended = ended(EndReason::Refused);
                self.remember_end(&ended);
                ended_error(&self.name, &ended)
            }
            // One token is invalid, and another token of the answer may be valid: not certain.
            RefreshError::Auth(_) => {
                let why = "its answer holds an invalid token".to_owned();
                AuthError::Unreachable { issuer: url.host().to_owned(), why }
            }
            RefreshError::Issuer(error) => {
                // The issuer has certainly not used the token, so the intent is removed.
                if was_not_processed(&error) {
                    remember(&self.locked, self.login.clone());
                }
                AuthError::Unreachable { issuer: url.host().to_owned(), why: error.to_string() }
            }
        }
    }

    fn remember_end(&self, ended: &LoginEnd) {
        let login = match self.is_good {
            true => self.login.clone(),
            false => expired_now(&self.login, ended.at),
        };
        remember(&self.locked, Login { ended: Some(ended.clone()), intent: None, ..login });
    }

    fn unreachable(&self, why: String) -> AuthError {
        let issuer = self.login.issuer.as_ref().map(|issuer| issuer.host().to_owned());
        AuthError::Unreachable { issuer: issuer.unwrap_or_default(), why }
    }
}

enum RefreshError {
    Issuer(IssuerError),
    Auth(AuthError),
}

fn was_not_processed(error: &IssuerError) -> bool {
    match error {
        IssuerError::Unreachable(_) | IssuerError::Intercepted(_) | IssuerError::Refused { .. } => {
            true
        }
        IssuerError::Busy { status } => matches!(status, 429 | 503),
        IssuerError::Lost(_) | IssuerError::Gone { .. } | IssuerError::Malformed(_) => false,
    }
}

#[cfg(test)]
pub(super) mod tests;
