//! What the host tells the sandbox while it works: JSON lines on `GET /commands`.

use serde::Deserialize;

use crate::secret::Secret;

/// One line, tagged by `command`.
#[derive(Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Stop model requests and tool calls, send the changes, end with `Stopped(Cancelled)`.
    Interrupt,
    /// Handoff credentials: the token to use from now on. `None`: there is no better one.
    Secrets { bearer: Option<Secret> },
}

impl Command {
    /// The line as it is sent over the link, with its newline. It is wiped when dropped.
    #[must_use]
    pub fn line(&self) -> zeroize::Zeroizing<Vec<u8>> {
        let value = match self {
            Self::Interrupt => serde_json::json!({"command": "interrupt"}),
            Self::Secrets { bearer } => serde_json::json!({
                "command": "secrets",
                "bearer": bearer.as_ref().map(Secret::reveal),
            }),
        };
        let mut line = zeroize::Zeroizing::new(value.to_string().into_bytes());
        line.push(b'\n');
        line
    }
}
