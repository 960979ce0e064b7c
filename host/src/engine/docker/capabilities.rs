//! Capabilities: the names that engines use, and the bits that the kernel uses.

use std::collections::BTreeSet;

/// The names of a list, without `CAP_`, which some engines write before them.
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
