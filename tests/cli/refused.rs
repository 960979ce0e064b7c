//! Error messages, word for word: a headline, a reason, one thing to do. Nothing here needs an
//! engine, an account or a network.

use airlock_tests::{Rig, tree};

use super::{key_file, run_cli, unwrapped};

/// Checks the exit code and stderr of a command line; stdout must be empty.
async fn refused(rig: &Rig, line: &[&str], exit: i32, expected: &str) {
    let result = run_cli(rig, line).await;
    assert_eq!((result.exit, result.stderr.as_str()), (Some(exit), expected), "{line:?}");
    assert_eq!(result.stdout, "", "{line:?}");
}

#[tokio::test]
async fn usage_errors_are_as_written_here() {
    let rig = Rig::new();
    std::fs::write(rig.workspace().join("c.jsonl"), "").expect("written");
    let handoff = "usage: with --credentials handoff the host does not see the model requests, so it \
                   cannot record\nor replay them\nairlock run --credentials relay …\n";
    let typed = "usage: every user of this machine can see a key in an argument: --api-key accepts \
                 only `-`,\nwhich reads the key from stdin\nairlock run --api-key - … < FILE\n";
    let cases: [(&[&str], &str); 10] = [
        (
            &["rum"],
            "usage: unrecognized subcommand 'rum'; tip: a similar subcommand exists: \
             'run'\nairlock --help\n",
        ),
        (&["run"], "usage: the prompt is missing\nairlock run \"say what this directory is\"\n"),
        (
            &["run", "p", "--modle", "x"],
            "usage: unexpected argument '--modle' found; tip: a similar argument exists: \
             '--model'\nairlock run --help\n",
        ),
        (&["run", "p", "--api-key", "sk-canary-typed"], typed),
        (
            &["run", "-", "--api-key", "-"],
            "usage: stdin cannot hold both the prompt and the key\n\
             airlock run --api-key-file FILE - < PROMPT\n",
        ),
        (&["run", "p", "--replay", "c.jsonl", "--credentials", "handoff"], handoff),
        (&["run", "p", "--record", "d.jsonl", "--credentials", "handoff"], handoff),
        (
            &["run", "p", "--base-url", "not a url"],
            "usage: invalid value 'not a url' for '--base-url <URL>': it is not an http or https \
             URL\nairlock run --help\n",
        ),
        (
            &["run", "p", "--base-url", "http://example.org"],
            "usage: invalid value 'http://example.org' for '--base-url <URL>': plain http is \
             allowed only for\nthis machine (127.0.0.1, ::1, localhost)\nairlock run --help\n",
        ),
        (
            &["show", "7c"],
            "usage: invalid value '7c' for '<SESSION>': give the first 4 or more digits of the session's \
             id;\nto list sessions: airlock sessions\nairlock show --help\n",
        ),
    ];
    for (line, expected) in cases {
        refused(&rig, line, 2, expected).await;
    }
}

#[tokio::test]
async fn without_a_credential_a_sign_in_is_needed() {
    let rig = Rig::new().variable("OPENAI_API_KEY", "sk-foreign");
    let expected = "sign-in needed: no API key was given, and there is no login `default`\n\
                    airlock setup codex-auth\n";
    refused(&rig, &["run", "p"], 3, expected).await;
    let expected = "sign-in needed: --login env needs OPENAI_API_KEY, which is not set\n\
                    airlock run --api-key-file FILE …\n";
    refused(&Rig::new(), &["run", "p", "--login", "env"], 3, expected).await;
}

