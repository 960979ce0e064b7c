//! Tests of the scripted issuer: if it gave tokens for any request, the other tests would prove
//! nothing.

use airlock_tests::browser::{Browser, Seen};
use airlock_tests::issuer::{Account, CLIENT_ID, Device, Fault, Issuer, Options, What};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use form_urlencoded::Serializer;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const VERIFIER: &str = "a-verifier-of-enough-characters-for-the-rules-of-pkce";
const REDIRECT: &str = "http://localhost:1455/auth/callback";

/// An issuer that does not check the promises of our own client.
fn issuer(device: Device) -> Issuer {
    Issuer::start(Options { device, ours: false, ..Options::default() })
}

fn form(pairs: &[(&str, &str)]) -> String {
    let mut form = Serializer::new(String::new());
    form.extend_pairs(pairs);
    form.finish()
}

fn post(issuer: &Issuer, path: &str, body: &Value) -> (u16, Value) {
    let (url, body) = (format!("{}{path}", issuer.url()), body.to_string());
    let json = [("Content-Type", "application/json")];
    let seen = Browser::default().ask_with(&url, Some(&body), &json).expect("it answers");
    (seen.status, serde_json::from_str(&seen.body).unwrap_or(Value::Null))
}

/// The address of an authorization, with one part changed.
fn authorize(issuer: &Issuer, changed: (&str, &str)) -> String {
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
    let mut pairs = vec![
        ("response_type", "code"),
        ("client_id", CLIENT_ID),
        ("redirect_uri", REDIRECT),
        ("scope", "openid profile email offline_access"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
        ("state", "a-state"),
        ("auto", "allow"),
    ];
    if let Some(pair) = pairs.iter_mut().find(|(name, _)| *name == changed.0) {
        pair.1 = changed.1;
    }
    format!("{}/oauth/authorize?{}", issuer.url(), form(&pairs))
}

fn back(seen: &Seen, name: &str) -> String {
    let location = seen.header("location").unwrap_or_default();
    let query = location.split_once('?').map_or("", |(_, query)| query);
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(given, _)| given == name).map(|(_, v)| v.into_owned()).unwrap_or_default()
}

fn code(issuer: &Issuer) -> String {
    let seen = Browser::default().ask(&authorize(issuer, ("", "")), None).expect("it answers");
    assert_eq!((seen.status, back(&seen, "state").as_str()), (302, "a-state"), "{seen:?}");
    back(&seen, "code")
}

fn exchange(issuer: &Issuer, code: &str, changed: (&str, &str)) -> (u16, Value) {
    let mut pairs = vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", REDIRECT),
        ("client_id", CLIENT_ID),
        ("code_verifier", VERIFIER),
    ];
    if let Some(pair) = pairs.iter_mut().find(|(name, _)| *name == changed.0) {
        pair.1 = changed.1;
    }
    let url = format!("{}/oauth/token", issuer.url());
    let seen = Browser::default().ask(&url, Some(&form(&pairs))).expect("it answers");
    (seen.status, serde_json::from_str(&seen.body).unwrap_or(Value::Null))
}

fn refresh(issuer: &Issuer, token: &str) -> (u16, Value) {
    let body =
        json!({"client_id": CLIENT_ID, "grant_type": "refresh_token", "refresh_token": token});
    post(issuer, "/oauth/token", &body)
}

#[test]
fn the_issuer_checks_every_field_and_accepts_a_code_once() {
    let issuer = issuer(Device::Off);
    for (name, wrong) in [
        ("code", "another"),
        ("redirect_uri", "http://localhost:1457/auth/callback"),
        ("client_id", "app_another"),
        ("code_verifier", "another-verifier-of-enough-characters-for-pkce"),
        ("grant_type", "password"),
    ] {
        let (status, body) = exchange(&issuer, &code(&issuer), (name, wrong));
        assert_eq!(status, 400, "{name}: {body}");
    }
    let code = code(&issuer);
    let (status, tokens) = exchange(&issuer, &code, ("", ""));
    assert_eq!((status, tokens["expires_in"].as_u64()), (200, Some(864_000)), "{tokens}");
    let (status, body) = exchange(&issuer, &code, ("", ""));
    assert_eq!(
        (status, &body["error"]),
        (400, &json!("invalid_grant")),
        "a code was accepted twice"
    );
    for name in ["response_type", "client_id", "redirect_uri", "code_challenge_method", "scope"] {
        let url = authorize(&issuer, (name, "http://evil.example/"));
        let seen = Browser::default().ask(&url, None).expect("it answers");
        assert_eq!((seen.status, seen.header("location")), (400, None), "{name}");
    }
}

#[test]
fn a_person_allows_or_denies_on_a_page() {
    let issuer = issuer(Device::Off);
    let url = authorize(&issuer, ("auto", ""));
    for (answer, name) in [("allow", "code"), ("deny", "error")] {
        let mut browser = Browser::default();
        let page = browser.ask(&url, None).expect("a page");
        assert!(page.body.contains("ada@example.org"), "{page:?}");
        // Another test's sign-in may listen there: where the issuer sent the browser is what counts.
        drop(browser.press(&page, ("answer", answer)));
        let sent = browser.seen.iter().rfind(|seen| seen.url.starts_with(&issuer.url()));
        let sent = sent.expect("an answer");
        assert!(!back(sent, name).is_empty(), "{sent:?}");
        assert_eq!(back(sent, "state"), "a-state");
    }
}

