//! Before a small issuer on loopback: what it is asked, and what of its answer stays on disk.

mod small; // the issuer

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::super::claims::tests::jwt;
use super::super::store::tests::login;
use super::*;

pub(in crate::auth) use small::{Says, Small};

const NOW: u64 = 1_795_252_440;

/// Tokens number `n` of Ada's, good for an hour.
pub(in crate::auth) fn tokens(n: u64) -> Says {
    tokens_of("account-0123456789", n)
}

fn tokens_of(account: &str, n: u64) -> Says {
    let access = jwt(&json!({
        "iat": NOW, "exp": NOW + 3_600, "n": n,
        "https://api.openai.com/auth": {"chatgpt_account_id": account, "chatgpt_plan_type": "pro"},
    }));
    let refresh = format!("canary-refresh-{n}");
    Says::Status(200, json!({"access_token": access.reveal(), "refresh_token": refresh}))
}

fn gone(code: &str) -> Says {
    Says::Status(401, json!({"error": {"code": code, "message": "no more"}}))
}

/// A login whose token ends at `NOW + 3600`, and a clock that a test sets.
struct Bench {
    _folder: tempfile::TempDir,
    store: LoginStore,
    now: Arc<AtomicU64>,
    clock: Clock,
    issuer: Small,
}

const EARLY: u64 = NOW + 3_400;
const OVER: u64 = NOW + 3_700;

impl Bench {
    async fn new(now: u64, says: impl IntoIterator<Item = Says>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = LoginStore::new(&folder.path().join("logins"));
        let issuer = Small::start(says).await;
        let now = Arc::new(AtomicU64::new(now));
        let shared = Arc::clone(&now);
        let clock: Clock = Arc::new(move || shared.load(Ordering::Relaxed));
        let bench = Self { _folder: folder, store, now, clock, issuer };
        bench.keep(|login| login).await;
        bench
    }

    async fn keep(&self, with: impl FnOnce(Login) -> Login) {
        let issuer = IssuerUrl::parse(&self.issuer.url).expect("an issuer");
        let login = with(Login { issuer: Some(issuer), ..login(NOW) });
        self.store.lock("me").await.expect("a lock").write(&login).expect("written");
    }

    async fn refreshed(&self, cause: RefreshCause) -> Result<u64, AuthError> {
        let login = refreshed(&self.store, "me", cause, None, &self.clock).await;
        if let Err(error) = &login {
            assert!(!error.to_string().contains("canary"), "{error}");
        }
        login.map(|login| login.generation)
    }

    fn at(&self, now: u64) {
        self.now.store(now, Ordering::Relaxed);
    }

    fn kept(&self) -> Login {
        self.store.read("me").expect("a login")
    }

    fn is_room_left(&self) -> bool {
        let path = self.store.path("me").expect("a path");
        path.with_extension("json.next").exists() || path.with_extension("json.part").exists()
    }
}

#[tokio::test]
async fn a_token_near_its_end_is_renewed_once_and_kept() {
    let bench = Bench::new(NOW, [tokens(8)]).await;
    assert_eq!(bench.refreshed(RefreshCause::Early).await, Ok(7), "it is good for an hour");
    bench.at(EARLY);
    assert_eq!(bench.refreshed(RefreshCause::Early).await, Ok(8));
    assert_eq!(bench.refreshed(RefreshCause::Early).await, Ok(8));
    assert_eq!(bench.refreshed(RefreshCause::Refused(7)).await, Ok(8), "somebody was faster");
    assert_eq!(bench.issuer.asked(), ["canary-refresh-7"]);
    let kept = bench.kept();
    assert!(kept.refresh.as_ref().is_some_and(|token| token.matches(b"canary-refresh-8")));
    assert_eq!((kept.expires_at, kept.refreshed_at), (Some(EARLY + 3_600), Some(EARLY)));
    assert_eq!(
        (kept.plan.as_deref(), kept.email.as_deref(), kept.model.as_deref()),
        (Some("pro"), Some("ada@example.org"), Some("gpt-5.5"))
    );
    assert_eq!((kept.intent, kept.ended), (None, None));
    assert!(!bench.is_room_left());
}

#[tokio::test]
async fn a_refused_token_is_renewed_however_long_it_was_good() {
    let bench = Bench::new(NOW, [tokens(8)]).await;
    assert_eq!(bench.refreshed(RefreshCause::Refused(7)).await, Ok(8));
    assert_eq!(bench.issuer.asked().len(), 1);
}

