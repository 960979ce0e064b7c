//! `import codex`: reads the official client's login once, and never writes it.
//!
//! A refresh token works only once, so two programs with the same one lock each other out.
//! Therefore a new login is offered first.

use std::path::Path;

use airlock_shared::base::Base;
use airlock_shared::defaults;

use super::codex_auth::{Keeping, SetupEvent, TypedLines, given, is_yes, keep};
use super::{IssuerUrl, LoginError, Logins};
use crate::auth::import::{AuthFile, read};
use crate::auth::issuer::Tokens;
use crate::auth::store::Login;

/// The request for an import.
pub struct ImportRequest<'a> {
    pub file: &'a Path,
    pub name: &'a str,
    /// `None`: the base of the official client.
    pub base: Option<Base>,
    pub issuer: Option<IssuerUrl>,
    /// The person accepts the warning.
    pub yes: bool,
    pub replace: bool,
}

/// The result of an import.
pub enum ImportResult {
    Kept,
    /// The person wants to sign in instead.
    SignInInstead,
}

/// What happens if two programs share one login.
pub const WARNING: &str = "codex and airlock would share this login: the first to renew it locks the \
                           other one out. A login of airlock's own avoids that.";

/// Imports the login of the official client.
///
/// # Errors
/// The file cannot be read or holds no login. There is no terminal, and `yes` is not set.
pub async fn run(
    request: ImportRequest<'_>,
    logins: &Logins,
    typed: &mut TypedLines,
    emit: &mut (dyn FnMut(SetupEvent) + Send),
) -> Result<ImportResult, LoginError> {
    let login_error = |error| LoginError::login(request.name, error);
    logins.store.path(request.name).map_err(login_error)?;
    let auth_file = read(request.file).map_err(|error| LoginError::Given {
        why: error.to_string(),
        hint: "airlock setup codex-auth".to_owned(),
    })?;
    let default = match auth_file {
        AuthFile::ApiKey(_) => defaults::API_BASE,
        AuthFile::ChatGpt { .. } => defaults::CHATGPT_BASE,
    };
    let base = request.base.clone().map_or_else(|| Base::parse(default), Ok);
    let base = base.map_err(|error| LoginError::Given {
        why: error.to_string(),
        hint: "airlock import codex --base-url URL".to_owned(),
    })?;
    let (login, proof) = match auth_file {
        AuthFile::ApiKey(key) => given::key_for(&key, base, request.name, logins).await?,
        AuthFile::ChatGpt { access, refresh, id, account } => {
            if refresh.is_some() && !request.yes && offer_own_login(typed, emit).await? {
                return Ok(ImportResult::SignInInstead);
            }
            let tokens = Tokens { access: Some(access), refresh, id, expires_in: None, date: None };
            let issuer = request.issuer.clone().unwrap_or_default();
            let login = given::from_tokens(&tokens, base, issuer, request.name, logins)?;
            let account = login.account.clone().or(account);
            (Login { account, ..login }, None)
        }
    };
    if let Some(other) = other_login_with_token(&login, request.name, logins) {
        return Err(LoginError::Given {
            why: format!(
                "login `{other}` already has this refresh token, which works only once: two logins \
                 with it would lock each other out"
            ),
            hint: format!("airlock run --login {other} …"),
        });
    }
    let keeping = Keeping { name: request.name, replace: request.replace, granted: false, logins };
    keep(keeping, login, proof, typed, emit).await.map(|_| ImportResult::Kept)
}

/// The name of another stored login with the same refresh token.
fn other_login_with_token(login: &Login, name: &str, logins: &Logins) -> Option<String> {
    let digest = login.digest()?;
    let mut others = logins.store.names().unwrap_or_default().into_iter();
    others.find(|other| {
        other != name
            && logins
                .store
                .read(other)
                .is_ok_and(|stored| stored.digest().as_ref() == Some(&digest))
    })
}

/// Asks whether the person wants to sign in instead.
async fn offer_own_login(
    typed: &mut TypedLines,
    emit: &mut (dyn FnMut(SetupEvent) + Send),
) -> Result<bool, LoginError> {
    emit(SetupEvent::Note(WARNING.to_owned()));
    if !typed.is_person {
        return Err(LoginError::Given {
            why: "two programs with one login lock each other out; --yes imports it anyway"
                .to_owned(),
            hint: "airlock setup codex-auth".to_owned(),
        });
    }
    emit(SetupEvent::OfferOwnLogin);
    let answer = typed.lines.recv().await;
    match answer {
        Some(answer) if is_yes(&answer) || answer.reveal().trim().is_empty() => Ok(true),
        Some(_) => Ok(false),
        None => Err(LoginError::Declined { what: "nothing was imported" }),
    }
}
