//! The command that stores a key again, and the lists of held and running files.

use std::os::unix::fs::PermissionsExt;

use airlock_shared::base::Base;
use airlock_shared::defaults;
use airlock_shared::secret::Secret;

use super::*;
use crate::auth::{self, Credential, Deps};
use crate::records::{ChangesRecord, SessionStore, Trigger};
use crate::workspace::{self, ChangeSet};

#[test]
fn a_stored_key_is_given_again_for_the_same_base() {
    let folder = tempfile::tempdir().expect("a directory");
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
    list_held_and_triggers(&mut changes, &set);
    let named = |path: &str, why: &str| public::Named { path: path.into(), why: why.into() };
    assert_eq!(changes.held_list, [named("x/.vscode", "VS Code runs it")]);
    assert_eq!(changes.look_at.len(), 300);
    assert_eq!(changes.look_at[299], named("299/Makefile", "make runs it"));
}

const KEY: &str = "sk-canary-0123456789";

/// Reports paths that are named after the key; returns everything that was shown or stored.
fn output_with_a_key(signer: Option<Arc<dyn Signer>>) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SessionStore::open(folder.path()).expect("a store");
    let session = store.create_session().expect("a session");
    let path = session.path().to_owned();
    let mut shown = String::new();
    let mut show = |line: &EventLine| shown.push_str(&line.json());
    let mut report = Report {
        log: Some(session.events().expect("a log")),
        record: Record::begun(session.id(), "2026-11-21T10:00:00Z".parse().expect("a time")),
        folder: session,
        began: Instant::now(),
        lines: 0,
        requests: 0,
        usage: Usage::default(),
        has_begun: false,
        doctor: String::new(),
        show: &mut show,
        remedy: String::new(),
        signer,
        sought: gate::Sought::default(),
        login: None,
    };
    let named = |path: &str| public::Named { path: path.to_owned(), why: "make".to_owned() };
    report.emit(PublicEvent::Changes(public::ChangesEvent {
        files: 1,
        held_list: vec![named(&format!("{KEY}/.vscode"))],
        look_at: vec![named(&format!("{KEY}/Makefile"))],
        ..public::ChangesEvent::default()
    }));
    report.triggers(vec![Trigger { path: KEY.to_owned(), what: "git runs it".to_owned() }]);
    let note = format!("1 path missing (sandbox says: “{KEY}”)");
    report.note(note.clone());
    report.record.changes = ChangesRecord::Kept { files: 1, held: 0, note: Some(note) };
    report.save(&Outcome::Finished { answer: "done".to_owned() }, Exit::Finished).expect("saved");
    let stored = ["events.jsonl", "record.json"]
        .map(|name| std::fs::read_to_string(path.join(name)).expect("a file"));
    shown + &stored.concat()
}

#[test]
fn no_line_and_no_record_holds_the_credential() {
    let key = Credential::Key(Secret::new(KEY.to_owned()));
    let base = Base::parse(defaults::API_BASE).expect("a base");
    let deps = Deps { ca: None, clock: Arc::new(|| 0) };
    let signer: Arc<dyn Signer> = auth::open(key, &base, &deps).expect("a signer");
    // The control: without a signer the key is in every line, and in the record.
    let output = output_with_a_key(None);
    assert_eq!(output.matches(KEY).count(), 2 * 4 + 2, "{output}");
    let output = output_with_a_key(Some(signer));
    assert!(!output.contains(KEY), "{output}");
    assert_eq!(output.matches("[secret removed]").count(), 2 * 4 + 2, "{output}");
    for whole in ["[secret removed]/.vscode", "[secret removed]/Makefile", "\"files\":1"] {
        assert!(output.contains(whole), "{output}");
    }
}
