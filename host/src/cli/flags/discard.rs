//! `airlock discard SESSION`

use crate::cli::parse;

/// Throws a run's changes away; its record stays
#[derive(clap::Args)]
pub struct Discard {
    /// The session's id, or the first four or more digits of it
    #[arg(value_parser = parse::session_id)]
    pub session: String,
}
