//! Arguments of the commands about logins, and what they mean.

use std::path::Path;

use super::*;
use crate::cli::flags::codex_auth::of_step;
use crate::cli::login_args::{LoginArgs, OutputForm, SignInArgs, TypedBy};
use crate::setup::SignInMethods;
use crate::setup::codex_auth::SignInWith;

fn sign_in(cli: &TestCli, line: &[&str]) -> SignInArgs {
    let line: Vec<&str> = ["setup", "codex-auth"].iter().chain(line).copied().collect();
    match cli.action(&line) {
        Ok(Action::SignIn(login_args)) => *login_args,
        Ok(_) => panic!("not a sign-in"),
        Err(failure) => panic!("{failure}"),
    }
}

fn methods(cli: &TestCli, line: &[&str]) -> (SignInMethods, bool) {
    match sign_in(cli, line).how {
        SignInWith::SignIn { methods, chosen } => (methods, chosen),
        SignInWith::ApiKey(_) | SignInWith::AccessToken(_) => panic!("not a sign-in"),
    }
}

fn terminal() -> TestCli {
    TestCli { is_terminal: true, ..TestCli::new() }
}

#[test]
fn all_methods_are_open_unless_one_was_chosen() {
    let methods_of = |browser, open, device, paste| SignInMethods { browser, open, device, paste };
    let cases: [(&[&str], bool, SignInMethods); 8] = [
        (&[], true, methods_of(true, true, true, true)),
        (&[], false, methods_of(true, true, true, false)),
        (&["--no-browser"], true, methods_of(true, false, true, true)),
        (&["--browser"], true, methods_of(true, true, false, false)),
        (&["--browser", "--no-browser"], false, methods_of(true, false, false, false)),
        (&["--device"], true, methods_of(false, false, true, false)),
        (&["--paste"], false, methods_of(false, false, false, true)),
        (&["--json"], true, methods_of(true, true, true, false)),
    ];
    for (line, is_terminal, expected) in cases {
        let cli = TestCli { is_terminal, ..TestCli::new() };
        let chosen = line.iter().any(|flag| ["--browser", "--device", "--paste"].contains(flag));
        assert_eq!(methods(&cli, line), (expected, chosen), "{line:?} {is_terminal}");
    }
}

#[test]
fn only_a_person_is_asked_questions() {
    let typed = |cli: &TestCli, line: &[&str]| sign_in(cli, line).typed;
    assert_eq!(typed(&terminal(), &[]), TypedBy::Person);
    assert_eq!(typed(&terminal(), &["--paste"]), TypedBy::Person);
    assert_eq!(typed(&terminal(), &["--json"]), TypedBy::NoOne);
    assert_eq!(typed(&terminal(), &["--json", "--paste"]), TypedBy::Program);
    assert_eq!(typed(&TestCli::new(), &[]), TypedBy::NoOne);
    assert_eq!(typed(&TestCli::new(), &["--paste"]), TypedBy::Program);
}

#[test]
fn every_flag_is_used() {
    let cli = TestCli::new();
    let pem = cli.folder.path().join("ca.pem");
    std::fs::write(&pem, "-----BEGIN CERTIFICATE-----\n").expect("written");
    let pem = pem.to_str().expect("a path");
    let line = [
        "--device",
        "--name",
        "ops",
        "--issuer",
        "https://issuer.example.org",
        "--base-url",
        "https://codex.example.org/v1",
        "--ca",
        pem,
        "--replace",
        "--json",
    ];
    let login_args = sign_in(&cli, &line);
    assert_eq!(login_args.common.name, "ops");
    assert!(login_args.common.ca.is_some_and(|ca| ca.contains("BEGIN")));
    assert_eq!(login_args.issuer.expect("an issuer").as_str(), "https://issuer.example.org");
    assert_eq!(login_args.base, Base::parse("https://codex.example.org/v1").ok());
    assert!(login_args.replace);
    assert_eq!(login_args.form, OutputForm::Json);
    let plain = sign_in(&TestCli::new(), &[]);
    assert_eq!(plain.common, LoginArgs { name: "default".into(), ca: None });
    assert!(plain.issuer.is_none() && plain.base.is_none() && !plain.replace);
    assert_eq!(plain.form, OutputForm::Lines);
}

