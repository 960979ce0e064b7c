//! What is done, one arm a command. Here the command line meets the rest of the host: errors become
//! a [`Failure`], and what was done becomes text.

mod kept; // runs, show, diff, apply, discard
mod logins; // status, logout, import, secrets
mod ready; // setup image, doctor, demo
mod sign_in; // setup codex-auth
mod start; // run

use std::path::PathBuf;

use airlock_shared::handoff::Handoff;

use crate::cli::config::OutputChoice;
use crate::cli::environment::Environment;
use crate::cli::login_args::{ImportArgs, LoginArgs, SignInArgs, StatusArgs, Trial};
use crate::cli::places::Places;
use crate::cli::progress::labelled;
use crate::cli::screen::Screen;
use crate::cli::view::triggers;
use crate::engine::{Docker, EngineChoice, EngineError, binary};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::records::SessionStore;
use crate::session::HostContext;
use crate::session::settings::SessionSettings;
use crate::text;
use crate::workspace::{self, Private};

/// One thing to do, with nothing left to resolve.
pub enum Action {
    Run {
        settings: Box<SessionSettings>,
        turn_printer: OutputChoice,
    },
    Sessions {
        json: bool,
    },
    /// `session`: a prefix of its id, 4 to 32 hexadecimal digits.
    Show {
        session: String,
        json: bool,
    },
    Content {
        session: String,
        path: String,
    },
    Diff {
        session: String,
        held: bool,
        stat: bool,
    },
    Apply {
        session: String,
    },
    Discard {
        session: String,
    },
    /// Prints the names that `apply` holds or points out.
    Triggers,
    Image {
        offline: bool,
    },
    Doctor(Box<Trial>),
    Demo,
    SignIn(Box<SignInArgs>),
    Status(Box<StatusArgs>),
    Logout(LoginArgs),
    Import(Box<ImportArgs>),
    Secrets(LoginArgs),
    /// Writes the sandbox binary to a file.
    Extract(PathBuf),
    /// Prints the schema of the handoff line.
    Schema,
}

/// Does it.
///
/// # Errors
/// Whatever ends the program with another code than the outcome's.
pub fn act(asked: Action, environment: &Environment, places: &Places) -> Result<Exit, Failure> {
    let mut screen = Screen::of_this_process(environment);
    match asked {
        Action::Run { settings, turn_printer } => {
            in_runtime(start::run(*settings, turn_printer, places, screen))
        }
        Action::Sessions { json } => {
            kept::sessions(&store(places, &mut screen)?, json, &mut screen)
        }
        Action::Show { session, json } => {
            kept::show(&store(places, &mut screen)?, &session, json, &mut screen)
        }
        Action::Content { session, path } => {
            kept::content(&store(places, &mut screen)?, &session, &path, &mut screen)
        }
        Action::Diff { session, held, stat } => {
            kept::diff(&store(places, &mut screen)?, &session, held, stat, &mut screen)
        }
        Action::Apply { session } => {
            kept::apply(&store(places, &mut screen)?, &session, places, &mut screen)
        }
        Action::Discard { session } => {
            kept::discard(&store(places, &mut screen)?, &session, &mut screen)
        }
        Action::Triggers => {
            screen.print(&triggers::text(workspace::triggers())).map(|()| Exit::Finished)
        }
        Action::Image { offline } => in_runtime(ready::image(offline, &mut screen)),
        Action::Doctor(trial) => in_runtime(ready::doctor(*trial, places, &mut screen)),
        Action::Demo => in_runtime(ready::demo(places, environment, screen)),
        Action::SignIn(login_args) => in_runtime(sign_in::sign_in(*login_args, places, screen)),
        Action::Status(login_args) => in_runtime(logins::status(*login_args, places, screen)),
        Action::Logout(login_args) => in_runtime(logins::logout(login_args, places, screen)),
        Action::Import(login_args) => in_runtime(logins::import(*login_args, places, screen)),
        Action::Secrets(login_args) => in_runtime(logins::secrets(login_args, places, screen)),
        Action::Extract(file) => extract(&file, &mut screen),
        Action::Schema => screen.print(&schema()).map(|()| Exit::Finished),
    }
}

