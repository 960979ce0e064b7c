//! Signing in with the methods that need no browser here, again, and after a login has ended.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use airlock_tests::browser::Browser;
use airlock_tests::issuer::{Account, Device, Issuer, Options, What};
use airlock_tests::rig::{Process, terminal};
use serde_json::{Value, json};

use crate::browser::Ports;
use crate::machine::{Machine, agreed, event, part, run_to_end, unwrapped};

/// After a sign-in there is one private file with the right content.
fn assert_stored(machine: &Machine, name: &str) {
    let mode = |path: &std::path::Path| {
        let about = std::fs::metadata(path).unwrap_or_else(|_| panic!("no {}", path.display()));
        about.permissions().mode() & 0o7777
    };
    assert_eq!(mode(&machine.file(name)), 0o600);
    assert_eq!(mode(&machine.logins()), 0o700);
    let stored = machine.stored(name);
    assert_eq!((&stored["v"], &stored["kind"]), (&json!(2), &json!("chatgpt")), "{name}");
    let refresh = stored["refresh_token"].as_str().unwrap_or_default();
    assert!(machine.issuer.takes(refresh), "the stored refresh token is not the issuer's");
    assert_eq!(
        (stored["issuer"].as_str(), stored["base"].as_str()),
        (Some(machine.issuer.url().as_str()), Some(machine.backend.url().as_str()))
    );
    let text = stored.to_string();
    let ids = machine.issuer.secrets().into_iter().filter(|(name, _)| name == "an id token");
    assert!(ids.map(|(_, id)| id).all(|id| !text.contains(&id)), "the id token was kept");
}

/// The code on the screen.
fn code_on(screen: &str) -> Option<String> {
    let mut words = screen.split_whitespace().skip_while(|word| *word != "code");
    words.nth(1).filter(|word| word.len() == 9 && word.contains('-')).map(str::to_owned)
}

#[tokio::test]
async fn with_a_code_on_another_device() {
    for door in ["airlock", "setup"] {
        let machine = Machine::with(Options { device: Device::Waits, ..Options::default() });
        let command = match door {
            "airlock" => machine.signing_in(&["--device"]).await,
            _ => machine.setting_up(&["codex-auth", "--device"]).await,
        };
        let mut process = Process::start(command);
        let code = process.until("code", |it| code_on(&it.stderr())).await;
        assert!(process.stderr().contains(&format!("{}/codex/device", machine.issuer.url())));
        let mut phone = Browser::default();
        let page = phone.go(&format!("{}/codex/device", machine.issuer.url())).expect("a page");
        let done = phone.press(&page, ("user_code", &code)).expect("a page");
        assert_eq!(done.status, 200, "{done:?}");
        let output = process.end().await;
        assert_eq!((output.exit, output.stdout.as_str()), (Some(0), ""), "{door}: {output:#?}");
        let (screen, account) = (unwrapped(&output.stderr), &Account::named("ada").id[..4]);
        let whose = format!("signed in ada@example.org · plus · account {account}…");
        for line in [
            "login none yet",
            &format!("{whose} · renewed automatically until you log out"),
            "proof asked the backend for its models: 3 listed, default gpt-5.5 ok",
            "default.json (0600, only on this machine)",
        ] {
            assert!(screen.contains(line), "{door}: {line}: {screen}");
        }
        assert_stored(&machine, "default");
        machine.assert_no_secret_in(&[&output.stdout, &output.stderr]);
        machine.assert_no_complaints();
    }
}

#[tokio::test]
async fn with_a_pasted_address_in_every_form() {
    type Form = fn(&str) -> String;
    let forms: [(&str, Form); 6] = [
        ("whole", str::to_owned),
        ("spaces around", |url| format!("   {url}  ")),
        ("code#state", |url| format!("{}#{}", part(url, "code"), part(url, "state"))),
        ("?query", |url| url[url.find('?').unwrap_or(0)..].to_owned()),
        ("query", |url| url.split_once('?').map_or("", |(_, query)| query).to_owned()),
        ("code", |url| part(url, "code")),
    ];
    for (name, form) in forms {
        let machine = Machine::new();
        let mut command = machine.signing_in(&["--paste", "--json"]).await;
        command.stdin(Stdio::piped());
        let mut process = Process::start(command);
        let url = event(&mut process, "paste").await["url"].as_str().unwrap_or("").to_owned();
        process.line(&form(&agreed(&url))).await;
        let output = process.end().await;
        assert_eq!(output.exit, Some(0), "{name}: {output:#?}");
        assert_stored(&machine, "default");
        machine.assert_no_complaints();
    }
}

