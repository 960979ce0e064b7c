//! `airlock triggers`: the file names that `apply` checks.

/// Lists the file names that `apply` holds or points out, each with the reason
#[derive(clap::Args)]
pub struct Triggers {}
