//! `airlock discard SESSION`

use crate::cli::parse;

/// Deletes a session's changes; its record stays
#[derive(clap::Args)]
pub struct Discard {
    /// The session's id, or its first four or more digits
    #[arg(value_parser = parse::session_id)]
    pub session: String,
}
