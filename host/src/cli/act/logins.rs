//! `status`, `logout`, `import codex`, `secrets`.

use super::sign_in::{carried_out, so_far, typed_by};
use super::start::{stopped, unless_stopped};
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
use crate::setup::{Logins, SignInMethods, secrets as given, status as standing};

pub(super) async fn status(
    login_args: StatusArgs,
    places: &Places,
    mut screen: Screen,
) -> Result<Exit, Failure> {
    let StatusArgs { ca, only, json, quiet, pays, has_key } = login_args;
    let logins = Logins::new(&places.logins(), ca);
    if quiet {
        let is_good = match (&only, &pays) {
            (Some(name), _) | (None, LoginChoice::Login(name)) => standing::is_good(&logins, name),
            (None, LoginChoice::KeyFile(file)) => file.is_file(),
            (None, LoginChoice::Env) => has_key,
            (None, _) => standing::is_good(&logins, "default"),
        };
        return Ok(if is_good { Exit::Finished } else { Exit::SignIn });
    }
    let all = unless_stopped(standing::run(&logins, only.as_deref())).await;
    let all = all.map_err(|stop| stopped(&stop, "nothing was changed"))??;
    let text = match json {
        true => view::status_json(&all, &pays),
        false if only.is_some() => view::status_of(&all, &pays, logins.now(), screen.out_style),
        false => view::status(&all, &pays, logins.now(), screen.out_style),
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
    let done = done.map_err(|stop| stopped(&stop, "the login is still here"))??;
    let path = places.shown(&done.path);
    screen.tell(&view::logged_out(&done, &path, screen.err_style));
    // What is still good somewhere is no logout.
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
    let mut typed = typed_by(login_args.typed);
    let asked = import::ImportRequest {
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
    let mut tell = |told: SetupEvent| {
        is_stored |= matches!(told, SetupEvent::Stored { .. });
        screen.tell(&view.text(&told));
    };
    let done = unless_stopped(import::run(asked, &logins, &mut typed, &mut tell)).await;
    match done.map_err(|stop| stopped(&stop, so_far(is_stored)))?? {
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
    carried_out(own, places, typed, &mut screen).await.map(|_| Exit::Finished)
}

pub(super) async fn secrets(
    login_args: LoginArgs,
    places: &Places,
    mut screen: Screen,
) -> Result<Exit, Failure> {
    // THREAT: a token that is printed on a terminal stays in its scrollback, and in whatever
    // records it. Tried by login::leave::secrets_never_go_to_a_terminal.
    if screen.out_is_terminal {
        let reason = "a token is not printed on a terminal; a program reads it from a pipe";
        return Err(Failure::usage(reason).hint("airlock status"));
    }
    let logins = Logins::new(&places.logins(), login_args.ca);
    let given = unless_stopped(given::run(&logins, &login_args.name)).await;
    let given = given.map_err(|stop| stopped(&stop, "nothing was printed"))??;
    screen.print(&view::secrets(&given)).map(|()| Exit::Finished)
}
