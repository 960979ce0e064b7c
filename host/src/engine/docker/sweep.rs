//! Removes what a crash left behind: our containers and volumes whose session is over.
//!
//! ```text
//! name and labels are of the form we make, and of this install?  no ─→ left alone
//!   its lock is in this state directory, and free                ─→ removed
//!   held                                                         ─→ left alone
//!   missing (the directory is a copy, or it was deleted): has the container ended?
//!                                       yes ─→ removed      no ─→ left, and `doctor` names it
//! ```
//!
//! A container ends by itself when its host is gone, so a container that has ended is not needed any
//! more. A container of an earlier release names no lock: it is removed once it has ended.

use std::collections::{HashMap, HashSet};

use bollard::models::ContainerSummaryStateEnum as Is;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder,
};

use super::{Docker, is_absent, label, plan};
use crate::engine::binary::SANDBOX_SHA256;
use crate::engine::error::{EngineError, Remains};

/// How old a container for an upload must be to be removed; uploads take seconds.
const FILLER_SECONDS: i64 = 600;

/// What the lock of a session says on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Alive,
    Over,
    /// The lock is not on this machine.
    Unknown,
}

/// What was removed, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    pub containers: Vec<String>,
    pub volumes: Vec<String>,
    /// What could not be removed, and why.
    pub left: Vec<(String, String)>,
}

impl SweepReport {
    fn leave(&mut self, name: String, reason: String) {
        tracing::warn!(name, reason, "left on the engine: it could not be removed");
        self.left.push((name, reason));
    }
}

/// What has an install's labels, but no lock on this machine; by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unclaimed {
    pub containers: Vec<String>,
    /// The volumes of these containers too: they are not removed with them.
    pub volumes: Vec<String>,
}

impl Unclaimed {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.volumes.is_empty()
    }

    /// The command that removes them.
    #[must_use]
    pub fn command(&self) -> String {
        let all = [(Remains::Container, &self.containers), (Remains::Volume, &self.volumes)];
        let all = all.into_iter().filter(|(_, names)| !names.is_empty());
        let commands: Vec<_> = all.map(|(what, names)| what.command(&names.join(" "))).collect();
        commands.join(" && ")
    }
}

/// What to do with an object on the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disposal {
    /// It is not ours, or still in use.
    Leave,
    /// Its session is over: remove it even if it runs.
    Remove,
    /// It has ended: remove it unless it was started again meanwhile.
    RemoveEnded,
    /// It has this install's labels, and this machine cannot tell whether it is in use.
    Unclaimed,
}

/// A container or a volume on the engine.
struct EngineObject {
    name: String,
    labels: HashMap<String, String>,
}

impl EngineObject {
    fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    /// The session that it belongs to; earlier builds used another label.
    fn session(&self) -> Option<&str> {
        self.label(label::SESSION).or_else(|| self.label(label::EARLIER_SESSION))
    }

    fn is_of(&self, install: &str) -> bool {
        self.label(label::INSTALL) == Some(install)
    }

    fn claim(&self, session: &str, claim: &impl Fn(&str, &str) -> Owner) -> Owner {
        claim(session, self.label(label::LOCK).unwrap_or_default())
    }

    fn is_binary(&self) -> bool {
        self.label(label::BINARY).is_some_and(|sha256| is_upload(&self.name, sha256))
    }
}

