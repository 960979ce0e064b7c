//! `airlock sessions`

/// Lists your sessions, newest first
#[derive(clap::Args)]
pub struct Sessions {
    /// Print one JSON object for each session
    #[arg(long)]
    pub json: bool,
}
