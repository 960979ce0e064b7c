//! What a sandbox is to do: the prompt, the model, the budget, and where the workspace is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::Model;
use crate::{defaults, limits};

/// One turn: from one prompt to one outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// What the person asked for.
    pub prompt: String,
    #[serde(default)]
    pub model: ModelChoice,
    pub backend: Backend,
    #[serde(default)]
    pub budget: Budget,
    #[serde(default)]
    pub workspace: Workspace,
    /// Variables that commands get in addition to their fixed environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// Which model, and how much it reasons.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ModelChoice {
    /// The model's slug. Absent: the default of the catalogue.
    pub slug: Option<String>,
    /// Reasoning effort. Absent: the default of the model.
    pub effort: Option<String>,
    /// The model as the host resolved it. Absent: the sandbox asks for the catalogue.
    pub resolved: Option<Model>,
}

/// Where the backend is, and how we present ourselves to it (codex protocol, C.1, C.2, C.6).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// The base URL as a person writes it; see [`crate::base::Base::parse`].
    pub base_url: String,
    #[serde(default = "originator")]
    pub originator: String,
    #[serde(default = "client_version")]
    pub version: String,
    /// `User-Agent`. Absent: made from `originator` and `version`.
    #[serde(default)]
    pub user_agent: Option<String>,
    /// The session's id: `session-id`, `thread-id`, `x-client-request-id` and `prompt_cache_key`.
    /// It stays the same within a session, so that the backend can use its cache. Absent: the
    /// sandbox makes one.
    #[serde(default)]
    pub session: Option<String>,
    /// `priority` or `flex`. Absent: the account's usual tier.
    #[serde(default)]
    pub service_tier: Option<String>,
    /// A certificate authority (PEM) that is trusted in addition to the built-in roots.
    #[serde(default)]
    pub ca: Option<String>,
}

impl Backend {
    #[must_use]
    pub fn user_agent(&self) -> String {
        self.user_agent
            .clone()
            .unwrap_or_else(|| defaults::user_agent(&self.originator, &self.version))
    }
}

/// What a turn may use. All three are always finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// Model requests that got an answer.
    pub steps: u32,
    /// Input and output tokens of all requests, as the backend reports them.
    pub tokens: u64,
    /// Seconds from the handoff.
    pub seconds: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { steps: defaults::STEPS, tokens: defaults::TOKENS, seconds: defaults::SECONDS }
    }
}

/// Where the workspace is in the sandbox, and which user owns it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Workspace {
    pub path: String,
    /// True: it is copied in over the link, and its changes are sent back. False: it is already
    /// there.
    pub copied: bool,
    /// The user that commands and file tools run as. Never 0.
    pub uid: u32,
    pub gid: u32,
    /// How many bytes of files a set of changes may hold. Absent: no limit.
    pub changes_bytes: Option<u64>,
    /// How often the edits so far are sent back during a turn, in milliseconds.
    pub edits_every_ms: u64,
}

impl Default for Workspace {
    fn default() -> Self {
        Self {
            path: defaults::WORKSPACE_PATH.to_owned(),
            copied: false,
            uid: defaults::TOOL_UID,
            gid: defaults::TOOL_UID,
            changes_bytes: None,
            edits_every_ms: limits::SO_FAR_SECONDS * 1000,
        }
    }
}

fn originator() -> String {
    defaults::ORIGINATOR.to_owned()
}

fn client_version() -> String {
    defaults::CLIENT_VERSION.to_owned()
}