#[test]
fn a_used_refresh_token_ends_its_family() {
    let issuer = Issuer::default();
    let other = issuer.grant();
    let first = issuer.grant();
    let (status, second) = refresh(&issuer, &first.refresh);
    assert_eq!(status, 200, "{second}");
    let access = second["access_token"].as_str().unwrap_or_default();
    assert!((issuer.newest().0)(access) && !(issuer.newest().0)(&first.access));
    let (status, body) = refresh(&issuer, &first.refresh);
    assert_eq!((status, &body["error"]["code"]), (401, &json!("refresh_token_reused")));
    let last = second["refresh_token"].as_str().unwrap_or_default();
    let (status, body) = refresh(&issuer, last);
    assert_eq!((status, &body["error"]["code"]), (401, &json!("refresh_token_invalidated")));
    assert!(!(issuer.newest().0)(access), "a token of an ended family is accepted");
    assert!(issuer.takes(&other.refresh), "another sign-in was ended with it");
    assert_eq!(issuer.complaints(), [""; 0]);
    drop(refresh(&issuer, last));
    assert_eq!(issuer.complaints(), ["a refresh token that was refused for good came again"]);
}

#[test]
fn a_refresh_may_be_a_form_too() {
    let issuer = Issuer::default();
    let token = issuer.grant().refresh;
    let pairs =
        [("grant_type", "refresh_token"), ("client_id", CLIENT_ID), ("refresh_token", &token)];
    let url = format!("{}/oauth/token", issuer.url());
    let seen = Browser::default().ask(&url, Some(&form(&pairs))).expect("it answers");
    assert_eq!(seen.status, 200, "{seen:?}");
    assert!(!issuer.takes(&token));
}

#[test]
fn tokens_name_their_account() {
    let issuer = Issuer::start(Options { lifetime: 60, ahead: 36_000, ..Options::default() });
    let granted = issuer.grant();
    let claims = |token: &str| -> Value {
        let part = token.split('.').nth(1).unwrap_or_default();
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).expect("base64url");
        serde_json::from_slice(&bytes).expect("JSON")
    };
    let ada = Account::named("ada");
    for token in [&granted.access, &granted.id] {
        let auth = &claims(token)["https://api.openai.com/auth"];
        assert_eq!(
            (auth["chatgpt_account_id"].as_str(), auth["chatgpt_plan_type"].as_str()),
            (Some(ada.id.as_str()), Some("plus"))
        );
    }
    let (access, now) = (claims(&granted.access), airlock_tests::clock::unix());
    let times = ["iat", "exp"].map(|name| access[name].as_u64().unwrap_or(0));
    assert_eq!(times[1] - times[0], 60);
    assert!(times[0].abs_diff(now + 36_000) < 5, "{times:?}");
}

#[test]
fn a_device_is_told_to_wait_until_the_code_is_typed() {
    let issuer = issuer(Device::Waits);
    let client = json!({"client_id": CLIENT_ID});
    let (status, code) = post(&issuer, "/api/accounts/deviceauth/usercode", &client);
    assert_eq!((status, &code["interval"]), (200, &json!("0")), "{code}");
    let poll = || post(&issuer, "/api/accounts/deviceauth/token", &code);
    assert_eq!([poll().0, poll().0], [403, 404]);
    assert!(!issuer.type_code("AAAA-AAAA"));
    assert!(issuer.type_code(code["user_code"].as_str().unwrap_or_default()));
    let (status, grant) = poll();
    assert_eq!(status, 200, "{grant}");
    let text = |name: &str| grant[name].as_str().unwrap_or_default().to_owned();
    let digest = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(text("code_verifier")));
    assert_eq!(digest, text("code_challenge"));
    let pairs = [
        ("grant_type", "authorization_code"),
        ("code", &text("authorization_code")),
        ("redirect_uri", &format!("{}/deviceauth/callback", issuer.url())),
        ("client_id", CLIENT_ID),
        ("code_verifier", &text("code_verifier")),
    ];
    let url = format!("{}/oauth/token", issuer.url());
    let seen = Browser::default().ask(&url, Some(&form(&pairs))).expect("it answers");
    assert_eq!(seen.status, 200, "{seen:?}");
}

#[test]
fn after_a_lost_answer_the_token_is_used() {
    let issuer = Issuer::default();
    for fault in [Fault::Lost, Fault::Cut] {
        let token = issuer.grant().refresh;
        issuer.fault(What::Refresh, fault.clone());
        let body =
            json!({"client_id": CLIENT_ID, "grant_type": "refresh_token", "refresh_token": token});
        let url = format!("{}/oauth/token", issuer.url());
        let json = [("Content-Type", "application/json")];
        let seen = Browser::default().ask_with(&url, Some(&body.to_string()), &json);
        let whole = seen.is_ok_and(|seen| serde_json::from_str::<Value>(&seen.body).is_ok());
        assert!(!whole, "{fault:?}: the answer came");
        assert!(!issuer.takes(&token), "{fault:?}: nothing was rotated");
    }
    let token = issuer.grant().refresh;
    issuer.fault(What::Refresh, Fault::Status { status: 503 });
    assert_eq!(refresh(&issuer, &token).0, 503);
    assert!(issuer.takes(&token), "a refresh that failed used the token up");
}

#[test]
fn a_revoked_sign_in_has_ended() {
    let issuer = Issuer::default();
    let granted = issuer.grant();
    let body = json!({"token": granted.refresh, "token_type_hint": "refresh_token"});
    assert_eq!(post(&issuer, "/oauth/revoke", &body).0, 400, "without its client");
    let body = json!({
        "token": granted.refresh, "token_type_hint": "refresh_token", "client_id": CLIENT_ID,
    });
    assert_eq!(post(&issuer, "/oauth/revoke", &body).0, 200);
    let (status, body) = refresh(&issuer, &granted.refresh);
    assert_eq!((status, &body["error"]["code"]), (401, &json!("refresh_token_invalidated")));
}
