//! `airlock setup codex-auth`: signs in.

use std::ffi::OsString;
use std::path::PathBuf;

use airlock_shared::base::Base;
use airlock_shared::secret::Secret;

use crate::cli::{help, parse};
use crate::setup::IssuerUrl;

/// Signs in to ChatGPT, or stores a key; does nothing if the login is good already
///
/// Without a flag, all methods are open at once, and the first to finish is used: a browser on this
/// machine, a code for any device, and, at a terminal, the address that a browser ended on.
#[derive(clap::Args)]
#[command(after_help = help::codex_auth())]
pub struct CodexAuth {
    /// Only with a browser on this machine
    #[arg(long, group = "way", help_heading = "Method")]
    pub browser: bool,
    /// Only with a code that you type on any device
    #[arg(long, group = "way", help_heading = "Method")]
    pub device: bool,
    /// Only with the address that a browser ended on, from stdin
    #[arg(long, group = "way", help_heading = "Method")]
    pub paste: bool,
    /// Store an API key from stdin instead
    #[arg(long, group = "way", num_args = 0..=1, default_missing_value = "-", value_name = "-", value_parser = parse::secret, help_heading = "Method")]
    pub api_key: Option<Secret>,
    /// Store an access token from stdin instead; it is never renewed
    #[arg(long, group = "way", value_name = "-", value_parser = parse::secret, help_heading = "Method")]
    pub access_token: Option<Secret>,
    /// Print the address, but open no browser
    #[arg(long, conflicts_with_all = ["device", "paste", "api_key", "access_token"], help_heading = "Method")]
    pub no_browser: bool,

    /// The login's name [default: the configured login, else `default`]
    #[arg(long, value_parser = parse::login_name)]
    pub name: Option<String>,
    /// Allow another account to replace the one with this name
    #[arg(long)]
    pub replace: bool,
    /// The only backend that gets the credential [default: the usual one for its kind]
    #[arg(long, value_name = "URL", value_parser = parse::base)]
    pub base_url: Option<Base>,
    /// The issuer of the login [default: https://auth.openai.com]
    #[arg(long, value_name = "URL", value_parser = parse::issuer, conflicts_with = "api_key")]
    pub issuer: Option<IssuerUrl>,
    /// Also trust this certificate authority (PEM)
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Print events as JSON lines on stdout; the last one is `signed_in` or `failed`
    #[arg(long)]
    pub json: bool,
    /// Set by `--step codex-auth`.
    #[arg(long, hide = true, conflicts_with = "json")]
    pub step: bool,
}

/// Rewrites `--step codex-auth …`, as chat-bot frameworks call it, to `codex-auth --step …`. `at`:
/// the index of the first argument after `setup`.
#[must_use]
pub fn of_step(mut arguments: Vec<OsString>, at: usize) -> Vec<OsString> {
    let word = |at: usize| arguments.get(at).and_then(|word| word.to_str());
    let words = match (word(at), word(at + 1)) {
        (Some("--step=codex-auth"), _) => 1,
        (Some("--step"), Some("codex-auth")) => 2,
        _ => return arguments,
    };
    arguments.splice(at..at + words, ["codex-auth", "--step"].map(OsString::from));
    arguments
}

/// The unknown step in `--step WORD` or `--step=WORD`; empty if there is no word.
#[must_use]
pub fn unknown_step(arguments: &[OsString]) -> Option<String> {
    let mut words = arguments.iter().skip(1).map(|word| word.to_string_lossy());
    let first = words.next()?;
    let word = if first == "setup" { words.next()? } else { first };
    match word.strip_prefix("--step") {
        Some("") => Some(words.next().unwrap_or_default().into_owned()),
        Some(joined) => Some(joined.strip_prefix('=')?.to_owned()),
        None => None,
    }
}
