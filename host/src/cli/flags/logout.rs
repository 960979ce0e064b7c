//! `airlock logout`

use std::path::PathBuf;

use crate::cli::parse;

/// Revokes a login where it was made, and deletes it here; says which of the two worked
#[derive(clap::Args)]
pub struct Logout {
    /// The login's name
    #[arg(value_name = "NAME", default_value = "default", value_parser = parse::login_name)]
    pub name: String,
    /// Trust this certificate authority (PEM) beside the usual ones
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}
