//! A string that cannot be printed, compared by accident, or left behind in memory.

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// A token or key. It has no `Debug`, `Display` or `Serialize`; dropping it wipes it.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The secret itself. Use it in one expression and do not store it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether `offered` is this secret. The time that it takes depends on the lengths alone.
    #[must_use]
    pub fn matches(&self, offered: &[u8]) -> bool {
        let own = self.0.as_bytes();
        own.len() == offered.len()
            && own.iter().zip(offered).fold(0_u8, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        String::json_schema(generator)
    }
}
