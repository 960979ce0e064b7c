//! Why a path was left out, in words for JSON and for the sandbox.

use airlock_shared::link::LEFT_OUT_HISTORY;

/// Why a path was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftOutReason {
    /// A secret by its name, or by name and content. `--include` copies it all the same.
    Secret,
    /// `--exclude` named it.
    Excluded,
    /// Git's configuration, hooks or logs. A minimal configuration replaces it.
    Git,
    /// A fifo, a socket, a device.
    Special,
    /// The user may not read it.
    Unreadable,
    /// Airlock's own state or configuration.
    Own,
    /// A repository's own folder, with `--no-history`.
    History,
    /// A login, or the file that this session's key was read from.
    Credential,
}

impl LeftOutReason {
    /// The word in JSON and in the sandbox.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Excluded => "excluded",
            Self::Git => "git",
            Self::Special => "special",
            Self::Unreadable => "unreadable",
            Self::Own => "own",
            Self::History => LEFT_OUT_HISTORY,
            Self::Credential => "credential",
        }
    }
}
