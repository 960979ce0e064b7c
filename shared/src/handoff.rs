//! The one line that starts a sandbox, and the line that the sandbox writes before it.
//!
//! ```text
//! sandbox → host   {"ready":1,"version":"0.1.0",…}\n      ready = the protocol
//! host → sandbox   {"protocol":1,"session":"…","session_key":"…","link":"h2",…}\n
//! both             HTTP/2 with prior knowledge, sandbox as client   (link "none": nothing)
//! ```
//!
//! A secret enters a container only in the handoff. It is never in an argument, an environment
//! variable, a file, a label or a layer, because `docker inspect` or any command in the sandbox
//! could read it there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::job::Job;
use crate::limits;
use crate::secret::Secret;

/// `{"ready":1,"version":"0.1.0",…}`. `version` is for people. The host compares only `ready` with
/// its own protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    pub ready: u32,
    pub version: String,
    /// The confinement that the sandbox finds. Our host compares it with what it asked the engine
    /// for before it writes the handoff.
    #[serde(default)]
    pub confinement: Option<Confinement>,
}

/// The confinement that a sandbox finds itself in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// `Seccomp` of `/proc/self/status`: 2 is a filter, 0 is none.
    pub seccomp: u32,
    /// `NoNewPrivs` of the same file.
    pub no_new_privs: u32,
    /// `CapBnd` of the same file, in hexadecimal.
    pub capabilities: String,
    /// The paths at which something should be mounted, each with what is mounted there. `None`: the
    /// path is not a directory, leads through a link of `/proc`, or is not the root of a mount.
    pub mounts: BTreeMap<String, Option<Mounted>>,
    /// Kernel settings by name, with their values in this container. There is one space between
    /// words. `None`: the setting could not be read.
    #[serde(default)]
    pub settings: BTreeMap<String, Option<String>>,
}

/// What is mounted at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounted {
    /// The real path of the mount, with links resolved.
    pub at: String,
    /// The kind of file system.
    pub kind: String,
    /// The mount's options, as `/proc/self/mountinfo` has them.
    pub options: String,
}

/// The first line of stdin.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Handoff {
    /// The protocol: 1.
    pub protocol: u32,
    /// The session's id: 1 to 64 letters, digits and dashes.
    pub session: String,
    /// The key that every request on the link must carry. Not used if `link` is `none`.
    #[serde(default = "empty")]
    pub session_key: Secret,
    pub link: Link,
    #[serde(default)]
    pub secrets: Secrets,
    pub job: Job,
}

/// What is on the other end of the pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// Our host: HTTP/2 follows.
    H2,
    /// Not our host: the sandbox connects to the backend itself and prints events as JSON lines.
    None,
}

/// The credentials that enter a sandbox, if any.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// An access token or an API key. Absent with relay credentials: then the host adds it.
    #[serde(default)]
    pub bearer: Option<Secret>,
    /// The ChatGPT account of the token. Absent for an API key.
    #[serde(default)]
    pub account_id: Option<String>,
}

/// Where the credential is, and how the backend is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialsPlace {
    /// On the host, which sends the requests. No credential is in the sandbox.
    Relay,
    /// In the sandbox, which has TLS to the backend through the host's `CONNECT`.
    Tunnel,
    /// In the sandbox, which uses the container's own network.
    Direct,
}

/// Counts what is written and does not store it.
struct Length(usize);

impl std::io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Handoff {
    #[must_use]
    pub fn credentials_place(&self) -> CredentialsPlace {
        match (self.link, &self.secrets.bearer) {
            (Link::None, _) => CredentialsPlace::Direct,
            (Link::H2, Some(_)) => CredentialsPlace::Tunnel,
            (Link::H2, None) => CredentialsPlace::Relay,
        }
    }

