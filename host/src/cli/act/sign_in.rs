//! `setup codex-auth`: shown as it goes, ended by Ctrl-C or SIGTERM.

use super::start::{stopped, unless_stopped};
use crate::cli::places::Places;
use crate::cli::screen::Screen;
use crate::cli::typed;
use crate::cli::view::sign_in::{SignInView, event, failed, signed_in, status_block};
use crate::cli::wish::{Common, Form, SignIn, TypedBy};
use crate::engine::EngineChoice;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::setup::codex_auth::{self, Done, How, Told, Typed, Wish};
use crate::setup::{Logins, Ways};

pub(super) async fn sign_in(
    wish: SignIn,
    places: &Places,
    mut screen: Screen,
) -> Result<Exit, Failure> {
    let form = wish.form;
    let lines = typed_by(wish.typed);
    let done = carried_out(wish, places, lines, &mut screen).await;
    match form {
        Form::Lines => {}
        Form::Json => screen.print(&done.as_ref().map_or_else(failed, signed_in))?,
        Form::Step => screen.print(&status_block(done.as_ref()))?,
    }
    done.map(|_| Exit::Finished)
}

/// One sign-in, shown on stderr, or with `--json` on stdout.
pub(super) async fn carried_out(
    wish: SignIn,
    places: &Places,
    typed: Typed,
    screen: &mut Screen,
) -> Result<Done, Failure> {
    let SignIn { common: Common { name, ca }, how, issuer, base, replace, form, .. } = wish;
    let logins = Logins::new(&places.logins(), ca);
    let ways = match how {
        How::SignIn { ways, .. } => ways,
        How::ApiKey(_) | How::AccessToken(_) => {
            Ways { browser: false, open: false, device: false, paste: false }
        }
    };
    let engine = (form != Form::Json).then(EngineChoice::from_environment);
    let wish = Wish { name, how, issuer, base, replace, engine };
    let shown = |path: &std::path::Path| places.shown(path);
    let mut view = SignInView::new(ways, screen.err_style, &shown);
    let mut is_stored = false;
    let mut unshown = None;
    let mut tell = |told: Told| {
        is_stored |= matches!(told, Told::Stored { .. });
        if form != Form::Json {
            screen.tell(&view.text(&told));
        } else if let Some(line) = event(&told)
            && let Err(failure) = screen.print(&line)
        {
            unshown.get_or_insert(failure);
        }
    };
    let done = unless_stopped(codex_auth::run(wish, &logins, typed, &mut tell)).await;
    let done = done.map_err(|stop| stopped(&stop, so_far(is_stored)))??;
    match unshown {
        Some(failure) => Err(failure),
        None => Ok(done),
    }
}

/// How things are when a sign-in is stopped. What was granted and not stored was in memory alone.
pub(super) fn so_far(is_stored: bool) -> &'static str {
    match is_stored {
        true => "the login is stored, and was not tried",
        false => "nothing was stored",
    }
}

pub(super) fn typed_by(typist: TypedBy) -> Typed {
    match typist {
        TypedBy::Nobody => Typed { lines: typed::nothing(), is_person: false },
        TypedBy::Program => Typed { lines: typed::lines_of_stdin(), is_person: false },
        TypedBy::Person => Typed { lines: typed::lines_of_stdin(), is_person: true },
    }
}
