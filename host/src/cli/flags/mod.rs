//! The commands and their arguments, one type for each file. Every value is optional here; `config`
//! has the defaults.

pub mod apply;
pub mod codex_auth;
pub mod diff;
pub mod discard;
pub mod doctor;
pub mod import;
pub mod logout;
pub mod run;
pub mod sessions;
pub mod sandbox;
pub mod secrets;
pub mod setup;
pub mod show;
pub mod status;
pub mod triggers;

use clap::{Parser, Subcommand};

use crate::cli::help;

/// Runs a coding agent on untrusted work, in a container without a network
#[derive(Parser)]
#[command(
    name = "airlock",
    version,
    subcommand_required = true,
    max_term_width = 96,
    after_help = help::airlock()
)]
pub struct Flags {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    Run(Box<run::RunArgs>),
    Sessions(sessions::Sessions),
    Show(show::Show),
    Diff(diff::Diff),
    Apply(apply::Apply),
    Discard(discard::Discard),
    Triggers(triggers::Triggers),
    Setup(setup::Setup),
    Status(status::Status),
    Logout(logout::Logout),
    Import(import::Import),
    Secrets(secrets::Secrets),
    Doctor(Box<doctor::Doctor>),
    Sandbox(sandbox::Sandbox),
}
