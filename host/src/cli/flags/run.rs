//! `airlock run`: makes a session and runs its turn.

use crate::cli::help;
use crate::cli::settings::Settings;

/// Runs one prompt in a new sandbox; your directory is not changed until you apply the changes
#[derive(clap::Args)]
#[command(after_help = help::run())]
pub struct RunArgs {
    /// The task for the agent; `-` reads it from stdin
    #[arg(value_name = "PROMPT")]
    pub prompt: Option<String>,
    #[command(flatten)]
    pub settings: Settings,
}
