//! `airlock doctor`

use std::path::PathBuf;

use airlock_shared::base::Base;

use crate::cli::parse;

/// Checks this machine: one line for each check, with the command that helps if it failed
///
/// It tries the same login and backend as `airlock run` with the same flags.
#[derive(clap::Args, Default)]
pub struct Doctor {
    /// Try this stored login; `env` means OPENAI_API_KEY
    #[arg(long, value_name = "NAME", group = "credential", value_parser = parse::login)]
    pub login: Option<String>,
    /// Try the API key in FILE
    #[arg(long, value_name = "FILE", group = "credential")]
    pub api_key_file: Option<PathBuf>,
    /// The backend's address [default: the one that belongs to the credential]
    #[arg(long, value_name = "URL", value_parser = parse::base)]
    pub base_url: Option<Base>,
    /// Also trust this certificate authority (PEM)
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}
