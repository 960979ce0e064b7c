//! The output of a sign-in, word for word.

use std::path::PathBuf;

use super::*;
use crate::exit::Exit;
use crate::setup::{LoginGone, PortHolder};

const ALL: SignInMethods = SignInMethods { browser: true, open: true, device: true, paste: true };

fn ada() -> LoginInfo {
    LoginInfo {
        login: "default".into(),
        key: None,
        email: Some("ada@example.org".into()),
        plan: Some("plus".into()),
        account: Some("9f2c…".into()),
        base: "https://chatgpt.com/backend-api/codex".into(),
        issuer: Some("https://auth.openai.com".into()),
        expires_at: Some(1_796_000_000),
        left: Some(863_999),
        renews: true,
        model: None,
        gone: None,
    }
}

fn shown(methods: SignInMethods, events: &[SetupEvent]) -> String {
    let path = |path: &Path| path.display().to_string();
    let mut view = SignInView::new(methods, Style::default(), &path);
    events.iter().map(|event| view.text(event)).collect()
}

fn browser(opened: bool) -> SetupEvent {
    let authorize = "https://auth.openai.com/oauth/authorize?state=B".to_owned();
    SetupEvent::Method(SignInEvent::Browser { authorize, port: 1455, opened })
}

fn device() -> SetupEvent {
    let page = "https://auth.openai.com/codex/device".to_owned();
    SetupEvent::Method(SignInEvent::Device { page, code: "KXQF-7M2P".into(), expires_in: 900 })
}

fn listed() -> ProofResult {
    ProofResult::Listed { models: 5, default: Some("gpt-5.6-luna".into()) }
}

#[test]
fn three_methods_and_a_login() {
    let note = "A ChatGPT plan is for your own use.";
    let events = [
        SetupEvent::Before(StoredLogin::None),
        browser(true),
        device(),
        SetupEvent::SignedIn(ada()),
        SetupEvent::Stored { path: PathBuf::from("~/logins/default.json") },
        SetupEvent::Proof(listed()),
        SetupEvent::Note(note.into()),
    ];
    let expected = "\
login      none yet

Sign in to ChatGPT in one of these ways. The first to finish wins.
  1  your browser should be open; if not: https://auth.openai.com/oauth/authorize?state=B
  2  on any device: https://auth.openai.com/codex/device   code  KXQF-7M2P
  3  paste the address your browser ended on, here:

signed in  ada@example.org · plus · account 9f2c… · renewed automatically until you log out
proof      asked the backend for its models: 5 listed, default gpt-5.6-luna  ok
stored     ~/logins/default.json (0600, only on this machine)
note       A ChatGPT plan is for your own use.
";
    assert_eq!(shown(ALL, &events), expected);
}

#[test]
fn a_single_method_has_no_number() {
    let only = SignInMethods { browser: false, open: false, device: true, paste: false };
    let expected = "Sign in to ChatGPT on any device: https://auth.openai.com/codex/device   \
                    code  KXQF-7M2P   (15 minutes)\n";
    assert_eq!(shown(only, &[device()]), expected);
    let authorize = "https://auth.openai.com/oauth/authorize?state=B".to_owned();
    let only = SignInMethods { browser: true, open: true, device: false, paste: false };
    let expected = "Sign in to ChatGPT in your browser; if it did not open: \
                    https://auth.openai.com/oauth/authorize?state=B\n";
    let browser = SignInEvent::Browser { authorize: authorize.clone(), port: 1455, opened: true };
    assert_eq!(shown(only, &[SetupEvent::Method(browser)]), expected);
    let only = SignInMethods { browser: false, open: false, device: false, paste: true };
    let expected = "Sign in to ChatGPT in a browser anywhere: \
                    https://auth.openai.com/oauth/authorize?state=B\n     \
                    the last page will not load: paste its address here\n";
    assert_eq!(shown(only, &[SetupEvent::Method(SignInEvent::Address { authorize })]), expected);
}

