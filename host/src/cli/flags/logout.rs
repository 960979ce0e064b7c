//! `airlock logout`

use std::path::PathBuf;

use crate::cli::parse;

/// Revokes a login where it was made, and deletes it here; says which of the two worked
#[derive(clap::Args)]
pub struct Logout {
    /// The login's name [default: the one that pays, else `default`]
    #[arg(value_name = "NAME", value_parser = parse::login_name)]
    pub name: Option<String>,
    /// The same, as `setup codex-auth` has it.
    #[arg(long = "name", hide = true, value_parser = parse::login_name, conflicts_with = "name")]
    pub named: Option<String>,
    /// Trust this certificate authority (PEM) beside the usual ones
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}