/// THREAT: an image can have our labels, and a copied state directory has our install's id. With only
/// one of the two as proof, we would remove what another person works in. Tried by
/// engine::docker::sweep::tests::only_our_ended_containers_are_removed.
fn container(
    thing: &EngineObject,
    is: Option<Is>,
    age: i64,
    install: &str,
    claim: &impl Fn(&str, &str) -> Owner,
) -> Disposal {
    let Some(session) = thing.session() else {
        // An upload by an earlier release.
        let old = thing.is_of(install) && thing.is_binary() && age > FILLER_SECONDS;
        return if old { Disposal::RemoveEnded } else { Disposal::Leave };
    };
    let own = [plan::container_name(session), plan::filler_name(session)];
    if !thing.is_of(install) || !is_id(session) || !(own.contains(&thing.name) || thing.is_binary())
    {
        return Disposal::Leave;
    }
    match thing.claim(session, claim) {
        Owner::Alive => Disposal::Leave,
        Owner::Over => Disposal::Remove,
        Owner::Unknown if matches!(is, Some(Is::EXITED | Is::DEAD)) => Disposal::RemoveEnded,
        Owner::Unknown => Disposal::Unclaimed,
    }
}

/// `over`: sessions whose container was removed. `there`: sessions that still have one.
fn volume(
    thing: &EngineObject,
    install: &str,
    over: &HashSet<String>,
    there: &HashSet<String>,
    claim: &impl Fn(&str, &str) -> Owner,
) -> Disposal {
    let Some(session) = thing.session() else { return Disposal::Leave };
    if !thing.is_of(install) || !is_id(session) || !is_work_volume(&thing.name, session) {
        return Disposal::Leave;
    }
    match thing.claim(session, claim) {
        Owner::Alive => Disposal::Leave,
        Owner::Over => Disposal::Remove,
        Owner::Unknown if over.contains(session) => Disposal::Remove,
        Owner::Unknown if there.contains(session) => Disposal::Leave,
        Owner::Unknown => Disposal::Unclaimed,
    }
}

impl Docker {
    /// Removes what is left of the ended sessions of `install`. `now` is seconds since 1970.
    ///
    /// # Errors
    /// If the engine does not answer. What cannot be removed is in the result.
    pub async fn sweep(
        &self,
        install: &str,
        now: i64,
        claim: impl Fn(&str, &str) -> Owner,
    ) -> Result<SweepReport, EngineError> {
        let mut swept = SweepReport::default();
        let (mut over, mut there) = (HashSet::new(), HashSet::new());
        for (id, thing, is, made) in self.containers_of(install).await? {
            let session = thing.session().unwrap_or_default().to_owned();
            let verdict = container(&thing, is, now - made.unwrap_or(now), install, &claim);
            let force = match verdict {
                Disposal::Leave | Disposal::Unclaimed => {
                    there.insert(session);
                    continue;
                }
                Disposal::Remove => true,
                Disposal::RemoveEnded => false,
            };
            let options = RemoveContainerOptionsBuilder::new().force(force).v(true).build();
            match self.client().remove_container(&id, Some(options)).await {
                Ok(()) => {
                    swept.containers.push(thing.name);
                    over.insert(session);
                }
                Err(error) if is_absent(&error) => {}
                Err(error) => swept.leave(thing.name, crate::engine::error::engine_message(&error)),
            }
        }

        for thing in self.volumes_of(install).await? {
            let over = match thing.label(label::BINARY) {
                // An interrupted upload, or the binary of another release.
                Some(sha256) if thing.is_of(install) && thing.is_binary() => {
                    sha256 != SANDBOX_SHA256 || !self.is_marked(sha256, &thing.name).await
                }
                _ => volume(&thing, install, &over, &there, &claim) == Disposal::Remove,
            };
            if !over {
                continue;
            }
            match self.remove_volume(&thing.name).await {
                Ok(()) => swept.volumes.push(thing.name),
                // Still in use: its container was left, or an upload is in progress.
                Err(EngineError::Leftover { name, reason, .. }) if reason.contains("in use") => {
                    tracing::debug!(name, "left for the next sweep");
                }
                Err(EngineError::Leftover { name, reason, .. }) => swept.leave(name, reason),
                Err(other) => return Err(other),
            }
        }
        Ok(swept)
    }

