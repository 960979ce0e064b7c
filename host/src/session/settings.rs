//! All settings of a session and its turn. The command line makes them. Defaults are resolved: an
//! `Option` means that the backend chooses.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use airlock_shared::base::Base;
use airlock_shared::job::{Backend, Budget};
use airlock_shared::secret::Secret;

use super::credentials::DEFAULT_LOGIN;
use crate::failure::shell_url;

pub struct SessionSettings {
    /// Not blank, at most [`airlock_shared::limits::PROMPT_BYTES`].
    pub prompt: String,
    /// Absolute and without links. It was a directory when it was checked.
    pub dir: PathBuf,
    pub credential: CredentialChoice,
    pub base: BaseChoice,
    /// A certificate authority (PEM), trusted beside the compiled-in roots.
    pub ca: Option<String>,
    pub identity: Identity,
    pub model: ModelSelection,
    pub credentials: CredentialsMode,
    pub image: ImageChoice,
    pub workspace: WorkspaceMode,
    pub budget: Budget,
    pub limits: SandboxLimits,
    /// Variables that commands see beside their fixed environment.
    pub env: BTreeMap<String, String>,
    pub recording: RecordingChoice,
}

impl SessionSettings {
    /// The `doctor` command that tries the same login and backend.
    #[must_use]
    pub fn doctor(&self) -> String {
        let file = |file: &Path| match file.to_str() {
            Some(file) if shell_url(file) == file => format!(" --api-key-file {file}"),
            _ => " --api-key-file FILE".to_owned(),
        };
        let credential = match &self.credential {
            CredentialChoice::Login(name) if name == DEFAULT_LOGIN => String::new(),
            CredentialChoice::Login(name) => format!(" --login {name}"),
            CredentialChoice::Env => " --login env".to_owned(),
            CredentialChoice::KeyFile(key) => file(key),
            CredentialChoice::KeyStdin(_) => " --api-key-file FILE".to_owned(),
            CredentialChoice::Replay => String::new(),
        };
        let base = match &self.base {
            BaseChoice::Named(base) => format!(" --base-url {}", shell_url(&base.to_string())),
            BaseChoice::OfLogin => String::new(),
        };
        let ca = if self.ca.is_some() { " --ca FILE" } else { "" };
        format!("airlock doctor{credential}{base}{ca}")
    }
}

/// The credential. A key is bound to the base of this session; a login to the base it was made for.
pub enum CredentialChoice {
    /// A login file of ours, by its name.
    Login(String),
    /// `OPENAI_API_KEY`, by `--login env`. It was set when it was checked.
    Env,
    /// A key from stdin.
    KeyStdin(Secret),
    KeyFile(PathBuf),
    /// None is needed: a recording answers.
    Replay,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BaseChoice {
    Named(Base),
    /// The base the login was made for.
    OfLogin,
}

/// How requests name their client (codex protocol, C.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub originator: String,
    pub version: String,
    pub user_agent: String,
    /// `None`: the account's usual tier.
    pub service_tier: Option<String>,
}

impl Identity {
    /// The same, as the host and the sandbox exchange it.
    #[must_use]
    pub fn backend(&self, base: &Base, session: &str, ca: Option<&str>) -> Backend {
        Backend {
            base_url: base.to_string(),
            originator: self.originator.clone(),
            version: self.version.clone(),
            user_agent: Some(self.user_agent.clone()),
            session: Some(session.to_owned()),
            service_tier: self.service_tier.clone(),
            ca: ca.map(str::to_owned),
        }
    }
}

/// What the person chose for the model. `None`: the catalogue's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelSelection {
    pub slug: Option<String>,
    /// A person wants to choose at the terminal; then there is no slug.
    pub ask: bool,
    pub effort: Option<String>,
    /// `auto`, `concise`, `detailed`, `none`.
    pub summary: Option<String>,
    /// `low`, `medium`, `high`.
    pub verbosity: Option<String>,
}

/// Where the credential is during the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialsMode {
    /// On the host: it never enters the sandbox.
    Relay,
    /// In the sandbox, only in the memory of its one process.
    Handoff,
}

impl std::fmt::Display for CredentialsMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Relay => "relay",
            Self::Handoff => "handoff",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageChoice {
    /// `airlock-base` as this release defines it.
    Base,
    /// By name, with a tag or digest if one was given.
    Named(String),
}

/// How the sandbox gets the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkspaceMode {
    /// A copy. Its changes come back and wait for `apply`. The globs are as typed. `history`: with
    /// the repository's history.
    Copy { include: Vec<String>, exclude: Vec<String>, history: bool },
    /// The directory itself, with every `.git` read-only.
    Live,
}

/// What the sandbox may use. All limits are finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SandboxLimits {
    /// Beside the disk, in bytes.
    pub memory: u64,
    pub cpus: f64,
    pub pids: u32,
    /// Bytes of the workspace.
    pub disk: u64,
    pub disk_on: DiskOn,
}

/// Where the copy of the workspace lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOn {
    /// In memory, limited.
    Tmpfs,
    /// On the engine's disk, where most engines cannot limit its size.
    Engine,
}

impl std::fmt::Display for DiskOn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tmpfs => "tmpfs",
            Self::Engine => "engine",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordingChoice {
    None,
    Record(PathBuf),
    Replay(PathBuf),
}
