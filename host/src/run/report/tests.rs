//! The command that gives a stored key again.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn a_stored_key_is_given_again_to_the_same_base() {
    let folder = tempfile::tempdir().expect("a folder");
    let again = |name: &str, login: &str| {
        let file = folder.path().join(format!("{name}.json"));
        std::fs::write(&file, login).expect("written");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("a mode");
        key_again(folder.path(), name)
    };
    let key = |base: &str| {
        format!(
            r#"{{"v":2,"kind":"api_key","base":"{base}","api_key":"sk-canary","generation":0}}"#
        )
    };
    let setup = "airlock setup codex-auth";
    let usual = again("default", &key(defaults::API_BASE));
    assert_eq!(usual, Some(format!("{setup} --api-key - < FILE")));
    let gateway = "https://gateway.example.org/v1";
    let elsewhere = again("team", &key(gateway));
    let expected = format!("{setup} --name team --base-url {gateway} --api-key - < FILE");
    assert_eq!(elsewhere, Some(expected));
    let strange = again("odd", &key("https://gateway.example.org/$(id)"));
    assert!(!strange.expect("a command").contains('$'));
    let token = r#"{"v":2,"kind":"chatgpt","base":"https://chatgpt.com/backend-api/codex",
                    "issuer":"https://auth.openai.com","access_token":"token-canary",
                    "account_id":"acct","generation":0}"#;
    assert_eq!(again("me", token), None);
    assert_eq!(key_again(folder.path(), "nobody"), None);
}
