//! `airlock sandbox`

use std::path::PathBuf;

/// The sandbox binary that this host carries, for hosts that are not ours
///
/// It is static and runs in any container: one line of JSON on its stdin says what to do, and with
/// `"link":"none"` it prints what happens as JSON lines.
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Sandbox {
    /// Write the binary to FILE
    #[arg(long, value_name = "FILE", group = "what")]
    pub extract: Option<PathBuf>,
    /// Print the JSON schema of the line that starts it
    #[arg(long, group = "what")]
    pub schema: bool,
}