    /// What has this install's labels, but no lock on this machine.
    ///
    /// # Errors
    /// If the engine does not answer.
    pub async fn unclaimed(
        &self,
        install: &str,
        claim: impl Fn(&str, &str) -> Owner,
    ) -> Result<Unclaimed, EngineError> {
        let mut unclaimed = Unclaimed::default();
        let mut there = HashSet::new();
        for (_, thing, is, _) in self.containers_of(install).await? {
            if container(&thing, is, 0, install, &claim) == Disposal::Unclaimed {
                unclaimed.containers.push(thing.name);
            } else {
                there.extend(thing.session().map(str::to_owned));
            }
        }
        for thing in self.volumes_of(install).await? {
            let verdict = volume(&thing, install, &HashSet::new(), &there, &claim);
            if verdict == Disposal::Unclaimed {
                unclaimed.volumes.push(thing.name);
            }
        }
        Ok(unclaimed)
    }

    async fn containers_of(
        &self,
        install: &str,
    ) -> Result<Vec<(String, EngineObject, Option<Is>, Option<i64>)>, EngineError> {
        let ours = format!("{}={install}", label::INSTALL);
        let filters = HashMap::from([("label", vec![ours.as_str()])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let found = self.client().list_containers(Some(options)).await;
        let found = found.map_err(|error| self.unusable(&error))?.into_iter();
        let things = found.filter_map(|container| {
            let names = container.names.unwrap_or_default();
            let name = names.first().map_or("", |name| name.trim_start_matches('/')).to_owned();
            let thing = EngineObject { name, labels: container.labels.unwrap_or_default() };
            Some((container.id?, thing, container.state, container.created))
        });
        Ok(things.collect())
    }

    async fn volumes_of(&self, install: &str) -> Result<Vec<EngineObject>, EngineError> {
        let ours = format!("{}={install}", label::INSTALL);
        let filters = HashMap::from([("label", vec![ours.as_str()])]);
        let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
        let found = self.client().list_volumes(Some(options)).await;
        let found = found.map_err(|error| self.unusable(&error))?.volumes.unwrap_or_default();
        let thing = |volume: bollard::models::Volume| EngineObject {
            name: volume.name,
            labels: volume.labels,
        };
        Ok(found.into_iter().map(thing).collect())
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
}

/// A whole session id: a shorter text would be a prefix of other names.
fn is_id(session: &str) -> bool {
    is_hex(session, 32) || uuid::Uuid::try_parse(session).is_ok_and(|id| id.to_string() == session)
}

/// `airlock-work-<session>`, alone or with `-<number>` or `-pts`.
fn is_work_volume(name: &str, session: &str) -> bool {
    if name == plan::terminals_volume(session) {
        return true;
    }
    match name.strip_prefix(&plan::work_volume(session)) {
        Some("") => true,
        Some(rest) => {
            let number = rest.strip_prefix('-').unwrap_or_default();
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        }
        None => false,
    }
}

/// `airlock-sandbox-<24 digits of the hash>-<16 digits>`.
fn is_upload(name: &str, sha256: &str) -> bool {
    let Some((mark, once)) = name.rsplit_once('-') else { return false };
    is_hex(once, 16) && sha256.len() >= 24 && mark == super::inject::mark_name(sha256)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &str = "01234567-89ab-4def-8123-456789abcdef";
    const EARLIER: &str = "0123456789abcdef0123456789abcdef";
    const SHA: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn thing(name: &str, labels: &[(&str, &str)]) -> EngineObject {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        EngineObject { name: name.to_owned(), labels: labels.collect() }
    }

    #[test]
    fn only_our_ended_containers_are_removed() {
        let ours = [(label::INSTALL, "me"), (label::SESSION, SESSION), (label::LOCK, "7-1.2")];
        let name = plan::container_name(SESSION);
        let judged =
            |thing: &EngineObject, is, said| container(thing, Some(is), 0, "me", &|_, _| said);
        let made = thing(&name, &ours);
        for is in [Is::CREATED, Is::RUNNING, Is::PAUSED, Is::EXITED, Is::DEAD] {
            let ended = matches!(is, Is::EXITED | Is::DEAD);
            assert_eq!(judged(&made, is, Owner::Alive), Disposal::Leave);
            assert_eq!(judged(&made, is, Owner::Over), Disposal::Remove);
            // A copy of the state directory cannot tell whether it is in use.
            let copied = if ended { Disposal::RemoveEnded } else { Disposal::Unclaimed };
            assert_eq!(judged(&made, is, Owner::Unknown), copied, "{is:?}");
        }
        let filler = thing(&plan::filler_name(SESSION), &ours);
        assert_eq!(judged(&filler, Is::CREATED, Owner::Over), Disposal::Remove);
        let earlier =
            [(label::INSTALL, "me"), (label::EARLIER_SESSION, EARLIER), (label::LOCK, "7-1.2")];
        let earlier = thing(&plan::container_name(EARLIER), &earlier);
        assert_eq!(judged(&earlier, Is::CREATED, Owner::Over), Disposal::Remove);
        // Of another install; not ours, with an image that has our labels; a session id that is a prefix.
        let short = [(label::INSTALL, "me"), (label::SESSION, "0")];
        for other in [
            thing(&name, &[(label::INSTALL, "you"), (label::SESSION, SESSION)]),
            thing("foreign", &ours),
            thing(&format!("{name}-x"), &ours),
            thing("airlock-0", &short),
            thing(&name, &[(label::INSTALL, "me")]),
        ] {
            assert_eq!(judged(&other, Is::EXITED, Owner::Over), Disposal::Leave, "{}", other.name);
        }
    }

    #[test]
    fn an_upload_is_known_by_its_whole_name() {
        let name = format!("airlock-sandbox-{}-0123456789abcdef", &SHA[..24]);
        let labels = [(label::INSTALL, "me"), (label::BINARY, SHA)];
        let judged = |name: &str, age| {
            container(&thing(name, &labels), Some(Is::CREATED), age, "me", &|_, _| Owner::Unknown)
        };
        assert_eq!(judged(&name, FILLER_SECONDS + 1), Disposal::RemoveEnded);
        assert_eq!(judged(&name, FILLER_SECONDS), Disposal::Leave);
        assert_eq!(judged("airlock-sandbox-mine", FILLER_SECONDS + 1), Disposal::Leave);
        for other in ["x", "airlock-sandbox-", &name[..name.len() - 1], &format!("x{name}")] {
            assert!(!is_upload(other, SHA), "{other}");
        }
    }

    #[test]
    fn a_volume_is_removed_by_name_and_labels_with_its_session() {
        let labels = [(label::INSTALL, "me"), (label::SESSION, SESSION), (label::LOCK, "7-1.2")];
        let (none, this) = (HashSet::new(), HashSet::from([SESSION.to_owned()]));
        let judged = |name: &str, over, there, said| {
            volume(&thing(name, &labels), "me", over, there, &|_, _| said)
        };
        let own = plan::work_volume(SESSION);
        for name in [own.clone(), format!("{own}-0"), format!("{own}-12")] {
            assert_eq!(judged(&name, &none, &none, Owner::Over), Disposal::Remove);
            assert_eq!(judged(&name, &none, &this, Owner::Alive), Disposal::Leave);
            assert_eq!(judged(&name, &this, &none, Owner::Unknown), Disposal::Remove);
            assert_eq!(judged(&name, &none, &this, Owner::Unknown), Disposal::Leave);
            assert_eq!(judged(&name, &none, &none, Owner::Unknown), Disposal::Unclaimed);
        }
        for name in ["precious", &format!("{own}-"), &format!("{own}-x"), &format!("{own}1")] {
            assert_eq!(judged(name, &none, &none, Owner::Over), Disposal::Leave, "{name}");
        }
    }
}
