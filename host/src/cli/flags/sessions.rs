//! `airlock sessions`: what there was.

/// Lists the runs of this user, the newest first
#[derive(clap::Args)]
pub struct Sessions {
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}