#[tokio::test]
async fn after_a_paste_of_another_sign_in_another_is_read() {
    let machine = Machine::new();
    let mut command = machine.signing_in(&["--paste", "--json"]).await;
    command.stdin(Stdio::piped());
    let mut process = Process::start(command);
    let url = event(&mut process, "paste").await["url"].as_str().unwrap_or("").to_owned();
    let back = agreed(&url);
    let (code, state) = (part(&back, "code"), part(&back, "state"));
    let wrong = [
        String::new(),
        "yes".to_owned(),
        format!("{code}#another-state-of-forty-three-characters-0123"),
        back.replace(&state, "another-state"),
        back.replace("localhost:1455", "evil.example"),
        back.replace("/auth/callback", "/elsewhere"),
        format!("?error=access_denied&error_description=no&state={state}"),
        "x".repeat(20_000),
    ];
    for (index, line) in wrong.iter().enumerate() {
        process.line(line).await;
        let notes = |it: &Process| {
            let notes = it.events().iter().filter(|event| event["event"] == "note").count();
            (notes > index).then_some(())
        };
        process.until(&format!("answer to paste {index}"), notes).await;
    }
    assert!(machine.issuer.asked_for(What::Exchange).is_empty(), "a wrong paste was exchanged");
    process.line(&back).await;
    let output = process.end().await;
    assert_eq!(output.exit, Some(0), "{output:#?}");
    assert_eq!(machine.issuer.asked_for(What::Exchange).len(), 1);
    machine.assert_no_secret_in(&[&output.stderr]);
    assert!(!output.stdout.contains(&code), "the code is shown: {}", output.stdout);
}

/// If the input ends and there is no other method, the sign-in fails.
#[tokio::test]
async fn the_end_of_the_input_ends_the_sign_in() {
    let machine = Machine::new();
    let output = run_to_end(machine.signing_in(&["--paste"]).await).await;
    assert_eq!(output.exit, Some(3), "{output:#?}");
    assert_eq!(machine.stored("default"), Value::Null);
}

#[tokio::test]
async fn events_are_lines_of_json() {
    let machine = Machine::new();
    let output = machine.signed_in(&["--device", "--json"]).await;
    let events: Vec<Value> =
        output.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let names: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(names, ["device_code", "note", "signed_in"], "{output:#?}");
    assert!(events.iter().all(|event| event["v"] == 1), "{output:#?}");
    let code = &events[0];
    assert_eq!(code["url"], json!(format!("{}/codex/device", machine.issuer.url())));
    assert_eq!(code["expires_in"], json!(900), "{code}");
    let done = &events[2];
    let fields = ["login", "plan", "email", "already"].map(|name| done[name].clone());
    assert_eq!(fields, [json!("default"), json!("plus"), json!("ada@example.org"), json!(false)]);
    machine.assert_no_secret_in(&[&output.stdout, &output.stderr]);
}

/// With a terminal on stdin the third method is open.
#[tokio::test]
async fn at_a_terminal_three_methods_are_open() {
    use std::io::Write as _;
    let _ports = Ports::lock().await;
    let machine = Machine::with(Options { device: Device::Waits, ..Options::default() });
    let (mut person, theirs) = terminal();
    let mut command = machine.signing_in(&["--no-browser"]).await;
    command.stdin(Stdio::from(theirs));
    let mut process = Process::start(command);
    let authorize = |it: &Process| {
        let screen = it.stderr();
        let is_whole = screen.contains("paste") && screen.contains("/codex/device");
        let url = screen.split_whitespace().find(|word| word.contains("/oauth/authorize?"));
        url.filter(|_| is_whole).map(str::to_owned)
    };
    let url = process.until("three methods", authorize).await;
    person.write_all(format!("{}\n", agreed(&url)).as_bytes()).expect("a terminal");
    let output = process.end().await;
    assert_eq!(output.exit, Some(0), "{output:#?}");
    assert!(output.stderr.contains("The first to finish wins."), "{output:#?}");
    assert_stored(&machine, "default");
}

#[tokio::test]
async fn a_good_login_is_left_alone() {
    let machine = Machine::new();
    machine.signed_in(&["--device"]).await;
    let (asked, before) = (machine.issuer.asked().len(), machine.stored("default"));
    let output = machine.signed_in(&[]).await;
    let screen = unwrapped(&output.stderr);
    let good = "signed in ada@example.org · plus";
    assert!(screen.starts_with(good) || screen.contains(good), "{screen}");
    assert!(screen.contains("token good for 9 d 23 h") || screen.contains("10 d 0 h"), "{screen}");
    let output = machine.signed_in(&["--json"]).await;
    assert!(output.stdout.contains("\"already\":true"), "{output:#?}");
    assert_eq!(machine.issuer.asked().len(), asked, "the issuer was asked");
    assert_eq!(machine.stored("default"), before);
}

