//! `airlock diff SESSION`

use crate::cli::parse;

/// Shows what a run changed, before any of it touches your directory
#[derive(clap::Args)]
pub struct Diff {
    /// The session's id, or the first four or more digits of it
    #[arg(value_parser = parse::session_id)]
    pub session: String,
    /// What `apply` keeps back, and why
    #[arg(long)]
    pub held: bool,
    /// A line a file instead of its text
    #[arg(long)]
    pub stat: bool,
    /// What the run made of one file, byte for byte, to take what apply keeps back:
    /// `airlock diff SESSION --content PATH > PATH`
    #[arg(long, value_name = "PATH", conflicts_with_all = ["held", "stat"])]
    pub content: Option<String>,
}
