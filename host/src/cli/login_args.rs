//! Resolves the arguments of the commands about logins. A secret is read only from stdin.

use std::path::{Path, PathBuf};

use airlock_shared::base::Base;
use airlock_shared::secret::Secret;

use crate::cli::ask::{self, Stdin};
use crate::cli::config::LoginChoice;
use crate::cli::environment::Environment;
use crate::cli::file;
use crate::cli::flags::codex_auth::CodexAuth;
use crate::cli::flags::doctor::Doctor;
use crate::cli::flags::import::Codex;
use crate::cli::flags::status::Status;
use crate::cli::places::Places;
use crate::cli::settings::Settings;
use crate::failure::Failure;
use crate::setup::codex_auth::SignInWith;
use crate::setup::{IssuerUrl, SignInMethods};

/// The arguments that all commands about logins have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginArgs {
    pub name: String,
    /// An additional certificate authority, PEM.
    pub ca: Option<String>,
}

pub struct SignInArgs {
    pub common: LoginArgs,
    pub how: SignInWith,
    pub issuer: Option<IssuerUrl>,
    pub base: Option<Base>,
    pub replace: bool,
    pub form: OutputForm,
    pub typed: TypedBy,
}

/// The login and backend that `doctor` tries: those of `airlock run` with the same flags.
pub struct DoctorArgs {
    pub login_choice: LoginChoice,
    pub base: Option<Base>,
    pub ca: Option<String>,
}

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputForm {
    Lines,
    Json,
    /// Lines, and the status block of `--step`.
    Step,
}

/// Where lines on stdin come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypedBy {
    NoOne,
    /// A program pastes lines. It cannot be asked questions.
    Program,
    Person,
}

pub struct ImportArgs {
    pub common: LoginArgs,
    pub file: PathBuf,
    pub yes: bool,
    pub replace: bool,
    pub base: Option<Base>,
    pub issuer: Option<IssuerUrl>,
    pub typed: TypedBy,
}

pub struct StatusArgs {
    pub ca: Option<String>,
    pub only: Option<String>,
    pub json: bool,
    pub quiet: bool,
    /// The credential of `airlock run` without flags.
    pub login_choice: LoginChoice,
    /// `OPENAI_API_KEY` is set.
    pub has_key: bool,
}

/// # Errors
/// A secret in an argument, no secret on stdin, or a file that cannot be read.
pub fn sign_in(
    flags: CodexAuth,
    environment: &Environment,
    places: &Places,
    stdin: Stdin<'_>,
) -> Result<SignInArgs, Failure> {
    let ca = ca("setup codex-auth", flags.ca, environment, places)?;
    let typed = match (flags.paste, stdin.is_terminal) {
        (true, false) => TypedBy::Program,
        (_, true) if !flags.json => TypedBy::Person,
        (_, true) if flags.paste => TypedBy::Program,
        (_, _) => TypedBy::NoOne,
    };
    let how = match (flags.api_key, flags.access_token) {
        (Some(word), _) => SignInWith::ApiKey(secret("--api-key", &word, stdin)?),
        (None, Some(word)) => SignInWith::AccessToken(secret("--access-token", &word, stdin)?),
        (None, None) => {
            let chosen = flags.browser || flags.device || flags.paste;
            let browser = flags.browser || !chosen;
            let methods = SignInMethods {
                browser,
                open: browser && !flags.no_browser,
                device: flags.device || !chosen,
                paste: flags.paste || (!chosen && typed == TypedBy::Person),
            };
            SignInWith::SignIn { methods, chosen }
        }
    };
    Ok(SignInArgs {
        common: LoginArgs { name: login_name(flags.name, environment, places)?, ca },
        how,
        issuer: flags.issuer,
        base: flags.base_url,
        replace: flags.replace,
        form: match (flags.json, flags.step) {
            (true, _) => OutputForm::Json,
            (false, true) => OutputForm::Step,
            (false, false) => OutputForm::Lines,
        },
        typed,
    })
}

