//! Renews the credential during a session: on a timer, and in handoff when the sandbox says that the
//! backend refused its token.
//!
//! Waiting for the next command can be abandoned: a renewal that has begun stays in the struct.

use std::sync::Arc;
use std::time::Duration;

use airlock_shared::command::Command;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::settings::CredentialsMode;
use crate::auth::{AuthError, Clock, HandedOver, Signer};

/// The longest sleep. A machine that was suspended, or whose clock was set, is noticed after it.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// After a renewal, refusals that the sandbox reports are ignored for so long.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(60);

/// Asks the backend whether it accepts the current token; returns the generation that it refuses.
pub(super) type TokenProbe = Arc<dyn Fn() -> BoxFuture<'static, Option<u64>> + Send + Sync>;

pub(super) struct TokenRefresher {
    signer: Option<Arc<dyn Signer>>,
    credentials: CredentialsMode,
    clock: Clock,
    probe: TokenProbe,
    /// The generation that the sandbox has.
    held: u64,
    /// The generation of the last command, until [`TokenRefresher::delivered`].
    offered: Option<u64>,
    /// The last command was not delivered.
    needs_resend: bool,
    is_refused: bool,
    renewal: Option<Renewal>,
    /// When a reported refusal counts again, and when the timer tries again.
    trusted_again: Option<Instant>,
    retry_at: Option<Instant>,
}

struct Renewal {
    /// The sandbox waits for the answer.
    is_answer: bool,
    handed: BoxFuture<'static, Result<HandedOver, AuthError>>,
}

impl TokenRefresher {
    /// `held`: the generation that enters the sandbox.
    pub(super) fn new(
        signer: Option<Arc<dyn Signer>>,
        credentials: CredentialsMode,
        held: u64,
        clock: Clock,
        probe: TokenProbe,
    ) -> Self {
        Self {
            signer,
            credentials,
            clock,
            probe,
            held,
            offered: None,
            needs_resend: false,
            is_refused: false,
            renewal: None,
            trusted_again: None,
            retry_at: None,
        }
    }

    /// The sandbox says that the backend refused its token.
    pub(super) fn refused(&mut self) {
        self.is_refused = true;
    }

    /// Whether the last command of [`TokenRefresher::next`] was delivered. If not, the token is
    /// offered again.
    pub(super) fn delivered(&mut self, is_delivered: bool) {
        let Some(offered) = self.offered.take() else { return };
        self.needs_resend = !is_delivered;
        if is_delivered {
            self.held = offered;
        } else {
            self.trusted_again = None;
            self.retry_at = Some(Instant::now() + LONGEST_SLEEP);
        }
    }

    /// Waits for the next command for the sandbox, and renews the token when it is due.
    pub(super) async fn next(&mut self) -> Command {
        loop {
            let Some(renewal) = &mut self.renewal else {
                self.due().await;
                if let Some(command) = self.start_renewal() {
                    return command;
                }
                continue;
            };
            let handed = renewal.handed.as_mut().await;
            let is_answer = renewal.is_answer;
            self.renewal = None;
            if let Some(command) = self.finish_renewal(handed, is_answer) {
                return command;
            }
        }
    }

    /// Waits until the sandbox needs an answer or the token is due.
    async fn due(&self) {
        if self.is_refused {
            return;
        }
        loop {
            let due = self.signer.as_ref().and_then(|signer| signer.due());
            let due = if self.needs_resend { Some(0) } else { due };
            let in_seconds = due.map(|due| due.saturating_sub((self.clock)()));
            let due = in_seconds.map_or(LONGEST_SLEEP, Duration::from_secs);
            let rest = self.retry_at.map(|until| until.saturating_duration_since(Instant::now()));
            let wait = due.max(rest.unwrap_or_default());
            if wait.is_zero() {
                return;
            }
            tokio::time::sleep(wait.min(LONGEST_SLEEP)).await;
        }
    }

