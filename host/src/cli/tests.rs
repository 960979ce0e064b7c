//! Arguments, environment and configuration in; one action or one error message out.

use std::io::Read;
use std::path::PathBuf;

use airlock_shared::base::Base;
use airlock_shared::job::Budget;
use clap::CommandFactory;

use super::*;
use crate::cli::config::{LoginChoice, OutputChoice, Prompt};
use crate::exit::Exit;
use crate::session::settings::{
    BaseChoice, CredentialChoice, CredentialsMode, DiskOn, ImageChoice, ModelSelection,
    RecordingChoice, SandboxLimits, SessionSettings, WorkspaceMode,
};

mod logins; // the commands about logins
mod refused; // usage errors, word for word

/// A person's home, environment and stdin.
struct TestCli {
    folder: tempfile::TempDir,
    environment: Vec<(&'static str, String)>,
    stdin: &'static [u8],
    is_terminal: bool,
}

/// A stdin that must not be read.
struct UnreadStdin;

impl Read for UnreadStdin {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        panic!("stdin was read without need");
    }
}

impl TestCli {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let home = folder.path().to_str().expect("a path").to_owned();
        Self { folder, environment: vec![("HOME", home)], stdin: b"", is_terminal: false }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    fn configured(self, text: &str) -> Self {
        let folder = self.folder.path().join(".config/airlock");
        std::fs::create_dir_all(&folder).expect("a directory");
        std::fs::write(folder.join("config.toml"), text).expect("written");
        self
    }

    fn stdin(mut self, stdin: &'static [u8]) -> Self {
        self.stdin = stdin;
        self
    }

    fn action(&self, line: &[&str]) -> Result<Action, Failure> {
        let arguments: Vec<OsString> = ["airlock"].iter().chain(line).map(OsString::from).collect();
        let command = Flags::try_parse_from(&arguments)
            .map_err(|error| usage_failure(&error, &arguments))?
            .command;
        let environment = Environment::from_iter(self.environment.clone());
        let places = Places::of(&environment)?;
        let mut given = self.stdin;
        let mut unread = UnreadStdin;
        let input: &mut dyn Read = if given.is_empty() { &mut unread } else { &mut given };
        resolve(command, &environment, &places, Stdin { input, is_terminal: self.is_terminal })
    }

    fn settings(&self, line: &[&str]) -> SessionSettings {
        match self.action(line) {
            Ok(Action::Run { settings, .. }) => *settings,
            Ok(_) => panic!("another command"),
            Err(failure) => panic!("{failure}"),
        }
    }

    fn refused(&self, line: &[&str]) -> (u8, String) {
        match self.action(line) {
            Ok(_) => panic!("accepted"),
            Err(failure) => {
                let home = self.folder.path().to_str().expect("a path");
                let reason = failure.reason.replace(home, "~");
                let hint = failure.hint.unwrap_or_default().replace(home, "~");
                (failure.exit.code(), format!("{}: {reason}\n{hint}", failure.headline))
            }
        }
    }
}

fn config(line: &[&str], environment: &[(&str, &str)], file: &str) -> Config {
    let arguments = ["airlock", "run", "-C", "/x", "p"].iter().chain(line);
    let Command::Run(run) = Flags::try_parse_from(arguments).expect("flags").command else {
        panic!("another command");
    };
    let environment = Environment::from_iter(environment.iter().copied());
    let file = file::parse(file, std::path::Path::new("config.toml")).expect("a configuration");
    Config::resolve(*run, &environment, file).expect("a config")
}

#[test]
fn the_commands_are_valid_for_clap() {
    Flags::command().debug_assert();
    SetupProgram::command().debug_assert();
}

