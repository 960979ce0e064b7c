//! `airlock show RUN`

use crate::cli::parse;

/// Shows the record of one run: who paid, what was used, how it ended
#[derive(clap::Args)]
pub struct Show {
    /// The run's id, or the first four or more digits of it
    #[arg(value_parser = parse::run_id)]
    pub run: String,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}