/// # Errors
/// The file's place is not known, or the certificate authority cannot be read.
pub fn import(
    flags: Codex,
    environment: &Environment,
    places: &Places,
    is_terminal: bool,
) -> Result<ImportArgs, Failure> {
    let file = flags.file.or_else(|| places.codex.clone());
    let file = file.ok_or_else(|| {
        Failure::usage("neither CODEX_HOME nor HOME is an absolute path")
            .hint("airlock import codex FILE")
    })?;
    let ca = ca("import codex", flags.ca, environment, places)?;
    Ok(ImportArgs {
        common: LoginArgs { name: login_name(flags.name, environment, places)?, ca },
        file,
        yes: flags.yes,
        replace: flags.replace,
        base: flags.base_url,
        issuer: flags.issuer,
        typed: if is_terminal { TypedBy::Person } else { TypedBy::NoOne },
    })
}

/// # Errors
/// The configuration is not valid.
pub fn status(
    flags: Status,
    environment: &Environment,
    places: &Places,
) -> Result<StatusArgs, Failure> {
    let settings = environment.settings()?.over(file::read(places)?);
    Ok(StatusArgs {
        ca: ca("status", flags.ca, environment, places)?,
        only: flags.name.or(flags.named),
        json: flags.json,
        quiet: flags.quiet,
        login_choice: LoginChoice::configured(&settings),
        has_key: environment.text("OPENAI_API_KEY").is_some(),
    })
}

/// # Errors
/// The configuration is not valid, or the certificate authority cannot be read.
pub fn doctor(
    flags: Doctor,
    environment: &Environment,
    places: &Places,
) -> Result<DoctorArgs, Failure> {
    let Doctor { login, api_key_file, base_url, ca } = flags;
    let flags = Settings { login, api_key_file, base_url, ca, ..Settings::default() };
    let settings = flags.over(environment.settings()?).over(file::read(places)?);
    let login_choice = match LoginChoice::configured(&settings) {
        LoginChoice::Default if places.login_file("default").symlink_metadata().is_ok() => {
            LoginChoice::Login("default".to_owned())
        }
        login_choice => login_choice,
    };
    let ca = settings.ca.as_deref().map(|file| ask::certificate(file, "doctor")).transpose()?;
    Ok(DoctorArgs { login_choice, base: settings.base_url, ca })
}

/// # Errors
/// The configuration is not valid, or the certificate authority cannot be read.
pub fn common(
    command: &str,
    name: Option<String>,
    ca_file: Option<PathBuf>,
    environment: &Environment,
    places: &Places,
) -> Result<LoginArgs, Failure> {
    let name = login_name(name, environment, places)?;
    Ok(LoginArgs { name, ca: ca(command, ca_file, environment, places)? })
}

/// The login's name: from the flag, else the configured login, else `default`.
fn login_name(
    flag: Option<String>,
    environment: &Environment,
    places: &Places,
) -> Result<String, Failure> {
    if let Some(name) = flag {
        return Ok(name);
    }
    let settings = environment.settings()?.over(file::read(places)?);
    Ok(match LoginChoice::configured(&settings) {
        LoginChoice::Login(name) => name,
        _ => "default".to_owned(),
    })
}

/// The certificate authority, as for `airlock run`: from the flag, the variable or the configuration.
fn ca(
    command: &str,
    flag: Option<PathBuf>,
    environment: &Environment,
    places: &Places,
) -> Result<Option<String>, Failure> {
    let file = match flag {
        Some(file) => Some(file),
        None => environment.settings()?.over(file::read(places)?).ca,
    };
    file.as_deref().map(|file: &Path| ask::certificate(file, command)).transpose()
}

/// Reads a secret from stdin.
fn secret(flag: &str, word: &Secret, stdin: Stdin<'_>) -> Result<Secret, Failure> {
    let hint = format!("airlock setup codex-auth {flag} - < FILE");
    // THREAT: a key in an argument can be read by every user of `ps`. Tried by
    // cli::tests::logins::a_secret_is_taken_from_stdin_alone.
    if word.reveal() != "-" {
        let reason = format!(
            "every user of this machine can see a secret in an argument: {flag} accepts only `-`, \
             which reads it from stdin"
        );
        return Err(Failure::usage(reason).hint(hint));
    }
    if stdin.is_terminal {
        let reason = "a secret that you type at a terminal stays on the screen";
        return Err(Failure::usage(reason).hint(hint));
    }
    ask::secret(flag, &hint, stdin.input)
}
