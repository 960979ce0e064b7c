//! `airlock secrets`

use std::path::PathBuf;

use crate::cli::parse;

/// Prints a token that is good now, for a program that starts containers itself
///
/// Nothing else is on stdout, and stdout may not be a terminal. The token is renewed where it is
/// near its end; what renews it stays here.
#[derive(clap::Args)]
pub struct Secrets {
    /// As {"CODEX_ACCESS_TOKEN":…,"CODEX_ACCOUNT_ID":…}, the only form there is
    #[arg(long, required = true)]
    pub json: bool,
    /// The login's name [default: the one that pays, else `default`]
    #[arg(long, alias = "name", value_name = "NAME", value_parser = parse::login_name)]
    pub login: Option<String>,
    /// Trust this certificate authority (PEM) beside the usual ones
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}