#[tokio::test]
async fn the_configuration_is_taken_whole_or_not_at_all() {
    let rig = Rig::new();
    let configured = |text: &str| {
        tree::write(&rig.home().join("config/airlock"), &[("config.toml", text)]);
    };
    let edit = "edit ~/config/airlock/config.toml\n";
    configured("effort = \"low\"\nmodle = \"x\"\n");
    let expected = "usage: ~/config/airlock/config.toml:2: unknown key `modle`; did you mean \
                    `model`?\n";
    let whole = run_cli(&rig, &["run", "p"]).await;
    // Where the line breaks depends on the length of the home's path.
    assert_eq!(
        (whole.exit, unwrapped(&whole.stderr)),
        (Some(2), unwrapped(&(expected.to_owned() + edit)))
    );
    configured("api_key = \"sk-canary-kept\"\n");
    let whole = run_cli(&rig, &["run", "p"]).await;
    let expected = "usage: ~/config/airlock/config.toml:1: a key must not be in this file: name the \
                    key's file with `api_key_file`\n";
    assert_eq!(
        (whole.exit, unwrapped(&whole.stderr)),
        (Some(2), unwrapped(&(expected.to_owned() + edit)))
    );
    // Files of the directory that is worked on configure nothing.
    configured("");
    tree::write(
        rig.workspace(),
        &[("config.toml", "modle = 1"), (".airlock/config.toml", "modle = 1")],
    );
    assert_eq!(run_cli(&rig, &["run", "p"]).await.exit, Some(3));
}

/// Otherwise a misspelt limit would have no effect.
#[tokio::test]
async fn a_variable_that_is_misspelt_is_refused() {
    let rig = Rig::new().variable("AIRLOCK_MEMROY", "sk-canary");
    let expected = "usage: unknown variable AIRLOCK_MEMROY; did you mean AIRLOCK_MEMORY?\n\
                    unset AIRLOCK_MEMROY\n";
    refused(&rig, &["run", "p"], 2, expected).await;
    refused(&rig, &["doctor"], 2, expected).await;
}

#[tokio::test]
async fn the_keys_of_the_readme_are_known() {
    let readme = include_str!("../../README.md");
    let keys = readme.split("Keys of `config.toml`:").nth(1).unwrap_or_default();
    let keys = keys.split("\n\n").next().unwrap_or_default().split('`').skip(1).step_by(2);
    let keys: Vec<&str> = keys.collect();
    assert_eq!(keys.len(), 27, "{keys:?}");
    let rig = Rig::new();
    let configured = |key: &str| {
        let text = format!("{key} = [[]]\n");
        tree::write(&rig.home().join("config/airlock"), &[("config.toml", &text)]);
    };
    for key in keys {
        configured(key);
        let result = run_cli(&rig, &["run", "p"]).await;
        let expected = format!("{key}: it must be a list of strings");
        assert!(unwrapped(&result.stderr).contains(&expected), "{key}: {result:?}");
    }
    configured("unknown_key");
    assert!(run_cli(&rig, &["run", "p"]).await.stderr.contains("unknown key"));
}

#[tokio::test]
async fn an_engine_that_cannot_be_used_is_one_sentence() {
    let rig = Rig::new().variable("DOCKER_HOST", "unix:///none");
    let key = key_file(&rig);
    let none = "no container engine: there is no socket at unix:///none\n\
                install and start Docker, or point DOCKER_HOST at a running engine; then: airlock doctor\n";
    refused(&rig, &["run", "p", "--api-key-file", &key], 6, none).await;
    refused(&rig, &["setup", "demo"], 6, none).await;
    refused(&rig, &["setup", "image"], 6, none).await;
    let doctor = run_cli(&rig, &["doctor"]).await;
    assert_eq!(doctor.exit, Some(6));
    assert!(doctor.stderr.contains("there is no socket at unix:///none"), "{doctor:?}");
}

/// Root access to another machine over an unprotected connection is not even tried.
#[tokio::test]
async fn tcp_without_tls_to_another_machine_is_refused() {
    let rig = Rig::new().variable("DOCKER_HOST", "tcp://192.0.2.1:2375");
    let key = key_file(&rig);
    let expected = "the engine's address cannot be used: tcp://192.0.2.1:2375: tcp without TLS to \
                    another machine:\nan attacker on the network could read and change it\n\
                    use TLS (DOCKER_TLS_VERIFY=1), or forward the socket: ssh -N -L \
                    /tmp/engine.sock:/var/run/docker.sock HOST, then \
                    DOCKER_HOST=unix:///tmp/engine.sock\n";
    refused(&rig, &["run", "p", "--api-key-file", &key], 6, expected).await;
}

