//! Carries out one action. Errors of the rest of the host become a [`Failure`], and results become
//! text.

mod sessions; // sessions, show, diff, apply, discard
mod logins; // status, logout, import, secrets
mod ready; // setup image, doctor, demo
mod sign_in; // setup codex-auth
mod start; // run

use std::path::PathBuf;

use airlock_shared::handoff::Handoff;

use crate::cli::config::OutputChoice;
use crate::cli::environment::Environment;
use crate::cli::login_args::{DoctorArgs, ImportArgs, LoginArgs, SignInArgs, StatusArgs};
use crate::cli::places::Places;
use crate::cli::progress::labelled;
use crate::cli::screen::Screen;
use crate::cli::view::triggers;
use crate::engine::{Docker, EngineChoice, EngineError, binary};
use crate::exit::Exit;
use crate::failure::{Failure, OTHER_STATE_DIRECTORY};
use crate::output::Output;
use crate::records::SessionStore;
use crate::session::HostContext;
use crate::session::settings::SessionSettings;
use crate::text;
use crate::workspace::{self, Private};

/// One action, completely resolved.
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
    /// Prints the file names that `apply` holds or points out.
    Triggers,
    Image {
        offline: bool,
    },
    Doctor(Box<DoctorArgs>),
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

/// Carries out an action.
///
/// # Errors
/// Everything that ends the program with another code than the outcome's.
pub fn act(action: Action, environment: &Environment, places: &Places) -> Result<Exit, Failure> {
    let mut screen = Screen::of_this_process(environment);
    match action {
        Action::Run { settings, turn_printer } => {
            in_runtime(start::run(*settings, turn_printer, places, screen))
        }
        Action::Sessions { json } => {
            sessions::sessions(&store(places, &mut screen)?, json, &mut screen)
        }
        Action::Show { session, json } => {
            sessions::show(&store(places, &mut screen)?, &session, json, &mut screen)
        }
        Action::Content { session, path } => {
            sessions::content(&store(places, &mut screen)?, &session, &path, &mut screen)
        }
        Action::Diff { session, held, stat } => {
            sessions::diff(&store(places, &mut screen)?, &session, held, stat, &mut screen)
        }
        Action::Apply { session } => {
            sessions::apply(&store(places, &mut screen)?, &session, places, &mut screen)
        }
        Action::Discard { session } => {
            sessions::discard(&store(places, &mut screen)?, &session, &mut screen)
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

/// Writes the sandbox's binary to a file, executable, for programs that start containers themselves.
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

/// Threads beside the main one; disk work has its own. With two, a request would move between them,
/// and waking the other one takes longer than the work.
const WORKERS: usize = 1;

fn in_runtime(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::new(Exit::Failed, "no threads", format!("none can be started: {error}"))
    })?;
    let done = runtime.block_on(work);
    // Do not wait for a thread that still reads a slow disk.
    runtime.shutdown_background();
    done
}

/// Opens the store of sessions. The first time, it tells about the directory of an earlier release.
fn store(places: &Places, screen: &mut Screen) -> Result<SessionStore, Failure> {
    let store = SessionStore::open(&places.state).map_err(|error| {
        Failure::new(Exit::Failed, "no state directory", error.to_string())
            .hint(OTHER_STATE_DIRECTORY)
    })?;
    if let Ok(Some((directory, waiting))) = store.earlier_release() {
        let note = format!(
            "{} belongs to an earlier release of airlock and is left unchanged; {} in it with changes \
             that are not applied: only that release can apply them",
            places.shown(&directory),
            text::counted(waiting as u64, "session"),
        );
        screen.tell(&format!("{}\n", labelled("note", &note, text::COLUMNS, screen.err_style)));
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

/// Files of this machine that never enter a sandbox: our two directories and what links in them lead
/// to, the file of settings, and all logins.
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

/// The user's name, for people who look at the engine.
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
