//! `airlock doctor`

use std::path::PathBuf;

use airlock_shared::base::Base;

use crate::cli::parse;

/// What this machine has and lacks, one line each, with the command that mends it
///
/// The login and the backend that it tries are those of a run with the same flags.
#[derive(clap::Args, Default)]
pub struct Doctor {
    /// Try this stored login; `env`: OPENAI_API_KEY
    #[arg(long, value_name = "NAME", group = "credential", value_parser = parse::login)]
    pub login: Option<String>,
    /// Try the API key in FILE
    #[arg(long, value_name = "FILE", group = "credential")]
    pub api_key_file: Option<PathBuf>,
    /// Where the backend is [default: the credential's own]
    #[arg(long, value_name = "URL", value_parser = parse::base)]
    pub base_url: Option<Base>,
    /// Trust this certificate authority (PEM) beside the usual ones
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}
