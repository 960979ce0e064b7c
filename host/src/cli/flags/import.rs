//! `airlock import codex`

use std::path::PathBuf;

use airlock_shared::base::Base;
use clap::Subcommand;

use crate::cli::parse;
use crate::setup::IssuerUrl;

/// Copies a login of another program
#[derive(clap::Args)]
#[command(subcommand_required = true)]
pub struct Import {
    #[command(subcommand)]
    pub of: Of,
}

#[derive(Subcommand)]
pub enum Of {
    Codex(Box<Codex>),
}

/// Copies the login in the official client's `auth.json`, and never writes to that file
///
/// If two programs renew one login, the second one is locked out, because each renewal makes the old
/// token invalid. So the command offers to sign in for a separate login instead.
#[derive(clap::Args)]
pub struct Codex {
    /// The file [default: $CODEX_HOME/auth.json, else ~/.codex/auth.json]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The login's name [default: the configured login, else `default`]
    #[arg(long, value_parser = parse::login_name)]
    pub name: Option<String>,
    /// Copy the login although two programs will use it
    #[arg(long)]
    pub yes: bool,
    /// Allow another account to replace the one with this name
    #[arg(long)]
    pub replace: bool,
    /// The only backend that gets the credential [default: the official client's]
    #[arg(long, value_name = "URL", value_parser = parse::base)]
    pub base_url: Option<Base>,
    /// The issuer of the login [default: https://auth.openai.com]
    #[arg(long, value_name = "URL", value_parser = parse::issuer)]
    pub issuer: Option<IssuerUrl>,
    /// Also trust this certificate authority (PEM)
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}
