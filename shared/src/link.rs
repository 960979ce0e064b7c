//! The routes on the pipe: the whole contract between the two halves, beside the handoff.
//!
//! The sandbox is the client. Every request carries the run key in [`RUN_KEY`]; one without it is
//! answered 401 and nothing else happens.

use serde::{Deserialize, Serialize};

/// The header with the run key.
pub const RUN_KEY: &str = "x-airlock-run-key";
/// The header of an answer in which the host itself refuses: the code of its [`HostRefusal`]. The host
/// passes on no such header of a backend's, so it alone says what is the host's word.
pub const REFUSAL: &str = "x-airlock-refusal";
/// The authority the sandbox puts into its requests; nobody resolves it.
pub const AUTHORITY: &str = "airlock";

/// `POST`, one streaming request a run: JSON lines of [`crate::event::Event`], the last one an
/// outcome. Answered 200 once the outcome is on the host's disk.
pub const EVENTS: &str = "/events";
/// `GET`, one streaming answer a run: JSON lines of [`crate::command::Command`].
pub const COMMANDS: &str = "/commands";
/// `POST`: a model request; the answer is the backend's stream.
pub const RESPONSES: &str = "/model/responses";
/// `POST`: a compaction request; the answer is the backend's.
pub const COMPACT: &str = "/model/responses/compact";
/// `GET`: the model catalogue.
pub const MODELS: &str = "/model/models";
/// `GET`: the work tree as a tar stream. Paths are relative to its root; only folders, regular
/// files, symbolic links, and names of what was left out ([`LEFT_OUT`]).
pub const WORKSPACE: &str = "/workspace";
/// The type of a tar entry that names a path that was left out; its link's target is the reason.
pub const LEFT_OUT: u8 = b'O';
/// The reason of a repository that was left out: its history stays on the host.
pub const LEFT_OUT_HISTORY: &str = "history";
/// `PUT`: the changes since the start as a tar stream: `tree/<path>` is what a path is now (folder,
/// file, link), `gone/<path>` (an empty file) says that it is no more. Edits come first, what git
/// ignores after them, so that whatever cuts the stream cuts what is worth least; the last entry is
/// [`CHANGES_END`]. A later set replaces the one before. Answered 200 once it is on the host's disk.
pub const CHANGES: &str = "/changes";

/// The folder of a changes stream that holds what is there now.
pub const CHANGES_TREE: &str = "tree";
/// The folder of a changes stream that names what is gone.
pub const CHANGES_GONE: &str = "gone";
/// The file that ends a changes stream: a [`ChangesEnd`] as JSON.
pub const CHANGES_END: &str = "end";
/// The longest [`CHANGES_END`].
pub const CHANGES_END_BYTES: u64 = 64 << 10;

/// What a set of changes says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChangesEnd {
    /// The turn goes on: these are its edits so far, without what git ignores.
    pub so_far: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
}

/// What of the changes a bound cut off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cut {
    /// The bound, in words.
    pub why: String,
    /// Edits are missing, not only what git ignores.
    pub edits: bool,
    /// How many paths are known to be missing.
    pub paths: u64,
    /// Some of it could not be read, and may be in an earlier set.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unread: bool,
    /// There may be more: not every folder was looked into.
    pub unseen: bool,
    /// The first of them, escaped.
    pub first: Vec<String>,
}

/// What the host answers instead of passing something on: always with the header [`REFUSAL`], and
/// `application/json`, `{"error":{"type":"airlock","code":…,"message":…}}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostRefusal {
    /// 401: no run key, or a wrong one.
    Key,
    /// 403: not allowed by the policy; the message names the field.
    Policy,
    /// 402: steps, tokens or seconds of the run are spent.
    Budget,
    /// 404: no such route.
    Route,
    /// 413: larger than its bound.
    TooLarge,
    /// 502: the backend could not be reached.
    Unreachable,
    /// 409: the recording says otherwise.
    Recording,
    /// 460: the login is gone; only a person can mend it.
    SignIn,
}

impl HostRefusal {
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Key => 401,
            Self::Policy => 403,
            Self::Budget => 402,
            Self::Route => 404,
            Self::TooLarge => 413,
            Self::Unreachable => 502,
            Self::Recording => 409,
            Self::SignIn => 460,
        }
    }

    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Key => "session_key",
            Self::Policy => "policy",
            Self::Budget => "budget",
            Self::Route => "route",
            Self::TooLarge => "too_large",
            Self::Unreachable => "unreachable",
            Self::Recording => "recording",
            Self::SignIn => "sign_in",
        }
    }

    /// The refusal a code names.
    #[must_use]
    pub fn of_code(code: &str) -> Option<Self> {
        [
            Self::Key,
            Self::Policy,
            Self::Budget,
            Self::Route,
            Self::TooLarge,
            Self::Unreachable,
            Self::Recording,
            Self::SignIn,
        ]
        .into_iter()
        .find(|refusal| refusal.code() == code)
    }

    /// Reads [`HostRefusal::body`], with its message. A backend can say the same: to be used only where
    /// something else says that it is the host's word.
    #[must_use]
    pub fn of_body(body: &[u8]) -> Option<(Self, String)> {
        let value: serde_json::Value = serde_json::from_slice(body).ok()?;
        let text = |name: &str| value.pointer(name).and_then(serde_json::Value::as_str);
        if text("/error/type") != Some("airlock") {
            return None;
        }
        let refusal = Self::of_code(text("/error/code")?)?;
        Some((refusal, text("/error/message").unwrap_or_default().to_owned()))
    }

    /// The body of the answer.
    #[must_use]
    pub fn body(self, message: &str) -> serde_json::Value {
        serde_json::json!({"error": {"type": "airlock", "code": self.code(), "message": message}})
    }
}
