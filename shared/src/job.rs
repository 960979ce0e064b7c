//! What a sandbox is to do: the prompt, the model, the limits, and where the work tree is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::Model;
use crate::{defaults, limits};

/// One prompt to one outcome.
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
    /// Named variables that commands see beside their fixed environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// Which model, and how it is to think.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ModelChoice {
    /// Its slug; absent: the catalogue's default.
    pub slug: Option<String>,
    /// Reasoning effort; absent: the model's default.
    pub effort: Option<String>,
    /// The model as the host resolved it; absent: the sandbox asks the catalogue.
    pub resolved: Option<Model>,
}

/// Where the model is and how we introduce ourselves (codex protocol, C.1, C.2, C.6).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// The base as a person would write it; see [`crate::base::Base::parse`].
    pub base_url: String,
    #[serde(default = "originator")]
    pub originator: String,
    #[serde(default = "client_version")]
    pub version: String,
    /// `User-Agent`; absent: made of the two above.
    #[serde(default)]
    pub user_agent: Option<String>,
    /// The session's id: `session-id`, `thread-id`, `x-client-request-id` and
    /// `prompt_cache_key`, stable within a session so that the backend's cache holds. Absent: made
    /// by the sandbox.
    #[serde(default)]
    pub session: Option<String>,
    /// `priority` or `flex`; absent: the account's usual tier.
    #[serde(default)]
    pub service_tier: Option<String>,
    /// A certificate authority (PEM) trusted beside the compiled-in roots.
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

/// What a run may use. All three are finite, always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// Model requests that were answered.
    pub steps: u32,
    /// Input and output tokens of all requests, as reported.
    pub tokens: u64,
    /// Seconds from the handoff.
    pub seconds: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { steps: defaults::STEPS, tokens: defaults::TOKENS, seconds: defaults::SECONDS }
    }
}

/// Where the work tree is in the sandbox and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Workspace {
    pub path: String,
    /// True: it comes over the link and its changes go back. False: it is there already.
    pub copied: bool,
    /// Whom commands and file tools act as. Never 0.
    pub uid: u32,
    pub gid: u32,
    /// Bytes of files that a set of changes may hold; absent: as many as there are.
    pub changes_bytes: Option<u64>,
    /// How often the edits so far go back while a turn runs, in milliseconds.
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