    fn start_renewal(&mut self) -> Option<Command> {
        let is_answer = std::mem::take(&mut self.is_refused);
        let none = Command::Secrets { bearer: None };
        let Some(signer) = self.signer.clone() else { return Some(none) };
        let now = Instant::now();
        if is_answer {
            // THREAT: a sandbox reports refusals again and again, we renew the login each time, and
            // the issuer revokes it as stolen. Tried by
            // session::token_refresher::tests::a_sandbox_that_reports_many_refusals_gets_one_token.
            let is_rested = self.trusted_again.is_none_or(|until| until <= now);
            if self.credentials == CredentialsMode::Relay || !is_rested {
                return Some(none);
            }
            self.trusted_again = Some(now + REFUSAL_INTERVAL);
        } else {
            self.retry_at = Some(now + LONGEST_SLEEP);
        }
        let (held, probe) = (self.held, Arc::clone(&self.probe));
        let handed = Box::pin(async move {
            let handed = signer.hand_over().await?;
            if !is_answer || handed.generation != held {
                return Ok(handed);
            }
            // THREAT: a sandbox says that a good token was refused, and every program that shares the
            // login takes it for ended. Tried by
            // session::token_refresher::tests::a_sandbox_that_reports_a_good_token_as_refused_gets_none.
            if let Some(refused) = probe().await {
                signer.renew(refused).await?;
            }
            signer.hand_over().await
        });
        self.renewal = Some(Renewal { is_answer, handed });
        None
    }

    fn finish_renewal(
        &mut self,
        handed: Result<HandedOver, AuthError>,
        is_answer: bool,
    ) -> Option<Command> {
        let bearer = match handed {
            Ok(handed) if handed.generation != self.held => {
                self.offered = Some(handed.generation);
                handed.secrets.bearer
            }
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(%error, "the credential of this session is not renewed");
                None
            }
        };
        let is_new_token = bearer.is_some() && self.credentials == CredentialsMode::Handoff;
        if is_new_token {
            // It also answers a refusal of the token before it.
            self.is_refused = false;
        } else {
            // The sandbox is not told of it.
            self.held = self.offered.take().unwrap_or(self.held);
        }
        (is_new_token || is_answer).then_some(Command::Secrets { bearer })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use airlock_shared::base::Base;
    use airlock_shared::handoff::Secrets;
    use airlock_shared::secret::Secret;
    use http::HeaderMap;

    use super::*;
    use crate::auth::{Account, Signed};

    /// Token `n` is good for an hour after it was made; each renewal takes ten seconds.
    struct Hourly {
        began: Instant,
        generation: AtomicU64,
        made: AtomicU64,
        is_taken: AtomicBool,
    }

    impl Hourly {
        fn now(&self) -> u64 {
            self.began.elapsed().as_secs()
        }

        async fn renewed(&self) {
            tokio::time::sleep(Duration::from_secs(10)).await;
            self.generation.fetch_add(1, Ordering::Relaxed);
            self.made.store(self.now(), Ordering::Relaxed);
        }
    }

    impl Signer for Hourly {
        fn account(&self) -> Account {
            Account::replay(Base::parse("https://api.openai.com").expect("a base"))
        }

        fn sign(&self) -> BoxFuture<'_, Result<Signed, AuthError>> {
            let generation = self.generation.load(Ordering::Relaxed);
            Box::pin(async move { Ok(Signed { headers: HeaderMap::new(), generation }) })
        }

