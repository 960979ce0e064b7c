//! Small questions about a container as the engine describes it.

use std::collections::BTreeSet;

use bollard::models::Mount;

/// Where, of what kind, what, and whether it can be written.
pub(super) fn asked_mount(mount: &Mount) -> (String, String, String, bool) {
    (
        mount.target.clone().unwrap_or_default(),
        mount.typ.map(|kind| kind.to_string()).unwrap_or_default(),
        mount.source.clone().unwrap_or_default(),
        mount.read_only != Some(true),
    )
}

/// Names as the engines write them: with or without `CAP_`.
pub(super) fn capabilities(names: Option<&Vec<String>>) -> BTreeSet<String> {
    names
        .into_iter()
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

pub(super) fn none<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

pub(super) fn contains(all: &[String], some: &[&str]) -> bool {
    some.iter().all(|path| all.iter().any(|found| found == path))
}

/// A namespace that is not the host's nor another container's.
pub(super) fn is_own(mode: &Option<String>) -> bool {
    matches!(mode.as_deref(), None | Some("" | "private"))
}
