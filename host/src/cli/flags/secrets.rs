//! `airlock secrets`

use std::path::PathBuf;

use crate::cli::parse;

/// Prints a valid access token, for a program that starts containers itself
///
/// Nothing else goes to stdout, and stdout must not be a terminal. A token that is about to expire
/// is renewed first. The refresh token is never printed.
#[derive(clap::Args)]
pub struct Secrets {
    /// Print {"CODEX_ACCESS_TOKEN":…,"CODEX_ACCOUNT_ID":…}, which is the only format
    #[arg(long, required = true)]
    pub json: bool,
    /// The login's name [default: the configured login, else `default`]
    #[arg(long, alias = "name", value_name = "NAME", value_parser = parse::login_name)]
    pub login: Option<String>,
    /// Also trust this certificate authority (PEM)
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}
