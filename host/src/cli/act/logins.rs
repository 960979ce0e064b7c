//! `status`, `logout`, `import codex`, `secrets`.

use super::sign_in::{run_sign_in, stop_note, typed_lines};
use super::start::{stopped_failure, unless_stopped};
use crate::cli::config::LoginChoice;
use crate::cli::login_args::{ImportArgs, LoginArgs, OutputForm, SignInArgs, StatusArgs};
use crate::cli::places::Places;
use crate::cli::screen::Screen;
use crate::cli::view::logins as view;
use crate::cli::view::sign_in::SignInView;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::setup::codex_auth::{SetupEvent, SignInWith};
use crate::setup::import::{self, ImportResult};
use crate::setup::logout::{self, Revocation};
use crate::setup::{Logins, SignInMethods, secrets as login_secrets, status as login_status};

pub(super) async fn status(
    login_args: StatusArgs,
    places: &Places,
    mut screen: Screen,
) -> Result<Exit, Failure> {
    let StatusArgs { ca, only, json, quiet, login_choice, has_key } = login_args;
    let logins = Logins::new(&places.logins(), ca);
    if quiet {
        let is_good = match (&only, &login_choice) {
            (Some(name), _) | (None, LoginChoice::Login(name)) => {
                login_status::is_good(&logins, name)
            }
            (None, LoginChoice::KeyFile(file)) => file.is_file(),
            (None, LoginChoice::Env) => has_key,
            (None, _) => login_status::is_good(&logins, "default"),
        };
        return Ok(if is_good { Exit::Finished } else { Exit::SignIn });
    }
    let all = unless_stopped(login_status::run(&logins, only.as_deref())).await;
    let all = all.map_err(|stop| stopped_failure(&stop, "nothing was changed"))??;
    let text = match json {
        true => view::status_json(&all, &login_choice),
        false if only.is_some() => {
            view::status_of(&all, &login_choice, logins.now(), screen.out_style)
        }
        false => view::status(&all, &login_choice, logins.now(), screen.out_style),
    };
    screen.print(&text).map(|()| Exit::Finished)
}

pub(super) async fn logout(
    login_args: LoginArgs,
    places: &Places,
    mut screen: Screen,
) -> Result<Exit, Failure> {
    let logins = Logins::new(&places.logins(), login_args.ca);
    let done = unless_stopped(logout::run(&logins, &login_args.name)).await;
    let done = done.map_err(|stop| stopped_failure(&stop, "the login is still here"))??;
    let path = places.shown(&done.path);
    screen.tell(&view::logged_out(&done, &path, screen.err_style));
    // A login that was not revoked may still work, so this is a failure.
    Ok(match done.revoked {
        Revocation::Failed(_) => Exit::Failed,
        Revocation::Done(_) | Revocation::Manual | Revocation::NotNeeded => Exit::Finished,
    })
}

pub(super) async fn import(
    login_args: ImportArgs,
    places: &Places,
    mut screen: Screen,
) -> Result<Exit, Failure> {
    let logins = Logins::new(&places.logins(), login_args.common.ca.clone());
    let mut typed = typed_lines(login_args.typed);
    let request = import::ImportRequest {
        file: &login_args.file,
        name: &login_args.common.name,
        base: login_args.base.clone(),
        issuer: login_args.issuer.clone(),
        yes: login_args.yes,
        replace: login_args.replace,
    };
    let methods = SignInMethods { browser: true, open: true, device: true, paste: true };
    let shown = |path: &std::path::Path| places.shown(path);
    let mut view = SignInView::new(methods, screen.err_style, &shown);
    let mut is_stored = false;
    let mut tell = |event: SetupEvent| {
        is_stored |= matches!(event, SetupEvent::Stored { .. });
        screen.tell(&view.text(&event));
    };
    let done = unless_stopped(import::run(request, &logins, &mut typed, &mut tell)).await;
    match done.map_err(|stop| stopped_failure(&stop, stop_note(is_stored)))?? {
        ImportResult::Kept => return Ok(Exit::Finished),
        ImportResult::SignInInstead => {}
    }
    let own = SignInArgs {
        common: login_args.common,
        how: SignInWith::SignIn { methods, chosen: true },
        issuer: login_args.issuer,
        base: login_args.base,
        replace: login_args.replace,
        form: OutputForm::Lines,
        typed: login_args.typed,
    };
    run_sign_in(own, places, typed, &mut screen).await.map(|_| Exit::Finished)
}

pub(super) async fn secrets(
    login_args: LoginArgs,
    places: &Places,
    mut screen: Screen,
) -> Result<Exit, Failure> {
    // THREAT: a token on a terminal stays in its scrollback and in recordings of it. Tried by
    // login::leave::secrets_never_go_to_a_terminal.
    if screen.out_is_terminal {
        let reason = "a token is not printed on a terminal; send the output to a program";
        return Err(Failure::usage(reason).hint("airlock status"));
    }
    let logins = Logins::new(&places.logins(), login_args.ca);
    let given = unless_stopped(login_secrets::run(&logins, &login_args.name)).await;
    let given = given.map_err(|stop| stopped_failure(&stop, "nothing was printed"))??;
    screen.print(&view::secrets(&given)).map(|()| Exit::Finished)
}
