//! Usage errors, word for word.

use super::*;

#[test]
fn a_key_is_taken_from_stdin_alone() {
    let expected = "usage: every user of this machine can see a key in an argument: --api-key \
                    accepts only `-`, which reads the key from stdin\n\
                    airlock run --api-key - … < FILE";
    let typed = TestCli::new().refused(&["run", "p", "--api-key", "sk-canary"]);
    assert_eq!(typed, (2, expected.to_owned()));
    let exported = TestCli::new().with("AIRLOCK_API_KEY", "sk-canary").refused(&["run", "p"]);
    assert_eq!(exported, (2, expected.to_owned()));
    for line in [
        ["run", "p", "--apikey=sk-canary"].as_slice(),
        ["run", "p", "--api-key", "sk-canary", "--login", "x"].as_slice(),
        ["run", "p", "--api-key", "sk-canary", "--steps", "x"].as_slice(),
    ] {
        let (code, message) = TestCli::new().refused(line);
        assert_eq!(code, 2, "{message}");
        assert!(!message.contains("canary"), "{message}");
    }
    let mut terminal = TestCli::new();
    terminal.is_terminal = true;
    let expected = "usage: a key that you type at a terminal stays on the screen\n\
                    airlock run --api-key - … < FILE";
    assert_eq!(terminal.refused(&["run", "p", "--api-key", "-"]), (2, expected.to_owned()));
    let expected = "usage: --api-key -: stdin must have exactly one key\n\
                    airlock run --api-key - … < FILE";
    let two = TestCli::new().stdin(b"sk-a\nsk-b\n").refused(&["run", "p", "--api-key", "-"]);
    assert_eq!(two, (2, expected.to_owned()));
}

#[test]
fn without_a_credential_a_sign_in_is_needed() {
    let none = TestCli::new().refused(&["run", "p"]);
    let expected = "sign-in needed: no API key was given, and there is no login `default`\n\
                    airlock setup codex-auth";
    assert_eq!(none, (3, expected.to_owned()));
    let foreign = TestCli::new().with("OPENAI_API_KEY", "sk-x");
    assert_eq!(foreign.refused(&["run", "p"]), (3, expected.to_owned()));
    assert!(matches!(
        foreign.settings(&["run", "p", "--login", "env"]).credential,
        CredentialChoice::Env
    ));
    let expected = "sign-in needed: --login env needs OPENAI_API_KEY, which is not set\n\
                    airlock run --api-key-file FILE …";
    let unset = TestCli::new().refused(&["run", "p", "--login", "env"]);
    assert_eq!(unset, (3, expected.to_owned()));
    let stored = TestCli::new();
    let logins = stored.folder.path().join(".local/state/airlock/logins");
    std::fs::create_dir_all(&logins).expect("a directory");
    std::fs::write(logins.join("default.json"), "{}").expect("written");
    let settings = stored.settings(&["run", "p"]);
    assert!(matches!(settings.credential, CredentialChoice::Login(name) if name == "default"));
    assert_eq!(settings.base, BaseChoice::OfLogin);
    let expected = "sign-in needed: there is no login `nosuch`\n\
                    airlock setup codex-auth --name nosuch";
    let nosuch = stored.refused(&["run", "p", "--login", "nosuch"]);
    assert_eq!(nosuch, (3, expected.to_owned()));
    let expected = "usage: --api-key-file /nosuch: No such file or directory (os error 2)\n\
                    airlock run --api-key-file FILE …";
    let nosuch = stored.refused(&["run", "p", "--api-key-file", "/nosuch"]);
    assert_eq!(nosuch, (2, expected.to_owned()));
    // A login for another base than the one that was asked for.
    let key = r#"{"v":2,"kind":"api_key","base":"https://a.example.org/v1","api_key":"sk-canary","generation":0}"#;
    let file = logins.join("default.json");
    std::fs::write(&file, key).expect("written");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("a mode");
    let expected = "sign-in needed: the login `default` is only sent to https://a.example.org/v1; \
                    https://b.example.org/v1 needs its own login, which you then name with --login \
                    NAME\n\
                    airlock setup codex-auth --base-url https://b.example.org/v1 --name NAME";
    let other_base = stored.refused(&["run", "p", "--base-url", "https://b.example.org/v1"]);
    assert_eq!(other_base, (3, expected.to_owned()));
}

