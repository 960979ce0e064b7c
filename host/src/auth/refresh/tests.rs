//! Refreshes against a test issuer on loopback: its requests, and what is stored of its answers.

mod small_issuer; // the issuer

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::super::claims::tests::jwt;
use super::super::store::tests::login;
use super::*;

pub(in crate::auth) use small_issuer::{IssuerReply, SmallIssuer};

const NOW: u64 = 1_795_252_440;

/// Ada's tokens number `n`, valid for an hour.
pub(in crate::auth) fn tokens(n: u64) -> IssuerReply {
    tokens_of("account-0123456789", n)
}

fn tokens_of(account: &str, n: u64) -> IssuerReply {
    let access = jwt(&json!({
        "iat": NOW, "exp": NOW + 3_600, "n": n,
        "https://api.openai.com/auth": {"chatgpt_account_id": account, "chatgpt_plan_type": "pro"},
    }));
    let refresh = format!("canary-refresh-{n}");
    IssuerReply::Status(200, json!({"access_token": access.reveal(), "refresh_token": refresh}))
}

fn gone(code: &str) -> IssuerReply {
    IssuerReply::Status(401, json!({"error": {"code": code, "message": "no more"}}))
}

/// A login whose token expires at `NOW + 3600`, and a clock that the test sets.
struct RefreshTest {
    _directory: tempfile::TempDir,
    store: LoginStore,
    now: Arc<AtomicU64>,
    clock: Clock,
    issuer: SmallIssuer,
}

const NEAR_END: u64 = NOW + 3_400;
const AFTER_END: u64 = NOW + 3_700;

impl RefreshTest {
    async fn new(now: u64, replies: impl IntoIterator<Item = IssuerReply>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let store = LoginStore::new(&directory.path().join("logins"));
        let issuer = SmallIssuer::start(replies).await;
        let now = Arc::new(AtomicU64::new(now));
        let shared = Arc::clone(&now);
        let clock: Clock = Arc::new(move || shared.load(Ordering::Relaxed));
        let test = Self { _directory: directory, store, now, clock, issuer };
        test.store_login(|login| login).await;
        test
    }

    async fn store_login(&self, with: impl FnOnce(Login) -> Login) {
        let issuer = IssuerUrl::parse(&self.issuer.url).expect("an issuer");
        let login = with(Login { issuer: Some(issuer), ..login(NOW) });
        self.store.lock("me").await.expect("a lock").write(&login).expect("written");
    }

    async fn refresh(&self, cause: RefreshCause) -> Result<u64, AuthError> {
        let login = fresh_login(&self.store, "me", cause, None, &self.clock).await;
        if let Err(error) = &login {
            assert!(!error.to_string().contains("canary"), "{error}");
        }
        login.map(|login| login.generation)
    }

    fn set_time(&self, now: u64) {
        self.now.store(now, Ordering::Relaxed);
    }

    fn stored(&self) -> Login {
        self.store.read("me").expect("a login")
    }

    fn is_reserved_file_left(&self) -> bool {
        let path = self.store.path("me").expect("a path");
        path.with_extension("json.next").exists() || path.with_extension("json.part").exists()
    }
}

#[tokio::test]
async fn a_token_that_expires_soon_is_renewed_once_and_stored() {
    let test = RefreshTest::new(NOW, [tokens(8)]).await;
    assert_eq!(test.refresh(RefreshCause::Early).await, Ok(7), "it is valid for an hour");
    test.set_time(NEAR_END);
    assert_eq!(test.refresh(RefreshCause::Early).await, Ok(8));
    assert_eq!(test.refresh(RefreshCause::Early).await, Ok(8));
    assert_eq!(test.refresh(RefreshCause::Refused(7)).await, Ok(8), "it was renewed already");
    assert_eq!(test.issuer.tokens_received(), ["canary-refresh-7"]);
    let kept = test.stored();
    assert!(kept.refresh.as_ref().is_some_and(|token| token.matches(b"canary-refresh-8")));
    assert_eq!((kept.expires_at, kept.refreshed_at), (Some(NEAR_END + 3_600), Some(NEAR_END)));
    assert_eq!(
        (kept.plan.as_deref(), kept.email.as_deref(), kept.model.as_deref()),
        (Some("pro"), Some("ada@example.org"), Some("gpt-5.5"))
    );
    assert_eq!((kept.intent, kept.ended), (None, None));
    assert!(!test.is_reserved_file_left());
}

