//! What keeps a credential fresh while a run lasts: a timer, and in handoff the word of the
//! sandbox that the backend refused what it holds.
//!
//! Whoever gives up waiting for the next command loses nothing: what is under way stays here.

use std::sync::Arc;
use std::time::Duration;

use airlock_shared::command::Command;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::settings::CredentialsMode;
use crate::auth::{AuthError, Clock, HandedOver, Signer};

/// The longest sleep: a machine that slept itself, or whose clock was set, is noticed within it.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// How long a token that was just renewed is good whatever the sandbox says of it.
const REST: Duration = Duration::from_secs(60);

/// Asks the backend whether it takes what pays now: the generation that it refuses.
pub(super) type TokenProbe = Arc<dyn Fn() -> BoxFuture<'static, Option<u64>> + Send + Sync>;

pub(super) struct TokenRefresher {
    signer: Option<Arc<dyn Signer>>,
    credentials: CredentialsMode,
    clock: Clock,
    witness: TokenProbe,
    /// The generation that is in the sandbox, so that a newer one can be told from it.
    held: u64,
    /// The generation that the sandbox was to be told of last, until [`TokenRefresher::told`].
    offered: Option<u64>,
    /// There is a newer one that it was not told of.
    is_behind: bool,
    is_refused: bool,
    under_way: Option<UnderWay>,
    /// When the sandbox may be believed again, and the timer tries again.
    believed: Option<Instant>,
    rested: Option<Instant>,
}

