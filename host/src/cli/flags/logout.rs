//! `airlock logout`

use std::path::PathBuf;

use crate::cli::parse;

/// Revokes a login at its issuer and deletes it here; says which of the two worked
#[derive(clap::Args)]
pub struct Logout {
    /// The login's name [default: the configured login, else `default`]
    #[arg(value_name = "NAME", value_parser = parse::login_name)]
    pub name: Option<String>,
    /// The same, as in `setup codex-auth`.
    #[arg(long = "name", hide = true, value_parser = parse::login_name, conflicts_with = "name")]
    pub named: Option<String>,
    /// Also trust this certificate authority (PEM)
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}
