//! The routes on the pipe. With the handoff they are the whole contract between the two halves.
//!
//! The sandbox is the client. Every request carries the session key in [`SESSION_KEY`]. A request
//! without it gets 401, and nothing else happens.

use serde::{Deserialize, Serialize};

/// The header with the session key.
pub const SESSION_KEY: &str = "x-airlock-session-key";
/// The header of an answer in which the host itself refuses: the code of its [`HostRefusal`]. The
/// host removes this header from answers of a backend, so an answer with it is the host's.
pub const REFUSAL: &str = "x-airlock-refusal";
/// The authority in the sandbox's requests. It is never resolved.
pub const AUTHORITY: &str = "airlock";

/// `POST`, one streaming request per sandbox: JSON lines of [`crate::event::Event`], the last one
/// an outcome. The host answers 200 once the outcome is on its disk.
pub const EVENTS: &str = "/events";
/// `GET`, one streaming answer per sandbox: JSON lines of [`crate::command::Command`].
pub const COMMANDS: &str = "/commands";
/// `POST`: a model request; the answer is the backend's stream.
pub const RESPONSES: &str = "/model/responses";
/// `POST`: a compaction request; the answer is the backend's.
pub const COMPACT: &str = "/model/responses/compact";
/// `GET`: the model catalogue.
pub const MODELS: &str = "/model/models";
/// `GET`: the person's directory as a tar stream. Paths are relative to its root. The entries are
/// directories, regular files, symbolic links, and names of what was left out ([`LEFT_OUT`]).
pub const WORKSPACE: &str = "/workspace";
/// The type of a tar entry that names a path that was left out. Its link target is the reason.
pub const LEFT_OUT: u8 = b'O';
/// The reason why a repository was left out: `--no-history`.
pub const LEFT_OUT_HISTORY: &str = "history";
/// `PUT`: the changes since the start as a tar stream. `tree/<path>` is what a path is now
/// (directory, file, link); `gone/<path>` (an empty file) names a path that was deleted. Edits come
/// first and what git ignores comes after them, so that a cut stream loses the least important
/// part. The last entry is [`CHANGES_END`]. A later set replaces the one before. The host answers
/// 200 once the set is on its disk.
pub const CHANGES: &str = "/changes";

/// The directory of a changes stream with what is new or changed.
pub const CHANGES_TREE: &str = "tree";
/// The directory of a changes stream with the names of what was deleted.
pub const CHANGES_GONE: &str = "gone";
/// The file that ends a changes stream: a [`ChangesEnd`] as JSON.
pub const CHANGES_END: &str = "end";
/// The greatest size of [`CHANGES_END`].
pub const CHANGES_END_BYTES: u64 = 64 << 10;

/// The content of the last entry of a set of changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChangesEnd {
    /// The turn goes on. These are its edits so far, without what git ignores.
    pub so_far: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
}

/// What is missing from a set of changes because of a bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    pub why: CutWhy,
    /// Edits are missing, not only what git ignores.
    #[serde(default)]
    pub edits: bool,
    /// How many paths are known to be missing.
    #[serde(default)]
    pub paths: u64,
    /// Some paths could not be read. They may be in an earlier set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unread: bool,
    /// More may be missing: not every directory was scanned.
    #[serde(default)]
    pub unseen: bool,
    /// The first of the missing paths, escaped.
    #[serde(default)]
    pub first: Vec<String>,
}

/// The bound that cut. The words for it are the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutWhy {
    /// No time to scan further.
    Looking,
    /// No time to send more.
    Sending,
    /// More paths than a set may have.
    Paths,
    /// Their names are too long together.
    Names,
    /// They are larger than what may come out.
    Bytes,
    /// Some of them could not be read.
    Unread,
}

impl Cut {
    /// So far nothing is known to be missing.
    #[must_use]
    pub fn by(why: CutWhy) -> Self {
        Self { why, edits: false, paths: 0, unread: false, unseen: false, first: Vec::new() }
    }
}

/// The host's answer if it does not pass a request on: always with the header [`REFUSAL`], and
/// `application/json`, `{"error":{"type":"airlock","code":…,"message":…}}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostRefusal {
    /// 401: no session key, or a wrong one.
    Key,
    /// 403: not allowed by the policy; the message names the field.
    Policy,
    /// 402: the steps, tokens or seconds of the turn are spent.
    Budget,
    /// 404: no such route.
    Route,
    /// 413: larger than its bound.
    TooLarge,
    /// 502: the backend could not be reached.
    Unreachable,
    /// 409: the request departs from the recording.
    Recording,
    /// 460: the login is gone, and a person must sign in.
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

    /// The refusal with this code.
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

    /// Parses [`HostRefusal::body`] and its message. A backend can send the same body: check the
    /// header [`REFUSAL`] first.
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
