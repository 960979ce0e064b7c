//! Signing in, and what is done with logins: what was typed, and what it means.

use std::path::Path;

use super::*;
use crate::cli::flags::codex_auth::of_step;
use crate::cli::login_args::{LoginArgs, OutputForm, SignInArgs, TypedBy};
use crate::setup::SignInMethods;
use crate::setup::codex_auth::SignInWith;

fn sign_in(desk: &Desk, line: &[&str]) -> SignInArgs {
    let line: Vec<&str> = ["setup", "codex-auth"].iter().chain(line).copied().collect();
    match desk.asked(&line) {
        Ok(Action::SignIn(login_args)) => *login_args,
        Ok(_) => panic!("not a sign-in"),
        Err(failure) => panic!("{failure}"),
    }
}

fn methods(desk: &Desk, line: &[&str]) -> (SignInMethods, bool) {
    match sign_in(desk, line).how {
        SignInWith::SignIn { methods, chosen } => (methods, chosen),
        SignInWith::ApiKey(_) | SignInWith::AccessToken(_) => panic!("not a way"),
    }
}

fn terminal() -> Desk {
    Desk { is_terminal: true, ..Desk::new() }
}

#[test]
fn every_way_is_open_unless_one_was_chosen() {
    let way = |browser, open, device, paste| SignInMethods { browser, open, device, paste };
    let cases: [(&[&str], bool, SignInMethods); 8] = [
        (&[], true, way(true, true, true, true)),
        (&[], false, way(true, true, true, false)),
        (&["--no-browser"], true, way(true, false, true, true)),
        (&["--browser"], true, way(true, true, false, false)),
        (&["--browser", "--no-browser"], false, way(true, false, false, false)),
        (&["--device"], true, way(false, false, true, false)),
        (&["--paste"], false, way(false, false, false, true)),
        (&["--json"], true, way(true, true, true, false)),
    ];
    for (line, is_terminal, expected) in cases {
        let desk = Desk { is_terminal, ..Desk::new() };
        let chosen = line.iter().any(|flag| ["--browser", "--device", "--paste"].contains(flag));
        assert_eq!(methods(&desk, line), (expected, chosen), "{line:?} {is_terminal}");
    }
}

#[test]
fn only_a_person_is_asked_anything() {
    let typed = |desk: &Desk, line: &[&str]| sign_in(desk, line).typed;
    assert_eq!(typed(&terminal(), &[]), TypedBy::Person);
    assert_eq!(typed(&terminal(), &["--paste"]), TypedBy::Person);
    assert_eq!(typed(&terminal(), &["--json"]), TypedBy::Nobody);
    assert_eq!(typed(&terminal(), &["--json", "--paste"]), TypedBy::Program);
    assert_eq!(typed(&Desk::new(), &[]), TypedBy::Nobody);
    assert_eq!(typed(&Desk::new(), &["--paste"]), TypedBy::Program);
}

#[test]
fn everything_that_was_said_is_meant() {
    let desk = Desk::new();
    let pem = desk.folder.path().join("ca.pem");
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
    let login_args = sign_in(&desk, &line);
    assert_eq!(login_args.common.name, "ops");
    assert!(login_args.common.ca.is_some_and(|ca| ca.contains("BEGIN")));
    assert_eq!(login_args.issuer.expect("an issuer").as_str(), "https://issuer.example.org");
    assert_eq!(login_args.base, Base::parse("https://codex.example.org/v1").ok());
    assert!(login_args.replace);
    assert_eq!(login_args.form, OutputForm::Json);
    let plain = sign_in(&Desk::new(), &[]);
    assert_eq!(plain.common, LoginArgs { name: "default".into(), ca: None });
    assert!(plain.issuer.is_none() && plain.base.is_none() && !plain.replace);
    assert_eq!(plain.form, OutputForm::Lines);
}

