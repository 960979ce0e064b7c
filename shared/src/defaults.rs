//! What we say of ourselves to the backend unless the configuration says otherwise, and what a
//! run may use unless a flag does. The one place for both.

/// The client we speak as. The backend treats unknown originators worse (codex protocol, C.2).
pub const ORIGINATOR: &str = "codex_cli_rs";
/// The client version we speak as: the backend lists and serves models by it (C.7).
pub const CLIENT_VERSION: &str = "0.169.0";
/// How much the model says beside its answer; sent where the model supports it (C.3).
pub const REASONING_SUMMARY: &str = "auto";
/// Where a ChatGPT login's requests go.
pub const CHATGPT_BASE: &str = "https://chatgpt.com/backend-api/codex";
/// Where an API key's requests go.
pub const API_BASE: &str = "https://api.openai.com/v1";

/// Model requests of one run.
pub const STEPS: u32 = 100;
/// Input and output tokens of all requests of one run, as the backend reports them.
pub const TOKENS: u64 = 4_000_000;
/// Seconds of one run.
pub const SECONDS: u64 = 3_600;

/// Memory of the sandbox beside its disk, in bytes.
pub const MEMORY_BYTES: u64 = 2 << 30;
/// Processors of the sandbox.
pub const CPUS: f64 = 2.0;
/// Processes and threads of the sandbox.
pub const PIDS: u32 = 512;
/// Bytes of the workspace in the sandbox.
pub const DISK_BYTES: u64 = 2 << 30;

/// The user and group that commands run as where nobody says otherwise: in plain mode.
pub const TOOL_UID: u32 = 64_200;
/// Those that our own host gives commands, one to each container. Nobody assigns them: they lie
/// between what systemd keeps for its users and what it keeps for its services; an engine that maps
/// 65,536 ids has them.
pub const TOOL_UIDS: std::ops::RangeInclusive<u32> = 60_600..=61_111;
/// Where the work tree is in the sandbox.
pub const WORKSPACE_PATH: &str = "/workspace";
/// The home directory of commands in the sandbox.
pub const HOME_PATH: &str = "/home/agent";

/// The `User-Agent` in the form the backend knows (C.2).
#[must_use]
pub fn user_agent(originator: &str, version: &str) -> String {
    format!("{originator}/{version} (Linux; {}) airlock", std::env::consts::ARCH)
}
