//! `airlock run`: one prompt to its end.

use crate::cli::help;
use crate::cli::settings::Settings;

/// Runs one prompt to its end in a fresh box, and keeps the changes apart until you apply them
#[derive(clap::Args)]
#[command(after_help = help::run())]
pub struct Run {
    /// What the agent is to do; `-` reads it from stdin
    #[arg(value_name = "PROMPT")]
    pub prompt: Option<String>,
    #[command(flatten)]
    pub settings: Settings,
}
