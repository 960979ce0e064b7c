//! Mounts as they are asked for, and as the engine describes them, so that the two can be compared.

use std::collections::BTreeSet;

use bollard::models::{ContainerInspectResponse, Mount, MountPoint};

/// Where, of what kind, what, and whether it can be written.
pub(super) type Compared = (String, String, String, bool);

pub(super) fn asked(mount: &Mount) -> Compared {
    (
        mount.target.clone().unwrap_or_default(),
        mount.typ.map(|kind| kind.to_string()).unwrap_or_default(),
        mount.source.clone().unwrap_or_default(),
        mount.read_only != Some(true),
    )
}

/// All of a container, read from its description and not from what we sent: an image may add some.
/// File systems in memory, which some engines list here too, are compared by themselves.
pub(super) fn found(container: &ContainerInspectResponse) -> BTreeSet<Compared> {
    let all = container.mounts.iter().flatten();
    all.filter(|mount| mount.typ.as_deref() != Some("tmpfs")).map(described).collect()
}

fn described(mount: &MountPoint) -> Compared {
    let kind = mount.typ.clone().unwrap_or_default();
    let source = if kind == "volume" { &mount.name } else { &mount.source };
    let local = matches!(mount.driver.as_deref(), None | Some("" | "local"));
    let at = mount.destination.clone().unwrap_or_default();
    let source = source.clone().filter(|_| local).unwrap_or_default();
    (at, kind, source, mount.rw != Some(false))
}