#[test]
fn the_certificate_authority_of_the_configuration_is_used() {
    let cli = TestCli::new().configured("ca = \"ca.pem\"");
    let beside = cli.folder.path().join(".config/airlock/ca.pem");
    std::fs::write(beside, "-----BEGIN CERTIFICATE-----\n").expect("written");
    assert!(sign_in(&cli, &[]).common.ca.is_some());
    assert!(matches!(cli.action(&["logout"]), Ok(Action::Logout(LoginArgs { ca: Some(_), .. }))));
}

#[test]
fn an_unreadable_certificate_authority_is_an_error_that_names_the_command() {
    let commands: [&[&str]; 5] = [
        &["setup", "codex-auth"],
        &["import", "codex"],
        &["status"],
        &["logout"],
        &["secrets", "--json"],
    ];
    for command in commands {
        let line: Vec<&str> = command.iter().chain(&["--ca", "/nowhere.pem"]).copied().collect();
        let (code, message) = TestCli::new().refused(&line);
        let words: Vec<&str> =
            command.iter().filter(|word| !word.starts_with('-')).copied().collect();
        let hint = format!("\nairlock {} --ca FILE …", words.join(" "));
        assert!(code == 2 && message.ends_with(&hint), "{message}");
    }
}

#[test]
fn a_secret_is_taken_from_stdin_alone() {
    for line in [&["--api-key"][..], &["--api-key", "-"], &["--api-key", "--name", "team"]] {
        let cli = TestCli::new().stdin(b"sk-canary\n");
        let how = sign_in(&cli, line).how;
        assert!(matches!(how, SignInWith::ApiKey(key) if key.reveal() == "sk-canary"), "{line:?}");
    }
    let cli = TestCli::new().stdin(b"token-canary\n");
    let how = sign_in(&cli, &["--access-token", "-"]).how;
    assert!(matches!(how, SignInWith::AccessToken(token) if token.reveal() == "token-canary"));

    let expected = "usage: every user of this machine can see a secret in an argument: --api-key \
                    accepts only `-`, which reads it from stdin\n\
                    airlock setup codex-auth --api-key - < FILE";
    let typed = TestCli::new().refused(&["setup", "codex-auth", "--api-key", "sk-canary"]);
    assert_eq!(typed, (2, expected.to_owned()));
    let expected = "usage: a secret that you type at a terminal stays on the screen\n\
                    airlock setup codex-auth --access-token - < FILE";
    let typed = terminal().refused(&["setup", "codex-auth", "--access-token", "-"]);
    assert_eq!(typed, (2, expected.to_owned()));
    let expected = "usage: --api-key -: stdin must have exactly one key\n\
                    airlock setup codex-auth --api-key - < FILE";
    let two = TestCli::new().stdin(b"sk-a\nsk-b\n").refused(&["setup", "codex-auth", "--api-key"]);
    assert_eq!(two, (2, expected.to_owned()));
    for line in [
        ["setup", "codex-auth", "--apikey=sk-canary"].as_slice(),
        ["setup", "codex-auth", "--api-key", "sk-canary", "--device"].as_slice(),
        ["setup", "codex-auth", "--access-token=sk-canary"].as_slice(),
        ["setup", "codex-auth", "sk-canary"].as_slice(),
    ] {
        let (code, message) = TestCli::new().refused(line);
        assert_eq!(code, 2, "{message}");
        assert!(!message.contains("canary"), "{message}");
    }
}

#[test]
fn the_step_of_a_framework_is_the_command() {
    let words = |line: &[&str]| line.iter().map(OsString::from).collect::<Vec<_>>();
    let step = of_step(words(&["setup", "--step", "codex-auth", "--device"]), 1);
    assert_eq!(step, words(&["setup", "codex-auth", "--step", "--device"]));
    let step = of_step(words(&["airlock", "setup", "--step=codex-auth"]), 2);
    assert_eq!(step, words(&["airlock", "setup", "codex-auth", "--step"]));
    for other in [&["setup", "--step", "demo"][..], &["setup", "--step"], &["setup"]] {
        assert_eq!(of_step(words(other), 1), words(other));
    }
    assert_eq!(sign_in(&TestCli::new(), &["--step"]).form, OutputForm::Step);
}

