//! `setup image`, `setup doctor` and `setup demo`.

use super::start::{stopped_failure, unless_stopped};
use super::{context, described, docker, owner, store};
use crate::cli::config::{LoginChoice, OutputChoice};
use crate::cli::environment::Environment;
use crate::cli::login_args::DoctorArgs;
use crate::cli::places::Places;
use crate::cli::progress::labelled;
use crate::cli::screen::Screen;
use crate::cli::turn_printer::TurnPrinter;
use crate::engine::{EngineChoice, base};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::sanitize;
use crate::session::Stop;
use crate::setup::doctor::{self, CheckState, Credential};
use crate::setup::{Logins, demo, status};
use crate::text::COLUMNS;

pub(super) async fn image(offline: bool, screen: &mut Screen) -> Result<Exit, Failure> {
    let docker = docker().await?;
    let mut progress = |text: String| tell(screen, "image", &text);
    let made = base::run(&docker, offline, &mut progress).await;
    let (image, way) = made.map_err(|error| described(error.describe()))?;
    tell(screen, "base image", &format!("{}  ({})", image.name, way.as_str()));
    Ok(Exit::Finished)
}

pub(super) async fn doctor(
    trial: DoctorArgs,
    places: &Places,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let store = store(places, screen)?;
    let choice = EngineChoice::from_environment();
    let session = uuid::Uuid::new_v4().to_string();
    let (folder, claim) = (store.folder(), crate::session::claim(&store));
    let mut checks = doctor::run(&choice, folder, store.install(), &owner(), &session, claim).await;
    let DoctorArgs { login_choice, base, ca } = trial;
    let (login, credential) = match login_choice {
        LoginChoice::Login(name) => {
            let login = Credential::Login { name: name.clone(), directory: places.logins() };
            (Some(name), Some(login))
        }
        LoginChoice::Env => (None, Some(Credential::Environment)),
        LoginChoice::KeyFile(file) => (None, Some(Credential::KeyFile(file))),
        LoginChoice::Default | LoginChoice::KeyOnStdin | LoginChoice::Replay => (None, None),
    };
    let logins = status::check(&Logins::new(&places.logins(), None), login.as_deref());
    let backend = match credential {
        Some(credential) if logins.state == CheckState::Ok => {
            // The process must not end during a refresh: the login would be lost.
            let check = unless_stopped(doctor::backend(credential, base, ca)).await;
            check.map_err(|stop| stopped_failure(&stop, "not everything was checked"))?
        }
        Some(_) => doctor::backend_unchecked("no login is valid"),
        None => doctor::backend_unchecked("there is no login or key"),
    };
    checks.extend([logins, backend]);
    for check in &checks {
        let text = sanitize::line(&check.text);
        let style = screen.err_style;
        let line = match check.state {
            CheckState::Ok => format!("{text}  {}", style.good("ok")),
            CheckState::Missing(_) => style.bad(&text),
            CheckState::Unknown => style.faint(&text),
        };
        screen.tell(&format!("{:<10} {line}\n", check.name));
        if let Some(command) = &check.command {
            screen.tell(&format!("{:<10} {}\n", "", sanitize::line(command)));
        }
    }
    // The exit code of the first failed check.
    let missing = checks.iter().find_map(|check| match check.state {
        CheckState::Missing(exit) => Some(exit),
        CheckState::Ok | CheckState::Unknown => None,
    });
    Ok(missing.unwrap_or(Exit::Finished))
}

pub(super) async fn demo(
    places: &Places,
    environment: &Environment,
    mut screen: Screen,
) -> Result<Exit, Failure> {
    let context = context(places, &mut screen).await?;
    let demo = demo::Demo::unpack().map_err(|error| {
        Failure::new(Exit::Failed, "demo", format!("its directory cannot be made: {error}"))
    })?;
    tell(
        &mut screen,
        "demo",
        "an untrusted repository with a failing test; the model's answers come",
    );
    tell(
        &mut screen,
        "",
        "from a recording, so it needs no account and no network; everything else is real",
    );
    let mut turn_printer =
        TurnPrinter::new(OutputChoice::default(), Screen::of_this_process(environment));
    let stop = Stop::default();
    let _signals = super::start::stop_on_signals(&stop);
    let done = super::start::run_session(demo.settings(), &context, &stop, None, &mut turn_printer)
        .await?;
    let short = context.store.short(&done.session).unwrap_or_else(|_| done.session.clone());
    if let Some(failure) = super::start::failure(&done, &short) {
        turn_printer.end(&short, Some(&failure))?;
        return Ok(done.exit);
    }
    turn_printer.end_of_demo(&short)?;

    let proven = demo.prove(&context, &stop, &done.session).await;
    let applied = proven.map_err(|unproven| {
        Failure::new(Exit::Failed, "demo", unproven.to_string())
            .hint(format!("airlock show {short}"))
    })?;
    let files = crate::text::counted(applied as u64, "file");
    tell(&mut screen, "applied", &format!("{files} in a copy of the repository"));
    tell(&mut screen, "proof", "its tests pass in a fresh sandbox");
    tell(
        &mut screen,
        "next",
        "airlock setup codex-auth, then airlock run -C REPOSITORY \"make the tests pass\"",
    );
    Ok(Exit::Finished)
}

fn tell(screen: &mut Screen, label: &str, text: &str) {
    let style = screen.err_style;
    screen.tell(&format!("{}\n", labelled(label, &sanitize::line(text), COLUMNS, style)));
}
