//! `airlock setup …`, which is also the program `setup`.

use clap::{Parser, Subcommand};

use crate::cli::flags::codex_auth::CodexAuth;
use crate::cli::flags::doctor::Doctor;
use crate::cli::help;

/// Makes this machine ready; safe to run twice
#[derive(clap::Args)]
#[command(subcommand_required = true, after_help = help::steps())]
pub struct Setup {
    #[command(subcommand)]
    pub step: Step,
}

#[derive(Subcommand)]
pub enum Step {
    CodexAuth(Box<CodexAuth>),
    /// Makes the default image for sandboxes
    Image {
        /// Only from Debian's packages, without pulling an image
        #[arg(long)]
        offline: bool,
    },
    Doctor(Box<Doctor>),
    /// Runs a whole session without an account or a network; a recording plays the model
    Demo,
}

/// Makes this machine ready for airlock; safe to run twice
#[derive(Parser)]
#[command(
    name = "setup",
    version,
    subcommand_required = true,
    max_term_width = 96,
    after_help = help::setup()
)]
pub struct SetupProgram {
    #[command(subcommand)]
    pub step: Step,
}
