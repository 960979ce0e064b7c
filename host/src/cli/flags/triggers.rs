//! `airlock triggers`: the names that `apply` goes by.

/// Lists the files that `apply` holds or points out, by name, with the reason
#[derive(clap::Args)]
pub struct Triggers {}
