//! Mounts as we request them and as the engine reports them, in a form that can be compared.

use std::collections::BTreeSet;

use bollard::models::{ContainerInspectResponse, Mount, MountPoint};

/// Target, kind, source, and whether it is writable.
pub(super) type Compared = (String, String, String, bool);

pub(super) fn requested(mount: &Mount) -> Compared {
    (
        mount.target.clone().unwrap_or_default(),
        mount.typ.map(|kind| kind.to_string()).unwrap_or_default(),
        mount.source.clone().unwrap_or_default(),
        mount.read_only != Some(true),
    )
}

/// All mounts of a container, from the engine's description and not from our request, because an image
/// may add some. File systems in memory, which some engines list here too, are compared separately.
pub(super) fn found(container: &ContainerInspectResponse) -> BTreeSet<Compared> {
    let all = container.mounts.iter().flatten();
    all.filter(|mount| mount.typ.as_deref() != Some("tmpfs")).map(reported).collect()
}

fn reported(mount: &MountPoint) -> Compared {
    let kind = mount.typ.clone().unwrap_or_default();
    let source = if kind == "volume" { &mount.name } else { &mount.source };
    let local = matches!(mount.driver.as_deref(), None | Some("" | "local"));
    let at = mount.destination.clone().unwrap_or_default();
    let source = source.clone().filter(|_| local).unwrap_or_default();
    (at, kind, source, mount.rw != Some(false))
}