#[test]
fn without_settings_all_are_the_defaults() {
    let resolved = config(&[], &[], "");
    let expected = Config {
        prompt: Prompt::Typed("p".into()),
        dir: PathBuf::from("/x"),
        login_choice: LoginChoice::Default,
        base: None,
        ca: None,
        identity: crate::session::settings::Identity {
            originator: "codex_cli_rs".into(),
            version: "0.169.0".into(),
            user_agent: airlock_shared::defaults::user_agent("codex_cli_rs", "0.169.0"),
            service_tier: None,
        },
        model: ModelSelection::default(),
        credentials: CredentialsMode::Relay,
        image: ImageChoice::Base,
        workspace: WorkspaceMode::Copy { include: vec![], exclude: vec![], history: true },
        budget: Budget { steps: 100, tokens: 4_000_000, seconds: 3_600 },
        limits: SandboxLimits {
            memory: 2 << 30,
            cpus: 2.0,
            pids: 512,
            disk: 2 << 30,
            disk_on: DiskOn::Tmpfs,
        },
        env: vec![],
        recording: RecordingChoice::None,
        turn_printer: OutputChoice::default(),
    };
    assert_eq!(resolved, expected);
}

#[test]
fn a_flag_wins_over_a_variable_and_a_variable_over_the_file() {
    let file = "model = \"of-file\"\neffort = \"low\"\nsteps = 3\nexclude = [\"a\", \"b\"]\nlive = true\n\
                originator = \"ours\"\nservice_tier = \"flex\"";
    let environment = [
        ("AIRLOCK_MODEL", "of-env"),
        ("AIRLOCK_STEPS", "4"),
        ("AIRLOCK_LIVE", "false"),
        ("AIRLOCK_TOKENS", ""),
        ("MODEL", "foreign"),
        ("OPENAI_MODEL", "foreign"),
    ];
    let resolved = config(&["--model", "of-flag", "--tokens", "400_000"], &environment, file);
    assert_eq!(resolved.model.slug.as_deref(), Some("of-flag"));
    assert_eq!(resolved.model.effort.as_deref(), Some("low"));
    assert_eq!(resolved.budget, Budget { steps: 4, tokens: 400_000, seconds: 3_600 });
    let exclude = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(resolved.workspace, WorkspaceMode::Copy { include: vec![], exclude, history: true });
    assert_eq!(resolved.identity.originator, "ours");
    assert!(resolved.identity.user_agent.starts_with("ours/"));
    assert_eq!(resolved.identity.service_tier.as_deref(), Some("flex"));
    let copied = [("AIRLOCK_EXCLUDE", "*.{x,y},d"), ("AIRLOCK_LIVE", "false")];
    let shorter = config(&["--exclude", "c"], &copied, file);
    let exclude = vec!["c".to_owned()];
    assert_eq!(shorter.workspace, WorkspaceMode::Copy { include: vec![], exclude, history: true });
    assert_eq!(config(&[], &[], file).workspace, WorkspaceMode::Live);
    let listed = config(&[], &[("AIRLOCK_EXCLUDE", "*.{x,y},d")], "");
    let exclude = vec!["*.{x,y}".to_owned(), "d".to_owned()];
    assert_eq!(listed.workspace, WorkspaceMode::Copy { include: vec![], exclude, history: true });
}

#[test]
fn the_credential_is_one_choice_of_the_highest_layer() {
    let file = "login = \"of-file\"";
    let environment = [("AIRLOCK_API_KEY_FILE", "/k")];
    assert_eq!(config(&[], &[], file).login_choice, LoginChoice::Login("of-file".into()));
    assert_eq!(config(&[], &environment, file).login_choice, LoginChoice::KeyFile("/k".into()));
    assert_eq!(config(&["--login", "env"], &environment, file).login_choice, LoginChoice::Env);
    assert_eq!(
        config(&["--api-key", "-"], &environment, file).login_choice,
        LoginChoice::KeyOnStdin
    );
    assert_eq!(config(&["--replay", "c"], &environment, file).login_choice, LoginChoice::Replay);
}

#[test]
fn every_name_of_the_tables_can_be_set_and_is_explained() {
    use crate::cli::settings::{CONFIG_ONLY, CONFIGURABLE, GivenValue, PER_SESSION, Settings};
    let mut flags = Flags::command();
    let run = flags.find_subcommand_mut("run").expect("run");
    let help = run.render_long_help().to_string();
    for name in CONFIGURABLE.iter().chain(&PER_SESSION) {
        assert!(help.contains(&format!("--{}", name.replace('_', "-"))), "{name}");
    }
    for name in &CONFIG_ONLY {
        assert!(help.contains(name), "{name}");
    }
    let is_ours = |long: Option<&str>| long.is_some_and(|long| long != "help");
    let flags = run.get_arguments().filter(|argument| is_ours(argument.get_long())).count();
    assert_eq!(flags, CONFIGURABLE.len() + PER_SESSION.len());
    for name in CONFIGURABLE.iter().chain(&PER_SESSION).chain(&CONFIG_ONLY) {
        let set = Settings::default().set(name, &GivenValue::Text("\u{0}".into()));
        assert_ne!(set, Err("there is no such setting".to_owned()), "{name}");
    }
}

