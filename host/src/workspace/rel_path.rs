//! A path beneath a workspace's root: bytes, as in the kernel, in a form that cannot leave the root
//! by itself. Deliberately absent: paths with `..` or a leading slash, and conversion to a path of
//! the host.

use std::fmt;

use airlock_shared::limits;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Components of one to 255 bytes joined by `/`; no `.`, no `..`, no NUL. Empty: the root itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(Box<[u8]>);

/// Why some bytes are not a path beneath the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("it is empty, absolute, or has an empty component")]
    Empty,
    #[error("it has a component `.` or `..`")]
    Dots,
    #[error("it has a NUL byte")]
    Nul,
    #[error(
        "it is longer than {} bytes, deeper than {} folders, or has a component of more than 255",
        limits::PATH_BYTES,
        limits::PATH_COMPONENTS
    )]
    TooLong,
    #[error("it is not percent-encoded as we write it")]
    Encoding,
}

impl RelPath {
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// # Errors
    /// The bytes are not a path beneath the root.
    // THREAT: the sandbox names a tar entry `/etc/cron.d/x`, `../../.bashrc` or `a\0b`, and we
    // write there.
    // Tried by workspace::intake::tests::a_path_that_leaves_the_root_is_refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.len() >= limits::PATH_BYTES {
            return Err(PathError::TooLong);
        }
        for component in bytes.split(|byte| *byte == b'/') {
            match component {
                b"" => return Err(PathError::Empty),
                b"." | b".." => return Err(PathError::Dots),
                name if name.contains(&0) => return Err(PathError::Nul),
                name if name.len() > 255 => return Err(PathError::TooLong),
                _ => {}
            }
        }
        if bytes.iter().filter(|byte| **byte == b'/').count() >= limits::PATH_COMPONENTS {
            return Err(PathError::TooLong);
        }
        Ok(Self(bytes.into()))
    }

    /// This path with one more component.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn join(&self, name: &[u8]) -> Result<Self, PathError> {
        if self.0.is_empty() {
            return Self::parse(name);
        }
        Self::parse(&[&self.0, b"/".as_slice(), name].concat())
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The root has none.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
    }

    /// The last component. Empty for the root.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }

    /// The folder it is in. The root is its own parent.
    #[must_use]
    pub fn parent(&self) -> Self {
        Self(self.folder().into())
    }

    /// The same, as bytes.
    #[must_use]
    pub fn folder(&self) -> &[u8] {
        &self.0[..self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0)]
    }

    /// The folders it is in, nearest first, without the root.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self.parent()), |path| Some(path.parent()))
            .take_while(|path| !path.is_root())
    }

    /// Whether it is somewhere in `folder`. A path is not beneath itself.
    #[must_use]
    pub fn is_beneath(&self, folder: &Self) -> bool {
        !self.is_root()
            && self != folder
            && (folder.is_root()
                || (self.0.starts_with(&folder.0) && self.0.get(folder.0.len()) == Some(&b'/')))
    }

    fn decode(text: &str) -> Result<Self, PathError> {
        let bytes = decode(text).ok_or(PathError::Encoding)?;
        if bytes.is_empty() { Ok(Self::root()) } else { Self::parse(&bytes) }
    }
}

/// Bytes as text on one line that loses nothing: `%`, control characters and what is not UTF-8
/// become `%XX`.
// THREAT: a name with a line feed adds lines to a diff or a list.
// Tried by workspace::rel_path::tests::what_is_not_plain_text_is_encoded_without_loss.
#[must_use]
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let percent = |text: &mut String, bytes: &[u8]| {
        bytes.iter().for_each(|byte| text.push_str(&format!("%{byte:02X}")));
    };
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '%' || character.is_control() {
                percent(&mut text, character.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(character);
            }
        }
        percent(&mut text, chunk.invalid());
    }
    text
}

/// What [`encode`] wrote, as bytes.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut pieces = text.split('%');
    bytes.extend_from_slice(pieces.next()?.as_bytes());
    for piece in pieces {
        let hex = piece.get(..2).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    Some(bytes)
}

/// As in JSON, on one line. Bidi and zero-width characters are still in it and must be neutralised
/// before a person sees it.
impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(&self.0))
    }
}

impl Serialize for RelPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::decode(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_leaves_the_root_is_refused() {
        for (bytes, error) in [
            (b"".as_slice(), PathError::Empty),
            (b"/etc/passwd", PathError::Empty),
            (b"a//b", PathError::Empty),
            (b"a/", PathError::Empty),
            (b"..", PathError::Dots),
            (b"a/../b", PathError::Dots),
            (b"./a", PathError::Dots),
            (b"a\0b", PathError::Nul),
            (&[b'x'; 256], PathError::TooLong),
            (&[b'x', b'/'].repeat(2048), PathError::TooLong),
            (&[b"a/".repeat(256), b"a".to_vec()].concat(), PathError::TooLong),
        ] {
            assert_eq!(RelPath::parse(bytes), Err(error));
        }
    }

    #[test]
    fn what_is_not_plain_text_is_encoded_without_loss() {
        let path = RelPath::parse(b"50%/\xff\xfe/\xc3\xa9 \n").unwrap();
        assert_eq!(path.to_string(), "50%25/%FF%FE/é %0A");
        let json = serde_json::to_string(&path).unwrap();
        assert_eq!(serde_json::from_str::<RelPath>(&json).unwrap(), path);
        assert!(serde_json::from_str::<RelPath>("\"%2e%2E/x\"").is_err());
        assert!(serde_json::from_str::<RelPath>("\"%+1\"").is_err());
        assert!(serde_json::from_str::<RelPath>("\"%4\"").is_err());
    }

    proptest! {
        #[test]
        fn a_path_survives_json(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes.clone()));
            if let Ok(path) = RelPath::parse(&bytes) {
                let json = serde_json::to_string(&path).unwrap();
                prop_assert_eq!(serde_json::from_str::<RelPath>(&json).unwrap(), path.clone());
                prop_assert_eq!(path.parent().join(path.name()), Ok(path.clone()));
                prop_assert!(path.ancestors().all(|folder| path.is_beneath(&folder)));
            }
        }
    }
}
