//! The command line: turns arguments into one action, and results into text and an exit code.
//! Nothing below it knows flags, variables or terminals.
//!
//! ```text
//! arguments → Flags ┐
//! AIRLOCK_* ────────┼→ Config → SessionSettings → Action → act
//! config.toml ──────┘
//! ```

pub mod flags; // the commands and their arguments
mod parse; // parses one value
pub mod settings; // all settings, as one layer gives them
pub mod environment; // the layer of AIRLOCK_<FLAG>
pub mod file; // the layer of config.toml
pub mod config; // the layers resolved
pub mod ask; // the settings of a session
pub mod login_args; // the arguments about logins
pub mod places; // where configuration and state are
mod early_failure; // the JSON line of a session that did not start
pub mod act; // carries out one action
pub mod turn_printer; // shows a turn
pub mod progress; // events as lines for a person
pub mod view; // records and changes as text and JSON
pub mod screen; // stdout and stderr
mod outlet; // the same streams, which never block
mod typed; // lines from stdin
mod choose; // asks for a model at a terminal
pub mod style; // colour
mod help; // the text of --help beside the flags
mod log; // RUST_LOG
mod closed; // closes this process to other programs

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};

use crate::cli::act::Action;
use crate::cli::ask::Stdin;
use crate::cli::config::Config;
use crate::cli::environment::Environment;
use crate::cli::flags::codex_auth::{of_step, unknown_step};
use crate::cli::flags::import::Of;
use crate::cli::flags::setup::{Setup, SetupProgram, Step};
use crate::cli::flags::triggers::Triggers;
use crate::cli::flags::{Command, Flags};
use crate::cli::places::Places;
use crate::cli::screen::Screen;
use crate::cli::view::sign_in::status_block;
use crate::failure::{Failure, SIGN_IN};

/// The program `airlock`.
#[must_use]
pub fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|word| word == "setup") {
        arguments = of_step(arguments, 2);
    }
    enter(arguments, |arguments| Flags::try_parse_from(arguments).map(|flags| flags.command))
}

/// The program `setup`: the same as `airlock setup`.
#[must_use]
pub fn setup() -> ExitCode {
    enter(of_step(std::env::args_os().collect(), 1), |arguments| {
        let step = SetupProgram::try_parse_from(arguments)?.step;
        Ok(Command::Setup(Setup { step }))
    })
}

fn enter(
    arguments: Vec<OsString>,
    parse: fn(&[OsString]) -> Result<Command, clap::Error>,
) -> ExitCode {
    closed::close();
    let environment = Environment::of_this_process();
    log::start(&environment);
    let wants_json = early_failure::wants_json(&arguments, &environment);
    let command = match parse(&arguments) {
        Ok(command) => command,
        Err(error) if !error.use_stderr() => {
            // Help or the version: clap shows it. An error here means that the reader is gone.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            let failure = usage_failure(&error, &arguments);
            let mut screen = Screen::of_this_process(&environment);
            screen.fail(&failure);
            // A framework that calls a step always reads a status block.
            if unknown_step(&arguments).is_some() {
                let _ = screen.print(&status_block(Err(&failure)));
            }
            if wants_json {
                early_failure::print(&mut screen, &failure);
            }
            return failure.exit.into();
        }
    };
    let resolved = Places::of(&environment).and_then(|places| {
        let stdin = std::io::stdin();
        let is_terminal = stdin.is_terminal();
        let mut input = stdin.lock();
        let stdin = Stdin { input: &mut input, is_terminal };
        let action = resolve(command, &environment, &places, stdin)?;
        Ok((action, places))
    });
    let mut screen = Screen::of_this_process(&environment);
    let done = match resolved {
        Ok((action, places)) => act::act(action, &environment, &places),
        Err(failure) => {
            if wants_json {
                early_failure::print(&mut screen, &failure);
            }
            Err(failure)
        }
    };
    match done {
        Ok(exit) => exit.into(),
        Err(failure) => {
            screen.fail(&failure);
            failure.exit.into()
        }
    }
}

