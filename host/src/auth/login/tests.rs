//! What a stored login signs, and when it changes its token.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use airlock_shared::scrub::Needles;

use super::super::issuer::IssuerUrl;
use super::super::refresh::tests::{IssuerReply, SmallIssuer, tokens};
use super::super::store::tests::{BASE, login};
use super::*;

fn deps(clock: &Arc<AtomicU64>) -> Deps {
    let clock = Arc::clone(clock);
    Deps { ca: None, clock: Arc::new(move || clock.load(Ordering::Relaxed)) }
}

fn open(directory: &Path, name: &str, base: &str) -> Result<LoginSigner, AuthError> {
    let base = Base::parse(base).expect("a base");
    LoginSigner::open(directory, name, &base, &deps(&Arc::default()))
}

/// Stores a login, as a sign-in or another process does.
async fn store(directory: &Path, login: &Login) {
    LoginStore::new(directory).lock("me").await.expect("a lock").write(login).expect("written");
}

fn login_with(bearer: &str, account: &str) -> Login {
    Login {
        bearer: Secret::new(bearer.to_owned()),
        account: Some(account.to_owned()),
        refresh: None,
        expires_at: None,
        model: None,
        ..login(0)
    }
}

async fn authorization(signer: &LoginSigner) -> (String, u64) {
    let signed = signer.sign().await.expect("signed");
    let value = &signed.headers[header::AUTHORIZATION];
    assert!(value.is_sensitive());
    (value.to_str().expect("text").to_owned(), signed.generation)
}

#[tokio::test]
async fn a_login_goes_to_its_own_base_only() {
    let directory = tempfile::tempdir().expect("a directory");
    store(directory.path(), &login_with("token", "acct")).await;
    for elsewhere in
        ["https://codex.example.org", "https://chatgpt.com/other", "http://127.0.0.1:1"]
    {
        let error = open(directory.path(), "me", elsewhere).err().expect("refused");
        assert!(matches!(error, AuthError::OtherBase { .. }), "{error}");
    }
    let signer = open(directory.path(), "me", BASE).expect("a login");
    let moved = Base::parse("https://codex.example.org").expect("a base");
    store(directory.path(), &Login { base: moved, ..login_with("token-two", "acct") }).await;
    let moved = signer.renew(0).await;
    assert!(matches!(moved, Err(AuthError::OtherBase { .. })), "also within a session");
}

#[tokio::test]
async fn a_file_that_others_can_read_signs_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    store(directory.path(), &login_with("token", "acct")).await;
    let file = directory.path().join("me.json");
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).expect("a mode");
    assert!(matches!(open(directory.path(), "me", BASE), Err(AuthError::Unsafe { .. })));
    assert!(matches!(open(directory.path(), "no", BASE), Err(AuthError::Missing { .. })));
}

#[tokio::test]
async fn a_refused_token_is_read_again_and_the_old_one_is_still_removed() {
    let directory = tempfile::tempdir().expect("a directory");
    store(directory.path(), &login_with("token-one", "account-0123456789")).await;
    let signer = open(directory.path(), "me", BASE).expect("a login");
    assert_eq!(signer.account().plan.as_deref(), Some("plus"));
    assert_eq!(signer.renew(0).await, Ok(false), "there is no newer token");
    store(directory.path(), &login_with("token-two", "account-0123456789")).await;
    assert_eq!(signer.renew(0).await, Ok(true));
    assert_eq!(signer.renew(0).await, Ok(true), "already renewed by another request");
    let signed = signer.sign().await.expect("signed");
    assert_eq!(signed.headers[header::AUTHORIZATION].as_bytes(), b"Bearer token-two");
    assert_eq!(signed.headers[request::ACCOUNT].as_bytes(), b"account-0123456789");
    assert_eq!(signed.generation, 1);
    let handed = signer.hand_over().await.expect("handed over");
    assert!(handed.secrets.bearer.is_some_and(|token| token.matches(b"token-two")));
    assert_eq!(handed.generation, 1);
    let secrets_to_scrub = signer.secrets_to_scrub();
    for canary in ["token-one", "token-two", "account-0123456789"] {
        assert!(secrets_to_scrub.iter().any(|known| known.matches(canary.as_bytes())), "{canary}");
    }
    store(directory.path(), &login_with("token-three", "another")).await;
    let other = signer.renew(1).await;
    assert!(matches!(other, Err(AuthError::OtherAccount { .. })), "another account");
}

/// A login from the test issuer whose token expires at 3600, and its signer at the time `now`.
async fn renewable(
    now: u64,
    replies: impl IntoIterator<Item = IssuerReply>,
) -> (tempfile::TempDir, SmallIssuer, Arc<AtomicU64>, LoginSigner) {
    let directory = tempfile::tempdir().expect("a directory");
    let issuer = SmallIssuer::start(replies).await;
    let url = IssuerUrl::parse(&issuer.url).expect("an issuer");
    store(directory.path(), &Login { issuer: Some(url), ..login(0) }).await;
    let clock = Arc::new(AtomicU64::new(now));
    let base = Base::parse(BASE).expect("a base");
    let signer = LoginSigner::open(directory.path(), "me", &base, &deps(&clock)).expect("a login");
    (directory, issuer, clock, signer)
}

