//! `airlock import codex`

use std::path::PathBuf;

use airlock_shared::base::Base;
use clap::Subcommand;

use crate::cli::parse;
use crate::setup::IssuerUrl;

/// Takes over a login of another program, once
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

/// The official client's `auth.json`, which is read and never written
///
/// A login that two programs renew locks one of them out: the first to renew it uses up what the
/// other one has. So a login of airlock's own is offered instead.
#[derive(clap::Args)]
pub struct Codex {
    /// The file [default: $CODEX_HOME/auth.json, else ~/.codex/auth.json]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The login's name [default: the one that pays, else `default`]
    #[arg(long, value_parser = parse::login_name)]
    pub name: Option<String>,
    /// Two programs may have the one login
    #[arg(long)]
    pub yes: bool,
    /// Another account may take the place of the one that has the name
    #[arg(long)]
    pub replace: bool,
    /// Where the credential may go, and nowhere else [default: where the official client's goes]
    #[arg(long, value_name = "URL", value_parser = parse::base)]
    pub base_url: Option<Base>,
    /// Who made the login [default: https://auth.openai.com]
    #[arg(long, value_name = "URL", value_parser = parse::issuer)]
    pub issuer: Option<IssuerUrl>,
    /// Trust this certificate authority (PEM) beside the usual ones
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}