struct UnderWay {
    /// The sandbox waits for it.
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
        witness: TokenProbe,
    ) -> Self {
        Self {
            signer,
            credentials,
            clock,
            witness,
            held,
            offered: None,
            is_behind: false,
            is_refused: false,
            under_way: None,
            believed: None,
            rested: None,
        }
    }

    /// The sandbox says that the backend refused its token.
    pub(super) fn refused(&mut self) {
        self.is_refused = true;
    }

    /// Whether the sandbox will hear what [`TokenRefresher::next`] gave. Where it will not, a newer token is
    /// offered again.
    pub(super) fn told(&mut self, is_told: bool) {
        let Some(offered) = self.offered.take() else { return };
        self.is_behind = !is_told;
        if is_told {
            self.held = offered;
        } else {
            self.believed = None;
            self.rested = Some(Instant::now() + LONGEST_SLEEP);
        }
    }

    /// Waits for what the sandbox must be told; renews what falls due meanwhile.
    pub(super) async fn next(&mut self) -> Command {
        loop {
            let Some(under_way) = &mut self.under_way else {
                self.due().await;
                if let Some(command) = self.begin() {
                    return command;
                }
                continue;
            };
            let handed = under_way.handed.as_mut().await;
            let is_answer = under_way.is_answer;
            self.under_way = None;
            if let Some(command) = self.end(handed, is_answer) {
                return command;
            }
        }
    }

    /// Until the sandbox waits for an answer or the token falls due.
    async fn due(&self) {
        if self.is_refused {
            return;
        }
        loop {
            let due = self.signer.as_ref().and_then(|signer| signer.due());
            let due = if self.is_behind { Some(0) } else { due };
            let in_seconds = due.map(|due| due.saturating_sub((self.clock)()));
            let due = in_seconds.map_or(LONGEST_SLEEP, Duration::from_secs);
            let rest = self.rested.map(|until| until.saturating_duration_since(Instant::now()));
            let wait = due.max(rest.unwrap_or_default());
            if wait.is_zero() {
                return;
            }
            tokio::time::sleep(wait.min(LONGEST_SLEEP)).await;
        }
    }

    fn begin(&mut self) -> Option<Command> {
        let is_answer = std::mem::take(&mut self.is_refused);
        let none = Command::Secrets { bearer: None };
        let Some(signer) = self.signer.clone() else { return Some(none) };
        let now = Instant::now();
        if is_answer {
            // THREAT: a sandbox that cries for tokens has us use up one after the other at the
            // issuer, until that takes us for a thief. Tried by
            // session::token_refresher::tests::a_sandbox_that_cries_for_tokens_gets_one.
            let is_rested = self.believed.is_none_or(|until| until <= now);
            if self.credentials == CredentialsMode::Relay || !is_rested {
                return Some(none);
            }
            self.believed = Some(now + REST);
        } else {
            self.rested = Some(now + LONGEST_SLEEP);
        }
        let (held, witness) = (self.held, Arc::clone(&self.witness));
        let handed = Box::pin(async move {
            let handed = signer.hand_over().await?;
            if !is_answer || handed.generation != held {
                return Ok(handed);
            }
            // THREAT: a sandbox that says of a good token that it was refused has it taken for ended,
            // by every program that shares the login. Tried by
            // session::token_refresher::tests::a_sandbox_that_cries_of_a_good_token_gets_none.
            if let Some(refused) = witness().await {
                signer.renew(refused).await?;
            }
            signer.hand_over().await
        });
        self.under_way = Some(UnderWay { is_answer, handed });
        None
    }

    fn end(&mut self, handed: Result<HandedOver, AuthError>, is_answer: bool) -> Option<Command> {
        let bearer = match handed {
            Ok(handed) if handed.generation != self.held => {
                self.offered = Some(handed.generation);
                handed.secrets.bearer
            }
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(%error, "the credential of this run is not renewed");
                None
            }
        };
        let is_news = bearer.is_some() && self.credentials == CredentialsMode::Handoff;
        if is_news {
            // What the sandbox said of the token before is answered with it.
            self.is_refused = false;
        } else {
            // Nobody is told of it.
            self.held = self.offered.take().unwrap_or(self.held);
        }
        (is_news || is_answer).then_some(Command::Secrets { bearer })
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
        let witness: TokenProbe = Arc::new(move || {
            let generation = backend.generation.load(Ordering::Relaxed);
            let refused = (!backend.is_taken.load(Ordering::Relaxed)).then_some(generation);
            Box::pin(std::future::ready(refused))
        });
        let token_refresher =
            TokenRefresher::new(Some(Arc::clone(&signer) as _), credentials, 0, clock, witness);
        (signer, token_refresher)
    }

    /// As a run listens: the wait is given up every second for something else.
    async fn within(token_refresher: &mut TokenRefresher, seconds: u64) -> Vec<Option<String>> {
        within_to(token_refresher, seconds, true).await
    }

    async fn within_to(
        token_refresher: &mut TokenRefresher,
        seconds: u64,
        is_told: bool,
    ) -> Vec<Option<String>> {
        let mut told = Vec::new();
        for _ in 0..seconds {
            let second = Duration::from_secs(1);
            if let Ok(command) = tokio::time::timeout(second, token_refresher.next()).await {
                let Command::Secrets { bearer } = command else { panic!("not a token") };
                token_refresher.told(is_told);
                told.push(bearer.map(|bearer| bearer.reveal().to_owned()));
            }
        }
        told
    }

    fn token(generation: u64) -> Option<String> {
        Some(format!("token-{generation}"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_run_gets_each_token_before_the_last_one_ends() {
        let (_, mut token_refresher) = hourly(CredentialsMode::Handoff);
        assert_eq!(within(&mut token_refresher, 3_250).await, []);
        assert_eq!(within(&mut token_refresher, 100).await, [token(1)]);
        assert_eq!(within(&mut token_refresher, 2 * 3_320).await, [token(2), token(3)]);
    }

    #[tokio::test(start_paused = true)]
    async fn in_relay_the_token_is_renewed_and_stays_here() {
        let (signer, mut token_refresher) = hourly(CredentialsMode::Relay);
        token_refresher.refused();
        assert_eq!(within(&mut token_refresher, 3_400).await, [None]);
        assert_eq!(signer.generation.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sandbox_that_cries_for_tokens_gets_one() {
        let (signer, mut token_refresher) = hourly(CredentialsMode::Handoff);
        token_refresher.refused();
        assert_eq!(within(&mut token_refresher, 20).await, [token(1)]);
        for _ in 0..20 {
            token_refresher.refused();
            assert_eq!(within(&mut token_refresher, 1).await, [None]);
        }
        assert_eq!(signer.generation.load(Ordering::Relaxed), 1);
        let _quiet = within(&mut token_refresher, 60).await;
        token_refresher.refused();
        assert_eq!(within(&mut token_refresher, 20).await, [token(2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sandbox_that_cries_of_a_good_token_gets_none() {
        let (signer, mut token_refresher) = hourly(CredentialsMode::Handoff);
        signer.is_taken.store(true, Ordering::Relaxed);
        for _ in 0..3 {
            token_refresher.refused();
            assert_eq!(within(&mut token_refresher, 61).await, [None]);
        }
        assert_eq!(signer.generation.load(Ordering::Relaxed), 0);
        signer.is_taken.store(false, Ordering::Relaxed);
        token_refresher.refused();
        assert_eq!(within(&mut token_refresher, 20).await, [token(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_the_sandbox_was_not_told_of_is_offered_again() {
        let (signer, mut token_refresher) = hourly(CredentialsMode::Handoff);
        token_refresher.refused();
        assert_eq!(within_to(&mut token_refresher, 20, false).await, [token(1)]);
        token_refresher.refused();
        assert_eq!(within_to(&mut token_refresher, 20, false).await, [token(1)]);
        assert_eq!(within(&mut token_refresher, 40).await, [token(1)]);
        assert_eq!(within(&mut token_refresher, 100).await, []);
        assert_eq!(signer.generation.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_while_a_renewal_is_under_way_is_answered_with_it() {
        let (_, mut token_refresher) = hourly(CredentialsMode::Handoff);
        let _quiet = within(&mut token_refresher, 3_303).await;
        token_refresher.refused();
        assert_eq!(within(&mut token_refresher, 60).await, [token(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_pays_with_a_recording() {
        let nobody: TokenProbe = Arc::new(|| Box::pin(std::future::ready(None)));
        let mut token_refresher =
            TokenRefresher::new(None, CredentialsMode::Relay, 0, Arc::new(|| 0), nobody);
        assert_eq!(within(&mut token_refresher, 100).await, []);
        token_refresher.refused();
        assert_eq!(within(&mut token_refresher, 100).await, [None]);
    }
}
