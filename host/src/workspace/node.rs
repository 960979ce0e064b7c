//! What can be at a path: a file, a folder, a link, or something that is never copied.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::rel_path;

/// What is at a path. Modes are the nine permission bits, without set-uid, set-gid and sticky.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Node {
    File {
        mode: u32,
        size: u64,
        sha256: Sha,
    },
    Folder {
        mode: u32,
    },
    Link {
        #[serde(with = "target")]
        target: Vec<u8>,
    },
    /// A device, a fifo, a socket.
    Special,
}

impl Node {
    #[must_use]
    pub fn is_folder(&self) -> bool {
        matches!(self, Self::Folder { .. })
    }

    /// None for a link, whose mode has no meaning.
    #[must_use]
    pub fn mode(&self) -> Option<u32> {
        match self {
            Self::File { mode, .. } | Self::Folder { mode } => Some(*mode),
            Self::Link { .. } | Self::Special => None,
        }
    }

    /// None if it is not a file.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        if let Self::File { size, .. } = self { Some(*size) } else { None }
    }

    /// Whether the two are equal, or differ only in the mode.
    #[must_use]
    pub(super) fn same_but_mode(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File { sha256: a, size: m, .. }, Self::File { sha256: b, size: n, .. }) => {
                a == b && m == n
            }
            (Self::Folder { .. }, Self::Folder { .. }) => true,
            (a, b) => a == b,
        }
    }
}

/// A SHA-256, in JSON as hexadecimal digits.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Sha([u8; 32]);

impl Sha {
    pub(super) fn of(hash: Sha256) -> Self {
        Self(hash.finalize().into())
    }
}

impl fmt::Display for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Sha {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        if text.len() != 64 {
            return Err(serde::de::Error::custom("a digest has 64 digits"));
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            let digits = text.get(2 * index..2 * index + 2).unwrap_or_default();
            *byte = u8::from_str_radix(digits, 16).map_err(serde::de::Error::custom)?;
        }
        Ok(Self(bytes))
    }
}

mod target {
    use super::{Deserialize, Deserializer, Serializer, rel_path};

    pub(super) fn serialize<S: Serializer>(target: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&rel_path::encode(target))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        rel_path::decode(&text).ok_or_else(|| serde::de::Error::custom("not percent-encoded"))
    }
}
