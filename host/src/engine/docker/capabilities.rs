//! Capabilities as an engine names them, and as the kernel counts them.

use std::collections::BTreeSet;

/// The names of a list, whether the engine writes `CAP_` before them or not.
pub(super) fn names(list: Option<&Vec<String>>) -> BTreeSet<String> {
    list.into_iter()
        .flatten()
        .map(|name| name.to_ascii_uppercase())
        .map(|name| name.strip_prefix("CAP_").map_or(name.clone(), str::to_owned))
        .collect()
}

/// The bit of a capability that we ask for (`linux/capability.h`).
pub(super) fn bit(name: &str) -> Option<u64> {
    match name {
        "SETGID" => Some(1 << 6),
        "SETUID" => Some(1 << 7),
        _ => None,
    }
}