#[test]
fn the_help_has_examples_exit_codes_and_paths() {
    let mut flags = Flags::command();
    let help = flags.render_help().to_string();
    for part in ["airlock setup demo", "~/.local/state/airlock/sessions/", &crate::exit::table()] {
        assert!(help.contains(part), "{part}\n{help}");
    }
    for name in ["run", "setup", "sandbox", "apply", "status", "logout", "import", "secrets"] {
        let command = flags.find_subcommand_mut(name).expect(name);
        let help = command.render_long_help().to_string();
        assert!(help.contains("Usage:"), "{help}");
    }
    let setup = flags.find_subcommand_mut("setup").expect("setup");
    let help = setup.find_subcommand_mut("codex-auth").expect("codex-auth").render_long_help();
    for line in help.to_string().lines() {
        assert!(line.chars().count() <= 96, "{line}");
    }
}

#[test]
fn every_command_and_every_argument_is_explained() {
    fn check(command: &clap::Command, path: &str) {
        assert!(command.get_about().is_some(), "{path}");
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            assert!(argument.get_help().is_some(), "{path}: {argument}");
        }
        for deeper in command.get_subcommands() {
            check(deeper, &format!("{path} {}", deeper.get_name()));
        }
    }
    for command in [Flags::command(), SetupProgram::command()] {
        check(&command, command.get_name());
    }
}

#[test]
fn all_flags_of_a_run() {
    let cli = TestCli::new().with("CARGO_HOME", "/c").stdin(b"make it so\n");
    let dir = cli.folder.path().to_str().expect("a path").to_owned();
    let settings = cli.settings(&[
        "run",
        "-",
        "-C",
        &dir,
        "--api-key-file",
        "/dev/null",
        "--base-url",
        "http://127.0.0.1:8080/v1",
        "-m",
        "gpt-5.5",
        "--effort",
        "low",
        "--credentials",
        "handoff",
        "--image",
        "debian:13",
        "--steps",
        "7",
        "--memory",
        "512MiB",
        "--cpus",
        "0.5",
        "--pids",
        "64",
        "--disk",
        "1GiB",
        "--disk-on",
        "engine",
        "--env",
        "CARGO_HOME",
        "--include",
        ".env",
        "--exclude",
        "target",
        "--no-history",
        "--json",
        "-q",
        "-o",
        "/tmp/last",
    ]);
    assert_eq!(settings.prompt, "make it so\n");
    assert_eq!(settings.dir, cli.folder.path().canonicalize().expect("a path"));
    assert!(
        matches!(settings.credential, CredentialChoice::KeyFile(file) if file.to_str() == Some("/dev/null"))
    );
    let base = Base::parse("http://127.0.0.1:8080/v1").expect("a base");
    let backend = settings.identity.backend(&base, "s-1", None);
    assert_eq!(backend.base_url, "http://127.0.0.1:8080/v1");
    assert_eq!(settings.base, BaseChoice::Named(base));
    assert_eq!(settings.env.into_iter().collect::<Vec<_>>(), [("CARGO_HOME".into(), "/c".into())]);
    assert_eq!(settings.image, ImageChoice::Named("debian:13".into()));
    let limits = SandboxLimits {
        memory: 512 << 20,
        cpus: 0.5,
        pids: 64,
        disk: 1 << 30,
        disk_on: DiskOn::Engine,
    };
    assert_eq!(settings.limits, limits);
    let (include, exclude) = (vec![".env".into()], vec!["target".into()]);
    let workspace = WorkspaceMode::Copy { include, exclude, history: false };
    assert_eq!(settings.workspace, workspace);
}

