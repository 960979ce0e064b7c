//! What a login takes over from the one before it.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use super::*;
use crate::auth::Deps;

const GATEWAY: &str = "https://gateway.example.org/v1";

/// A machine with one login, `default`.
fn with(login: &str) -> (tempfile::TempDir, Logins) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("default.json");
    std::fs::write(&file, login).expect("written");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("a mode");
    let logins = Logins::at(folder.path(), Deps { ca: None, clock: Arc::new(|| 7) });
    (folder, logins)
}

fn goes_to(login: &str) -> String {
    let (_folder, logins) = with(login);
    let ways = SignInMethods { browser: false, open: false, device: true, paste: false };
    let wish = SignInRequest {
        name: "default".to_owned(),
        how: SignInWith::SignIn { ways, chosen: true },
        issuer: None,
        base: None,
        replace: false,
        engine: None,
    };
    let there = predecessor(&logins, &wish.name);
    base_of(&wish, there.as_ref(), defaults::CHATGPT_BASE).expect("a base").to_string()
}

#[test]
fn a_chatgpt_login_does_not_go_where_a_key_went() {
    let key = format!(
        r#"{{"v":2,"kind":"api_key","base":"{GATEWAY}","api_key":"sk-canary","generation":0}}"#
    );
    assert_eq!(goes_to(&key), Base::parse(defaults::CHATGPT_BASE).expect("a base").to_string());
    let own = format!(
        r#"{{"v":2,"kind":"chatgpt","base":"{GATEWAY}","issuer":"https://auth.openai.com",
            "access_token":"token-canary","account_id":"acct","generation":0}}"#
    );
    assert_eq!(goes_to(&own), GATEWAY);
}
