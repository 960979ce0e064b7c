//! Makes a session's settings from its configuration. Files are checked here, and stdin is read
//! here: last, and only if an argument needs it.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use airlock_shared::base::Base;
use airlock_shared::secret::Secret;
use airlock_shared::{defaults, limits};

use crate::cli::config::{Config, LoginChoice, Prompt, checked_prompt};
use crate::cli::environment::Environment;
use crate::cli::places::Places;
use crate::exit::Exit;
use crate::failure::{Failure, GIVE_A_KEY, SIGN_IN, shell_url};
use crate::output::{self, Output, Standard};
use crate::session::settings::{BaseChoice, CredentialChoice, RecordingChoice, SessionSettings};
use crate::session::sign_in_again;
use crate::setup::Logins;

/// One more than the bytes of the longest key or token.
const KEY_BYTES: u64 = 16 << 10;
const CA_BYTES: u64 = 1 << 20;

/// Stdin as a value, so that a test can set its content.
pub struct Stdin<'a> {
    pub input: &'a mut dyn Read,
    pub is_terminal: bool,
}

/// Makes the settings of a session from its configuration.
///
/// # Errors
/// Something is missing or cannot be read: exit 2, or 3 if there is no credential.
pub fn settings(
    config: Config,
    environment: &Environment,
    places: &Places,
    stdin: Stdin<'_>,
) -> Result<SessionSettings, Failure> {
    let dir = directory(&config.dir)?;
    let env = passed_through(&config.env, environment)?;
    let ca = config.ca.as_deref().map(|file| certificate(file, "run")).transpose()?;
    check_files(&config, &dir)?;
    let login_choice = match config.login_choice {
        // Also if the file cannot be used: then a later error says so.
        LoginChoice::Default if places.login_file("default").symlink_metadata().is_ok() => {
            LoginChoice::Login("default".to_owned())
        }
        login_choice => login_choice,
    };
    let credential = match login_choice {
        LoginChoice::Default => {
            let reason = "no API key was given, and there is no login `default`";
            return Err(Failure::new(Exit::SignIn, "sign-in needed", reason).hint(SIGN_IN));
        }
        LoginChoice::Login(name) => {
            check_login(&name, config.base.as_ref(), places)?;
            CredentialChoice::Login(name)
        }
        LoginChoice::Env => match environment.text("OPENAI_API_KEY") {
            Some(_) => CredentialChoice::Env,
            None => {
                let reason = "--login env needs OPENAI_API_KEY, which is not set";
                return Err(Failure::new(Exit::SignIn, "sign-in needed", reason).hint(GIVE_A_KEY));
            }
        },
        LoginChoice::KeyFile(file) => {
            check_key_file(&file)?;
            CredentialChoice::KeyFile(std::path::absolute(&file).unwrap_or(file))
        }
        LoginChoice::Replay => CredentialChoice::Replay,
        LoginChoice::KeyOnStdin if stdin.is_terminal => {
            let reason = "a key that you type at a terminal stays on the screen";
            return Err(Failure::usage(reason).hint("airlock run --api-key - … < FILE"));
        }
        LoginChoice::KeyOnStdin => {
            let hint = "airlock run --api-key - … < FILE";
            CredentialChoice::KeyStdin(secret("--api-key", hint, &mut *stdin.input)?)
        }
    };
    let base = match (config.base, &credential) {
        (Some(base), _) => BaseChoice::Named(base),
        (None, CredentialChoice::Login(_)) => BaseChoice::OfLogin,
        (None, _) => BaseChoice::Named(api_base()?),
    };
    let prompt = match config.prompt {
        Prompt::Typed(prompt) => prompt,
        Prompt::OnStdin => {
            let mut text = String::new();
            read_text(stdin.input, limits::PROMPT_BYTES as u64 + 1, &mut text)?;
            checked_prompt(&text)?
        }
    };
    Ok(SessionSettings {
        prompt,
        dir,
        credential,
        base,
        ca,
        identity: config.identity,
        model: config.model,
        credentials: config.credentials,
        image: config.image,
        workspace: config.workspace,
        budget: config.budget,
        limits: config.limits,
        env,
        recording: config.recording,
    })
}

/// Errors of a login that can be found before the session begins.
fn check_login(name: &str, base: Option<&Base>, places: &Places) -> Result<(), Failure> {
    let needed = |reason| Failure::new(Exit::SignIn, "sign-in needed", reason);
    if places.login_file(name).symlink_metadata().is_err() {
        let reason = format!("there is no login `{name}`");
        return Err(needed(reason).hint(sign_in_again(name)));
    }
    let bound = Logins::new(&places.logins(), None).base(name);
    match (bound, base) {
        (Some(bound), Some(wanted)) if bound != *wanted => {
            let reason = format!(
                "the login `{name}` is only sent to {bound}; {wanted} needs its own login, which \
                 you then name with --login NAME"
            );
            let to = wanted.to_string();
            let to = shell_url(&to);
            let hint = format!("airlock setup codex-auth --base-url {to} --name NAME");
            Err(needed(reason).hint(hint))
        }
        _ => Ok(()),
    }
}