#[test]
fn stdin_is_read_only_by_the_argument_that_needs_it() {
    let settings = TestCli::new().settings(&["run", "p", "--api-key-file", "/dev/null"]);
    assert_eq!(settings.prompt, "p");
    let settings = TestCli::new().stdin(b"sk-canary\n").settings(&["run", "p", "--api-key", "-"]);
    assert!(
        matches!(&settings.credential, CredentialChoice::KeyStdin(key) if key.reveal() == "sk-canary")
    );
    assert_eq!(
        settings.base,
        BaseChoice::Named(Base::parse("https://api.openai.com/v1").expect("base"))
    );
    let both = TestCli::new().refused(&["run", "-", "--api-key", "-"]);
    let expected = "usage: stdin cannot hold both the prompt and the key\n\
                    airlock run --api-key-file FILE - < PROMPT";
    assert_eq!(both, (2, expected.into()));
    // Other errors come before stdin is read: `UnreadStdin` panics.
    let early = TestCli::new().refused(&["run", "-", "-C", "/nowhere-at-all"]);
    assert_eq!(early.0, 2);
}

#[test]
fn paths_in_the_configuration_are_relative_to_its_directory() {
    let cli = TestCli::new().configured("api_key_file = \"~/key\"");
    let home = cli.folder.path().to_owned();
    std::fs::write(home.join("key"), "").expect("written");
    let settings = cli.settings(&["run", "p"]);
    assert!(
        matches!(settings.credential, CredentialChoice::KeyFile(file) if file == home.join("key"))
    );
    let cli = TestCli::new().configured("api_key_file = \"key\"");
    let beside = cli.folder.path().join(".config/airlock/key");
    std::fs::write(&beside, "").expect("written");
    let settings = cli.settings(&["run", "p"]);
    assert!(matches!(settings.credential, CredentialChoice::KeyFile(file) if file == beside));
}

#[test]
fn the_other_commands() {
    let action = |line: &[&str]| TestCli::new().action(line).map_err(|failure| failure.to_string());
    assert!(matches!(action(&["sessions", "--json"]), Ok(Action::Sessions { json: true })));
    assert!(
        matches!(action(&["show", "7C41"]), Ok(Action::Show { session, json: false }) if session == "7c41")
    );
    let diff = action(&["diff", "7c41", "--held"]);
    assert!(matches!(diff, Ok(Action::Diff { held: true, stat: false, .. })));
    let content = action(&["diff", "7c41", "--content", "a"]);
    assert!(matches!(content, Ok(Action::Content { path, .. }) if path == "a"));
    assert!(action(&["diff", "7c41", "--content", "a", "--held"]).is_err());
    assert!(matches!(action(&["apply", "7c41"]), Ok(Action::Apply { .. })));
    assert!(matches!(action(&["discard", "7c41"]), Ok(Action::Discard { .. })));
    assert!(matches!(action(&["triggers"]), Ok(Action::Triggers)));
    assert!(matches!(action(&["doctor"]), Ok(Action::Doctor(_))));
    assert!(matches!(action(&["setup", "doctor"]), Ok(Action::Doctor(_))));
    let image = action(&["setup", "image", "--offline"]);
    assert!(matches!(image, Ok(Action::Image { offline: true })));
    assert!(matches!(action(&["setup", "demo"]), Ok(Action::Demo)));
    assert!(matches!(action(&["sandbox", "--schema"]), Ok(Action::Schema)));
    assert!(matches!(action(&["sandbox", "--extract", "f"]), Ok(Action::Extract(_))));
    let schema: serde_json::Value = serde_json::from_str(&act::schema()).expect("JSON");
    assert!(schema["properties"]["job"].is_object(), "{schema}");
}

#[test]
fn ask_is_not_the_name_of_a_model() {
    let selections = [
        config(&["-m", "ask"], &[("AIRLOCK_MODEL", "of-variable")], ""),
        config(&[], &[("AIRLOCK_MODEL", "ask")], "model = \"of-file\""),
    ];
    for config in selections {
        assert_eq!(config.model, ModelSelection { ask: true, ..ModelSelection::default() });
    }
    let named = config(&["-m", "gpt-5.5"], &[("AIRLOCK_MODEL", "ask")], "").model;
    assert_eq!((named.slug.as_deref(), named.ask), (Some("gpt-5.5"), false));
}

#[test]
fn a_failure_ends_with_its_code() {
    assert_eq!(ExitCode::from(Exit::SignIn), ExitCode::from(3));
}
