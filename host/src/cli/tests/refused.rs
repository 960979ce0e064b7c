//! What is refused, word for word, before anything is done.

use super::*;

#[test]
fn a_key_is_taken_from_stdin_alone() {
    let expected = "usage: a key that is typed is seen by everybody on this machine: --api-key \
                    takes only `-`, which reads it from stdin\nairlock run --api-key - … < FILE";
    let typed = Desk::new().refused(&["run", "p", "--api-key", "sk-canary"]);
    assert_eq!(typed, (2, expected.to_owned()));
    let exported = Desk::new().with("AIRLOCK_API_KEY", "sk-canary").refused(&["run", "p"]);
    assert_eq!(exported, (2, expected.to_owned()));
    for line in [
        ["run", "p", "--apikey=sk-canary"].as_slice(),
        ["run", "p", "--api-key", "sk-canary", "--login", "x"].as_slice(),
        ["run", "p", "--api-key", "sk-canary", "--steps", "x"].as_slice(),
    ] {
        let (code, said) = Desk::new().refused(line);
        assert_eq!(code, 2, "{said}");
        assert!(!said.contains("canary"), "{said}");
    }
    let mut terminal = Desk::new();
    terminal.is_terminal = true;
    let expected = "usage: a key typed into a terminal stays on the screen\n\
                    airlock run --api-key - … < FILE";
    assert_eq!(terminal.refused(&["run", "p", "--api-key", "-"]), (2, expected.to_owned()));
    let expected = "usage: --api-key -: what stdin holds is not one key\n\
                    airlock run --api-key - … < FILE";
    let two = Desk::new().stdin(b"sk-a\nsk-b\n").refused(&["run", "p", "--api-key", "-"]);
    assert_eq!(two, (2, expected.to_owned()));
}

#[test]
fn who_pays_nothing_signs_in() {
    let nobody = Desk::new().refused(&["run", "p"]);
    let expected = "sign-in needed: no API key was given, and there is no login `default`\n\
                    airlock setup codex-auth";
    assert_eq!(nobody, (3, expected.to_owned()));
    let foreign = Desk::new().with("OPENAI_API_KEY", "sk-x");
    assert_eq!(foreign.refused(&["run", "p"]), (3, expected.to_owned()));
    assert!(matches!(
        foreign.settings(&["run", "p", "--login", "env"]).credential,
        CredentialChoice::Env
    ));
    let expected = "sign-in needed: --login env reads OPENAI_API_KEY, which is not set\n\
                    airlock run --api-key-file FILE …";
    let unset = Desk::new().refused(&["run", "p", "--login", "env"]);
    assert_eq!(unset, (3, expected.to_owned()));
    let stored = Desk::new();
    let logins = stored.folder.path().join(".local/state/airlock/logins");
    std::fs::create_dir_all(&logins).expect("a folder");
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
    let expected = "sign-in needed: login `default` is a credential for https://a.example.org/v1, \
                    and goes nowhere else; https://b.example.org/v1 needs one of its own, and \
                    then: airlock run --login NAME …\n\
                    airlock setup codex-auth --base-url https://b.example.org/v1 --name NAME";
    let elsewhere = stored.refused(&["run", "p", "--base-url", "https://b.example.org/v1"]);
    assert_eq!(elsewhere, (3, expected.to_owned()));
}