        fn renew(&self, refused: u64) -> BoxFuture<'_, Result<bool, AuthError>> {
            Box::pin(async move {
                if refused == self.generation.load(Ordering::Relaxed) {
                    self.renewed().await;
                }
                Ok(true)
            })
        }

        fn hand_over(&self) -> BoxFuture<'_, Result<HandedOver, AuthError>> {
            Box::pin(async {
                if self.due().is_some_and(|due| due <= self.now()) {
                    self.renewed().await;
                }
                let generation = self.generation.load(Ordering::Relaxed);
                let bearer = Some(Secret::new(format!("token-{generation}")));
                Ok(HandedOver { secrets: Secrets { bearer, account_id: None }, generation })
            })
        }

        fn due(&self) -> Option<u64> {
            Some(self.made.load(Ordering::Relaxed) + 3_300)
        }

        fn secrets_to_scrub(&self) -> Vec<Secret> {
            Vec::new()
        }
    }

    fn hourly(credentials: CredentialsMode) -> (Arc<Hourly>, TokenRefresher) {
        let signer = Arc::new(Hourly {
            began: Instant::now(),
            generation: AtomicU64::new(0),
            made: AtomicU64::new(0),
            is_taken: AtomicBool::new(false),
        });
        let clock = Arc::clone(&signer);
        let clock: Clock = Arc::new(move || clock.now());
        let backend = Arc::clone(&signer);
        let probe: TokenProbe = Arc::new(move || {
            let generation = backend.generation.load(Ordering::Relaxed);
            let refused = (!backend.is_taken.load(Ordering::Relaxed)).then_some(generation);
            Box::pin(std::future::ready(refused))
        });
        let token_refresher =
            TokenRefresher::new(Some(Arc::clone(&signer) as _), credentials, 0, clock, probe);
        (signer, token_refresher)
    }

    /// The commands within some seconds. As in a session, the wait is abandoned every second.
    async fn commands_within(
        token_refresher: &mut TokenRefresher,
        seconds: u64,
    ) -> Vec<Option<String>> {
        commands_within_if(token_refresher, seconds, true).await
    }

    async fn commands_within_if(
        token_refresher: &mut TokenRefresher,
        seconds: u64,
        is_delivered: bool,
    ) -> Vec<Option<String>> {
        let mut commands = Vec::new();
        for _ in 0..seconds {
            let second = Duration::from_secs(1);
            if let Ok(command) = tokio::time::timeout(second, token_refresher.next()).await {
                let Command::Secrets { bearer } = command else { panic!("not a token") };
                token_refresher.delivered(is_delivered);
                commands.push(bearer.map(|bearer| bearer.reveal().to_owned()));
            }
        }
        commands
    }

    fn token(generation: u64) -> Option<String> {
        Some(format!("token-{generation}"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_session_gets_each_token_before_the_last_one_ends() {
        let (_, mut token_refresher) = hourly(CredentialsMode::Handoff);
        assert_eq!(commands_within(&mut token_refresher, 3_250).await, []);
        assert_eq!(commands_within(&mut token_refresher, 100).await, [token(1)]);
        assert_eq!(commands_within(&mut token_refresher, 2 * 3_320).await, [token(2), token(3)]);
    }

    #[tokio::test(start_paused = true)]
    async fn in_relay_the_token_is_renewed_and_stays_on_the_host() {
        let (signer, mut token_refresher) = hourly(CredentialsMode::Relay);
        token_refresher.refused();
        assert_eq!(commands_within(&mut token_refresher, 3_400).await, [None]);
        assert_eq!(signer.generation.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sandbox_that_reports_many_refusals_gets_one_token() {
        let (signer, mut token_refresher) = hourly(CredentialsMode::Handoff);
        token_refresher.refused();
        assert_eq!(commands_within(&mut token_refresher, 20).await, [token(1)]);
        for _ in 0..20 {
            token_refresher.refused();
            assert_eq!(commands_within(&mut token_refresher, 1).await, [None]);
        }
        assert_eq!(signer.generation.load(Ordering::Relaxed), 1);
        let _quiet = commands_within(&mut token_refresher, 60).await;
        token_refresher.refused();
        assert_eq!(commands_within(&mut token_refresher, 20).await, [token(2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sandbox_that_reports_a_good_token_as_refused_gets_none() {
        let (signer, mut token_refresher) = hourly(CredentialsMode::Handoff);
        signer.is_taken.store(true, Ordering::Relaxed);
        for _ in 0..3 {
            token_refresher.refused();
            assert_eq!(commands_within(&mut token_refresher, 61).await, [None]);
        }
        assert_eq!(signer.generation.load(Ordering::Relaxed), 0);
        signer.is_taken.store(false, Ordering::Relaxed);
        token_refresher.refused();
        assert_eq!(commands_within(&mut token_refresher, 20).await, [token(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_was_not_delivered_is_offered_again() {
        let (signer, mut token_refresher) = hourly(CredentialsMode::Handoff);
        token_refresher.refused();
        assert_eq!(commands_within_if(&mut token_refresher, 20, false).await, [token(1)]);
        token_refresher.refused();
        assert_eq!(commands_within_if(&mut token_refresher, 20, false).await, [token(1)]);
        assert_eq!(commands_within(&mut token_refresher, 40).await, [token(1)]);
        assert_eq!(commands_within(&mut token_refresher, 100).await, []);
        assert_eq!(signer.generation.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_during_a_renewal_is_answered_with_it() {
        let (_, mut token_refresher) = hourly(CredentialsMode::Handoff);
        let _quiet = commands_within(&mut token_refresher, 3_303).await;
        token_refresher.refused();
        assert_eq!(commands_within(&mut token_refresher, 60).await, [token(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_recording_has_no_token() {
        let no_backend: TokenProbe = Arc::new(|| Box::pin(std::future::ready(None)));
        let mut token_refresher =
            TokenRefresher::new(None, CredentialsMode::Relay, 0, Arc::new(|| 0), no_backend);
        assert_eq!(commands_within(&mut token_refresher, 100).await, []);
        token_refresher.refused();
        assert_eq!(commands_within(&mut token_refresher, 100).await, [None]);
    }
}
