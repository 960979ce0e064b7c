//! `airlock discard RUN`

use crate::cli::parse;

/// Throws a run's changes away; its record stays
#[derive(clap::Args)]
pub struct Discard {
    /// The run's id, or the first four or more digits of it
    #[arg(value_parser = parse::run_id)]
    pub run: String,
}
