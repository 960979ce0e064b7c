//! `import codex`: the official client's login, read once and never written.
//!
//! A refresh token is good for one use, so two programs that have the same one lock each other
//! out. A login of one's own is the better way, and is offered first.

use std::path::Path;

use airlock_shared::base::Base;
use airlock_shared::defaults;

use super::codex_auth::{Keeping, SetupEvent, TypedLines, given, is_yes, keep};
use super::{IssuerUrl, LoginError, Logins};
use crate::auth::import::{AuthFile, read};
use crate::auth::issuer::Tokens;
use crate::auth::store::Login;

/// What was asked for.
pub struct ImportRequest<'a> {
    pub file: &'a Path,
    pub name: &'a str,
    /// None: where the official client's credential goes.
    pub base: Option<Base>,
    pub issuer: Option<IssuerUrl>,
    /// The warning has been read.
    pub yes: bool,
    pub replace: bool,
}

/// How it ended, where it ended well.
pub enum ImportResult {
    Kept,
    /// A login of one's own is wanted instead: sign in.
    OwnWanted,
}

/// What two owners of one login do to each other, said before it is made so.
pub const WARNING: &str = "this login stays the codex program's too: whichever renews it first \
                           locks the other one out. A login of airlock's own does not.";

/// # Errors
/// The file cannot be read or holds no login; without a terminal, and without `yes`, a login is
/// not imported.
pub async fn run(
    wish: ImportRequest<'_>,
    logins: &Logins,
    typed: &mut TypedLines,
    tell: &mut (dyn FnMut(SetupEvent) + Send),
) -> Result<ImportResult, LoginError> {
    let login_error = |error| LoginError::login(wish.name, error);
    logins.store.path(wish.name).map_err(login_error)?;
    let found = read(wish.file).map_err(|error| LoginError::Given {
        why: error.to_string(),
        hint: "airlock setup codex-auth".to_owned(),
    })?;
    let usual = match found {
        AuthFile::ApiKey(_) => defaults::API_BASE,
        AuthFile::ChatGpt { .. } => defaults::CHATGPT_BASE,
    };
    let base = wish.base.clone().map_or_else(|| Base::parse(usual), Ok);
    let base = base.map_err(|error| LoginError::Given {
        why: error.to_string(),
        hint: "airlock import codex --base-url URL".to_owned(),
    })?;
    let (login, proof) = match found {
        AuthFile::ApiKey(key) => given::key_for(&key, base, wish.name, logins).await?,
        AuthFile::ChatGpt { access, refresh, id, account } => {
            if refresh.is_some() && !wish.yes && own_is_wanted(typed, tell).await? {
                return Ok(ImportResult::OwnWanted);
            }
            let tokens = Tokens { access: Some(access), refresh, id, expires_in: None, date: None };
            let issuer = wish.issuer.clone().unwrap_or_default();
            let login = given::from_tokens(&tokens, base, issuer, wish.name, logins)?;
            let account = login.account.clone().or(account);
            (Login { account, ..login }, None)
        }
    };
    if let Some(other) = holder(&login, wish.name, logins) {
        return Err(LoginError::Given {
            why: format!(
                "login `{other}` has this login's refresh token already, which is good once: two \
                 names for it would lock each other out"
            ),
            hint: format!("airlock run --login {other} …"),
        });
    }
    let keeping = Keeping { name: wish.name, replace: wish.replace, granted: false, logins };
    keep(keeping, login, proof, typed, tell).await.map(|_| ImportResult::Kept)
}

/// The stored login of another name that has the same refresh token.
fn holder(login: &Login, name: &str, logins: &Logins) -> Option<String> {
    let digest = login.digest()?;
    let mut others = logins.store.names().unwrap_or_default().into_iter();
    others.find(|other| {
        other != name
            && logins.store.read(other).is_ok_and(|there| there.digest().as_ref() == Some(&digest))
    })
}

async fn own_is_wanted(
    typed: &mut TypedLines,
    tell: &mut (dyn FnMut(SetupEvent) + Send),
) -> Result<bool, LoginError> {
    tell(SetupEvent::Note(WARNING.to_owned()));
    if !typed.is_person {
        return Err(LoginError::Given {
            why: "two programs with one login lock each other out; --yes imports it all the same"
                .to_owned(),
            hint: "airlock setup codex-auth".to_owned(),
        });
    }
    tell(SetupEvent::OwnLogin);
    let answer = typed.lines.recv().await;
    match answer {
        Some(answer) if is_yes(&answer) || answer.reveal().trim().is_empty() => Ok(true),
        Some(_) => Ok(false),
        None => Err(LoginError::Declined { what: "nothing was imported" }),
    }
}
