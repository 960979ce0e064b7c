//! `airlock show SESSION`

use crate::cli::parse;

/// Shows the record of one run: who paid, what was used, how it ended
#[derive(clap::Args)]
pub struct Show {
    /// The session's id, or the first four or more digits of it
    #[arg(value_parser = parse::session_id)]
    pub session: String,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}
