//! The one refresher: whoever finds a token near its end, in any thread or process, takes the
//! login's lock, reads it again, and only then asks the issuer.
//!
//! ```text
//! lock → read → newer than mine? adopt
//!             → ended for this token? say so, ask nobody
//!             → reserve room → write intent → ask → commit → use
//! ```
//!
//! A refresh token is good once. Between the issuer's answer and the rename there is a moment that
//! nobody can close: the intent, written before anything is asked, tells the next start of it.

use airlock_shared::secret::Secret;
use tokio::sync::Semaphore;

use super::issuer::{Issuer, IssuerError, IssuerUrl};
use super::store::{
    EndReason, LastFailure, Locked, Login, LoginEnd, LoginStore, RefreshIntent, ReservedFile,
};
use super::{AuthError, Clock, received};

/// Why a fresh token is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshCause {
    /// It ends within [`super::store::EARLY_SECONDS`]: a failure is no harm while it is good.
    Early,
    /// The backend refused the token of this generation.
    Refused(u64),
}

/// What is to be done with a login as it was read under its lock.
#[derive(Debug, PartialEq, Eq)]
enum RefreshDecision {
    /// It is good as it is, or as good as it can be.
    Use,
    Ask,
    Over(LoginEnd),
}

/// More than will ever be asked for at once in one process.
const MANY: u32 = 1024;
/// Refreshes of this process whose end is not known: each has taken one.
static UNDER_WAY: Semaphore = Semaphore::const_new(MANY as usize);

/// A login whose token is good now, as far as anybody can know. Whoever stops waiting for it does
/// not cut the issuer's answer off: [`settled`] waits for that.
///
/// # Errors
/// `LoginEnd` where it is gone, `Unreachable` where the token has ended and nobody could be asked.
pub async fn refreshed(
    store: &LoginStore,
    name: &str,
    cause: RefreshCause,
    ca: Option<&str>,
    clock: &Clock,
) -> Result<Login, AuthError> {
    let came = clock();
    let locked = match store.lock(name).await {
        Ok(locked) => locked,
        Err(error) => return or_as_it_is(store.read(name)?, cause, clock(), error),
    };
    step("locked");
    let login = locked.read()?;
    step("read");
    match decide(&login, cause, clock()) {
        RefreshDecision::Use => return Ok(login),
        RefreshDecision::Over(ended) => {
            if login.ended().is_some() && login.is_good(clock()) {
                remember(&locked, refused(&login, clock()));
            }
            return Err(over(name, &ended));
        }
        RefreshDecision::Ask => {}
    }
    let asking = Refresh {
        name: name.to_owned(),
        is_good: is_good(&login, cause, clock()),
        ca: ca.map(str::to_owned),
        clock: clock.clone(),
        locked,
        login,
    };
    // THREAT: an issuer that is silent keeps each of those who wait for its limit of time, one after
    // the other. Tried by auth::refresh::tests::who_waited_for_a_silent_issuer_does_not_ask_it_again.
    if let Some(word) = asking.locked.word()
        && !asking.is_good
        && word.at >= came
        && asking.login.digest().as_ref() == Some(&word.token)
    {
        return Err(asking.unreachable(word.why));
    }
    let under_way = UNDER_WAY.acquire().await;
    // THREAT: not a thief but Ctrl-C, or a caller out of patience, between the issuer's answer and
    // our disk: the login would be lost. Tried by
    // auth::refresh::tests::a_caller_that_leaves_does_not_cut_the_answer_off.
    let asked = tokio::task::spawn_blocking(move || {
        let _under_way = under_way;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(asking.ask()),
            Err(error) => Err(asking.unreachable(error.to_string())),
        }
    });
    asked.await.unwrap_or_else(|error| {
        Err(AuthError::Unreachable { issuer: name.to_owned(), why: error.to_string() })
    })
}

/// Waits until no refresh of this process is on its way.
pub async fn settled() {
    let _all = UNDER_WAY.acquire_many(MANY).await;
}

/// Whether the token may still be used: not by the clock alone, the backend has the last word.
fn is_good(login: &Login, cause: RefreshCause, now: u64) -> bool {
    login.is_good(now) && cause != RefreshCause::Refused(login.generation)
}

fn decide(login: &Login, cause: RefreshCause, now: u64) -> RefreshDecision {
    let is_good = is_good(login, cause, now);
    let is_due = login.due().is_some_and(|due| due <= now);
    let nothing_left = || LoginEnd { why: EndReason::Ended, token: String::new(), at: now };
    match (is_good, login.ended()) {
        (true, _) if !is_due || login.is_interrupted() => RefreshDecision::Use,
        (false, Some(ended)) => RefreshDecision::Over(ended.clone()),
        (false, None) if login.refresh.is_none() => RefreshDecision::Over(nothing_left()),
        _ => RefreshDecision::Ask,
    }
}

/// A failure is no harm while the token is good.
fn or_as_it_is(
    login: Login,
    cause: RefreshCause,
    now: u64,
    error: AuthError,
) -> Result<Login, AuthError> {
    if !is_good(&login, cause, now) {
        return Err(error);
    }
    tracing::warn!(%error, "the token is good for a while, and goes on without being renewed");
    Ok(login)
}

/// A token that the backend refused has ended, whatever was said when it was given.
fn refused(login: &Login, now: u64) -> Login {
    let expires_at = Some(login.expires_at.map_or(now, |at| at.min(now)));
    Login { expires_at, ..login.clone() }
}

/// What cannot be written now is found out again.
fn remember(locked: &Locked, login: Login) {
    if let Err(error) = locked.write(&login) {
        tracing::warn!(%error, "what is known of the login cannot be kept");
    }
}

fn over(name: &str, ended: &LoginEnd) -> AuthError {
    AuthError::Ended { login: name.to_owned(), why: ended.why, at: ended.at }
}

