//! `airlock show SESSION`

use crate::cli::parse;

/// Shows one session: its login and model, what it used, how it ended, what it changed
#[derive(clap::Args)]
pub struct Show {
    /// The session's id, or its first four or more digits
    #[arg(value_parser = parse::session_id)]
    pub session: String,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
