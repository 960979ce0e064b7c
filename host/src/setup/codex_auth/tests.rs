//! What a new login takes from the stored one.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use super::*;
use crate::auth::Deps;

const GATEWAY: &str = "https://gateway.example.org/v1";

/// A directory with one login, `default`.
fn logins_with(login: &str) -> (tempfile::TempDir, Logins) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("default.json");
    std::fs::write(&file, login).expect("written");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("a mode");
    let logins = Logins::at(directory.path(), Deps { ca: None, clock: Arc::new(|| 7) });
    (directory, logins)
}

fn base_after_sign_in(login: &str) -> String {
    let (_directory, logins) = logins_with(login);
    let methods = SignInMethods { browser: false, open: false, device: true, paste: false };
    let request = SignInRequest {
        name: "default".to_owned(),
        how: SignInWith::SignIn { methods, chosen: true },
        issuer: None,
        base: None,
        replace: false,
        engine: None,
    };
    let stored = chatgpt_login(&logins, &request.name);
    base_of(&request, stored.as_ref(), defaults::CHATGPT_BASE).expect("a base").to_string()
}

#[test]
fn a_chatgpt_login_does_not_take_the_base_of_a_key() {
    let key = format!(
        r#"{{"v":2,"kind":"api_key","base":"{GATEWAY}","api_key":"sk-canary","generation":0}}"#
    );
    assert_eq!(
        base_after_sign_in(&key),
        Base::parse(defaults::CHATGPT_BASE).expect("a base").to_string()
    );
    let own = format!(
        r#"{{"v":2,"kind":"chatgpt","base":"{GATEWAY}","issuer":"https://auth.openai.com",
            "access_token":"token-canary","account_id":"acct","generation":0}}"#
    );
    assert_eq!(base_after_sign_in(&own), GATEWAY);
}