#[tokio::test]
async fn a_refused_token_is_renewed_even_if_it_has_not_expired() {
    let test = RefreshTest::new(NOW, [tokens(8)]).await;
    assert_eq!(test.refresh(RefreshCause::Refused(7)).await, Ok(8));
    assert_eq!(test.issuer.tokens_received().len(), 1);
}

#[tokio::test]
async fn an_answer_without_a_refresh_token_keeps_the_old_one() {
    let test = RefreshTest::new(
        NEAR_END,
        [IssuerReply::Status(200, json!({"access_token": "a", "expires_in": 60}))],
    );
    let test = test.await;
    assert_eq!(test.refresh(RefreshCause::Early).await, Ok(8));
    let kept = test.stored();
    assert!(kept.refresh.as_ref().is_some_and(|token| token.matches(b"canary-refresh-7")));
    assert_eq!(kept.expires_at, Some(NEAR_END + 60));
    assert_eq!(kept.account.as_deref(), Some("account-0123456789"));
}

#[tokio::test]
async fn the_new_refresh_token_is_stored_whatever_else_the_answer_holds() {
    let bad = json!({"access_token": "a", "refresh_token": "canary-refresh-8", "id_token": 7});
    let test = RefreshTest::new(AFTER_END, [IssuerReply::Status(200, bad)]).await;
    assert_eq!(test.refresh(RefreshCause::Early).await, Ok(8));
    let alone = || IssuerReply::Status(200, json!({"refresh_token": "canary-refresh-8"}));
    for (now, expected) in [(NEAR_END, Ok(8)), (AFTER_END, Err("its answer holds no access token"))]
    {
        let test = RefreshTest::new(now, [alone(), tokens(9)]).await;
        let got = test.refresh(RefreshCause::Early).await;
        match (got, expected) {
            (Err(AuthError::Unreachable { why, .. }), Err(expected)) => assert_eq!(why, expected),
            (got, expected) => assert_eq!(got.ok(), expected.ok()),
        }
        let kept = test.stored();
        assert!(kept.refresh.is_some_and(|token| token.matches(b"canary-refresh-8")));
        assert!(kept.bearer.matches(b"canary-access-7") && kept.intent.is_none());
        assert_eq!(kept.expires_at, Some(NOW + 3_600));
        test.set_time(AFTER_END);
        assert_eq!(test.refresh(RefreshCause::Early).await, Ok(9));
        assert_eq!(test.issuer.tokens_received(), ["canary-refresh-7", "canary-refresh-8"]);
    }
}

#[tokio::test]
async fn many_callers_at_once_ask_the_issuer_once() {
    let slow = IssuerReply::Slow(Duration::from_millis(200), Box::new(tokens(8)));
    let test = RefreshTest::new(AFTER_END, [slow]).await;
    let all = (0..40).map(|_| test.refresh(RefreshCause::Early));
    let all = futures_util::future::join_all(all).await;
    assert!(all.iter().all(|got| *got == Ok(8)), "{all:?}");
    assert_eq!(test.issuer.tokens_received(), ["canary-refresh-7"]);
}