#[test]
fn the_authority_of_the_configuration_is_trusted_here_too() {
    let desk = Desk::new().configured("ca = \"ca.pem\"");
    let beside = desk.folder.path().join(".config/airlock/ca.pem");
    std::fs::write(beside, "-----BEGIN CERTIFICATE-----\n").expect("written");
    assert!(sign_in(&desk, &[]).common.ca.is_some());
    assert!(matches!(desk.asked(&["logout"]), Ok(Action::Logout(LoginArgs { ca: Some(_), .. }))));
}

#[test]
fn an_authority_that_cannot_be_read_names_the_command() {
    let commands: [&[&str]; 5] = [
        &["setup", "codex-auth"],
        &["import", "codex"],
        &["status"],
        &["logout"],
        &["secrets", "--json"],
    ];
    for command in commands {
        let line: Vec<&str> = command.iter().chain(&["--ca", "/nowhere.pem"]).copied().collect();
        let (code, said) = Desk::new().refused(&line);
        let words: Vec<&str> =
            command.iter().filter(|word| !word.starts_with('-')).copied().collect();
        let hint = format!("\nairlock {} --ca FILE …", words.join(" "));
        assert!(code == 2 && said.ends_with(&hint), "{said}");
    }
}

#[test]
fn a_secret_is_taken_from_stdin_alone() {
    for line in [&["--api-key"][..], &["--api-key", "-"], &["--api-key", "--name", "team"]] {
        let desk = Desk::new().stdin(b"sk-canary\n");
        let how = sign_in(&desk, line).how;
        assert!(matches!(how, SignInWith::ApiKey(key) if key.reveal() == "sk-canary"), "{line:?}");
    }
    let desk = Desk::new().stdin(b"token-canary\n");
    let how = sign_in(&desk, &["--access-token", "-"]).how;
    assert!(matches!(how, SignInWith::AccessToken(token) if token.reveal() == "token-canary"));

    let expected = "usage: what is typed is seen by everybody on this machine: --api-key takes \
                    only `-`, which reads it from stdin\n\
                    airlock setup codex-auth --api-key - < FILE";
    let typed = Desk::new().refused(&["setup", "codex-auth", "--api-key", "sk-canary"]);
    assert_eq!(typed, (2, expected.to_owned()));
    let expected = "usage: what is typed into a terminal stays on the screen\n\
                    airlock setup codex-auth --access-token - < FILE";
    let typed = terminal().refused(&["setup", "codex-auth", "--access-token", "-"]);
    assert_eq!(typed, (2, expected.to_owned()));
    let expected = "usage: --api-key -: what stdin holds is not one key\n\
                    airlock setup codex-auth --api-key - < FILE";
    let two = Desk::new().stdin(b"sk-a\nsk-b\n").refused(&["setup", "codex-auth", "--api-key"]);
    assert_eq!(two, (2, expected.to_owned()));
    for line in [
        ["setup", "codex-auth", "--apikey=sk-canary"].as_slice(),
        ["setup", "codex-auth", "--api-key", "sk-canary", "--device"].as_slice(),
        ["setup", "codex-auth", "--access-token=sk-canary"].as_slice(),
        ["setup", "codex-auth", "sk-canary"].as_slice(),
    ] {
        let (code, said) = Desk::new().refused(line);
        assert_eq!(code, 2, "{said}");
        assert!(!said.contains("canary"), "{said}");
    }
}

#[test]
fn the_form_of_a_framework_is_the_command() {
    let words = |line: &[&str]| line.iter().map(OsString::from).collect::<Vec<_>>();
    let step = of_step(words(&["setup", "--step", "codex-auth", "--device"]), 1);
    assert_eq!(step, words(&["setup", "codex-auth", "--step", "--device"]));
    let step = of_step(words(&["airlock", "setup", "--step=codex-auth"]), 2);
    assert_eq!(step, words(&["airlock", "setup", "codex-auth", "--step"]));
    for other in [&["setup", "--step", "demo"][..], &["setup", "--step"], &["setup"]] {
        assert_eq!(of_step(words(other), 1), words(other));
    }
    assert_eq!(sign_in(&Desk::new(), &["--step"]).form, OutputForm::Step);
}