#[tokio::test]
async fn an_answer_without_a_refresh_token_leaves_the_one_there_was() {
    let bench =
        Bench::new(EARLY, [Says::Status(200, json!({"access_token": "a", "expires_in": 60}))]);
    let bench = bench.await;
    assert_eq!(bench.refreshed(RefreshCause::Early).await, Ok(8));
    let kept = bench.kept();
    assert!(kept.refresh.as_ref().is_some_and(|token| token.matches(b"canary-refresh-7")));
    assert_eq!(kept.expires_at, Some(EARLY + 60));
    assert_eq!(kept.account.as_deref(), Some("account-0123456789"));
}

#[tokio::test]
async fn the_next_refresh_token_is_kept_whatever_else_the_answer_holds() {
    let bad = json!({"access_token": "a", "refresh_token": "canary-refresh-8", "id_token": 7});
    let bench = Bench::new(OVER, [Says::Status(200, bad)]).await;
    assert_eq!(bench.refreshed(RefreshCause::Early).await, Ok(8));
    let alone = || Says::Status(200, json!({"refresh_token": "canary-refresh-8"}));
    for (now, said) in [(EARLY, Ok(8)), (OVER, Err("its answer holds no access token"))] {
        let bench = Bench::new(now, [alone(), tokens(9)]).await;
        let got = bench.refreshed(RefreshCause::Early).await;
        match (got, said) {
            (Err(AuthError::Unreachable { why, .. }), Err(said)) => assert_eq!(why, said),
            (got, said) => assert_eq!(got.ok(), said.ok()),
        }
        let kept = bench.kept();
        assert!(kept.refresh.is_some_and(|token| token.matches(b"canary-refresh-8")));
        assert!(kept.bearer.matches(b"canary-access-7") && kept.intent.is_none());
        assert_eq!(kept.expires_at, Some(NOW + 3_600));
        bench.at(OVER);
        assert_eq!(bench.refreshed(RefreshCause::Early).await, Ok(9));
        assert_eq!(bench.issuer.asked(), ["canary-refresh-7", "canary-refresh-8"]);
    }
}

#[tokio::test]
async fn many_who_need_a_token_at_once_ask_once() {
    let slow = Says::Slow(Duration::from_millis(200), Box::new(tokens(8)));
    let bench = Bench::new(OVER, [slow]).await;
    let all = (0..40).map(|_| bench.refreshed(RefreshCause::Early));
    let all = futures_util::future::join_all(all).await;
    assert!(all.iter().all(|got| *got == Ok(8)), "{all:?}");
    assert_eq!(bench.issuer.asked(), ["canary-refresh-7"]);
}

#[tokio::test]
async fn who_waited_for_a_silent_issuer_does_not_ask_it_again() {
    let cut = Says::Slow(Duration::from_millis(200), Box::new(Says::Cut));
    let bench = Bench::new(OVER, [cut, tokens(8)]).await;
    let all = (0..9).map(|_| bench.refreshed(RefreshCause::Early));
    let all = futures_util::future::join_all(all).await;
    assert!(matches!(&all[0], Err(AuthError::Unreachable { .. })), "{all:?}");
    assert!(all.iter().all(|got| *got == all[0]), "one reason for all: {all:?}");
    assert_eq!(bench.issuer.asked().len(), 1);
    assert_eq!(bench.refreshed(RefreshCause::Early).await, Ok(8), "who comes later asks");
}

#[tokio::test]
async fn a_failed_early_refresh_keeps_the_token_and_the_login() {
    let busy = |status| Says::Status(status, json!({"error": "busy"}));
    // Whether the issuer may have done as it was asked.
    let cases = [
        (busy(429), false),
        (busy(503), false),
        (busy(500), true),
        (Says::Html(200), false),
        (Says::Html(502), true),
        (Says::Cut, true),
        (Says::Status(400, json!({"error": "invalid_request"})), false),
        (Says::Status(200, json!({"access_token": "no\nheader"})), true),
        (Says::Status(200, json!({})), true),
    ];
    for (says, in_doubt) in cases {
        let bench = Bench::new(EARLY, [says]).await;
        assert_eq!(bench.refreshed(RefreshCause::Early).await, Ok(7));
        let kept = bench.kept();
        assert_eq!((kept.generation, kept.ended), (7, None));
        assert_eq!(kept.intent.is_some(), in_doubt, "{:?}", bench.issuer.asked());
        assert!(!bench.is_room_left());
        // Whatever it was, it was asked once; in doubt, not again while the token is good.
        assert_eq!(bench.refreshed(RefreshCause::Early).await, Ok(7));
        assert_eq!(bench.issuer.asked().len(), if in_doubt { 1 } else { 2 });
        bench.at(OVER);
        bench.issuer.then(tokens(8));
        assert_eq!(
            bench.refreshed(RefreshCause::Early).await,
            Ok(8),
            "the old token was still good"
        );
    }
}

