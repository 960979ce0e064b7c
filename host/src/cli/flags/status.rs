//! `airlock status`

use std::path::PathBuf;

use crate::cli::parse;

/// Shows your logins: the account, how long each is valid, its plan's usage, which one is in use
#[derive(clap::Args)]
pub struct Status {
    /// Only this login
    #[arg(long, value_parser = parse::login_name)]
    pub name: Option<String>,
    /// The same, as in `logout`.
    #[arg(value_name = "NAME", hide = true, value_parser = parse::login_name, conflicts_with = "name")]
    pub named: Option<String>,
    /// Print one JSON object for each login
    #[arg(long, group = "form")]
    pub json: bool,
    /// Print nothing and use no network: exit 0 if the login in use is good, else 3
    #[arg(short, long, group = "form")]
    pub quiet: bool,
    /// Also trust this certificate authority (PEM)
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}