#[tokio::test]
async fn a_caller_that_waited_for_a_silent_issuer_does_not_ask_it_again() {
    let cut = IssuerReply::Slow(Duration::from_millis(200), Box::new(IssuerReply::Cut));
    let test = RefreshTest::new(AFTER_END, [cut, tokens(8)]).await;
    let all = (0..9).map(|_| test.refresh(RefreshCause::Early));
    let all = futures_util::future::join_all(all).await;
    assert!(matches!(&all[0], Err(AuthError::Unreachable { .. })), "{all:?}");
    assert!(all.iter().all(|got| *got == all[0]), "one reason for all: {all:?}");
    assert_eq!(test.issuer.tokens_received().len(), 1);
    assert_eq!(test.refresh(RefreshCause::Early).await, Ok(8), "a later caller asks");
}

#[tokio::test]
async fn a_failed_early_refresh_keeps_the_token_and_the_login() {
    let busy = |status| IssuerReply::Status(status, json!({"error": "busy"}));
    // The reply, and whether the issuer may have used the token.
    let cases = [
        (busy(429), false),
        (busy(503), false),
        (busy(500), true),
        (IssuerReply::Html(200), false),
        (IssuerReply::Html(502), true),
        (IssuerReply::Cut, true),
        (IssuerReply::Status(400, json!({"error": "invalid_request"})), false),
        (IssuerReply::Status(200, json!({"access_token": "no\nheader"})), true),
        (IssuerReply::Status(200, json!({})), true),
    ];
    for (replies, in_doubt) in cases {
        let test = RefreshTest::new(NEAR_END, [replies]).await;
        assert_eq!(test.refresh(RefreshCause::Early).await, Ok(7));
        let kept = test.stored();
        assert_eq!((kept.generation, kept.ended), (7, None));
        assert_eq!(kept.intent.is_some(), in_doubt, "{:?}", test.issuer.tokens_received());
        assert!(!test.is_reserved_file_left());
        // If the issuer may have used the token, it is not asked again while the token is valid.
        assert_eq!(test.refresh(RefreshCause::Early).await, Ok(7));
        assert_eq!(test.issuer.tokens_received().len(), if in_doubt { 1 } else { 2 });
        test.set_time(AFTER_END);
        test.issuer.reply(tokens(8));
        assert_eq!(test.refresh(RefreshCause::Early).await, Ok(8), "the old token was still good");
    }
}

