//! `airlock apply RUN`

use crate::cli::parse;

/// Writes a run's changes into the directory they were made for
///
/// All or nothing: a file that changed in your directory since the copy is a conflict, is shown,
/// and nothing is written. Nothing is ever written below a `.git`, nor anything that would run by
/// itself there.
#[derive(clap::Args)]
pub struct Apply {
    /// The run's id, or the first four or more digits of it
    #[arg(value_parser = parse::run_id)]
    pub run: String,
}