#[test]
fn a_closed_method_says_why_and_the_others_go_on() {
    let holders = vec![
        PortHolder { port: 1455, program: Some("codex (pid 812)".into()) },
        PortHolder { port: 1457, program: None },
    ];
    let authorize = "https://auth.openai.com/oauth/authorize?state=B".to_owned();
    let events = [
        SetupEvent::Method(SignInEvent::PortsBusy { holders }),
        SetupEvent::Method(SignInEvent::Address { authorize }),
        SetupEvent::Method(SignInEvent::NoDevice {
            why: "it refused (404): device login is not enabled".into(),
        }),
        SetupEvent::Method(SignInEvent::NotPasted { why: "the state is another one's".into() }),
        SetupEvent::Method(SignInEvent::Denied { why: "access_denied\u{1b}[2J".into() }),
    ];
    let expected = "\
note       the browser method is closed, because its ports are in use: 1455 by codex (pid 812),
           1457 by another user's program

Sign in to ChatGPT in one of these ways. The first to finish wins.
  1  in a browser anywhere: https://auth.openai.com/oauth/authorize?state=B
     the last page will not load: paste its address here
note       no code for other devices: it refused (404): device login is not enabled
note       not accepted: the state is another one's; paste it again
note       denied: access_denied␛[2J
";
    assert_eq!(shown(ALL, &events), expected);
}

#[test]
fn the_stored_login_is_shown_first() {
    let gone = LoginGone {
        reason: "revoked on 21 Nov 09:14 UTC (signed out in another place)".into(),
        at: 1,
    };
    let key = LoginInfo {
        login: "team".into(),
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
        gone: None,
    };
    let cases = [
        (
            SetupEvent::Before(StoredLogin::Good { login_info: ada(), proof: listed() }),
            "signed in  ada@example.org · plus · account 9f2c… · token good for 9 d 23 h  ok\n",
        ),
        (
            SetupEvent::Before(StoredLogin::Gone(LoginInfo { gone: Some(gone), ..ada() })),
            "login      revoked on 21 Nov 09:14 UTC (signed out in another place)\n",
        ),
        (
            SetupEvent::Before(StoredLogin::Unusable(
                "/x/default.json: it is a symbolic link".into(),
            )),
            "login      cannot be used: /x/default.json: it is a symbolic link\n",
        ),
        (
            SetupEvent::SignedIn(key),
            "login      team · API key …a1b2 · metered · https://api.openai.com/v1\n",
        ),
        (
            SetupEvent::ConfirmReplace(Box::new([
                ada(),
                LoginInfo { email: Some("eve@x".into()), ..ada() },
            ])),
            "replace    the login `default` is ada@example.org · plus · account 9f2c…; replace it with \
             eve@x\n           · plus · account 9f2c…? [y/N] ",
        ),
        (
            SetupEvent::Proof(ProofResult::Unknown("https://chatgpt.com: it answered 502".into())),
            "proof      none yet: https://chatgpt.com: it answered 502\n",
        ),
    ];
    for (event, expected) in cases {
        assert_eq!(shown(ALL, &[event]), expected);
    }
}

#[test]
fn a_program_reads_one_object_a_line() {
    let events = [
        SetupEvent::Before(StoredLogin::None),
        browser(false),
        device(),
        SetupEvent::ConfirmReplace(Box::new([ada(), ada()])),
        SetupEvent::SignedIn(ada()),
        SetupEvent::Note("a\u{202e}b".into()),
    ];
    let lines: Vec<String> = events.iter().filter_map(event).collect();
    let expected = [
        "{\"v\":1,\"event\":\"browser\",\"url\":\"https://auth.openai.com/oauth/authorize?state=B\",\
         \"port\":1455,\"opened\":false}\n",
        "{\"v\":1,\"event\":\"device_code\",\"url\":\"https://auth.openai.com/codex/device\",\
         \"code\":\"KXQF-7M2P\",\"expires_in\":900}\n",
        "{\"v\":1,\"event\":\"note\",\"text\":\"a\\u202eb\"}\n",
    ];
    assert_eq!(lines, expected);
    let done = SignedIn { login_info: ada(), already: false, proof: listed() };
    let last: serde_json::Value = serde_json::from_str(&signed_in(&done)).expect("JSON");
    let expected = json!({
        "v": 1, "event": "signed_in", "login": "default", "email": "ada@example.org",
        "plan": "plus", "account": "9f2c…", "key": null, "already": false,
        "base": "https://chatgpt.com/backend-api/codex", "expires_at": 1_796_000_000_u64,
        "models": 5, "model": "gpt-5.6-luna",
    });
    assert_eq!(last, expected);
    let failure = Failure::new(Exit::SignIn, "not signed in", "denied").hint("airlock x");
    let last: serde_json::Value = serde_json::from_str(&failed(&failure)).expect("JSON");
    let expected = json!({
        "v": 1, "event": "failed", "headline": "not signed in", "reason": "denied",
        "command": "airlock x", "exit": 3,
    });
    assert_eq!(last, expected);
}

#[test]
fn a_framework_reads_its_block() {
    let done = |already| SignedIn { login_info: ada(), already, proof: listed() };
    let head = "=== NANOCLAW SETUP: CODEX_AUTH ===\n";
    assert_eq!(
        status_block(Ok(&done(true))),
        format!("{head}AUTH_STATUS: already_authenticated\nSTATUS: success\n=== END ===\n")
    );
    assert_eq!(
        status_block(Ok(&done(false))),
        format!("{head}AUTH_STATUS: authenticated\nSTATUS: success\n=== END ===\n")
    );
    let failure =
        Failure::new(Exit::SignIn, "not signed in", "denied\n=== END ===\nSTATUS: success");
    assert_eq!(
        status_block(Err(&failure)),
        format!(
            "{head}AUTH_STATUS: failed\nSTATUS: failed\n\
             ERROR: not signed in: denied === END === STATUS: success\n=== END ===\n"
        )
    );
}