#[test]
fn what_does_not_go_is_said_with_what_does() {
    let cases: &[(&[&str], &str)] = &[
        (&[], "usage: say what to do\nairlock --help"),
        (&["setup"], "usage: say what to do\nairlock setup --help"),
        (
            &["rum"],
            "usage: unrecognized subcommand 'rum'; tip: a similar subcommand exists: 'run'\n\
             airlock --help",
        ),
        (&["run"], "usage: a prompt is missing\nairlock run \"say what this directory is\""),
        (&["run", " \n"], "usage: the prompt is blank\nairlock run \"say what this directory is\""),
        (
            &["run", "p", "--modle", "x"],
            "usage: unexpected argument '--modle' found; tip: a similar argument exists: '--model'\n\
             airlock run --help",
        ),
        (
            &["run", "p", "--memory", "2QB"],
            "usage: invalid value '2QB' for '--memory <SIZE>': a size is like 2GiB, 512MiB or \
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
            "usage: in handoff credentials the model's calls pass the host unseen, so there is nothing \
             to record or replay\nairlock run --credentials relay …",
        ),
        (
            &["run", "p", "--base-url", "http://example.org"],
            "usage: invalid value 'http://example.org' for '--base-url <URL>': plain http is allowed \
             only for this machine (127.0.0.1, ::1, localhost)\nairlock run --help",
        ),
        (
            &["run", "p", "--env", "A=b"],
            "usage: invalid value 'A=…' for '--env <NAME>': give the name alone: its value is taken \
             from your environment, where `ps` does not show it\nairlock run --help",
        ),
        (
            &["run", "p", "--env", "UNSET_HERE"],
            "usage: --env UNSET_HERE: it is not set here, or is not UTF-8\nexport UNSET_HERE=…",
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
            "usage: --replay /: it is a folder\nairlock run --replay FILE …",
        ),
        (
            &["run", "p", "--replay", "/dev/null"],
            "usage: --replay /dev/null: it is a device\nairlock run --replay FILE …",
        ),
        (
            &["run", "p", "--json", "-o", "/dev/stdout"],
            "usage: --output /dev/stdout: with --json only JSON lines go to stdout; the last of \
             them has the answer\nairlock run --output FILE …",
        ),
        (
            &["run", "p", "-o", "/"],
            "usage: --output /: it is a folder\nairlock run --output FILE …",
        ),
        (
            &["show", "7c"],
            "usage: invalid value '7c' for '<SESSION>': a session is named by the first 4 or more \
             digits of its id, see: airlock sessions\nairlock show --help",
        ),
        (
            &["login"],
            "usage: there is no command `login`; this one signs in\nairlock setup codex-auth",
        ),
        (
            &["setup", "auth"],
            "usage: there is no command `auth`; this one signs in\nairlock setup codex-auth",
        ),
        (
            &["setup", "--step", "doctor"],
            "usage: unknown step doctor; there is codex-auth\nairlock setup --step codex-auth",
        ),
        (
            &["setup", "--step=codexauth"],
            "usage: unknown step codexauth; there is codex-auth\nairlock setup --step codex-auth",
        ),
        (
            &["setup", "--step"],
            "usage: --step names a step; there is codex-auth\nairlock setup --step codex-auth",
        ),
        (&["sandbox"], "usage: say what to do\nairlock sandbox --help"),
        (&["import"], "usage: say what to do\nairlock import --help"),
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
            "usage: invalid value 'env' for '--name <NAME>': `env` stands for OPENAI_API_KEY; \
             another name is needed\nairlock setup codex-auth --help",
        ),
        (
            &["setup", "codex-auth", "--issuer", "http://example.org"],
            "usage: invalid value 'http://example.org' for '--issuer <URL>': plain http is allowed only \
             for this machine (127.0.0.1, ::1, localhost)\n\
             airlock setup codex-auth --help",
        ),
        (
            &["logout", "../x"],
            "usage: invalid value '../x' for '[NAME]': a login's name is made of letters, digits \
             and -._\nairlock logout --help",
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(Desk::new().refused(line), (2, (*expected).to_owned()), "{line:?}");
    }
    let variable = Desk::new().with("AIRLOCK_MEMORY", "lots").refused(&["run", "p"]);
    let expected = "usage: AIRLOCK_MEMORY: a size is like 2GiB, 512MiB or 400_000\n\
                    unset AIRLOCK_MEMORY";
    assert_eq!(variable, (2, expected.to_owned()));
    let file = Desk::new().configured("\nmodle = \"x\"\n").refused(&["run", "p"]);
    let expected = "usage: ~/.config/airlock/config.toml:2: unknown key `modle`; the nearest known \
                    one is `model`\nedit ~/.config/airlock/config.toml";
    assert_eq!(file, (2, expected.to_owned()));
}

#[test]
fn a_glob_that_cannot_be_read_is_said_with_its_place() {
    for line in [["run", "p", "--include", "["], ["run", "p", "--exclude", "["]] {
        let (code, said) = Desk::new().refused(&line);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains("missing ']' (character 1)"), "{said}");
    }
    let (code, said) = Desk::new().with("AIRLOCK_EXCLUDE", "ok,b[").refused(&["run", "p"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.starts_with("usage: AIRLOCK_EXCLUDE: \"b[\": "), "{said}");
    assert!(said.contains("(character 2)"), "{said}");
}

#[test]
fn what_live_cannot_leave_out_is_not_asked_of_it() {
    for (flag, line) in [
        ("--exclude", ["run", "p", "--live", "--exclude=x"]),
        ("--include", ["run", "p", "--live", "--include=x"]),
        ("--no-history", ["run", "p", "--live", "--no-history"]),
    ] {
        let expected = format!(
            "usage: with --live the directory itself is in the sandbox and nothing can be left out: \
             {flag} would do nothing\nleave out --live, or {flag}"
        );
        assert_eq!(Desk::new().refused(&line), (2, expected));
    }
    let by_variable =
        Desk::new().with("AIRLOCK_LIVE", "true").refused(&["run", "p", "--exclude=x"]);
    assert_eq!(by_variable.0, 2, "{}", by_variable.1);
    assert!(by_variable.1.ends_with("airlock run --live=false …, or leave out --exclude"));
    // Standing settings are for other runs too.
    let standing = [("AIRLOCK_EXCLUDE", "x"), ("AIRLOCK_NO_HISTORY", "true")];
    assert_eq!(config(&["--live"], &standing, "include = [\"y\"]").workspace, WorkspaceMode::Live);
}

#[test]
fn no_complaint_repeats_what_may_be_a_secret() {
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
        let (code, said) = Desk::new().refused(line);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(shown) && !said.contains("canary"), "{line:?}: {said}");
    }
}