#[tokio::test]
async fn an_issuer_that_cannot_be_reached_is_named_when_the_token_has_ended() {
    let bench = Bench::new(OVER, []).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr();
    let issuer = IssuerUrl::parse(&format!("http://{}", closed.expect("an address")));
    let issuer = issuer.expect("an issuer");
    bench.keep(|login| Login { issuer: Some(issuer), ..login }).await;
    let error = bench.refreshed(RefreshCause::Early).await.expect_err("nobody is there");
    assert!(matches!(error, AuthError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
    assert_eq!(bench.kept().intent, None);
}

#[tokio::test]
async fn what_is_gone_for_good_is_remembered_and_not_asked_again() {
    let cases = [
        ("refresh_token_expired", EndReason::Expired),
        ("refresh_token_reused", EndReason::Reused),
        ("refresh_token_invalidated", EndReason::Revoked),
    ];
    for (code, why) in cases {
        let bench = Bench::new(EARLY, [gone(code)]).await;
        assert_eq!(bench.refreshed(RefreshCause::Early).await, Ok(7), "good for a while");
        assert_eq!(bench.refreshed(RefreshCause::Early).await, Ok(7));
        let over = Err(AuthError::Ended { login: "me".into(), why, at: EARLY });
        assert_eq!(bench.kept().ended_now(EARLY), None);
        assert_eq!(bench.refreshed(RefreshCause::Refused(7)).await, over);
        assert_eq!(bench.kept().ended_now(EARLY).map(|ended| ended.why), Some(why));
        bench.at(OVER);
        assert_eq!(bench.refreshed(RefreshCause::Early).await, over);
        assert_eq!(bench.issuer.asked().len(), 1);
        let kept = bench.kept();
        assert_eq!((kept.intent.clone(), kept.ended().map(|ended| ended.why)), (None, Some(why)));
        // A new sign-in is another token.
        bench.issuer.then(tokens(9));
        let token = Some(Secret::new("canary-another".to_owned()));
        bench.keep(|_| Login { refresh: token, ..kept }).await;
        assert_eq!(bench.refreshed(RefreshCause::Early).await, Ok(8));
    }
}

#[tokio::test]
async fn a_refused_token_that_cannot_be_renewed_is_known_to_be_over() {
    let bench = Bench::new(NOW, [gone("refresh_token_invalidated")]).await;
    let over = AuthError::Ended { login: "me".into(), why: EndReason::Revoked, at: NOW };
    assert_eq!(bench.refreshed(RefreshCause::Refused(7)).await, Err(over.clone()));
    assert_eq!(bench.kept().ended_now(NOW).map(|ended| ended.why), Some(EndReason::Revoked));
    assert_eq!(bench.refreshed(RefreshCause::Early).await, Err(over));
    assert_eq!(bench.issuer.asked().len(), 1);
}

#[tokio::test]
async fn a_refusal_that_nobody_knows_ends_a_login_whose_token_has_ended() {
    let unknown = |status| Says::Status(status, json!({"error": "session_terminated"}));
    for status in [400, 401] {
        let bench = Bench::new(OVER, [unknown(status)]).await;
        let over = Err(AuthError::Ended { login: "me".into(), why: EndReason::Refused, at: OVER });
        for _ in 0..2 {
            assert_eq!(bench.refreshed(RefreshCause::Early).await, over);
        }
        assert_eq!(bench.issuer.asked().len(), 1, "it is remembered");
        assert_eq!(bench.kept().ended_now(OVER).map(|ended| ended.why), Some(EndReason::Refused));
    }
    for status in [403, 404, 409] {
        let bench = Bench::new(OVER, [unknown(status), tokens(8)]).await;
        let error = bench.refreshed(RefreshCause::Early).await.expect_err("refused");
        assert!(matches!(error, AuthError::Unreachable { .. }), "{status}: {error}");
        assert_eq!(bench.refreshed(RefreshCause::Early).await, Ok(8), "{status}: later may do");
    }
}

#[tokio::test]
async fn a_refresh_that_was_cut_off_is_tried_once_and_only_at_the_end() {
    for (says, expected) in [
        (tokens(8), Ok(8)),
        (gone("refresh_token_reused"), Err(EndReason::Interrupted)),
        (gone("refresh_token_invalidated"), Err(EndReason::Interrupted)),
        (gone("refresh_token_expired"), Err(EndReason::Expired)),
    ] {
        let bench = Bench::new(EARLY, [says]).await;
        let intent = RefreshIntent { token: login(0).digest().expect("a token"), at: NOW };
        bench.keep(|login| Login { intent: Some(intent), ..login }).await;
        assert_eq!(bench.refreshed(RefreshCause::Early).await, Ok(7), "the access token is good");
        assert!(bench.issuer.asked().is_empty());
        bench.at(OVER);
        for _ in 0..2 {
            let got = bench.refreshed(RefreshCause::Early).await;
            let expected =
                expected.map_err(|why| AuthError::Ended { login: "me".into(), why, at: OVER });
            assert_eq!(got, expected);
        }
        assert_eq!(bench.issuer.asked(), ["canary-refresh-7"]);
    }
}

#[tokio::test]
async fn another_accounts_tokens_are_not_used() {
    let bench = Bench::new(OVER, [tokens_of("account-of-mallory", 8)]).await;
    let other = bench.refreshed(RefreshCause::Early).await;
    assert!(matches!(other, Err(AuthError::OtherAccount { .. })), "{other:?}");
    let kept = bench.kept();
    assert!(kept.bearer.matches(b"canary-access-7") && !bench.is_room_left());
    let over = AuthError::Ended { login: "me".into(), why: EndReason::OtherAccount, at: OVER };
    assert_eq!(bench.refreshed(RefreshCause::Early).await, Err(over));
    assert_eq!(bench.issuer.asked().len(), 1);
}

#[tokio::test]
async fn nobody_is_asked_where_there_is_no_room() {
    let bench = Bench::new(OVER, [tokens(8)]).await;
    let next = bench.store.path("me").expect("a path").with_extension("json.next");
    std::fs::create_dir_all(next.join("in the way")).expect("a folder");
    let error = bench.refreshed(RefreshCause::Early).await.expect_err("no room");
    assert!(matches!(error, AuthError::Store { .. }), "{error}");
    assert!(bench.issuer.asked().is_empty());
    bench.at(EARLY);
    assert_eq!(bench.refreshed(RefreshCause::Early).await, Ok(7), "and a good token goes on");
    assert!(bench.issuer.asked().is_empty());
}

#[tokio::test]
async fn what_the_issuer_gave_is_not_dropped_where_it_cannot_be_put_in_its_room() {
    for (is_beside, kept) in [(true, 8), (false, 7)] {
        let go = Arc::new(Notify::new());
        let held = Says::Held(Arc::clone(&go), Box::new(tokens(8)));
        let bench = Bench::new(OVER, [held]).await;
        let path = bench.store.path("me").expect("a path");
        let spoil = async {
            bench.issuer.is_asked().await;
            std::fs::remove_file(path.with_extension("json.next")).expect("a room");
            if !is_beside {
                let in_the_way = path.with_extension("json.part").join("in the way");
                std::fs::create_dir_all(in_the_way).expect("a folder");
            }
            go.notify_one();
        };
        let (got, ()) = tokio::join!(bench.refreshed(RefreshCause::Early), spoil);
        assert_eq!(got, Ok(8), "it pays for this process");
        let there = bench.kept();
        assert_eq!((there.generation, there.is_interrupted()), (kept, kept == 7));
    }
}

#[tokio::test]
async fn a_caller_that_leaves_does_not_cut_the_answer_off() {
    let go = Arc::new(Notify::new());
    let held = Says::Held(Arc::clone(&go), Box::new(tokens(8)));
    let bench = Bench::new(OVER, [held]).await;
    tokio::select! {
        () = bench.issuer.is_asked() => {}
        got = bench.refreshed(RefreshCause::Early) => panic!("it did not wait: {got:?}"),
    }
    assert_eq!(bench.kept().generation, 7);
    go.notify_one();
    settled().await;
    assert_eq!(bench.kept().generation, 8);
    assert_eq!(bench.refreshed(RefreshCause::Early).await, Ok(8));
}

#[tokio::test]
async fn a_clock_that_is_ten_hours_off_neither_hammers_nor_keeps_a_dead_token_for_long() {
    for now in [NOW + 36_000, NOW - 36_000] {
        let bench = Bench::new(now, [tokens(8)]).await;
        bench.keep(|login| Login { expires_at: Some(now), ..login }).await;
        for _ in 0..5 {
            assert_eq!(bench.refreshed(RefreshCause::Early).await, Ok(8));
        }
        assert_eq!(bench.kept().expires_at, Some(now + 3_600), "its lifetime, by this clock");
        assert_eq!(bench.issuer.asked().len(), 1);
    }
}

#[tokio::test]
async fn what_cannot_be_renewed_is_used_to_its_end() {
    let bench = Bench::new(EARLY, []).await;
    bench.keep(|login| Login { refresh: None, ..login }).await;
    assert_eq!(bench.refreshed(RefreshCause::Early).await, Ok(7));
    let over = Err(AuthError::Ended { login: "me".into(), why: EndReason::Ended, at: EARLY });
    assert_eq!(bench.refreshed(RefreshCause::Refused(7)).await, over);
    bench.at(OVER);
    assert!(bench.refreshed(RefreshCause::Early).await.is_err());
}