/// The JSON schema of the one line that starts a sandbox.
#[must_use]
pub fn schema() -> String {
    let schema = schemars::schema_for!(Handoff);
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

/// Writes the sandbox's binary out, executable, for hosts that are not ours.
fn extract(file: &std::path::Path, screen: &mut Screen) -> Result<Exit, Failure> {
    // THREAT: an unpacked archive has a link at the name that a person gives. Tried by
    // cli::refused::nothing_is_written_through_a_link_or_into_a_fifo_of_the_directory.
    let here = std::path::Path::new(".");
    let output = Output::open(file, Some(here)).map_err(|why| {
        let reason = format!("--extract {}: {why}", file.display());
        Failure::usage(reason).hint("airlock sandbox --extract FILE")
    })?;
    output.write(binary::SANDBOX, 0o755).map_err(|error| {
        let reason = format!("{} cannot be written: {error}", file.display());
        Failure::new(Exit::Failed, "sandbox", reason)
    })?;
    screen.tell(&format!("sandbox    {} bytes in {}\n", binary::SANDBOX.len(), file.display()));
    Ok(Exit::Finished)
}

/// Threads beside the one that carries out the command; disks have their own. Of two, each would
/// hand a request on to the other half-way, and waking it takes longer than the work.
const WORKERS: usize = 1;

fn in_runtime(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::new(Exit::Failed, "no threads", format!("the system gives none: {error}"))
    })?;
    let done = runtime.block_on(work);
    // A thread that still reads a slow disk is not waited for.
    runtime.shutdown_background();
    done
}

/// Where sessions are kept. What an earlier release left there is named on the first use.
fn store(places: &Places, screen: &mut Screen) -> Result<SessionStore, Failure> {
    let store = SessionStore::open(&places.state).map_err(|error| {
        Failure::new(Exit::Failed, "no place to keep sessions", error.to_string())
            .hint("export XDG_STATE_HOME=/path/to/a/directory/of/yours")
    })?;
    if let Ok(Some((directory, waiting))) = store.earlier() {
        let said = format!(
            "{} is of an earlier airlock and is left as it is; {} in it have changes that wait: \
             apply them with that airlock, which this one cannot",
            places.shown(&directory),
            text::counted(waiting as u64, "session"),
        );
        screen.tell(&format!("{}\n", labelled("note", &said, text::COLUMNS, screen.err_style)));
    }
    Ok(store)
}

async fn context(places: &Places, screen: &mut Screen) -> Result<HostContext, Failure> {
    Ok(HostContext {
        docker: docker().await?,
        store: store(places, screen)?,
        logins: places.logins(),
        private: private(places),
        owner: owner(),
    })
}

/// What of this machine never enters a sandbox: our two folders, by their own links too, the file
/// of settings wherever it lies, and the logins that are there.
fn private(places: &Places) -> Private {
    let logins = places.logins();
    let private = Private::default()
        .folder(&places.state)
        .folder(&places.config)
        .folder(&logins)
        .folder(&places.sessions())
        .settings(&places.config_file())
        .settings(&places.install())
        .files_in(&logins);
    places.codex.iter().fold(private, |private, file| private.file(file))
}

async fn docker() -> Result<Docker, Failure> {
    Docker::connect(&EngineChoice::from_environment()).await.map_err(of_engine)
}

fn of_engine(error: EngineError) -> Failure {
    described(error.describe())
}

fn described((headline, reason, hint): (String, String, Option<String>)) -> Failure {
    let failure = Failure::new(Exit::Sandbox, headline, reason);
    Failure { hint, ..failure }
}

/// Who runs this, for people who look at the engine.
fn owner() -> String {
    let uid = rustix::process::geteuid().as_raw();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| uid.to_string())
}
