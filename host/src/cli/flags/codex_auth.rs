//! `airlock setup codex-auth`: signing in.

use std::ffi::OsString;
use std::path::PathBuf;

use airlock_shared::base::Base;
use airlock_shared::secret::Secret;

use crate::cli::{help, parse};
use crate::setup::IssuerUrl;

/// Signs in to ChatGPT, or stores a key; says so and ends where that is done already
///
/// Without a flag every way is open at once, and the first to finish wins: a browser here, a code
/// typed on another device, and on a terminal the address that a browser ended on, pasted.
#[derive(clap::Args)]
#[command(after_help = help::codex_auth())]
pub struct CodexAuth {
    /// Only in a browser of this machine
    #[arg(long, group = "way", help_heading = "The way")]
    pub browser: bool,
    /// Only with a code that is typed on any device
    #[arg(long, group = "way", help_heading = "The way")]
    pub device: bool,
    /// Only with the address that a browser ended on, read from stdin
    #[arg(long, group = "way", help_heading = "The way")]
    pub paste: bool,
    /// Store the API key that stdin holds instead
    #[arg(long, group = "way", num_args = 0..=1, default_missing_value = "-", value_name = "-", value_parser = parse::secret, help_heading = "The way")]
    pub api_key: Option<Secret>,
    /// Store the access token that stdin holds instead; nothing renews it
    #[arg(long, group = "way", value_name = "-", value_parser = parse::secret, help_heading = "The way")]
    pub access_token: Option<Secret>,
    /// Print the address, open no browser
    #[arg(long, conflicts_with_all = ["device", "paste", "api_key", "access_token"], help_heading = "The way")]
    pub no_browser: bool,

    /// The login's name [default: the one that pays, else `default`]
    #[arg(long, value_parser = parse::login_name)]
    pub name: Option<String>,
    /// Another account may take the place of the one that has the name
    #[arg(long)]
    pub replace: bool,
    /// Where the credential may go, and nowhere else [default: the one that goes with it]
    #[arg(long, value_name = "URL", value_parser = parse::base)]
    pub base_url: Option<Base>,
    /// Who makes the login [default: https://auth.openai.com]
    #[arg(long, value_name = "URL", value_parser = parse::issuer, conflicts_with = "api_key")]
    pub issuer: Option<IssuerUrl>,
    /// Trust this certificate authority (PEM) beside the usual ones
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// What happens, as JSON lines on stdout; the last one is `signed_in` or `failed`
    #[arg(long)]
    pub json: bool,
    /// What `--step codex-auth` becomes.
    #[arg(long, hide = true, conflicts_with = "json")]
    pub step: bool,
}

/// The form in which chat-bot frameworks call a step, `--step codex-auth …`, as the command that it
/// is. `at`: where the words after the program's name for set-up begin.
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

/// A step that there is not, as it was called: `--step WORD`, `--step=WORD`; empty where no word
/// follows.
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