/// The action of a command, with everything resolved.
///
/// # Errors
/// An argument, the configuration or an input is missing or wrong.
pub fn resolve(
    command: Command,
    environment: &Environment,
    places: &Places,
    stdin: Stdin<'_>,
) -> Result<Action, Failure> {
    Ok(match command {
        Command::Run(run) => {
            let config = Config::resolve(*run, environment, file::read(places)?)?;
            let turn_printer = config.turn_printer.clone();
            Action::Run {
                settings: Box::new(ask::settings(config, environment, places, stdin)?),
                turn_printer,
            }
        }
        Command::Sessions(sessions) => Action::Sessions { json: sessions.json },
        Command::Show(show) => Action::Show { session: show.session, json: show.json },
        Command::Diff(diff) => match diff.content {
            Some(path) => Action::Content { session: diff.session, path },
            None => Action::Diff { session: diff.session, held: diff.held, stat: diff.stat },
        },
        Command::Apply(apply) => Action::Apply { session: apply.session },
        Command::Discard(discard) => Action::Discard { session: discard.session },
        Command::Triggers(Triggers {}) => Action::Triggers,
        Command::Setup(Setup { step: Step::CodexAuth(flags) }) => {
            Action::SignIn(Box::new(login_args::sign_in(*flags, environment, places, stdin)?))
        }
        Command::Setup(Setup { step: Step::Image { offline } }) => Action::Image { offline },
        Command::Setup(Setup { step: Step::Doctor(flags) }) | Command::Doctor(flags) => {
            Action::Doctor(Box::new(login_args::doctor(*flags, environment, places)?))
        }
        Command::Setup(Setup { step: Step::Demo }) => Action::Demo,
        Command::Status(flags) => {
            Action::Status(Box::new(login_args::status(flags, environment, places)?))
        }
        Command::Logout(flags) => {
            let name = flags.name.or(flags.named);
            Action::Logout(login_args::common("logout", name, flags.ca, environment, places)?)
        }
        Command::Import(import) => {
            let Of::Codex(flags) = import.of;
            let is_terminal = stdin.is_terminal;
            Action::Import(Box::new(login_args::import(*flags, environment, places, is_terminal)?))
        }
        Command::Secrets(flags) => Action::Secrets(login_args::common(
            "secrets",
            flags.login,
            flags.ca,
            environment,
            places,
        )?),
        Command::Sandbox(sandbox) => match sandbox.extract {
            Some(file) => Action::Extract(file),
            None => Action::Schema,
        },
    })
}

/// clap's error in our form: a reason in one line, and the command that shows the help.
fn usage_failure(error: &clap::Error, arguments: &[OsString]) -> Failure {
    let text = without_values(error);
    let program = arguments.first().and_then(|program| {
        std::path::Path::new(program).file_name()?.to_str().filter(|name| *name == "setup")
    });
    let program = program.unwrap_or("airlock");
    // As many of the arguments as name a command and its subcommands.
    let mut known = match program {
        "setup" => SetupProgram::command(),
        _ => Flags::command(),
    };
    let mut help = program.to_owned();
    for word in arguments.iter().skip(1).filter_map(|argument| argument.to_str()) {
        let Some(deeper) = known.find_subcommand(word).cloned() else { break };
        help = format!("{help} {word}");
        known = deeper;
    }
    let help = format!("{help} --help");
    if let Some(step) = unknown_step(arguments) {
        let reason = match step.as_str() {
            "" => "--step needs the name of a step; the only one is codex-auth".to_owned(),
            step => format!("unknown step {}; the only one is codex-auth", parse::shown(step)),
        };
        let program = if program == "setup" { "setup" } else { "airlock setup" };
        return Failure::usage(reason).hint(format!("{program} --step codex-auth"));
    }
    if let (ErrorKind::InvalidSubcommand, Some(ContextValue::String(word))) =
        (error.kind(), error.get(ContextKind::InvalidSubcommand))
        && ["login", "auth", "signin", "sign-in"].contains(&word.as_str())
    {
        return Failure::usage(format!("unknown command `{word}`; to sign in:")).hint(SIGN_IN);
    }
    let missing = matches!(
        error.kind(),
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    if missing {
        return Failure::usage("a command or an option is missing").hint(help);
    }
    // THREAT: a key in the wrong place is quoted in an error, and ends up in a log. Tried by
    // cli::tests::logins::a_secret_is_taken_from_stdin_alone.
    let is_word = matches!(
        error.get(ContextKind::InvalidArg),
        Some(ContextValue::String(word)) if !word.starts_with('-')
    );
    if error.kind() == ErrorKind::UnknownArgument && is_word && help.contains("codex-auth") {
        return Failure::usage(
            "there is an extra argument; it is not shown here because it may be a secret",
        )
        .hint(help);
    }
    let message = text.split("\n\nUsage:").next().unwrap_or_default();
    let message = message.split("\n\nFor more information").next().unwrap_or_default();
    let lines = message.lines().map(str::trim).filter(|line| !line.is_empty());
    let reason = lines.collect::<Vec<_>>().join("; ").replace(":; ", ": ");
    Failure::usage(reason.trim_start_matches("error: ")).hint(help)
}

/// clap's message; of a value it has only the part that cannot be a secret.
fn without_values(error: &clap::Error) -> String {
    let mut text = error.render().to_string();
    for kind in [ContextKind::InvalidValue, ContextKind::InvalidArg, ContextKind::InvalidSubcommand]
    {
        if let Some(ContextValue::String(value)) = error.get(kind)
            && !value.is_empty()
        {
            text = text.replace(&format!("'{value}'"), &format!("'{}'", parse::shown(value)));
        }
    }
    text
}

#[cfg(test)]
mod tests;
