//! `airlock run`: one prompt to its end.

use crate::cli::help;
use crate::cli::settings::Settings;

/// Runs one prompt to its end in a fresh sandbox, and keeps the changes apart until you apply them
#[derive(clap::Args)]
#[command(after_help = help::run())]
pub struct RunArgs {
    /// What the agent is to do; `-` reads it from stdin
    #[arg(value_name = "PROMPT")]
    pub prompt: Option<String>,
    #[command(flatten)]
    pub settings: Settings,
}
