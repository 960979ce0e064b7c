//! `airlock sandbox`

use std::path::PathBuf;

/// Gives out the sandbox binary, for programs that start containers themselves
///
/// It is static and runs in any container. One line of JSON on its stdin starts it; with
/// `"link":"none"` it prints its events as JSON lines.
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