#[tokio::test]
async fn a_request_near_the_end_of_the_token_carries_the_next_one() {
    let (_directory, issuer, clock, signer) = renewable(0, [tokens(8), tokens(9)]).await;
    assert_eq!(authorization(&signer).await, ("Bearer canary-access-7".to_owned(), 0));
    assert!(issuer.tokens_received().is_empty());
    assert_eq!(signer.due(), Some(3_300));
    clock.store(3_300, Ordering::Relaxed);
    let (second, generation) = authorization(&signer).await;
    assert!(generation == 1 && second != "Bearer canary-access-7");
    assert_eq!(authorization(&signer).await, (second, 1));
    assert_eq!(signer.due(), Some(3_300 + 3_300));
    assert_eq!(signer.renew(1).await, Ok(true), "the new token was refused too");
    assert_eq!(issuer.tokens_received(), ["canary-refresh-7", "canary-refresh-8"]);
}

#[tokio::test]
async fn what_renews_a_login_is_looked_for_too() {
    let (_folder, _issuer, clock, signer) = renewable(0, [tokens(8)]).await;
    let printed = |n: u64| format!(r#"{{"refresh_token":"canary-refresh-{n}"}}"#);
    let removed = r#"{"refresh_token":"[secret removed]"}"#;
    let scrubbed =
        |n| Needles::for_texts(&signer.secrets_to_scrub()).text(&printed(n)).into_owned();
    assert_eq!((scrubbed(7).as_str(), scrubbed(8)), (removed, printed(8)));
    clock.store(3_300, Ordering::Relaxed);
    assert_eq!(authorization(&signer).await.1, 1);
    // The one that was used up too: a copy of it is still not for others to read.
    assert_eq!((scrubbed(7).as_str(), scrubbed(8).as_str()), (removed, removed));
    // The control: without it, it goes through.
    let mut known = signer.secrets_to_scrub();
    known.retain(|known| !known.reveal().contains("refresh"));
    assert_eq!(Needles::for_texts(&known).text(&printed(8)), printed(8));
}

#[tokio::test]
async fn while_the_issuer_is_down_a_valid_token_stays_in_use_and_requests_are_few() {
    let down = IssuerReply::Status(503, serde_json::json!({}));
    let (_directory, issuer, clock, signer) = renewable(3_400, vec![down; 9]).await;
    for _ in 0..3 {
        assert_eq!(authorization(&signer).await.1, 0);
    }
    assert_eq!((issuer.tokens_received().len(), signer.due()), (1, Some(3_460)));
    clock.store(3_460, Ordering::Relaxed);
    assert_eq!(authorization(&signer).await.1, 0);
    assert_eq!(issuer.tokens_received().len(), 2);
    clock.store(3_600, Ordering::Relaxed);
    let ended = signer.sign().await.err().expect("it has ended");
    assert!(matches!(ended, AuthError::Unreachable { .. }), "{ended}");
}

#[tokio::test]
async fn a_slow_issuer_delays_no_request_while_the_token_is_valid() {
    let go = Arc::new(tokio::sync::Notify::new());
    let held = IssuerReply::Held(Arc::clone(&go), Box::new(tokens(8)));
    let (_directory, issuer, clock, signer) = renewable(3_400, [held]).await;
    assert_eq!(authorization(&signer).await.1, 0);
    go.notify_one();
    super::super::refresh::wait_for_refreshes().await;
    clock.store(3_460, Ordering::Relaxed);
    assert_eq!(authorization(&signer).await.1, 1, "the token that came meanwhile is used");
    assert_eq!(issuer.tokens_received().len(), 1);
}

#[tokio::test]
async fn a_model_is_kept_with_the_login_it_was_chosen_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let stored = || LoginStore::new(directory.path()).read("me").expect("a login");
    store(directory.path(), &login_with("token", "acct")).await;
    let signer = open(directory.path(), "me", BASE).expect("a login");
    assert_eq!(signer.model(), None);
    // The token was renewed while the person chose a model: the new token stays.
    store(directory.path(), &Login { generation: 8, ..login_with("token-two", "acct") }).await;
    assert_eq!(signer.keep_model("gpt-5.5").await, Ok(true));
    assert_eq!(signer.model().as_deref(), Some("gpt-5.5"));
    let kept = stored();
    assert_eq!((kept.model.as_deref(), kept.generation), (Some("gpt-5.5"), 8));
    assert!(kept.bearer.matches(b"token-two"));
    let file = std::fs::metadata(directory.path().join("me.json")).expect("a file");
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    // Meanwhile the login belongs to another account, or goes to another base.
    let moved = Base::parse("https://codex.example.org").expect("a base");
    for others in [login_with("token", "eve"), Login { base: moved, ..login_with("token", "acct") }]
    {
        store(directory.path(), &others).await;
        let kept = signer.keep_model("gpt-5.5").await;
        let is_refused =
            |error| matches!(error, AuthError::OtherAccount { .. } | AuthError::OtherBase { .. });
        assert!(kept.is_err_and(is_refused));
        assert_eq!(stored().model, None);
    }
}
