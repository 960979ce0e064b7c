//! The output of `status` and `logout`, word for word.

use std::path::PathBuf;

use airlock_shared::secret::Secret;

use super::*;
use crate::setup::{LoginGone, LoginInfo};

const NOW: u64 = 1_795_258_080;

fn ada() -> LoginInfo {
    LoginInfo {
        login: "default".into(),
        key: None,
        email: Some("ada@example.org".into()),
        plan: Some("plus".into()),
        account: Some("9f2c…".into()),
        base: "https://chatgpt.com/backend-api/codex".into(),
        issuer: Some("https://auth.openai.com".into()),
        expires_at: Some(NOW + 863_999),
        left: Some(863_999),
        renews: true,
        model: None,
        gone: None,
    }
}

fn login_status(name: &str, login_info: LoginInfo, usage: PlanUsage) -> LoginStatus {
    LoginStatus {
        name: name.to_owned(),
        state: LoginState::Login { login_info: Box::new(login_info), usage },
    }
}

fn all() -> Vec<LoginStatus> {
    let window = |percent, seconds, resets_at| Window { percent, seconds, resets_at };
    let usage = Usage {
        plan: Some("plus".into()),
        allowed: true,
        windows: vec![
            window(4, 18_000, Some(NOW + 6_720)),
            window(11, 604_800, Some(NOW + 270_000)),
        ],
    };
    let gone = LoginGone {
        reason: "revoked on 21 Nov 09:14 UTC (signed out in another place)".into(),
        at: 1,
    };
    let key = LoginInfo {
        key: Some("…a1b2".into()),
        email: None,
        plan: None,
        account: None,
        base: "https://api.openai.com/v1".into(),
        issuer: None,
        expires_at: None,
        left: None,
        renews: false,
        model: None,
        ..ada()
    };
    let unusable = "/x/old.json: others can read it (chmod 600)".to_owned();
    vec![
        login_status("default", ada(), PlanUsage::Known(usage)),
        LoginStatus { name: "old".into(), state: LoginState::Unusable(unusable) },
        login_status("ops", LoginInfo { gone: Some(gone), ..ada() }, PlanUsage::None),
        login_status("team", LoginInfo { model: Some("gpt-5.5".into()), ..key }, PlanUsage::None),
    ]
}

#[test]
fn every_login_is_shown_with_its_account_and_usage() {
    let expected = "\
login      default · ada@example.org · plus · account 9f2c… · token good for 9 d 23 h · in use
           5h window 4%, resets at 12:40 UTC · week 11%, resets on 24 Nov 13:48 UTC
login      old · cannot be used: /x/old.json: others can read it (chmod 600)
           airlock setup codex-auth --name old
login      ops · ada@example.org · plus · account 9f2c… · revoked on 21 Nov 09:14 UTC (signed
           out in another place)
           airlock setup codex-auth --name ops
login      team · API key …a1b2 · metered · https://api.openai.com/v1 · model gpt-5.5
";
    assert_eq!(status(&all(), &LoginChoice::Default, NOW, Style::default()), expected);
}

#[test]
fn the_credential_in_use_is_shown() {
    let shown = |login_choice: &LoginChoice| {
        let text = status(&[], login_choice, NOW, Style::default());
        text.replace('\n', "|")
    };
    assert_eq!(
        shown(&LoginChoice::Default),
        "in use     none: there is no login yet|           airlock setup codex-auth|"
    );
    assert_eq!(shown(&LoginChoice::KeyFile(PathBuf::from("/k"))), "in use     the key in /k|");
    assert_eq!(
        shown(&LoginChoice::Login("ops".into())),
        "in use     none: the login ops does not exist|           airlock setup codex-auth --name ops|"
    );
    let others = &all()[1..];
    let text = status(others, &LoginChoice::Default, NOW, Style::default());
    let expected = "in use     none: there is no login `default`; to name another one:\n           \
                    airlock run --login team …\n";
    assert!(text.ends_with(expected), "{text}");
    let one = status_of(&others[2..], &LoginChoice::Default, NOW, Style::default());
    let team = "login      team · API key …a1b2 · metered · https://api.openai.com/v1 \
                · model gpt-5.5";
    assert_eq!(one, format!("{team}\n"));
    let text = status(&all(), &LoginChoice::Login("team".into()), NOW, Style::default());
    assert!(text.replace("\n           ", " ").ends_with(&format!("{team} · in use\n")), "{text}");
    assert_eq!(text.matches("in use").count(), 1);
}

#[test]
fn a_program_reads_one_object_a_login() {
    let text = status_json(&all(), &LoginChoice::Default);
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let states: Vec<_> = lines.iter().map(|line| (&line["login"], &line["state"])).collect();
    let expected = [("default", "good"), ("old", "unusable"), ("ops", "gone"), ("team", "good")];
    assert_eq!(states.len(), expected.len());
    for (found, expected) in states.iter().zip(expected) {
        assert_eq!((found.0.as_str(), found.1.as_str()), (Some(expected.0), Some(expected.1)));
    }
    assert_eq!(lines[0]["usage"]["windows"][1]["percent"], 11);
    assert_eq!(lines[0]["pays"], true);
    assert_eq!(lines[3]["kind"], "api_key");
    assert_eq!((&lines[0]["model"], &lines[3]["model"]), (&json!(null), &json!("gpt-5.5")));
}

#[test]
fn a_logout_says_which_of_its_two_steps_worked() {
    let done = |revoked| LoggedOut { name: "x".into(), revoked, path: PathBuf::from("/x.json") };
    let text_of = |revoked| logged_out(&done(revoked), "~/x.json", Style::default());
    assert_eq!(
        text_of(Revocation::Done("auth.openai.com".into())),
        "revoked    by auth.openai.com: copies of it do not work any more either\ndeleted    ~/x.json\n"
    );
    assert_eq!(
        text_of(Revocation::Failed("auth.openai.com: connection refused".into())),
        "not revoked  auth.openai.com: connection refused\n           \
         if a copy of it may exist, log out of all devices in ChatGPT's settings\n\
         deleted    ~/x.json\n"
    );
}

#[test]
fn a_login_without_an_account_gives_only_a_token() {
    let given = |account: Option<&str>| {
        let access_token = Secret::new("token-canary".to_owned());
        secrets(&ContainerSecrets { access_token, account_id: account.map(str::to_owned) })
    };
    assert_eq!(*given(None), "{\"CODEX_ACCESS_TOKEN\":\"token-canary\"}\n");
    let both = "{\"CODEX_ACCESS_TOKEN\":\"token-canary\",\"CODEX_ACCOUNT_ID\":\"acct-1\"}\n";
    assert_eq!(*given(Some("acct-1")), both);
}