#[tokio::test]
async fn a_missing_image_is_an_error_with_its_command() {
    let ran = Rig::new().in_words().image("127.0.0.1:1/nobody/nothing:1").flags(&["-q"]);
    let ran = ran.prompt("x").run().await.assert_exit(6, "");
    let expected = "no sandbox: the image cannot be fetched: 127.0.0.1:1/nobody/nothing:1: ";
    assert!(ran.stderr.starts_with(expected), "{}", ran.stderr);
    assert!(ran.stderr.ends_with("\ndocker pull 127.0.0.1:1/nobody/nothing:1\n"), "{}", ran.stderr);
}

/// One table, in the help and in the README.
#[tokio::test]
async fn the_exit_codes_are_one_table() {
    let readme = include_str!("../../README.md");
    let rows = readme.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [code, meaning] = cells[..] else { return None };
        Some(format!("{:>5}  {meaning}", code.parse::<u8>().ok()?))
    });
    let rows: Vec<String> = rows.collect();
    assert_eq!(rows.len(), 9, "{rows:#?}");
    for line in [&["--help"][..], &["run", "--help"][..]] {
        let help = run_cli(&Rig::new(), line).await;
        assert_eq!((help.exit, help.stderr.as_str()), (Some(0), ""));
        let after = help.stdout.split("Exit codes:\n").nth(1).unwrap_or_default();
        let shown: Vec<&str> = after.lines().take_while(|line| !line.is_empty()).collect();
        assert_eq!(shown, rows);
        assert!(help.stdout.lines().all(|line| line.chars().count() <= 96), "{}", help.stdout);
    }
}

/// A repository may have a link or a fifo with the name that a person gives for the answer.
#[tokio::test]
async fn nothing_is_written_through_a_link_or_into_a_fifo_of_the_directory() {
    let rig = Rig::new();
    let bashrc = rig.home().join(".bashrc");
    std::fs::write(&bashrc, "mine\n").expect("written");
    std::os::unix::fs::symlink(&bashrc, rig.workspace().join("answer.md")).expect("a link");
    let (fifo, mode) = (rig.workspace().join("fifo"), rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0)
        .expect("a fifo");
    let key = key_file(&rig);
    for flag in ["--output", "--record"] {
        for (name, why) in [("answer.md", "those are not followed"), ("fifo", "it is a fifo")] {
            let result = run_cli(&rig, &["run", "p", "--api-key-file", &key, flag, name]).await;
            assert_eq!(result.exit, Some(2), "{result:?}");
            let reason = unwrapped(&result.stderr);
            assert!(reason.starts_with(&format!("usage: {flag} {name}: ")), "{result:?}");
            assert!(reason.contains(why), "{result:?}");
        }
    }
    let extracted = run_cli(&rig, &["sandbox", "--extract", "fifo"]).await;
    let expected = "usage: --extract fifo: it is a fifo\nairlock sandbox --extract FILE\n";
    assert_eq!((extracted.exit, extracted.stderr.as_str()), (Some(2), expected));
    // A directory that is not a repository, such as an unpacked archive.
    for name in ["answer.md", "./answer.md"] {
        let extracted = run_cli(&rig, &["sandbox", "--extract", name]).await;
        assert_eq!(extracted.exit, Some(2), "{extracted:?}");
        assert!(unwrapped(&extracted.stderr).contains("those are not followed"), "{extracted:?}");
    }
    assert_eq!(std::fs::read_to_string(&bashrc).expect("there"), "mine\n");
    assert!(
        run_cli(&rig, &["sessions"]).await.stdout.starts_with("no sessions"),
        "a session was begun"
    );
}
