//! `airlock diff SESSION`

use crate::cli::parse;

/// Shows what a session changed; your directory is not touched
#[derive(clap::Args)]
pub struct Diff {
    /// The session's id, or its first four or more digits
    #[arg(value_parser = parse::session_id)]
    pub session: String,
    /// Show what `apply` holds, and why
    #[arg(long)]
    pub held: bool,
    /// Show one line for each file instead of its text
    #[arg(long)]
    pub stat: bool,
    /// Print one file's new content, byte for byte, for example to take a file that `apply` holds:
    /// `airlock diff SESSION --content PATH > PATH`
    #[arg(long, value_name = "PATH", conflicts_with_all = ["held", "stat"])]
    pub content: Option<String>,
}
