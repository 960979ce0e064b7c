//! Runs the checks of all rules against what the engine and the sandbox report. Pure.

use std::path::Path;

use airlock_shared::handoff::{Confinement, Mounted};
use bollard::models::{ContainerConfig, ContainerInspectResponse, HostConfig};

use super::rules::{CheckedIn, RuleCheck};
use crate::engine::confine::Waiver;
use crate::engine::error::EngineError;

/// Why a container is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// A rule does not hold; in words for people.
    Term(String),
    /// There is no system call filter.
    Filter,
    /// Our mount is not at this path, because the image redirects it.
    Path(String),
}

/// The engine's description of a container.
pub(super) struct Inspected<'a> {
    pub(super) found: &'a ContainerInspectResponse,
    pub(super) host: &'a HostConfig,
    pub(super) config: &'a ContainerConfig,
}

/// The violations in the engine's description; empty if all rules hold.
pub(super) fn outside(checks: &[RuleCheck], found: &ContainerInspectResponse) -> Vec<Violation> {
    let (host, config) = (HostConfig::default(), ContainerConfig::default());
    let outside = Inspected {
        found,
        host: found.host_config.as_ref().unwrap_or(&host),
        config: found.config.as_ref().unwrap_or(&config),
    };
    lacks(checks, |holds| match holds {
        CheckedIn::Outside(holds) => holds(&outside),
        CheckedIn::Inside { .. } => true,
    })
}

/// The violations in the sandbox's report, without those that are waived.
pub(super) fn inside(
    checks: &[RuleCheck],
    found: Option<&Confinement>,
    waived: &[Waiver],
) -> Vec<Violation> {
    let Some(found) = found else {
        return vec![Violation::Term("the sandbox does not report its confinement".to_owned())];
    };
    lacks(checks, |holds| match holds {
        CheckedIn::Outside(_) => true,
        CheckedIn::Inside { unless: Some(waiver), .. } if waived.contains(waiver) => true,
        CheckedIn::Inside { holds, .. } => holds(found),
    })
}

/// What a runtime's own kernel does not show of this container. What it shows is checked as usual.
///
/// THREAT: with such a runtime an image redirects a mount, or the engine leaves capabilities, and only
/// the sandbox can see it. Tried by
/// engine::docker::verify::tests::an_own_kernel_is_excused_only_what_it_does_not_show.
pub(super) fn not_shown(found: Option<&Confinement>) -> Vec<Waiver> {
    let mut waived = vec![Waiver::ProgramOfOwnKernel];
    if found.is_some_and(|it| it.seccomp == 0) {
        waived.push(Waiver::FilterOfOwnKernel);
    }
    // Not even `/proc`, where the sandbox reads this.
    if found.is_some_and(|it| it.mounts.values().all(Option::is_none)) {
        waived.push(Waiver::MountsOfOwnKernel);
    }
    if found.is_some_and(|it| it.settings.values().all(Option::is_none)) {
        waived.push(Waiver::SettingsOfOwnKernel);
    }
    waived
}

fn lacks(checks: &[RuleCheck], holds: impl Fn(&CheckedIn) -> bool) -> Vec<Violation> {
    let mut lacks: Vec<Violation> = Vec::new();
    for check in checks.iter().filter(|check| !holds(&check.holds)) {
        if !lacks.contains(&check.lack) {
            lacks.push(check.lack.clone());
        }
    }
    lacks
}

/// An error if there are violations.
pub(super) fn refuse(lacks: Vec<Violation>) -> Result<(), EngineError> {
    let paths: Vec<String> = lacks
        .iter()
        .filter_map(|lack| if let Violation::Path(path) = lack { Some(path.clone()) } else { None })
        .collect();
    if !paths.is_empty() {
        return Err(EngineError::ImagePaths { paths });
    }
    if lacks.contains(&Violation::Filter) {
        return Err(EngineError::NoFilter);
    }
    let missing: Vec<String> = lacks
        .into_iter()
        .filter_map(|lack| if let Violation::Term(rule) = lack { Some(rule) } else { None })
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(EngineError::Weaker { missing }) }
}

/// Whether the engine's runtime runs containers on its own kernel: then the engine does not see their
/// processes, and gives them no system call filter. The owner of the engine chose that runtime.
pub(super) fn has_own_kernel(found: &ContainerInspectResponse) -> bool {
    let runtime = found.host_config.as_ref().and_then(|host| host.runtime.as_deref());
    runtime
        .is_some_and(|name| ["runsc", "gvisor", "kata", "krun"].iter().any(|it| name.contains(it)))
}

/// The mount at a path, if it is the one that was requested. An image may have the directory elsewhere
/// under the same name (`/home` is a link to `/var/home`), but not within another mount, because then
/// two mounts are one.
pub(super) fn in_place<'a>(all: &'a Confinement, path: &str) -> Option<&'a Mounted> {
    let found = all.mounts.get(path)?.as_ref()?;
    let same_name = Path::new(&found.at).file_name() == Path::new(path).file_name();
    // THREAT: in the image, `/tmp` is a link into `/workspace`, `/proc` or `/dev`. Tried by
    // engine::docker::verify::tests::a_path_that_the_image_redirects_is_refused.
    let apart = all.mounts.iter().filter(|(other, _)| *other != path).all(|(other, mounted)| {
        let inside = mounted.as_ref().is_some_and(|it| Path::new(&found.at).starts_with(&it.at));
        // The root itself belongs to the image: a path that leads there is refused by its name.
        let root = mounted.as_ref().is_some_and(|it| it.at == "/");
        !inside || root || Path::new(path).starts_with(other)
    });
    (same_name && apart).then_some(found)
}

pub(super) fn has_option(mounted: &Mounted, name: &str) -> bool {
    mounted.options.split(',').any(|option| option == name)
}

/// Whether a list is missing or empty.
pub(super) fn none<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

pub(super) fn contains(all: &[String], some: &[&str]) -> bool {
    some.iter().all(|path| all.iter().any(|found| found == path))
}

/// Whether a namespace is the container's own.
pub(super) fn is_own(mode: &Option<String>) -> bool {
    matches!(mode.as_deref(), None | Some("" | "private"))
}

#[cfg(test)]
mod tests;