#[tokio::test]
async fn an_unreachable_issuer_is_named_when_the_token_has_expired() {
    let test = RefreshTest::new(AFTER_END, []).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr();
    let issuer = IssuerUrl::parse(&format!("http://{}", closed.expect("an address")));
    let issuer = issuer.expect("an issuer");
    test.store_login(|login| Login { issuer: Some(issuer), ..login }).await;
    let error = test.refresh(RefreshCause::Early).await.expect_err("nothing listens there");
    assert!(matches!(error, AuthError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
    assert_eq!(test.stored().intent, None);
}

#[tokio::test]
async fn a_final_refusal_is_stored_and_the_issuer_is_not_asked_again() {
    let cases = [
        ("refresh_token_expired", EndReason::Expired),
        ("refresh_token_reused", EndReason::Reused),
        ("refresh_token_invalidated", EndReason::Revoked),
    ];
    for (code, why) in cases {
        let test = RefreshTest::new(NEAR_END, [gone(code)]).await;
        assert_eq!(test.refresh(RefreshCause::Early).await, Ok(7), "still valid");
        assert_eq!(test.refresh(RefreshCause::Early).await, Ok(7));
        let ended = Err(AuthError::Ended { login: "me".into(), why, at: NEAR_END });
        assert_eq!(test.stored().ended_now(NEAR_END), None);
        assert_eq!(test.refresh(RefreshCause::Refused(7)).await, ended);
        assert_eq!(test.stored().ended_now(NEAR_END).map(|ended| ended.why), Some(why));
        test.set_time(AFTER_END);
        assert_eq!(test.refresh(RefreshCause::Early).await, ended);
        assert_eq!(test.issuer.tokens_received().len(), 1);
        let kept = test.stored();
        assert_eq!((kept.intent.clone(), kept.ended().map(|ended| ended.why)), (None, Some(why)));
        // A new sign-in gives another refresh token.
        test.issuer.reply(tokens(9));
        let token = Some(Secret::new("canary-another".to_owned()));
        test.store_login(|_| Login { refresh: token, ..kept }).await;
        assert_eq!(test.refresh(RefreshCause::Early).await, Ok(8));
    }
}

#[tokio::test]
async fn a_refused_token_that_cannot_be_renewed_has_ended() {
    let test = RefreshTest::new(NOW, [gone("refresh_token_invalidated")]).await;
    let ended = AuthError::Ended { login: "me".into(), why: EndReason::Revoked, at: NOW };
    assert_eq!(test.refresh(RefreshCause::Refused(7)).await, Err(ended.clone()));
    assert_eq!(test.stored().ended_now(NOW).map(|ended| ended.why), Some(EndReason::Revoked));
    assert_eq!(test.refresh(RefreshCause::Early).await, Err(ended));
    assert_eq!(test.issuer.tokens_received().len(), 1);
}

#[tokio::test]
async fn an_unknown_refusal_ends_a_login_whose_token_has_expired() {
    let unknown = |status| IssuerReply::Status(status, json!({"error": "session_terminated"}));
    for status in [400, 401] {
        let test = RefreshTest::new(AFTER_END, [unknown(status)]).await;
        let ended =
            Err(AuthError::Ended { login: "me".into(), why: EndReason::Refused, at: AFTER_END });
        for _ in 0..2 {
            assert_eq!(test.refresh(RefreshCause::Early).await, ended);
        }
        assert_eq!(test.issuer.tokens_received().len(), 1, "the refusal is stored");
        assert_eq!(
            test.stored().ended_now(AFTER_END).map(|ended| ended.why),
            Some(EndReason::Refused)
        );
    }
    for status in [403, 404, 409] {
        let test = RefreshTest::new(AFTER_END, [unknown(status), tokens(8)]).await;
        let error = test.refresh(RefreshCause::Early).await.expect_err("refused");
        assert!(matches!(error, AuthError::Unreachable { .. }), "{status}: {error}");
        assert_eq!(
            test.refresh(RefreshCause::Early).await,
            Ok(8),
            "{status}: a later try succeeds"
        );
    }
}

#[tokio::test]
async fn an_interrupted_refresh_is_tried_once_more_after_the_token_has_expired() {
    for (replies, expected) in [
        (tokens(8), Ok(8)),
        (gone("refresh_token_reused"), Err(EndReason::Interrupted)),
        (gone("refresh_token_invalidated"), Err(EndReason::Interrupted)),
        (gone("refresh_token_expired"), Err(EndReason::Expired)),
    ] {
        let test = RefreshTest::new(NEAR_END, [replies]).await;
        let intent = RefreshIntent { token: login(0).digest().expect("a token"), at: NOW };
        test.store_login(|login| Login { intent: Some(intent), ..login }).await;
        assert_eq!(test.refresh(RefreshCause::Early).await, Ok(7), "the access token is valid");
        assert!(test.issuer.tokens_received().is_empty());
        test.set_time(AFTER_END);
        for _ in 0..2 {
            let got = test.refresh(RefreshCause::Early).await;
            let expected =
                expected.map_err(|why| AuthError::Ended { login: "me".into(), why, at: AFTER_END });
            assert_eq!(got, expected);
        }
        assert_eq!(test.issuer.tokens_received(), ["canary-refresh-7"]);
    }
}

#[tokio::test]
async fn another_accounts_tokens_are_not_used() {
    let test = RefreshTest::new(AFTER_END, [tokens_of("account-of-mallory", 8)]).await;
    let other = test.refresh(RefreshCause::Early).await;
    assert!(matches!(other, Err(AuthError::OtherAccount { .. })), "{other:?}");
    let kept = test.stored();
    assert!(kept.bearer.matches(b"canary-access-7") && !test.is_reserved_file_left());
    let ended =
        AuthError::Ended { login: "me".into(), why: EndReason::OtherAccount, at: AFTER_END };
    assert_eq!(test.refresh(RefreshCause::Early).await, Err(ended));
    assert_eq!(test.issuer.tokens_received().len(), 1);
}

#[tokio::test]
async fn the_issuer_is_not_asked_without_disk_space() {
    let test = RefreshTest::new(AFTER_END, [tokens(8)]).await;
    let next = test.store.path("me").expect("a path").with_extension("json.next");
    std::fs::create_dir_all(next.join("in the way")).expect("a directory");
    let error = test.refresh(RefreshCause::Early).await.expect_err("no room");
    assert!(matches!(error, AuthError::Store { .. }), "{error}");
    assert!(test.issuer.tokens_received().is_empty());
    test.set_time(NEAR_END);
    assert_eq!(test.refresh(RefreshCause::Early).await, Ok(7), "a valid token stays in use");
    assert!(test.issuer.tokens_received().is_empty());
}

#[tokio::test]
async fn new_tokens_are_used_even_if_the_reserved_file_is_gone() {
    for (is_writable, kept) in [(true, 8), (false, 7)] {
        let go = Arc::new(Notify::new());
        let held = IssuerReply::Held(Arc::clone(&go), Box::new(tokens(8)));
        let test = RefreshTest::new(AFTER_END, [held]).await;
        let path = test.store.path("me").expect("a path");
        let spoil = async {
            test.issuer.wait_for_request().await;
            std::fs::remove_file(path.with_extension("json.next")).expect("the reserved file");
            if !is_writable {
                let in_the_way = path.with_extension("json.part").join("in the way");
                std::fs::create_dir_all(in_the_way).expect("a directory");
            }
            go.notify_one();
        };
        let (got, ()) = tokio::join!(test.refresh(RefreshCause::Early), spoil);
        assert_eq!(got, Ok(8), "this process can use it");
        let stored = test.stored();
        assert_eq!((stored.generation, stored.is_interrupted()), (kept, kept == 7));
    }
}

#[tokio::test]
async fn a_caller_that_stops_waiting_does_not_cancel_the_refresh() {
    let go = Arc::new(Notify::new());
    let held = IssuerReply::Held(Arc::clone(&go), Box::new(tokens(8)));
    let test = RefreshTest::new(AFTER_END, [held]).await;
    tokio::select! {
        () = test.issuer.wait_for_request() => {}
        got = test.refresh(RefreshCause::Early) => panic!("it did not wait: {got:?}"),
    }
    assert_eq!(test.stored().generation, 7);
    go.notify_one();
    wait_for_refreshes().await;
    assert_eq!(test.stored().generation, 8);
    assert_eq!(test.refresh(RefreshCause::Early).await, Ok(8));
}

#[tokio::test]
async fn a_clock_that_is_ten_hours_wrong_causes_one_refresh_only() {
    for now in [NOW + 36_000, NOW - 36_000] {
        let test = RefreshTest::new(now, [tokens(8)]).await;
        test.store_login(|login| Login { expires_at: Some(now), ..login }).await;
        for _ in 0..5 {
            assert_eq!(test.refresh(RefreshCause::Early).await, Ok(8));
        }
        assert_eq!(test.stored().expires_at, Some(now + 3_600), "its lifetime, by this clock");
        assert_eq!(test.issuer.tokens_received().len(), 1);
    }
}

#[tokio::test]
async fn a_token_that_cannot_be_renewed_is_used_until_it_expires() {
    let test = RefreshTest::new(NEAR_END, []).await;
    test.store_login(|login| Login { refresh: None, ..login }).await;
    assert_eq!(test.refresh(RefreshCause::Early).await, Ok(7));
    let ended = Err(AuthError::Ended { login: "me".into(), why: EndReason::Ended, at: NEAR_END });
    assert_eq!(test.refresh(RefreshCause::Refused(7)).await, ended);
    test.set_time(AFTER_END);
    assert!(test.refresh(RefreshCause::Early).await.is_err());
}
