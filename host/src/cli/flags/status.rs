//! `airlock status`

use std::path::PathBuf;

use crate::cli::parse;

/// Every login: whose, how long it is good, what is left of its plan, and which one pays
#[derive(clap::Args)]
pub struct Status {
    /// Only this login
    #[arg(long, value_parser = parse::login_name)]
    pub name: Option<String>,
    /// The same, as `logout` has it.
    #[arg(value_name = "NAME", hide = true, value_parser = parse::login_name, conflicts_with = "name")]
    pub named: Option<String>,
    /// One JSON object a line
    #[arg(long, group = "form")]
    pub json: bool,
    /// Say nothing and ask nobody: exit 0 where the login that pays is good, else 3
    #[arg(short, long, group = "form")]
    pub quiet: bool,
    /// Trust this certificate authority (PEM) beside the usual ones
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}
