//! How we present ourselves to the backend, and what a turn and a sandbox may use, unless the
//! configuration says otherwise.

/// The client that we present ourselves as. The backend treats unknown originators worse (codex
/// protocol, C.2).
pub const ORIGINATOR: &str = "codex_cli_rs";
/// The client version that we present. The backend lists and serves models by it (C.7).
pub const CLIENT_VERSION: &str = "0.169.0";
/// How much of its reasoning the model summarizes. It is sent if the model supports it (C.3).
pub const REASONING_SUMMARY: &str = "auto";
/// The base URL for a ChatGPT login.
pub const CHATGPT_BASE: &str = "https://chatgpt.com/backend-api/codex";
/// The base URL for an API key.
pub const API_BASE: &str = "https://api.openai.com/v1";

/// Model requests of one turn.
pub const STEPS: u32 = 100;
/// Input and output tokens of all requests of one turn, as the backend reports them.
pub const TOKENS: u64 = 4_000_000;
/// Seconds of one turn.
pub const SECONDS: u64 = 3_600;

/// Memory of the sandbox without its disk, in bytes.
pub const MEMORY_BYTES: u64 = 2 << 30;
/// Processors of the sandbox.
pub const CPUS: f64 = 2.0;
/// Processes and threads of the sandbox.
pub const PIDS: u32 = 512;
/// Bytes of the workspace in the sandbox.
pub const DISK_BYTES: u64 = 2 << 30;

/// The user and group that commands run as in plain mode, if the handoff names none.
pub const TOOL_UID: u32 = 64_200;
/// The users that the host chooses from, one for each container. No system assigns these ids: they
/// lie between the range that systemd reserves for users and the one it reserves for services. An
/// engine that maps 65,536 ids has them.
pub const TOOL_UIDS: std::ops::RangeInclusive<u32> = 60_600..=61_111;
/// Where the workspace is in the sandbox.
pub const WORKSPACE_PATH: &str = "/workspace";
/// The home directory of commands in the sandbox.
pub const HOME_PATH: &str = "/home/agent";

/// The `User-Agent` in the form the backend knows (C.2).
#[must_use]
pub fn user_agent(originator: &str, version: &str) -> String {
    format!("{originator}/{version} (Linux; {}) airlock", std::env::consts::ARCH)
}