#[test]
fn the_other_commands_of_logins() {
    let desk = Desk::new().with("CODEX_HOME", "/c");
    assert!(
        matches!(desk.asked(&["logout"]), Ok(Action::Logout(login_args)) if login_args.name == "default")
    );
    assert!(
        matches!(desk.asked(&["logout", "x"]), Ok(Action::Logout(login_args)) if login_args.name == "x")
    );
    let secrets = desk.asked(&["secrets", "--json", "--login", "x"]);
    assert!(matches!(secrets, Ok(Action::Secrets(login_args)) if login_args.name == "x"));
    let Ok(Action::Import(import)) = desk.asked(&["import", "codex"]) else { panic!("an import") };
    assert_eq!((import.file.as_path(), import.yes), (Path::new("/c/auth.json"), false));
    let line = ["import", "codex", "f.json", "--name", "x", "--yes"];
    let Ok(Action::Import(import)) = desk.asked(&line) else { panic!("an import") };
    assert_eq!((import.file.as_path(), import.yes), (Path::new("f.json"), true));
    assert_eq!(import.common.name, "x");
    let Ok(Action::Import(import)) = Desk::new().asked(&["import", "codex"]) else {
        panic!("an import")
    };
    assert!(import.file.ends_with(".codex/auth.json"), "{}", import.file.display());
}

#[test]
fn every_command_means_the_login_that_pays() {
    let meant = |desk: &Desk, line: &[&str]| match desk.asked(line) {
        Ok(Action::Logout(login_args) | Action::Secrets(login_args)) => login_args.name,
        Ok(Action::SignIn(login_args)) => login_args.common.name,
        Ok(Action::Import(login_args)) => login_args.common.name,
        Ok(Action::Status(login_args)) => login_args.only.expect("a name"),
        Ok(_) => panic!("not about logins"),
        Err(failure) => panic!("{failure}"),
    };
    let unsaid: [&[&str]; 5] = [
        &["logout"],
        &["secrets", "--json"],
        &["setup", "codex-auth"],
        &["setup", "codex-auth", "--step"],
        &["import", "codex"],
    ];
    for line in unsaid {
        let team = Desk::new().with("AIRLOCK_LOGIN", "team");
        assert_eq!(meant(&team, line), "team", "{line:?}");
        let file = || Desk::new().configured("login = \"ops\"");
        assert_eq!(meant(&file(), line), "ops", "{line:?}");
        assert_eq!(meant(&file().with("AIRLOCK_LOGIN", "env"), line), "default", "{line:?}");
        assert_eq!(meant(&Desk::new(), line), "default", "{line:?}");
    }
    let said: [&[&str]; 6] = [
        &["logout", "x"],
        &["logout", "--name", "x"],
        &["secrets", "--json", "--login", "x"],
        &["secrets", "--json", "--name", "x"],
        &["setup", "codex-auth", "--name", "x"],
        &["status", "x"],
    ];
    for line in said {
        let team = Desk::new().with("AIRLOCK_LOGIN", "team");
        assert_eq!(meant(&team, line), "x", "{line:?}");
    }
}

#[test]
fn status_knows_what_pays_without_a_prompt() {
    let pays = |desk: &Desk| match desk.asked(&["status", "--quiet"]) {
        Ok(Action::Status(login_args)) => login_args.pays,
        _ => panic!("not a status"),
    };
    assert_eq!(pays(&Desk::new()), LoginChoice::Unsaid);
    assert_eq!(pays(&Desk::new().with("AIRLOCK_LOGIN", "team")), LoginChoice::Login("team".into()));
    assert_eq!(pays(&Desk::new().configured("login = \"env\"")), LoginChoice::Env);
    let desk = Desk::new().configured("api_key_file = \"~/key\"");
    assert_eq!(pays(&desk), LoginChoice::KeyFile(desk.folder.path().join("key")));
}