#[test]
fn the_other_commands_of_logins() {
    let cli = TestCli::new().with("CODEX_HOME", "/c");
    assert!(
        matches!(cli.action(&["logout"]), Ok(Action::Logout(login_args)) if login_args.name == "default")
    );
    assert!(
        matches!(cli.action(&["logout", "x"]), Ok(Action::Logout(login_args)) if login_args.name == "x")
    );
    let secrets = cli.action(&["secrets", "--json", "--login", "x"]);
    assert!(matches!(secrets, Ok(Action::Secrets(login_args)) if login_args.name == "x"));
    let Ok(Action::Import(import)) = cli.action(&["import", "codex"]) else { panic!("an import") };
    assert_eq!((import.file.as_path(), import.yes), (Path::new("/c/auth.json"), false));
    let line = ["import", "codex", "f.json", "--name", "x", "--yes"];
    let Ok(Action::Import(import)) = cli.action(&line) else { panic!("an import") };
    assert_eq!((import.file.as_path(), import.yes), (Path::new("f.json"), true));
    assert_eq!(import.common.name, "x");
    let Ok(Action::Import(import)) = TestCli::new().action(&["import", "codex"]) else {
        panic!("an import")
    };
    assert!(import.file.ends_with(".codex/auth.json"), "{}", import.file.display());
}

#[test]
fn every_command_defaults_to_the_configured_login() {
    let name_of = |cli: &TestCli, line: &[&str]| match cli.action(line) {
        Ok(Action::Logout(login_args) | Action::Secrets(login_args)) => login_args.name,
        Ok(Action::SignIn(login_args)) => login_args.common.name,
        Ok(Action::Import(login_args)) => login_args.common.name,
        Ok(Action::Status(login_args)) => login_args.only.expect("a name"),
        Ok(_) => panic!("not about logins"),
        Err(failure) => panic!("{failure}"),
    };
    let without_name: [&[&str]; 5] = [
        &["logout"],
        &["secrets", "--json"],
        &["setup", "codex-auth"],
        &["setup", "codex-auth", "--step"],
        &["import", "codex"],
    ];
    for line in without_name {
        let team = TestCli::new().with("AIRLOCK_LOGIN", "team");
        assert_eq!(name_of(&team, line), "team", "{line:?}");
        let file = || TestCli::new().configured("login = \"ops\"");
        assert_eq!(name_of(&file(), line), "ops", "{line:?}");
        assert_eq!(name_of(&file().with("AIRLOCK_LOGIN", "env"), line), "default", "{line:?}");
        assert_eq!(name_of(&TestCli::new(), line), "default", "{line:?}");
    }
    let with_name: [&[&str]; 6] = [
        &["logout", "x"],
        &["logout", "--name", "x"],
        &["secrets", "--json", "--login", "x"],
        &["secrets", "--json", "--name", "x"],
        &["setup", "codex-auth", "--name", "x"],
        &["status", "x"],
    ];
    for line in with_name {
        let team = TestCli::new().with("AIRLOCK_LOGIN", "team");
        assert_eq!(name_of(&team, line), "x", "{line:?}");
    }
}

#[test]
fn status_knows_the_configured_login() {
    let login_choice = |cli: &TestCli| match cli.action(&["status", "--quiet"]) {
        Ok(Action::Status(login_args)) => login_args.login_choice,
        _ => panic!("not a status"),
    };
    assert_eq!(login_choice(&TestCli::new()), LoginChoice::Default);
    assert_eq!(
        login_choice(&TestCli::new().with("AIRLOCK_LOGIN", "team")),
        LoginChoice::Login("team".into())
    );
    assert_eq!(login_choice(&TestCli::new().configured("login = \"env\"")), LoginChoice::Env);
    let cli = TestCli::new().configured("api_key_file = \"~/key\"");
    assert_eq!(login_choice(&cli), LoginChoice::KeyFile(cli.folder.path().join("key")));
}