#[test]
fn each_usage_error_has_its_reason_and_hint() {
    let cases: &[(&[&str], &str)] = &[
        (&[], "usage: a command or an option is missing\nairlock --help"),
        (&["setup"], "usage: a command or an option is missing\nairlock setup --help"),
        (
            &["rum"],
            "usage: unrecognized subcommand 'rum'; tip: a similar subcommand exists: 'run'\n\
             airlock --help",
        ),
        (&["run"], "usage: the prompt is missing\nairlock run \"say what this directory is\""),
        (&["run", " \n"], "usage: the prompt is blank\nairlock run \"say what this directory is\""),
        (
            &["run", "p", "--modle", "x"],
            "usage: unexpected argument '--modle' found; tip: a similar argument exists: '--model'\n\
             airlock run --help",
        ),
        (
            &["run", "p", "--memory", "2QB"],
            "usage: invalid value '2QB' for '--memory <SIZE>': a size must look like 2GiB, 512MiB or \
             400_000\nairlock run --help",
        ),
        (
            &["run", "p", "--login", "a", "--api-key-file", "b"],
            "usage: the argument '--login <NAME>' cannot be used with '--api-key-file <FILE>'\n\
             airlock run --help",
        ),
        (
            &["run", "p", "--record", "a", "--replay", "b"],
            "usage: the argument '--record <FILE>' cannot be used with '--replay <FILE>'\n\
             airlock run --help",
        ),
        (
            &["run", "p", "--record", "a", "--credentials", "handoff"],
            "usage: with --credentials handoff the host does not see the model requests, so it cannot \
             record or replay them\nairlock run --credentials relay …",
        ),
        (
            &["run", "p", "--base-url", "http://example.org"],
            "usage: invalid value 'http://example.org' for '--base-url <URL>': plain http is allowed \
             only for this machine (127.0.0.1, ::1, localhost)\nairlock run --help",
        ),
        (
            &["run", "p", "--env", "A=b"],
            "usage: invalid value 'A=…' for '--env <NAME>': give only the name; the value is read from \
             your environment, because `ps` shows arguments to everyone\nairlock run --help",
        ),
        (
            &["run", "p", "--env", "UNSET_HERE"],
            "usage: --env UNSET_HERE: the variable is not set, or is not UTF-8\nexport UNSET_HERE=…",
        ),
        (
            &["run", "p", "-C", "/nowhere-at-all"],
            "usage: /nowhere-at-all cannot be used: No such file or directory (os error 2)\n\
             airlock run -C DIR …",
        ),
        (
            &["run", "p", "-C", "/dev/null"],
            "usage: /dev/null is not a directory\nairlock run -C DIR …",
        ),
        (
            &["run", "p", "--replay", "/nowhere.jsonl"],
            "usage: --replay /nowhere.jsonl: there is no such file\nairlock run --record FILE …",
        ),
        (
            &["run", "p", "--replay", "/"],
            "usage: --replay /: it is a directory\nairlock run --replay FILE …",
        ),
        (
            &["run", "p", "--replay", "/dev/null"],
            "usage: --replay /dev/null: it is a device\nairlock run --replay FILE …",
        ),
        (
            &["run", "p", "--json", "-o", "/dev/stdout"],
            "usage: --output /dev/stdout: --json writes only JSON lines to stdout, and the last one has \
             the answer\nairlock run --output FILE …",
        ),
        (
            &["run", "p", "-o", "/"],
            "usage: --output /: it is a directory\nairlock run --output FILE …",
        ),
        (
            &["show", "7c"],
            "usage: invalid value '7c' for '<SESSION>': give the first 4 or more digits of the session's \
             id; to list sessions: airlock sessions\nairlock show --help",
        ),
        (&["login"], "usage: unknown command `login`; to sign in:\nairlock setup codex-auth"),
        (
            &["setup", "auth"],
            "usage: unknown command `auth`; to sign in:\nairlock setup codex-auth",
        ),
        (
            &["setup", "--step", "doctor"],
            "usage: unknown step doctor; the only one is codex-auth\nairlock setup --step codex-auth",
        ),
        (
            &["setup", "--step=codexauth"],
            "usage: unknown step codexauth; the only one is codex-auth\nairlock setup --step codex-auth",
        ),
        (
            &["setup", "--step"],
            "usage: --step needs the name of a step; the only one is codex-auth\nairlock setup --step codex-auth",
        ),
        (&["sandbox"], "usage: a command or an option is missing\nairlock sandbox --help"),
        (&["import"], "usage: a command or an option is missing\nairlock import --help"),
        (
            &["secrets"],
            "usage: the following required arguments were not provided: --json\n\
             airlock secrets --help",
        ),
        (
            &["setup", "codex-auth", "--browser", "--device"],
            "usage: the argument '--browser' cannot be used with '--device'\n\
             airlock setup codex-auth --help",
        ),
        (
            &["setup", "codex-auth", "--name", "env"],
            "usage: invalid value 'env' for '--name <NAME>': `env` means OPENAI_API_KEY; use another \
             name\nairlock setup codex-auth --help",
        ),
        (
            &["setup", "codex-auth", "--issuer", "http://example.org"],
            "usage: invalid value 'http://example.org' for '--issuer <URL>': plain http is allowed only \
             for this machine (127.0.0.1, ::1, localhost)\n\
             airlock setup codex-auth --help",
        ),
        (
            &["logout", "../x"],
            "usage: invalid value '../x' for '[NAME]': a login's name may only have letters, digits \
             and -._\nairlock logout --help",
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(TestCli::new().refused(line), (2, (*expected).to_owned()), "{line:?}");
    }
    let variable = TestCli::new().with("AIRLOCK_MEMORY", "lots").refused(&["run", "p"]);
    let expected = "usage: AIRLOCK_MEMORY: a size must look like 2GiB, 512MiB or 400_000\n\
                    unset AIRLOCK_MEMORY";
    assert_eq!(variable, (2, expected.to_owned()));
    let file = TestCli::new().configured("\nmodle = \"x\"\n").refused(&["run", "p"]);
    let expected = "usage: ~/.config/airlock/config.toml:2: unknown key `modle`; did you mean \
                    `model`?\nedit ~/.config/airlock/config.toml";
    assert_eq!(file, (2, expected.to_owned()));
}

#[test]
fn an_error_in_a_glob_names_the_position() {
    for line in [["run", "p", "--include", "["], ["run", "p", "--exclude", "["]] {
        let (code, message) = TestCli::new().refused(&line);
        assert_eq!(code, 2, "{message}");
        assert!(message.contains("missing ']' (character 1)"), "{message}");
    }
    let (code, message) = TestCli::new().with("AIRLOCK_EXCLUDE", "ok,b[").refused(&["run", "p"]);
    assert_eq!(code, 2, "{message}");
    assert!(message.starts_with("usage: AIRLOCK_EXCLUDE: \"b[\": "), "{message}");
    assert!(message.contains("(character 2)"), "{message}");
}

#[test]
fn a_flag_that_has_no_effect_with_live_is_an_error() {
    for (flag, line) in [
        ("--exclude", ["run", "p", "--live", "--exclude=x"]),
        ("--include", ["run", "p", "--live", "--include=x"]),
        ("--no-history", ["run", "p", "--live", "--no-history"]),
    ] {
        let expected = format!(
            "usage: --live puts the directory itself into the sandbox, so nothing can be left out: \
             {flag} has no effect\nremove --live, or remove {flag}"
        );
        assert_eq!(TestCli::new().refused(&line), (2, expected));
    }
    let by_variable =
        TestCli::new().with("AIRLOCK_LIVE", "true").refused(&["run", "p", "--exclude=x"]);
    assert_eq!(by_variable.0, 2, "{}", by_variable.1);
    assert!(by_variable.1.ends_with("airlock run --live=false …, or remove --exclude"));
    // The environment and the file are for other sessions too.
    let configured = [("AIRLOCK_EXCLUDE", "x"), ("AIRLOCK_NO_HISTORY", "true")];
    assert_eq!(
        config(&["--live"], &configured, "include = [\"y\"]").workspace,
        WorkspaceMode::Live
    );
}

#[test]
fn no_message_repeats_a_possible_secret() {
    let cases: &[(&[&str], &str)] = &[
        (&["run", "p", "--env", "OPENAI_API_KEY=sk-canary"], "'OPENAI_API_KEY=…' for"),
        (&["run", "p", "--base-url", "https://ada:canary@x.example/"], "'https://…' for"),
        (&["run", "p", "--base-url", "https://x.example/?key=canary"], "'https://x.example…' for"),
        (&["run", "p", "--base-url", "ada:canary@x.example"], "'…' for"),
        (&["run", "p", "--credentials", "sk-proj-0123-canary"], "'sk-proj…' for"),
        (&["run", "p", "sk-proj-0123-canary"], "unexpected argument 'sk-proj…'"),
        (&["setup", "codex-auth", "--issuer", "https://a:canary@x/"], "'https://…' for"),
        (&["setup", "--step", "sk-proj-0123-canary"], "unknown step sk-proj…;"),
        (&["sk-proj-0123-canary"], "'sk-proj…'"),
    ];
    for (line, shown) in cases {
        let (code, message) = TestCli::new().refused(line);
        assert_eq!(code, 2, "{message}");
        assert!(message.contains(shown) && !message.contains("canary"), "{line:?}: {message}");
    }
}
