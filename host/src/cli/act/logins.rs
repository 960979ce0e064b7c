//! `status`, `logout`, `import codex`, `secrets`.

use super::sign_in::{carried_out, so_far, typed_by};
use super::start::{stopped, unless_stopped};
use crate::cli::config::Pays;
use crate::cli::places::Places;
use crate::cli::screen::Screen;
use crate::cli::view::logins as view;
use crate::cli::view::sign_in::SignInView;
use crate::cli::wish::{Common, Form, Import, SignIn, Stand};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::setup::codex_auth::{How, Told};
use crate::setup::import::{self, Imported};
use crate::setup::logout::{self, Revoked};
use crate::setup::{Logins, Ways, secrets as given, status as standing};

pub(super) async fn status(
    wish: Stand,
    places: &Places,
    mut screen: Screen,
) -> Result<Exit, Failure> {
    let Stand { ca, only, json, quiet, pays, has_key } = wish;
    let logins = Logins::new(&places.logins(), ca);
    if quiet {
        let is_good = match (&only, &pays) {
            (Some(name), _) | (None, Pays::Login(name)) => standing::is_good(&logins, name),
            (None, Pays::KeyFile(file)) => file.is_file(),
            (None, Pays::Env) => has_key,
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
    wish: Common,
    places: &Places,
    mut screen: Screen,
) -> Result<Exit, Failure> {
    let logins = Logins::new(&places.logins(), wish.ca);
    let done = unless_stopped(logout::run(&logins, &wish.name)).await;
    let done = done.map_err(|stop| stopped(&stop, "the login is still here"))??;
    let path = places.shown(&done.path);
    screen.tell(&view::logged_out(&done, &path, screen.err_style));
    // What is still good somewhere is no logout.
    Ok(match done.revoked {
        Revoked::Not(_) => Exit::Failed,
        Revoked::By(_) | Revoked::ByHand | Revoked::Before => Exit::Finished,
    })
}

pub(super) async fn import(
    wish: Import,
    places: &Places,
    mut screen: Screen,
) -> Result<Exit, Failure> {
    let logins = Logins::new(&places.logins(), wish.common.ca.clone());
    let mut typed = typed_by(wish.typed);
    let asked = import::Import {
        file: &wish.file,
        name: &wish.common.name,
        base: wish.base.clone(),
        issuer: wish.issuer.clone(),
        yes: wish.yes,
        replace: wish.replace,
    };
    let ways = Ways { browser: true, open: true, device: true, paste: true };
    let shown = |path: &std::path::Path| places.shown(path);
    let mut view = SignInView::new(ways, screen.err_style, &shown);
    let mut is_stored = false;
    let mut tell = |told: Told| {
        is_stored |= matches!(told, Told::Stored { .. });
        screen.tell(&view.text(&told));
    };
    let done = unless_stopped(import::run(asked, &logins, &mut typed, &mut tell)).await;
    match done.map_err(|stop| stopped(&stop, so_far(is_stored)))?? {
        Imported::Kept => return Ok(Exit::Finished),
        Imported::OwnWanted => {}
    }
    let own = SignIn {
        common: wish.common,
        how: How::SignIn { ways, chosen: true },
        issuer: wish.issuer,
        base: wish.base,
        replace: wish.replace,
        form: Form::Lines,
        typed: wish.typed,
    };
    carried_out(own, places, typed, &mut screen).await.map(|_| Exit::Finished)
}

pub(super) async fn secrets(
    wish: Common,
    places: &Places,
    mut screen: Screen,
) -> Result<Exit, Failure> {
    // THREAT: a token that is printed on a terminal stays in its scrollback, and in whatever
    // records it. Tried by login::leave::secrets_never_go_to_a_terminal.
    if screen.out_is_terminal {
        let reason = "a token is not printed on a terminal; a program reads it from a pipe";
        return Err(Failure::usage(reason).hint("airlock status"));
    }
    let logins = Logins::new(&places.logins(), wish.ca);
    let given = unless_stopped(given::run(&logins, &wish.name)).await;
    let given = given.map_err(|stop| stopped(&stop, "nothing was printed"))??;
    screen.print(&view::secrets(&given)).map(|()| Exit::Finished)
}