/// Where a refresh is. A test that kills the process between two steps listens here.
fn step(step: &'static str) {
    tracing::debug!(step);
}

/// One refresh, with the login's lock.
struct Refresh {
    name: String,
    login: Login,
    /// Its token may be used whatever the issuer says.
    is_good: bool,
    locked: Locked,
    ca: Option<String>,
    clock: Clock,
}

impl Refresh {
    async fn ask(self) -> Result<Login, AuthError> {
        let asked = self.asked().await;
        let as_it_was = || self.locked.read().unwrap_or_else(|_| self.login.clone());
        match asked {
            Err(error) if self.is_good => {
                or_as_it_is(as_it_was(), RefreshCause::Early, (self.clock)(), error)
            }
            Err(AuthError::Unreachable { issuer, why }) => {
                if let Some(token) = self.login.digest() {
                    self.locked.leave(&LastFailure { token, at: (self.clock)(), why: why.clone() });
                }
                Err(AuthError::Unreachable { issuer, why })
            }
            asked => asked,
        }
    }

    async fn asked(&self) -> Result<Login, AuthError> {
        let (Some(token), Some(digest)) = (&self.login.refresh, self.login.digest()) else {
            return Err(AuthError::Missing { place: self.name.clone() });
        };
        let url = self.login.issuer.clone().unwrap_or_default();
        let issuer = Issuer::open(url.clone(), self.ca.as_deref());
        let issuer = issuer.map_err(|error| self.unreachable(error.to_string()))?;
        // THREAT: a full disk, found full only when the old token is used up. Tried by
        // auth::refresh::tests::nobody_is_asked_where_there_is_no_room.
        let room = self.locked.reserve()?;
        step("reserved");
        let intent = Some(RefreshIntent { token: digest.clone(), at: (self.clock)() });
        let written = self.locked.write(&Login { intent, ..self.login.clone() });
        if let Err(error) = written {
            room.release();
            return Err(error);
        }
        step("intended");
        let answer = self.ask_issuer(&issuer, token).await;
        let answer = answer.and_then(|tokens| {
            let now = (self.clock)();
            if let Some(off) = received::clock_off(tokens.date, now, url.host()) {
                tracing::warn!("{off}");
            }
            let fresh = received::renewed(&self.login, &tokens, now, &self.name);
            Ok((fresh.map_err(RefreshError::Auth)?, tokens.access.is_some()))
        });
        match answer {
            Ok((fresh, pays)) => {
                self.keep(room, &fresh);
                step("done");
                match pays || self.is_good {
                    true => Ok(fresh),
                    false => Err(self.unreachable("its answer holds no access token".to_owned())),
                }
            }
            Err(failed) => {
                let error = self.failed(failed, digest, &url);
                room.release();
                Err(error)
            }
        }
    }

    /// The old token is used up: what cannot be written pays for this process at least. The
    /// intent that stays says to the next one how that came.
    fn keep(&self, room: ReservedFile, fresh: &Login) {
        let kept = room.commit(fresh).or_else(|error| {
            tracing::warn!(%error, "the room that was taken cannot be used; once more beside it");
            self.locked.write(fresh)
        });
        if let Err(error) = kept {
            tracing::warn!(%error, "the login is renewed for this program alone: sign in again");
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

    /// Remembers what can be said for certain, and says it.
    fn failed(&self, failed: RefreshError, digest: String, url: &IssuerUrl) -> AuthError {
        let ended = |why| LoginEnd { why, token: digest, at: (self.clock)() };
        match failed {
            RefreshError::Issuer(IssuerError::Gone { why, said }) => {
                // What was cut off may have used the token up: nobody else did.
                let interrupted = self.login.is_interrupted() && why != EndReason::Expired;
                let ended = ended(if interrupted { EndReason::Interrupted } else { why });
                tracing::debug!(said, "the issuer renews this login no more");
                self.remember_end(&ended);
                over(&self.name, &ended)
            }
            RefreshError::Auth(AuthError::OtherAccount { place }) => {
                self.remember_end(&ended(EndReason::OtherAccount));
                AuthError::OtherAccount { place }
            }
            // Nobody knows this word of the issuer's, and it will be the same the next time: while
            // the token is good that does no harm, afterwards only signing in does any good.
            RefreshError::Issuer(IssuerError::Refused { status: 400 | 401, said })
                if !self.is_good =>
            {
                tracing::debug!(said, "the issuer refuses to renew this login");
                let ended = ended(EndReason::Refused);
                self.remember_end(&ended);
                over(&self.name, &ended)
            }
            // A token that is none: whether there is a good one beside it, nobody knows.
            RefreshError::Auth(_) => {
                let why = "its answer holds a token that is none".to_owned();
                AuthError::Unreachable { issuer: url.host().to_owned(), why }
            }
            RefreshError::Issuer(error) => {
                // Where it surely was not obeyed, the token is as good as before.
                if was_not_obeyed(&error) {
                    remember(&self.locked, self.login.clone());
                }
                AuthError::Unreachable { issuer: url.host().to_owned(), why: error.to_string() }
            }
        }
    }

    fn remember_end(&self, ended: &LoginEnd) {
        let login = match self.is_good {
            true => self.login.clone(),
            false => refused(&self.login, ended.at),
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

fn was_not_obeyed(error: &IssuerError) -> bool {
    match error {
        IssuerError::Unreachable(_) | IssuerError::Between(_) | IssuerError::Refused { .. } => true,
        IssuerError::Busy { status } => matches!(status, 429 | 503),
        IssuerError::Lost(_) | IssuerError::Gone { .. } | IssuerError::Malformed(_) => false,
    }
}

#[cfg(test)]
pub(super) mod tests;