    /// The line as it is sent over the pipe, with its newline. It is wiped when dropped.
    ///
    /// # Errors
    /// If it is longer than [`limits::HANDOFF_BYTES`].
    pub fn line(&self) -> Result<Zeroizing<Vec<u8>>, HandoffError> {
        // The length is counted first. A vector that reallocates would leave an unwiped copy of the
        // token behind, and one of the greatest size would be four megabytes to wipe.
        let wire = Wire::of(self);
        let mut length = Length(0);
        serde_json::to_writer(&mut length, &wire).map_err(|_| HandoffError::Shape)?;
        if length.0 > limits::HANDOFF_BYTES {
            return Err(HandoffError::TooLong);
        }
        let mut line = Zeroizing::new(Vec::with_capacity(length.0 + 1));
        serde_json::to_writer(&mut *line, &wire).map_err(|_| HandoffError::Shape)?;
        line.push(b'\n');
        Ok(line)
    }

    /// Parses a line, with or without its newline.
    ///
    /// # Errors
    /// What is wrong with the line. It never quotes the line, which may hold a secret.
    pub fn parse(line: &[u8]) -> Result<Self, HandoffError> {
        #[derive(Deserialize)]
        struct Protocol {
            protocol: u32,
        }
        if line.len() > limits::HANDOFF_BYTES + 1 {
            return Err(HandoffError::TooLong);
        }
        let Protocol { protocol } = serde_json::from_slice(line).map_err(HandoffError::json)?;
        if protocol != limits::PROTOCOL {
            return Err(HandoffError::Protocol(protocol));
        }
        let handoff: Self = serde_json::from_slice(line).map_err(HandoffError::json)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if handoff.session.is_empty()
            || handoff.session.len() > 64
            || !handoff.session.chars().all(plain)
        {
            return Err(HandoffError::Session);
        }
        if handoff.job.prompt.len() > limits::PROMPT_BYTES {
            return Err(HandoffError::TooLong);
        }
        Ok(handoff)
    }
}

/// Why a handoff is refused. It never quotes the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandoffError {
    /// More than [`limits::HANDOFF_BYTES`], or a prompt over [`limits::PROMPT_BYTES`].
    TooLong,
    /// Not JSON of this shape, and where. The message holds no values of the line.
    Json { line: usize, column: usize, category: &'static str },
    /// It could not be written as JSON.
    Shape,
    /// It is for another protocol.
    Protocol(u32),
    /// `session` is not 1 to 64 letters, digits and dashes.
    Session,
}

impl HandoffError {
    fn json(error: serde_json::Error) -> Self {
        let category = match error.classify() {
            serde_json::error::Category::Io => "unreadable",
            serde_json::error::Category::Syntax => "not JSON",
            serde_json::error::Category::Data => "a field is missing, unknown or of the wrong type",
            serde_json::error::Category::Eof => "cut short",
        };
        Self::Json { line: error.line(), column: error.column(), category }
    }
}

impl std::fmt::Display for HandoffError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLong => write!(f, "the handoff is too long"),
            Self::Json { line, column, category } => {
                write!(f, "the handoff cannot be read: {category} (line {line}, column {column})")
            }
            Self::Shape => write!(f, "the handoff cannot be written"),
            Self::Protocol(theirs) => write!(
                f,
                "the handoff has protocol {theirs}, and this sandbox supports {}",
                limits::PROTOCOL
            ),
            Self::Session => write!(f, "`session` must be 1 to 64 letters, digits and dashes"),
        }
    }
}

impl std::error::Error for HandoffError {}

fn empty() -> Secret {
    Secret::new(String::new())
}

/// The only form that can be serialized. It is private, so that no other code can write a secret.
#[derive(Serialize)]
struct Wire<'a> {
    protocol: u32,
    session: &'a str,
    session_key: &'a str,
    link: Link,
    secrets: WireSecrets<'a>,
    job: &'a Job,
}

#[derive(Serialize)]
struct WireSecrets<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    bearer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<&'a str>,
}

impl<'a> Wire<'a> {
    fn of(handoff: &'a Handoff) -> Self {
        Self {
            protocol: handoff.protocol,
            session: &handoff.session,
            session_key: handoff.session_key.reveal(),
            link: handoff.link,
            secrets: WireSecrets {
                bearer: handoff.secrets.bearer.as_ref().map(Secret::reveal),
                account_id: handoff.secrets.account_id.as_deref(),
            },
            job: &handoff.job,
        }
    }
}
