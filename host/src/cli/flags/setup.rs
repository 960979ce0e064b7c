//! `airlock setup …`, which is also the whole of the program `setup`.

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
    /// Makes the image that runs use unless told otherwise
    Image {
        /// From Debian's packages alone, without pulling an image
        #[arg(long)]
        offline: bool,
    },
    Doctor(Box<Doctor>),
    /// A whole run without account or network: a recording answers, everything else is real
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
