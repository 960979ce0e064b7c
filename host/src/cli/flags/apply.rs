//! `airlock apply SESSION`

use crate::cli::parse;

/// Writes a session's changes into your directory
///
/// If a file changed in your directory since the copy, that is a conflict: it is shown, and nothing
/// is written. Some changes are held, which means not applied: files below a `.git` or another
/// version control's directory, files that would run by themselves, and files that were left out of
/// the copy. They do not stop the others. Edited files keep their owner and their mode, except the
/// x bits; new files follow your umask. If an apply is interrupted, the next apply finishes it, and
/// `airlock discard SESSION` gives it up.
#[derive(clap::Args)]
pub struct Apply {
    /// The session's id, or its first four or more digits
    #[arg(value_parser = parse::session_id)]
    pub session: String,
}