/// Each reason has its own message, and the same command repairs the login.
#[tokio::test]
async fn a_revoked_login_is_repaired() {
    for (code, words) in [
        ("refresh_token_invalidated", "signed out in another place"),
        ("refresh_token_reused", "used up by another program (refresh_token_reused)"),
        ("refresh_token_expired", "refresh_token_expired"),
    ] {
        let machine = Machine::new();
        let old = machine.grant_login("default", -60);
        machine.issuer.end(&old.refresh, code);
        let needed = machine.run(&["secrets", "--json"]).await;
        let screen = unwrapped(&needed.stderr);
        assert_eq!(needed.exit, Some(3), "{needed:#?}");
        assert!(screen.starts_with("sign-in needed: "), "{screen}");
        assert!(screen.contains(words), "{screen}");
        assert!(screen.ends_with("airlock setup codex-auth"), "{screen}");
        let output = machine.signed_in(&["--device"]).await;
        let screen = unwrapped(&output.stderr);
        assert!(screen.contains(words) && screen.contains("signed in ada@"), "{screen}");
        assert_stored(&machine, "default");
        assert_eq!(machine.stored("default")["ended"], Value::Null);
        assert_eq!(machine.run(&["secrets", "--json"]).await.exit, Some(0));
        machine.assert_no_complaints();
    }
}

/// A revoked login whose token has not expired: the service refuses it.
#[tokio::test]
async fn a_login_that_the_service_refuses_is_not_good() {
    let machine = Machine::new();
    let old = machine.grant_login("default", 864_000);
    machine.issuer.end(&old.refresh, "refresh_token_invalidated");
    let output = machine.signed_in(&["--device"]).await;
    assert!(unwrapped(&output.stderr).contains("signed in ada@"), "{output:#?}");
    assert_stored(&machine, "default");
}

#[tokio::test]
async fn several_logins_at_once() {
    let machine = Machine::new();
    let names = ["ada", "work", "home", "default"];
    let mut processes = Vec::new();
    for name in names {
        let flags = ["--device", "--json", "--name", name];
        processes.push(Process::start(machine.signing_in(&flags).await));
    }
    for process in processes {
        let output = process.end().await;
        assert_eq!(output.exit, Some(0), "{output:#?}");
    }
    let mut tokens = Vec::new();
    for name in names {
        assert_stored(&machine, name);
        tokens.push(machine.stored(name)["refresh_token"].clone());
    }
    tokens.dedup();
    assert_eq!(tokens.len(), names.len(), "two logins have one token");
    // The same name twice at the same time: one of the two logins is stored completely.
    let twice = [&["--device", "--name", "twice"][..]; 2];
    let [first, second] = twice;
    let first = Process::start(machine.signing_in(first).await);
    let second = Process::start(machine.signing_in(second).await);
    let exits = [first.end().await.exit, second.end().await.exit];
    assert!(exits.contains(&Some(0)), "{exits:?}");
    assert_stored(&machine, "twice");
    machine.assert_no_complaints();
}

/// The command that chat-bot frameworks call.
#[tokio::test]
async fn a_framework_gets_its_status_block() {
    let block = |auth: &str, status: &str| {
        format!(
            "=== NANOCLAW SETUP: CODEX_AUTH ===\nAUTH_STATUS: {auth}\nSTATUS: {status}\n=== END ===\n"
        )
    };
    let machine = Machine::new();
    let step = ["--step", "codex-auth", "--device"];
    for expected in ["authenticated", "already_authenticated"] {
        let output = run_to_end(machine.setting_up(&step).await).await;
        let whole = (output.exit, output.stdout.as_str());
        assert_eq!(whole, (Some(0), block(expected, "success").as_str()), "{output:#?}");
    }
    let without_device = Machine::with(Options { device: Device::Off, ..Options::default() });
    let output = run_to_end(without_device.setting_up(&step).await).await;
    assert_eq!(output.exit, Some(3), "{output:#?}");
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines[1..3], ["AUTH_STATUS: failed", "STATUS: failed"], "{output:#?}");
    assert!(lines[3].starts_with("ERROR: ") && lines.len() == 5, "{output:#?}");
}

#[tokio::test]
async fn an_unreachable_issuer_is_one_sentence() {
    let gone = { Issuer::default().url() };
    let machine = Machine::new();
    for flags in [&["--device"][..], &["--device", "--json"]] {
        let mut command = machine.airlock(&["setup", "codex-auth"]).await;
        command.args(["--issuer", &gone, "--base-url", &machine.backend.url()]).args(flags);
        let output = run_to_end(command).await;
        assert_eq!(output.exit, Some(1), "{output:#?}");
        assert!(
            unwrapped(&output.stderr).contains("no usable answer from the issuer: 127.0.0.1"),
            "{output:#?}"
        );
    }
    assert_eq!(machine.stored("default"), Value::Null);
}

#[tokio::test]
async fn an_invalid_issuer_url_is_refused() {
    let machine = Machine::new();
    for url in ["http://example.org", "https://user:word@example.org", "ftp://x", "https://x/?a=b"]
    {
        let line = ["setup", "codex-auth", "--device", "--issuer", url];
        let output = machine.run(&line).await;
        assert_eq!(output.exit, Some(2), "{url}: {output:#?}");
    }
}
