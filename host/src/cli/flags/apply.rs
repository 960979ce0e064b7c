//! `airlock apply SESSION`

use crate::cli::parse;

/// Writes a run's changes into the directory they were made for
///
/// All or nothing: a file that changed in your directory since the copy is a conflict, is shown,
/// and nothing is written. Kept back, and in the way of nothing: what is below a `.git` or another
/// version control's folder, what would run by itself, and what was left out of the copy. Edited
/// files keep their mode and owner but for the x bits; new ones follow your umask. What was
/// interrupted is gone on with by the next apply, and given up by `airlock discard SESSION`.
#[derive(clap::Args)]
pub struct Apply {
    /// The session's id, or the first four or more digits of it
    #[arg(value_parser = parse::session_id)]
    pub session: String,
}
