//! `airlock runs`: what there was.

/// Lists the runs of this user, the newest first
#[derive(clap::Args)]
pub struct Runs {
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}
