//! `setup codex-auth`: shows its progress; Ctrl-C and SIGTERM end it.

use super::start::{stopped_failure, unless_stopped};
use crate::cli::login_args::{LoginArgs, OutputForm, SignInArgs, TypedBy};
use crate::cli::places::Places;
use crate::cli::screen::Screen;
use crate::cli::typed;
use crate::cli::view::sign_in::{SignInView, event, failed, signed_in, status_block};
use crate::engine::EngineChoice;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::setup::codex_auth::{self, SetupEvent, SignInRequest, SignInWith, SignedIn, TypedLines};
use crate::setup::{Logins, SignInMethods};

pub(super) async fn sign_in(
    login_args: SignInArgs,
    places: &Places,
    mut screen: Screen,
) -> Result<Exit, Failure> {
    let form = login_args.form;
    let lines = typed_lines(login_args.typed);
    let done = run_sign_in(login_args, places, lines, &mut screen).await;
    match form {
        OutputForm::Lines => {}
        OutputForm::Json => screen.print(&done.as_ref().map_or_else(failed, signed_in))?,
        OutputForm::Step => screen.print(&status_block(done.as_ref()))?,
    }
    done.map(|_| Exit::Finished)
}

/// Runs one sign-in, shown on stderr, or with `--json` on stdout.
pub(super) async fn run_sign_in(
    login_args: SignInArgs,
    places: &Places,
    typed: TypedLines,
    screen: &mut Screen,
) -> Result<SignedIn, Failure> {
    let SignInArgs { common: LoginArgs { name, ca }, how, issuer, base, replace, form, .. } =
        login_args;
    let logins = Logins::new(&places.logins(), ca);
    let methods = match how {
        SignInWith::SignIn { methods, .. } => methods,
        SignInWith::ApiKey(_) | SignInWith::AccessToken(_) => {
            SignInMethods { browser: false, open: false, device: false, paste: false }
        }
    };
    let engine = (form != OutputForm::Json).then(EngineChoice::from_environment);
    let login_args = SignInRequest { name, how, issuer, base, replace, engine };
    let shown = |path: &std::path::Path| places.shown(path);
    let mut view = SignInView::new(methods, screen.err_style, &shown);
    let mut is_stored = false;
    let mut unshown = None;
    let mut tell = |setup_event: SetupEvent| {
        is_stored |= matches!(setup_event, SetupEvent::Stored { .. });
        if form != OutputForm::Json {
            screen.tell(&view.text(&setup_event));
        } else if let Some(line) = event(&setup_event)
            && let Err(failure) = screen.print(&line)
        {
            unshown.get_or_insert(failure);
        }
    };
    let done = unless_stopped(codex_auth::run(login_args, &logins, typed, &mut tell)).await;
    let done = done.map_err(|stop| stopped_failure(&stop, stop_note(is_stored)))??;
    match unshown {
        Some(failure) => Err(failure),
        None => Ok(done),
    }
}

/// What a stopped sign-in reports. A login that was granted but not stored was only in memory.
pub(super) fn stop_note(is_stored: bool) -> &'static str {
    match is_stored {
        true => "the login is stored, but was not tested",
        false => "nothing was stored",
    }
}

pub(super) fn typed_lines(typed_by: TypedBy) -> TypedLines {
    match typed_by {
        TypedBy::NoOne => TypedLines { lines: typed::nothing(), is_person: false },
        TypedBy::Program => TypedLines { lines: typed::lines_of_stdin(), is_person: false },
        TypedBy::Person => TypedLines { lines: typed::lines_of_stdin(), is_person: true },
    }
}
