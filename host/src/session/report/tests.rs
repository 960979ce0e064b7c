//! The command that gives a stored key again, and all that is named.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::workspace::{self, ChangeSet};

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

#[test]
fn all_that_is_held_and_all_that_runs_is_named() {
    let change = |path: String, held: &str, runs: Option<&str>| {
        let after = r#"{"kind":"link","target":"x"}"#;
        let held = match held {
            "" => String::new(),
            how => format!(r#","held":{{"why":"runs_by_itself","how":"{how}"}}"#),
        };
        let runs = runs.map(|how| format!(r#","runs":"{how}""#)).unwrap_or_default();
        let line = format!(r#"{{"path":"{path}","after":{after}{held}{runs}}}"#);
        serde_json::from_str::<workspace::Change>(&line).expect("a change")
    };
    let many = (0..300).map(|n| change(format!("{n:03}/Makefile"), "", Some("make runs it")));
    let held = change("x/.vscode".to_owned(), "VS Code runs it", Some("VS Code runs it"));
    let set = ChangeSet { changes: many.chain([held]).collect(), ..ChangeSet::default() };
    let mut changes = public::ChangesEvent::default();
    name_all(&mut changes, &set);
    let named = |path: &str, why: &str| public::Named { path: path.into(), why: why.into() };
    assert_eq!(changes.held_list, [named("x/.vscode", "VS Code runs it")]);
    assert_eq!(changes.look_at.len(), 300);
    assert_eq!(changes.look_at[299], named("299/Makefile", "make runs it"));
}