/// The file may be a pipe (`<(…)`), so it is not read here.
fn check_key_file(file: &Path) -> Result<(), Failure> {
    let refuse = |why: String| {
        Failure::usage(format!("--api-key-file {}: {why}", file.display())).hint(GIVE_A_KEY)
    };
    match file.metadata() {
        Ok(about) if about.is_dir() => Err(refuse("it is a directory".to_owned())),
        Ok(_) => Ok(()),
        Err(error) => Err(refuse(error.to_string())),
    }
}

fn api_base() -> Result<Base, Failure> {
    Base::parse(defaults::API_BASE).map_err(|error| Failure::usage(error.to_string()))
}

fn directory(dir: &Path) -> Result<PathBuf, Failure> {
    let refuse = |why: &str| {
        let reason = format!("{} {why}", dir.display());
        Failure::usage(reason).hint("airlock run -C DIR …")
    };
    let real = dir.canonicalize().map_err(|error| refuse(&format!("cannot be used: {error}")))?;
    if real.is_dir() { Ok(real) } else { Err(refuse("is not a directory")) }
}

fn passed_through(
    names: &[String],
    environment: &Environment,
) -> Result<BTreeMap<String, String>, Failure> {
    let pairs = names.iter().map(|name| match environment.text(name) {
        Some(value) => Ok((name.clone(), value.to_owned())),
        None => {
            let reason = format!("--env {name}: the variable is not set, or is not UTF-8");
            Err(Failure::usage(reason).hint(format!("export {name}=…")))
        }
    });
    pairs.collect()
}

/// Reads a certificate authority. `command`: as typed, for the hint.
pub(super) fn certificate(file: &Path, command: &str) -> Result<String, Failure> {
    let refuse = |why: String| {
        Failure::usage(format!("--ca {}: {why}", file.display()))
            .hint(format!("airlock {command} --ca FILE …"))
    };
    let mut text = String::new();
    let open = std::fs::File::open(file).map_err(|error| refuse(error.to_string()))?;
    open.take(CA_BYTES).read_to_string(&mut text).map_err(|error| refuse(error.to_string()))?;
    if text.contains("-----BEGIN CERTIFICATE-----") {
        return Ok(text);
    }
    Err(refuse("it has no certificate in PEM".to_owned()))
}

/// Errors of files that would otherwise show only at the end of the turn.
fn check_files(config: &Config, dir: &Path) -> Result<(), Failure> {
    if let RecordingChoice::Replay(file) = &config.recording {
        check_recording(file)?;
    }
    let record = match &config.recording {
        RecordingChoice::Record(file) => Some(("--record", file)),
        RecordingChoice::None | RecordingChoice::Replay(_) => None,
    };
    let output = config.turn_printer.output.as_ref().map(|file| ("--output", file));
    for (flag, file) in record.into_iter().chain(output) {
        let refuse = |why: &str| {
            let reason = format!("{flag} {}: {why}", file.display());
            Failure::usage(reason).hint(format!("airlock run {flag} FILE …"))
        };
        // The path is resolved again when it is written.
        let found = Output::open(file, Some(dir)).map_err(|why| refuse(&why))?;
        if config.turn_printer.json && found.standard() == Some(Standard::Out) {
            let why = "--json writes only JSON lines to stdout, and the last one has the answer";
            return Err(refuse(why));
        }
    }
    Ok(())
}

fn check_recording(file: &Path) -> Result<(), Failure> {
    let refuse = |why: &str, hint: &str| {
        Err(Failure::usage(format!("--replay {}: {why}", file.display())).hint(hint))
    };
    match file.metadata().map(|about| output::not_a_file(about.mode())) {
        Ok(None) => Ok(()),
        Ok(Some(what)) => refuse(what, "airlock run --replay FILE …"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            refuse("there is no such file", "airlock run --record FILE …")
        }
        Err(error) => refuse(&error.to_string(), "airlock run --replay FILE …"),
    }
}

/// Reads the key or token for `flag` from stdin.
pub(super) fn secret(flag: &str, hint: &str, input: &mut dyn Read) -> Result<Secret, Failure> {
    let refuse = |why: &str| Failure::usage(format!("{flag} -: {why}")).hint(hint);
    // Allocated once: a string that grows leaves copies of the key that are not wiped.
    let mut text = zeroize::Zeroizing::new(String::with_capacity(16 << 10));
    read_text(input, KEY_BYTES, &mut text)?;
    let key = text.trim();
    if key.is_empty() {
        return Err(refuse("stdin is empty"));
    }
    if text.len() as u64 >= KEY_BYTES || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refuse("stdin must have exactly one key"));
    }
    Ok(Secret::new(key.to_owned()))
}

/// Reads up to `most` bytes. The caller sees by the length whether there were more.
fn read_text(input: &mut dyn Read, most: u64, text: &mut String) -> Result<(), Failure> {
    input.take(most).read_to_string(text).map(drop).map_err(|error| {
        Failure::usage(format!("stdin cannot be read as text: {error}"))
            .hint("airlock run \"PROMPT\"")
    })
}
